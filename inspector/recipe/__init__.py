"""A recipe's folder: what lies in it, every checksum verified, and the detector that comes out of it."""
