"""Fakes of what a station lives among: a line, a process, a client's station. For tests, of this package or yours."""
