"""Commands that ask something of a running daemon's camera."""
