"""What a picture means: bytes of an image file or a wire message → pixels, the same wherever pictures come in."""

from inspector.codec.image import IMAGE_SUFFIXES, decode_image, read_picture
from inspector.codec.picture import Bounds, Picture, Pixels
from inspector.codec.raw import decode_raw, name_video_format

__all__ = [
    "IMAGE_SUFFIXES",
    "Bounds",
    "Picture",
    "Pixels",
    "decode_image",
    "decode_raw",
    "name_video_format",
    "read_picture",
]
