"""A generator of malformed frame messages, and the rule by which each of them is owed a verdict or not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import cv2

from inspector.testing.station_process import bad_frame, good_frame

MAX_MESSAGE = 1024**2
"""`sockets.max_message` of the station they are meant for."""
MAX_HEADER = 65_536
RAW = good_frame().tobytes()
JPEG = cv2.imencode(".jpg", bad_frame())[1].tobytes()
PNG = cv2.imencode(".png", bad_frame())[1].tobytes()

Parts = list[bytes]
Header = dict[str, Any]


class Malformer:
    """Makes messages that are wrong in one of many ways; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._kinds: dict[Callable[[Header], Parts], float] = {
            self._noise: 10,
            self._truncated_header: 10,
            self._flipped_header: 10,
            self._wrong_value: 40,
            self._missing_key: 10,
            self._doubled_key: 5,
            self._foreign_text: 5,
            self._overflowing_shape: 10,
            self._wrong_part_count: 10,
            self._empty_part: 5,
            self._large_part: 0.1,
            self._damaged_jpeg: 3,
            self._damaged_png: 5,
        }

    def make(self, number: int) -> Parts:
        """The message of this number; where it has a frame_id of its own, it starts with `bad-` or `damaged-`."""
        # The number twice, so that no bit flipped makes another message's of it.
        header: Header = {"camera": "top", "frame_id": f"bad-{number}-{number}", "encoding": "raw"}
        header |= {"dtype": "uint8", "shape": [128, 160, 3]}
        (kind,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
        return kind(header)

    def _noise(self, header: Header) -> Parts:
        return [self._random.randbytes(self._random.randrange(1, 200)), b"pixels"]

    def _truncated_header(self, header: Header) -> Parts:
        text = json.dumps(header).encode()
        return [text[: self._random.randrange(len(text))], b"pixels"]

    def _flipped_header(self, header: Header) -> Parts:
        text = bytearray(json.dumps(header).encode())
        for _ in range(self._random.randrange(1, 4)):
            text[self._random.randrange(len(text))] ^= 1 << self._random.randrange(8)
        return [bytes(text), b"pixels"]

    def _wrong_value(self, header: Header) -> Parts:
        key = self._random.choice(["camera", "frame_id", "encoding", "dtype", "shape", "pixel_format", "part_id",
                                   "trigger_id", "captured_utc_ns", "simulated"])  # fmt: skip
        text = json.dumps(header | {key: "PLACE"}).replace('"PLACE"', self._value())
        return [text.encode("utf-8", "surrogatepass"), self._random.choice([RAW[:-1], b"", b"pixels"])]

    def _value(self) -> str:
        """JSON, or what Python takes for it, that hardly fits any key."""
        # Deeper than some 900 the parser refuses, at a depth that hangs on its stack: so either far less or far more.
        depth = self._random.choice([1, 50, 500, 1500, 30_000])
        whole = self._random.choice([0, -1, 2**31, 2**63, 2**64, 10**300, -(10**4000)])
        return self._random.choice(
            ["null", "true", "false", "NaN", "Infinity", "-Infinity", "1e999", "-0.0", "1.5", '""', '" "', '"\\u0000"',
             '"\\ud800"', '"\ud800"', '"\\ud83d\\ude00"', "{}", "[]", '["uint8"]', '{"a": {"b": [null]}}', str(whole),
             "9" * 5000, '"' + "x" * self._random.choice([257, 5000]) + '"', "[" * depth + "]" * depth,
             '{"a":' * depth + "1" + "}" * depth]
        )  # fmt: skip

    def _missing_key(self, header: Header) -> Parts:
        del header[self._random.choice(list(header))]
        return [json.dumps(header).encode(), RAW[:-1]]

    def _doubled_key(self, header: Header) -> Parts:
        again = {self._random.choice(list(header)): self._random.choice([None, "top", 7, "nowhere"])}
        return [(json.dumps(header)[:-1] + ", " + json.dumps(again)[1:]).encode(), RAW[:-1]]

    def _foreign_text(self, header: Header) -> Parts:
        text = json.dumps(header, ensure_ascii=False)
        encoding = self._random.choice(["utf-16", "utf-32", "utf-8-sig", "utf-7", "invalid"])
        return [b"\xff\xfe\xc3\x28" + text.encode() if encoding == "invalid" else text.encode(encoding), b"pixels"]

    def _overflowing_shape(self, header: Header) -> Parts:
        sides = [0, -1, 1, 3, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**62, 2**63, 10**40]
        header["shape"] = [self._random.choice(sides) for _ in range(self._random.randrange(6))]
        header["dtype"] = self._random.choice(["uint8", "uint16"])
        return [json.dumps(header).encode(), self._random.choice([b"", b"x", RAW[:-1]])]

    def _wrong_part_count(self, header: Header) -> Parts:
        count = self._random.choice([1, *range(3, 21)])
        return [json.dumps(header).encode(), *[b"part"] * (count - 1)]

    def _empty_part(self, header: Header) -> Parts:
        header["encoding"] = self._random.choice(["raw", "jpeg", "png"])
        text = json.dumps(header).encode()
        return self._random.choice([[text, b""], [b"", RAW], [b"", b""], [b""]])

    def _large_part(self, header: Header) -> Parts:
        size = self._random.choice([MAX_MESSAGE, MAX_MESSAGE + 1, 2 * MAX_MESSAGE])
        padded = header | {"padding": " " * MAX_HEADER}
        return self._random.choice([[json.dumps(header).encode(), bytes(size)], [json.dumps(padded).encode(), RAW]])

    def _damaged_jpeg(self, header: Header) -> Parts:
        """It has no checksum, so it may decode; the frame that it then is may deserve anything."""
        header |= {"encoding": "jpeg", "frame_id": header["frame_id"].replace("bad", "damaged")}
        data = bytearray(JPEG)
        place = self._random.randrange(len(data))
        if self._random.random() < 0.3:
            del data[place:]
        elif self._random.random() < 0.5:
            data[place] ^= 1 << self._random.randrange(8)
        else:
            del data[place : place + self._random.randrange(1, 200)]
        return [json.dumps(header).encode(), bytes(data)]

    def _damaged_png(self, header: Header) -> Parts:
        header["encoding"] = self._random.choice(["jpeg", "png"])
        data = bytearray(PNG)
        place = self._random.randrange(len(data))
        if self._random.random() < 0.5:
            del data[place : self._random.choice([place + 10, len(data)])]
        else:
            data[place] ^= 1 << self._random.randrange(8)
        return [json.dumps(header).encode(), bytes(data)]


def names_camera(parts: Parts) -> bool:
    """Whether a message says which camera it belongs to, and so is owed a verdict."""
    if len(parts) != 2 or len(parts[0]) > MAX_HEADER:
        return False
    try:
        header = json.loads(parts[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and header.get("camera") == "top"
