"""Kinds of source that speak to industrial cameras: one file per family, and what GenICam makes them share."""
