"""How long a small raw frame waits beside another camera's large pictures, decoded by one thread or by several.

    python benchmarks/beside.py [--frame-hw 3000 4096] [--pictures-per-s 2] [--seconds 20] [--rounds 3]

Both cameras send to one socket of a source in this process: the first pictures at a steady pace, the second 20 frames a
second of 64×64. Counted is the time from when a frame is sent until the source gives it. Both ways take turns; the
network, which needs the same cores, does not run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import zmq

from inspector.config import Camera, Sockets
from inspector.service.decoder import build_decoders
from inspector.service.telemetry.health import Health
from inspector.sources.decoding import Decoding
from inspector.sources.registry import build_receiver
from inspector.sources.zmq import ZmqSource

_SMALL_PER_S = 20
_CAMERAS = {"large": Camera(), "small": Camera()}
Message = tuple[dict[str, Any], bytes]
"""Header and pixels."""


def draw(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth texture with a sensor's noise, BGR."""
    noise = np.random.default_rng(0).normal(120, 6, (height, width, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 1.0) + np.arange(width)[:, None] % 90, 0, 255).astype(np.uint8)


def send(socket: zmq.Socket[bytes], message: Message, per_s: float, until: float) -> None:
    """At a steady pace; each with the time of sending as its id."""
    header, pixels = message
    due = time.monotonic()
    while due < until:
        time.sleep(max(0.0, due - time.monotonic()))
        socket.send_multipart([json.dumps(header | {"frame_id": str(time.monotonic_ns())}).encode(), pixels])
        due += 1 / per_s


@contextmanager
def open_source(context: zmq.Context[Any], address: str, *, several: bool) -> Iterator[ZmqSource]:
    """The source, with the station's threads beside it or without."""
    decoding, threads = build_decoders(1 << 30, Health()) if several else (Decoding(), [])
    sockets = Sockets(frames=f"ipc://{address}-f", imagezmq=f"ipc://{address}-i")
    source = build_receiver(_CAMERAS, sockets, context, decoding=decoding)
    assert source is not None  # noqa: S101 (both cameras send)
    source.connect()
    for thread in threads:
        thread.start()
    try:
        yield source
    finally:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join()
        source.close()


def measure(source: ZmqSource, context: zmq.Context[Any], address: str, pace: list[tuple[Message, float]],
            seconds: float) -> dict[str, list[float]]:  # fmt: skip
    """Milliseconds from sending to being given, by camera."""
    until = time.monotonic() + seconds
    sockets, threads = [], []
    for message, per_s in pace:
        socket = context.socket(zmq.PUSH)
        socket.connect(f"ipc://{address}-f")
        threads.append(threading.Thread(target=send, args=(socket, message, per_s, until)))
        sockets.append(socket)
    for thread in threads:
        thread.start()
    waits: dict[str, list[float]] = {camera: [] for camera in _CAMERAS}
    while (frame := source.read(1.0)) is not None or any(thread.is_alive() for thread in threads):
        if frame is not None:
            waits[frame.camera].append((time.monotonic_ns() - int(frame.frame_id)) / 1e6)
    for socket in sockets:
        socket.close()
    return waits


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frame-hw", type=int, nargs=2, default=[3000, 4096], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--pictures-per-s", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    picture = bytes(cv2.imencode(".jpg", draw(*arguments.frame_hw), (cv2.IMWRITE_JPEG_QUALITY, 95))[1])
    large: Message = {"camera": "large", "encoding": "jpeg"}, picture
    small: Message = {"camera": "small", "encoding": "raw", "dtype": "uint8", "shape": [64, 64, 3]}, bytes(3 * 64 * 64)
    pace = [(large, arguments.pictures_per_s), (small, _SMALL_PER_S)]
    waits: dict[str, dict[str, list[float]]] = {way: {"large": [], "small": []} for way in ("one", "several")}
    with tempfile.TemporaryDirectory(prefix="beside-") as folder, zmq.Context() as context:
        for number in range(2 * arguments.rounds):
            way, address = ("one", "several")[number % 2], f"{folder}/{number}"
            with open_source(context, address, several=way == "several") as source:
                for camera, new in measure(source, context, address, pace, arguments.seconds).items():
                    waits[way][camera] += new
    print(f"{len(picture) / 1e6:.1f} MB a picture; ms from sending until a frame is given")
    print(f"{'decoded by':12} {'camera':8} {'frames':>7} {'p50':>8} {'p99':>8} {'longest':>8}")
    for way, by_camera in waits.items():
        for camera, values in by_camera.items():
            p50, p99 = np.percentile(values, (50, 99))
            print(f"{way:12} {camera:8} {len(values):7} {p50:8.2f} {p99:8.2f} {max(values):8.2f}")


if __name__ == "__main__":
    main()
