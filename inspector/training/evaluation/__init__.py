"""A recipe measured on labelled frames, and the report."""
