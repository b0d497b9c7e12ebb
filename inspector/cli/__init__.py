"""Arguments and exit codes. Nothing imports this package."""
