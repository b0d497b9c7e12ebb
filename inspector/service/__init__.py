"""The running daemon: threads, hand-overs, metrics, health. daemon.py wires all of it."""
