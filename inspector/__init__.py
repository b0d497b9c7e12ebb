"""inspector: tiled Reverse Distillation on a production line. Importing this package imports nothing heavy."""

import os
import sys

# Of any image file that OpenCV decodes. It reads this once, when it is first imported; its own bound is 2^30: gigabytes
# for a few bytes.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**28))

# OpenVINO and NNCF report to their maker, from the import on, that they are used: not from a production line, and its
# reports fork a process full of threads, which ends some. They go without where this package cannot be imported. Here,
# as whoever imports either of them first decides.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__version__ = "0.1.0"
