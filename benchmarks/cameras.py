"""Frames per second of each kind of camera beside the bare grab loop of the same library, in turns on the same camera.

    python benchmarks/cameras.py [--rounds 5] [--seconds 4]

A ratio of 1 means that the source costs no frame. A turn is a process of its own. The cameras come with the libraries:
Aravis' fake (arv-fake-gv-camera-0.8, over loopback), pylon's emulator, the simulator of genicam; OpenCV reads a file.
A library that is not installed is left out, and named. CPU is of the process that reads, less that of a child, which
genicam and opencv of ours have.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

ADDRESS = "127.0.0.1"
FAKE = "arv-fake-gv-camera-0.8"
BUFFERS = 8
FRAMES = 60
"""Of the video, 1 GB; a turn ends with it at the latest."""
CASES: dict[str, dict[str, Any]] = {
    "gige 640x480": {"type": "gige", "device": ADDRESS, "width": 640, "height": 480, "frame_rate": 200},
    "gige 2048x2048": {"type": "gige", "device": ADDRESS, "width": 2048, "height": 2048, "frame_rate": 15},
    "pylon 2048x2048": {"type": "pylon", "width": 2048, "height": 2048, "frame_rate": 50},
    "genicam": {"type": "genicam"},
    "opencv 4000x3000": {"type": "opencv", "read_timeout_s": 20},
}


def find_producer() -> Path | None:
    """The simulator of the package genicam."""
    spec = importlib.util.find_spec("genicam")
    found = [] if spec is None or spec.origin is None else list(Path(spec.origin).parent.rglob("viky.cti"))
    return found[0] if found else None


def find_lack(kind: str) -> str:
    """What is missing to measure it; empty: nothing."""
    if kind == "gige" and not (importlib.util.find_spec("gi") and shutil.which(FAKE)):
        return "aravis-tools, gir1.2-aravis-0.8, python3-gi"
    if kind == "pylon" and importlib.util.find_spec("pypylon") is None:
        return "pypylon"
    return "harvesters, genicam" if kind == "genicam" and find_producer() is None else ""


def grab_aravis(case: dict[str, Any]) -> Iterator[Any]:
    """Pixels as Aravis gives them: copied out of the buffer, which goes back at once."""
    import gi

    gi.require_version("Aravis", "0.8")
    from gi.repository import Aravis

    camera = Aravis.Camera.new(case["device"])
    camera.set_region(0, 0, case["width"], case["height"])
    camera.set_frame_rate(case["frame_rate"])
    camera.gv_auto_packet_size()
    stream = camera.create_stream(None, None)
    for _ in range(BUFFERS):
        stream.push_buffer(Aravis.Buffer.new_allocate(camera.get_payload()))
    camera.start_acquisition()
    while True:
        buffer = stream.timeout_pop_buffer(5_000_000)
        if buffer is not None and buffer.get_status() == Aravis.BufferStatus.SUCCESS:
            yield np.frombuffer(buffer.get_data(), np.uint8)
        if buffer is not None:
            stream.push_buffer(buffer)


def grab_pylon(case: dict[str, Any]) -> Iterator[Any]:
    """Pixels as pypylon gives them."""
    from pypylon import pylon

    camera = pylon.InstantCamera(pylon.TlFactory.GetInstance().CreateFirstDevice())
    camera.Open()
    camera.Width.Value, camera.Height.Value = case["width"], case["height"]
    camera.AcquisitionFrameRateEnable.Value = True
    camera.AcquisitionFrameRateAbs.Value = case["frame_rate"]
    camera.MaxNumBuffer.Value = BUFFERS
    camera.StartGrabbing(pylon.GrabStrategy_OneByOne)
    while True:
        with camera.RetrieveResult(5000) as result:
            if result.GrabSucceeded():
                yield result.Array


def grab_harvesters(case: dict[str, Any]) -> Iterator[Any]:
    """Pixels as harvesters gives them, copied: they are the buffer's own."""
    from harvesters.core import Harvester

    harvester = Harvester()
    harvester.add_file(case["producer"])
    harvester.update()
    acquirer = harvester.create(0)
    acquirer.num_buffers = BUFFERS
    acquirer.start()
    while True:
        with acquirer.fetch(timeout=5) as buffer:
            yield buffer.payload.components[0].data.copy()


def grab_opencv(case: dict[str, Any]) -> Iterator[Any]:
    """Pictures as OpenCV gives them, in the process that takes them."""
    import cv2

    capture = cv2.VideoCapture(case["device"], cv2.CAP_FFMPEG)
    while (read := capture.read())[0]:
        yield read[1]


def write_video(path: Path) -> None:
    """12 MPixel, as good as not compressed: more frames than a turn reads."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"I420"), 25, (4000, 3000))
    picture = np.random.default_rng(0).integers(0, 255, (3000, 4000, 3), np.uint8)
    for shift in range(FRAMES):
        writer.write(np.roll(picture, shift, 0))
    writer.release()


def read_source(case: dict[str, Any]) -> Iterator[Any]:
    """Pixels as the daemon's source gives them."""
    from inspector.errors import SourceExhaustedError
    from inspector.sources.registry import KINDS

    source = KINDS[case["type"]].model_validate(case).build("top")
    source.connect()
    with suppress(SourceExhaustedError):
        while True:
            if (frame := source.read(0.2)) is not None and frame.pixels is not None:
                yield frame.pixels


BARE: dict[str, Callable[[dict[str, Any]], Iterator[Any]]] = {
    "gige": grab_aravis, "pylon": grab_pylon, "genicam": grab_harvesters, "opencv": grab_opencv,
}  # fmt: skip


def take_turn(case: dict[str, Any], seconds: float, *, bare: bool) -> None:
    """Print frames per second, and milliseconds of processor time for each, after ten frames have come."""
    pixels = (BARE[case["type"]] if bare else read_source)(case)
    list(itertools.islice(pixels, 10))
    started, before, count = time.monotonic(), time.process_time(), 0
    for _ in pixels:
        count += 1
        if (taken := time.monotonic() - started) >= seconds:
            break
    print(json.dumps([count / taken, (time.process_time() - before) * 1e3 / count]), flush=True)
    os._exit(0)  # libraries that are ended in the midst of a grab crash at exit


def run_turn(case: dict[str, Any], seconds: float, *, bare: bool) -> list[float]:
    """A turn in a process of its own, with a fake camera of its own."""
    command = [sys.executable, __file__, "--turn", json.dumps(case), "--seconds", str(seconds)]
    with ExitStack() as opened:
        if case["type"] == "gige":
            camera = subprocess.Popen([FAKE, "-i", ADDRESS], stdout=subprocess.DEVNULL)  # noqa: S603
            opened.callback(camera.wait)
            opened.callback(camera.kill)
            time.sleep(2)
        done = subprocess.run(  # noqa: S603
            [*command, *(["--bare"] if bare else [])],
            env=os.environ | {"PYLON_CAMEMU": "1"}, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    fps, cpu_ms = json.loads(done.stdout.splitlines()[-1])
    return [float(fps), float(cpu_ms)]


def measure(name: str, case: dict[str, Any], rounds: int, seconds: float) -> None:
    """Print the medians of both, and of the ratio of each pair of turns."""
    pairs = []
    for number in range(rounds):
        turns = {bare: run_turn(case, seconds, bare=bare) for bare in (number % 2 == 0, number % 2 == 1)}
        pairs.append([turns[True], turns[False]])
    bare, ours = [statistics.median(turn[i][0] for turn in pairs) for i in (0, 1)]
    ratios = [own[0] / plain[0] for plain, own in pairs]
    cpu = [statistics.median(turn[i][1] for turn in pairs) for i in (0, 1)]
    print(
        f"{name:18} {bare:9.1f} {ours:9.1f} {statistics.median(ratios):6.3f} "
        f"({min(ratios):.3f}-{max(ratios):.3f}) {cpu[0]:8.2f} {cpu[1]:8.2f}",
        flush=True,
    )


def prepare(kind: str, opened: ExitStack) -> dict[str, Any]:
    """What must be there before the first turn."""
    if kind == "genicam":
        return {"producer": str(find_producer())}
    if kind != "opencv":
        return {}
    path = Path(opened.enter_context(tempfile.TemporaryDirectory())) / "video.avi"
    write_video(path)
    return {"device": str(path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", default="", help="Only cases whose name begins so.")
    parser.add_argument("--turn", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn is not None:
        take_turn(options.turn, options.seconds, bare=options.bare)
    print(f"{'':18} {'bare fps':>9} {'ours fps':>9} {'ratio':>6} {'':13} {'bare ms':>8} {'ours ms':>8} of CPU")
    for name, case in ((name, case) for name, case in CASES.items() if name.startswith(options.only)):
        if lack := find_lack(case["type"]):
            print(f"{name:18} left out: needs {lack}")
            continue
        with ExitStack() as opened:
            measure(name, case | prepare(case["type"], opened), options.rounds, options.seconds)


if __name__ == "__main__":
    main()
