"""`python -m inspector`."""

from inspector.cli.app import main

main()
