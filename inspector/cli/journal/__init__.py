"""`inspector journal`."""
