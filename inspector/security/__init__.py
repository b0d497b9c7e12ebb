"""Who may connect and do what, and the sockets they reach."""
