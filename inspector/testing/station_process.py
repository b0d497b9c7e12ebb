"""A real daemon in a process of its own, with a recipe small enough for a slow CPU."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
import zmq

from inspector.config import Preprocessing, Recipe, Threshold, Tiling, dump_recipe
from inspector.detection.detector import Detector
from inspector.engine.build import build_eager
from inspector.engine.probe import Probe, score_tiles
from inspector.model.checkpoint import save_weights
from inspector.recipe.network import build_model
from inspector.training.thresholds.proving import adopt_probe
from inspector.types import PixelFormat

FRAME_HW = (128, 160)
SOCKETS = ("frames", "results", "overlays", "requests", "imagezmq")


def good_frame() -> np.ndarray:
    return np.full((*FRAME_HW, 3), 90, dtype=np.uint8)


def bad_frame() -> np.ndarray:
    frame = good_frame()
    frame[40:80, 60:110] = np.random.default_rng(7).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return frame


def write_recipe(folder: Path, *, threshold: float | None = None, frame_hw: tuple[int, int] | None = FRAME_HW) -> Path:
    """A random network whose threshold lies between a flat frame's score and a noisy one's."""
    folder.mkdir(parents=True)
    recipe = Recipe(
        recipe_id="tiny",
        backbone="resnet18",
        sigma=2.0,
        precision="fp32",
        tiling=Tiling(tile_size=64, stride=64),
        preprocessing=Preprocessing(frame_hw=frame_hw),
        threshold=Threshold(value=threshold or 1.0, method="manual"),
        weights_sha256="0" * 64,
    )
    torch.manual_seed(0)
    model = build_model(recipe)
    sha256 = save_weights(model, folder / "weights.safetensors")
    recipe = recipe.model_copy(update={"weights_sha256": sha256})
    if threshold is None:
        detector = Detector(recipe, build_eager(recipe, model))
        low, high = (detector.judge(f, PixelFormat.RGB8).decision.score for f in (good_frame(), bad_frame()))
        assert low < high
        recipe = recipe.model_copy(update={"threshold": Threshold(value=(low + high) / 2, method="manual")})
    # A calibrated recipe has one, and with it a start loads no network but the compiled one.
    tiles = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    scores = score_tiles(build_eager(recipe, model), tiles)
    recipe = adopt_probe(recipe, Probe(tiles, scores, scores.clone()), folder)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    return folder


_given_ports: set[int] = set()


def free_port() -> int:
    """A port nobody uses, another each time, below those the kernel hands to connections: none takes it meanwhile."""
    while True:
        port = random.randrange(15_000, 32_000)
        if port in _given_ports:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _given_ports.add(port)
            return port


class RunningStation:
    """A daemon process and the peers that talk to it. `program` is what Python runs, the package's by default."""

    def __init__(self, folder: Path, config: dict[str, Any], program: Sequence[str] = ("-m", "inspector")) -> None:
        self.folder = folder
        self.config = config
        self.path = folder / "station.yaml"
        self.path.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.log = (folder / "daemon.log").open("ab")
        self.faults = folder / "faults.json"
        self.process = subprocess.Popen(
            [sys.executable, *program, "run", str(self.path)],
            stderr=self.log,
            stdout=self.log,
            env=os.environ | {"INSPECTOR_FAULTS": str(self.faults)},
        )
        self._opened: list[zmq.Socket[bytes]] = []

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder / str(self.config["state_dir"]) / str(self.config["station"]) / "journal.sqlite"

    def fault(self, **settings: Any) -> None:
        """Break a program that can be broken so, from now on, and in no other way. None: it works again."""
        new = self.faults.with_suffix(".new")
        new.write_text(json.dumps(settings), encoding="utf-8")
        new.replace(self.faults)

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log_text()
            with contextlib.suppress(OSError, urllib.error.URLError):
                if self.get("/ready")[0] == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log_text()}")

    def get(self, path: str, timeout_s: float = 5) -> tuple[int, str]:
        """What is answered over HTTP, with the TLS and the login of the station file if it has them."""
        http = self.config["http"]
        url = f"{'https' if 'tls' in http else 'http'}://127.0.0.1:{http['port']}{path}"
        request = urllib.request.Request(url)
        if "password" in http:
            login = f"{http['username']}:{(self.folder / http['password']).read_text()}"
            request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
        trusted = ssl.create_default_context(cafile=self.folder / http["tls"]["certificate"]) if "tls" in http else None
        try:
            with urllib.request.urlopen(request, timeout=timeout_s, context=trusted) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        from prometheus_client.parser import text_string_to_metric_families

        time.sleep(0.3)  # else it may be a text from before what is looked for: each serves for about 0.1 s
        samples = [s for family in text_string_to_metric_families(self.get("/metrics")[1]) for s in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def open(self, kind: int, name: str) -> zmq.Socket[bytes]:
        peer = self.context.socket(kind)
        peer.linger = 2000
        peer.rcvtimeo = 20_000
        if kind == zmq.SUB:
            peer.subscribe(b"")
        peer.connect(self.config["sockets"][name])
        self._opened.append(peer)
        return peer

    def subscribe(self) -> zmq.Socket[bytes]:
        """A results subscriber that is known to be connected: the first status has arrived."""
        peer = self.open(zmq.SUB, "results")
        assert peer.recv_multipart()[0] == b"status"
        return peer

    def log_text(self) -> str:
        return (self.folder / "daemon.log").read_text(errors="replace")

    def stop(self, timeout_s: float = 20.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        for peer in self._opened:
            peer.close(linger=0)
        self.context.term()
        self.process.kill()
        self.process.wait()
        self.log.close()


def next_result(peer: zmq.Socket[bytes]) -> dict[str, Any]:
    """The next result, statuses skipped."""
    while True:
        topic, body = peer.recv_multipart()
        if topic != b"status":
            result: dict[str, Any] = json.loads(body)
            return result


def send_frame(push: zmq.Socket[bytes], pixels: np.ndarray[Any, Any], frame_id: str, **header: Any) -> None:
    """Send a raw frame of camera `top`, or of what `header` says."""
    push.send_multipart(build_message("top", frame_id, pixels, **header))


def build_message(camera: str, frame_id: str, pixels: np.ndarray[Any, Any], /, **header: Any) -> list[Any]:
    """`[header JSON, pixels]` of a raw frame; by hand, so that tests can say what no sender should."""
    shown = {"dtype": str(pixels.dtype), "shape": list(pixels.shape)}
    full = {"camera": camera, "frame_id": frame_id, "encoding": "raw"} | shown | header
    return [json.dumps(full).encode(), np.ascontiguousarray(pixels).data]


StartStation = Callable[..., RunningStation]


def base_config(recipe: Path, **cameras: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "station": "test",
        "state_dir": "state",
        "device": "cpu",
        # No limit to the rate: a test is a sender that floods.
        "sockets": {name: f"tcp://127.0.0.1:{free_port()}" for name in SOCKETS} | {"max_rate": None},
        "http": {"port": free_port()},
        "stop_timeout_s": 5.0,
        "cameras": cameras or {"top": {"recipe": str(recipe), "deadline_ms": 20_000}},
    }
