"""A frame's way through the station: ingest, buffer, worker, publisher, and who keeps what they hand over."""
