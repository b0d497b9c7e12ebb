"""Tests of the package, room by room; `system` starts the real process."""
