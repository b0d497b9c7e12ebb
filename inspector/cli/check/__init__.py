"""`inspector check` and its parts."""
