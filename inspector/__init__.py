"""inspector: tiled Reverse Distillation on a production line. Importing this package imports nothing heavy."""

import os

# Of any image file that OpenCV decodes. It reads this once, when it is first imported; its own bound is 2^30: gigabytes
# for a few bytes.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**28))

__version__ = "0.1.0"
