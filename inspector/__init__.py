"""inspector: tiled Reverse Distillation on a production line. Importing this package imports nothing heavy."""

__version__ = "0.1.0"
