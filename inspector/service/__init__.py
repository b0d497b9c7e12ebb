"""The running daemon: threads, hand-overs, metrics, health. assembly.py wires all of it, daemon.py runs it."""
