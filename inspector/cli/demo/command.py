"""`inspector demo`: the main job on frames it makes itself, through the real daemon and its real sockets."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from inspector.errors import InspectorError

if TYPE_CHECKING:
    import numpy as np
    import zmq

    from inspector.client import Sender

_CAMERA = "top"
_GOOD_FRAMES = 40
_TRAINING_STEPS = 160
_TRAINING_MINUTES = 4.0
_READY_S = 60.0
_FRAME_S = 60.0
_FIRST_TEST_SEED = 100_000


@dataclass(frozen=True, slots=True)
class _Sample:
    frame_id: str
    truth: str  # "good" or the kind of defect
    seed: int


def demo(
    frames: Annotated[int, typer.Option(min=2, help="Number of frames to send; half of them are defective.")] = 40,
    keep: Annotated[Path | None, typer.Option(help="Keep recipe, station file, verdicts and overlays here.")] = None,
    minutes: Annotated[float, typer.Option(min=0.05, help="Longest training time.")] = _TRAINING_MINUTES,
) -> None:  # fmt: skip
    """Make an artificial product, train on good frames, run the daemon, send frames, and print a summary."""
    with contextlib.ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inspector-demo-")))
        else:
            folder = keep
            folder.mkdir(parents=True, exist_ok=True)
        _train(folder, minutes)
        samples = _plan(frames)
        _write_station(folder)
        with _daemon(folder) as ports:
            results, seconds = _send_and_collect(folder, samples, ports)
        _summarise(folder, samples, results, seconds)
        if keep is not None:
            typer.echo(f"overlays: {keep / 'overlays'}")


def _train(folder: Path, minutes: float) -> None:
    import cv2
    from rich.progress import track

    from inspector.cli.demo.product import make_good_frame
    from inspector.cli.train import train

    good = folder / "good"
    good.mkdir(exist_ok=True)
    for seed in track(range(_GOOD_FRAMES), description=f"making {_GOOD_FRAMES} good frames"):
        path = good / f"good-{seed:03}.png"
        if not path.exists():
            picture = cv2.cvtColor(make_good_frame(seed), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    train(
        good,
        out=folder / "recipe",
        encoder_weights="none",  # nothing but the package registry is needed; a real line uses ImageNet weights
        scale=0.25,
        tile_size=128,
        sigma=2.0,
        batch_size=8,
        steps=_TRAINING_STEPS,
        minutes=minutes,
        holdout=0.4,
    )


def _plan(frames: int) -> list[_Sample]:
    """Good and defective in turn, the kinds of defect in turn; seeds that training never saw."""
    from inspector.cli.demo.product import DefectKind

    kinds = list(DefectKind)
    truths = ["good" if number % 2 == 0 else kinds[number // 2 % len(kinds)].value for number in range(frames)]
    return [_Sample(f"{n:03}-{truth}", truth, _FIRST_TEST_SEED + n) for n, truth in enumerate(truths)]


def _make(sample: _Sample) -> np.ndarray[Any, Any]:
    from inspector.cli.demo.product import DefectKind, make_defective_frame, make_good_frame

    if sample.truth == "good":
        return make_good_frame(sample.seed)
    return make_defective_frame(sample.seed, DefectKind(sample.truth))[0]


def _write_station(folder: Path) -> None:
    from inspector.config import SOCKETS

    *ports, http_port = _free_ports(len(SOCKETS) + 1)
    station = {
        "schema": 1,
        "station": "demo",
        "state_dir": "state",
        "sockets": {name: f"tcp://127.0.0.1:{port}" for name, port in zip(SOCKETS, ports, strict=True)},
        "http": {"port": http_port},
        "overlays": {"frames": "fail", "width": 1280},
        "cameras": {_CAMERA: {"recipe": "recipe", "deadline_ms": 60_000, "simulated": True}},
    }
    (folder / "station.yaml").write_text(yaml.safe_dump(station, sort_keys=False), encoding="utf-8")


def _free_ports(count: int) -> list[int]:
    # Below those the kernel hands to connections: none of them takes one before the daemon does.
    ports: list[int] = []
    for port in random.sample(range(15_000, 32_000), 1000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise InspectorError(f"{count} free ports are needed between 15000 and 32000")


@contextlib.contextmanager
def _daemon(folder: Path) -> Iterator[dict[str, Any]]:
    """The real thing, in a process of its own; stopped by SIGTERM, which must drain and end with 0."""
    station = folder / "station.yaml"
    config: dict[str, Any] = yaml.safe_load(station.read_text(encoding="utf-8"))
    log_path = folder / "daemon.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "inspector", "run", str(station)], stderr=log)
        try:
            _wait_ready(process, config["http"]["port"], log_path)
            yield config
            process.send_signal(signal.SIGTERM)
            if process.wait(30) != 0:
                raise InspectorError(f"the daemon exited with status {process.returncode}; see {log_path}")
        finally:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise InspectorError(f"the daemon did not start:\n{log_path.read_text(errors='replace')}")
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        with contextlib.suppress(HTTPException, OSError), contextlib.closing(connection):
            connection.request("GET", "/ready")
            if connection.getresponse().status == HTTPStatus.OK:
                return
        time.sleep(0.1)
    raise InspectorError(f"the daemon was not ready within {_READY_S:.0f} s; see {log_path}")


def _send_and_collect(
    folder: Path, samples: list[_Sample], config: dict[str, Any]
) -> tuple[dict[str, dict[str, Any]], float]:
    import zmq
    from rich.progress import Progress

    from inspector.client import Sender

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    endpoints = config["sockets"]
    sender = Sender(endpoints["frames"], camera=_CAMERA, timeout_s=_FRAME_S)
    verdicts = _subscribe(context, endpoints["results"], "result/")
    pictures = _subscribe(context, endpoints["overlays"], "overlay/")
    time.sleep(0.5)  # a subscription takes a moment to reach the daemon
    results: dict[str, dict[str, Any]] = {}
    waiting = iter(samples)
    started = time.monotonic()
    try:
        with Progress() as progress:
            task = progress.add_task("judging", total=len(samples))
            # Two frames ahead, so that the device never waits and none waits long.
            in_flight = sum(_send(sender, sample) for _, sample in zip(range(2), waiting, strict=False))
            while in_flight:
                if not verdicts.poll(int(_FRAME_S * 1000)):
                    raise InspectorError(f"no verdict for {_FRAME_S:.0f} s; received {len(results)} of {len(samples)}")
                result = json.loads(verdicts.recv_multipart()[1])
                results[result["frame_id"]] = result
                progress.advance(task)
                in_flight -= 1
                in_flight += sum(_send(sender, sample) for _, sample in zip(range(1), waiting, strict=False))
        seconds = time.monotonic() - started
        _save_overlays(folder, pictures, sum(result["verdict"] == "FAIL" for result in results.values()))
    finally:
        sender.close(drop=True)
        context.destroy(linger=0)
    return results, seconds


def _subscribe(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, prefix: str) -> zmq.Socket[bytes]:
    import zmq

    connected = context.socket(zmq.SUB)
    connected.subscribe(prefix)
    connected.connect(endpoint)
    return connected


def _send(sender: Sender, sample: _Sample) -> bool:
    sender.send(_make(sample), frame_id=sample.frame_id, part_id=f"part-{sample.seed}", pixel_format="RGB8")
    return True


def _save_overlays(folder: Path, pictures: zmq.Socket[bytes], expected: int) -> None:
    overlays = folder / "overlays"
    overlays.mkdir(exist_ok=True)
    for old in overlays.glob("*.jpg"):
        old.unlink()
    for _ in range(expected):
        if not pictures.poll(5000):
            raise InspectorError(f"{expected} overlays expected in {overlays}, some are missing")
        _, header, jpeg = pictures.recv_multipart()
        (overlays / f"{json.loads(header)['frame_id']}.jpg").write_bytes(jpeg)


def _summarise(folder: Path, samples: list[_Sample], results: dict[str, dict[str, Any]], seconds: float) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    counts = Counter((sample.truth, results[sample.frame_id]["verdict"]) for sample in samples)
    table = Table("truth", "PASS", "FAIL", "ERROR", title="verdict against truth")
    for truth in dict.fromkeys(sample.truth for sample in samples):
        table.add_row(truth, *(str(counts[truth, verdict]) for verdict in ("PASS", "FAIL", "ERROR")))
    console = Console()
    console.print(table)
    good = [results[sample.frame_id]["verdict"] for sample in samples if sample.truth == "good"]
    bad = [results[sample.frame_id]["verdict"] for sample in samples if sample.truth != "good"]
    latencies = [result["latency_ms"]["total"] for result in results.values()]
    tiles = _tiles_per_frame(folder)
    p50, p99 = np.percentile(latencies, [50, 99])
    console.print(f"defective frames FAIL: {bad.count('FAIL')} of {len(bad)}")
    console.print(f"good frames PASS: {good.count('PASS')} of {len(good)}")
    console.print(f"throughput: {len(samples) / seconds:.2f} frames/s, {len(samples) * tiles / seconds:.1f} tiles/s")
    console.print(f"latency: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    results_path = folder / "results.json"
    results_path.write_text(json.dumps([results[sample.frame_id] for sample in samples], indent=1), encoding="utf-8")


def _tiles_per_frame(folder: Path) -> int:
    from inspector.cli.demo.product import FRAME_HW
    from inspector.config import load_recipe
    from inspector.detection.tiling import Tiler

    recipe = load_recipe(folder / "recipe")
    return len(Tiler(recipe.tiling.tile_size, recipe.tiling.stride).grid(recipe.preprocessing.scale_hw(FRAME_HW)))
