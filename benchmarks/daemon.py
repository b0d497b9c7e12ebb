"""What the daemon costs beside its engine: the same frames through the bare detector and through a real daemon.

    python benchmarks/daemon.py RECIPE --frame-hw 2048 2448 --frames 20 --rounds 3 --cameras 1 --json daemon.json

Frames go over ipc as raw pixels, as fast as the daemon takes them (its buffer blocks, with room for two frames); a
subscriber reads all results, and /metrics is scraped twice a second. Bare and daemon take turns, round by round, each
alone on the machine. Frames are textures made with a seed; with --fail the threshold is set so that each one fails, and
the daemon draws and sends an overlay of each.

    python benchmarks/daemon.py RECIPE --journal-share --frame-hw 256 256 --frames 500

compares the daemon with one that writes no journal instead, in the same way. The journal costs most where frames are
small. The stage `journal` is from handing a verdict to the journal's thread until it is known to be durable.

    python benchmarks/daemon.py RECIPE --scrapes-per-s 100 --frame-hw 256 256 --frames 500 --rounds 8

compares rounds in which nobody scrapes /metrics with such in which somebody does, so often; the scraper is a process
of its own on the same machine, so its work counts against the daemon.

    python benchmarks/daemon.py RECIPE --trigger --frame-hw 256 256 --frames 100

compares a frame that is pushed with one that is triggered by a request and sent by a camera program, one at a time and
in turns, from the first message to the verdict. A trigger adds its request, its row in the journal and its message.

    python benchmarks/daemon.py RECIPE --parts 3 --frames 20

compares three cameras whose views are one part with three that have none, and with one camera, by turns. Each part has
a row in the journal and a message of its own. Frames per second are of frames; a part of one camera is that camera.

    python benchmarks/daemon.py RECIPE --switch --frame-hw 512 512 --frames 100 [--seconds 30]

times verdicts at half of the rate that the daemon reaches, undisturbed and while it prepares another recipe, which it
has to compile, and switches to it. That one is this recipe with its sigma changed by a thousandth.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import zmq
from _parting import compute_shares, measure_waits, print_parts
from _scraper import Scraper, time_scrape
from _switching import compare_switch
from _triggering import Triggering
from rich.console import Console
from rich.table import Table

from inspector.config import RECIPE_FILE, Threshold, dump_recipe, load_recipe
from inspector.detection.detector import Detector
from inspector.detection.looks import compute_look
from inspector.device import choose_device
from inspector.recipe.opening import open_detector
from inspector.testing.station_process import build_message, free_port
from inspector.training.expectations import adopt_expectation
from inspector.types import PixelFormat

Frame = np.ndarray[Any, np.dtype[np.uint8]]


_PROGRAM = ("-m", "inspector")
_UNJOURNALLED = (str(Path(__file__).with_name("_unjournalled.py")),)
_WARM_UP = 2
"""Frames that are not counted."""


def main(argv: list[str] | None = None) -> None:
    """Run and print."""
    arguments = parse(argv)
    with tempfile.TemporaryDirectory(prefix="daemon-") as temporary:
        folder = Path(temporary)
        frames = _make_frames(arguments)
        recipe = _prepare(arguments, folder, frames)
        if arguments.switch:
            _compare_switch(arguments, folder, recipe, frames)
        elif arguments.scrapes_per_s:
            _compare_scraped(arguments, folder, recipe, frames)
        elif arguments.parts:
            _compare_parts(arguments, folder, recipe, frames)
        elif arguments.trigger:
            _compare_triggered(arguments, folder, recipe, frames)
        elif arguments.journal_share:
            _compare_journal(arguments, folder, recipe, frames)
        else:
            _compare_bare(arguments, folder, recipe, frames)


def _compare_bare(arguments: argparse.Namespace, folder: Path, recipe: Path, frames: list[Frame]) -> None:
    detector = open_detector(recipe, device=choose_device(arguments.device))
    _time_bare(detector, frames[:_WARM_UP])
    with _Station(folder, recipe, arguments) as station:
        station.time(frames[:_WARM_UP])
        rounds = [(_time_bare(detector, frames), station.time(frames)) for _ in range(arguments.rounds)]
        results = station.counted
    _check_results(arguments, results)
    stages = _measure_stages(results)
    ratio = _print_rounds(("bare", "daemon"), rounds, detector.engine.name)
    _print_stages({"daemon": stages})
    _write_json(
        arguments, {"engine": detector.engine.name, "rounds": rounds, "ratio": ratio, "stages_ms": stages}
    )  # fmt: skip


def _compare_journal(arguments: argparse.Namespace, folder: Path, recipe: Path, frames: list[Frame]) -> None:
    """Both daemons live all the while, and take turns at work."""
    with (
        _Station(folder / "without", recipe, arguments, program=_UNJOURNALLED) as without,
        _Station(folder / "with", recipe, arguments) as journalled,
    ):
        for station in (without, journalled):
            station.time(frames[:_WARM_UP])
        rounds = [(without.time(frames), journalled.time(frames)) for _ in range(arguments.rounds)]
        results = {"without": without.counted, "with": journalled.counted}
    for each in results.values():
        _check_results(arguments, each)
    stages = {name: _measure_stages(each) for name, each in results.items()}
    ratio = _print_rounds(("without", "with"), rounds, "the daemon without and with its journal")
    _print_stages({name: {stage: of[stage] for stage in ("journal", "total")} for name, of in stages.items()})
    _write_json(arguments, {"rounds": rounds, "ratio": ratio, "stages_ms": stages})


def _compare_scraped(arguments: argparse.Namespace, folder: Path, recipe: Path, frames: list[Frame]) -> None:
    """One daemon; the scraper pauses in every other round."""
    names = ("quiet", "scraped")
    rounds: list[tuple[float, float]] = []
    totals: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with _Station(folder, recipe, arguments, scrapes_itself=False) as station:
        station.time(frames[:_WARM_UP])
        for number in range(arguments.rounds):
            pair = dict.fromkeys(names, 0.0)
            for name in names if number % 2 == 0 else names[::-1]:  # what slows down with time slows both alike
                with Scraper(station.http, arguments.scrapes_per_s) if name == "scraped" else contextlib.nullcontext():
                    counted = len(station.results)
                    pair[name] = station.time(frames)
                    totals[name] += station.results[counted:]
            rounds.append((pair["quiet"], pair["scraped"]))
        scrapes = [time_scrape(station.http) for _ in range(20)]
        results = station.counted
    _check_results(arguments, results)
    ratio = _print_rounds(names, rounds, f"/metrics scraped {arguments.scrapes_per_s:g} times a second")
    stages = {name: _measure_stages(of) for name, of in totals.items()}
    _print_stages({name: {"total": of["total"]} for name, of in stages.items()})
    p99 = stages["scraped"]["total"][1] / stages["quiet"]["total"][1]
    print(f"p99 of a verdict, scraped / quiet: {p99:.1%}; one scrape, text written anew: {np.median(scrapes):.1f} ms")
    _write_json(arguments, {"rounds": rounds, "ratio": ratio, "p99_ratio": p99, "stages_ms": stages})


def _compare_triggered(arguments: argparse.Namespace, folder: Path, recipe: Path, frames: list[Frame]) -> None:
    with (
        _Station(folder, recipe, arguments) as station,
        Triggering(station.sockets, station.cameras[0], frames[:2]) as line,
    ):
        pairs = [(line.push(number), line.trigger(number)) for number in range(arguments.frames * arguments.rounds)]
    ways = dict(zip(("pushed", "triggered"), zip(*pairs[_WARM_UP:], strict=True), strict=True))
    figures = {name: _quantiles(list(latencies)) for name, latencies in ways.items()}
    table = Table("", "p50 ms", "p99 ms", title="first message to verdict")
    for name, (p50, p99) in figures.items():
        table.add_row(name, f"{p50:.2f}", f"{p99:.2f}")
    ratio = figures["triggered"][0] / figures["pushed"][0]
    Console(width=120).print(table)
    print(
        f"triggered / pushed, p50: {ratio:.2f}; a trigger adds {figures['triggered'][0] - figures['pushed'][0]:.2f} ms"
    )
    _write_json(arguments, {"latency_ms": figures, "ratio": ratio})


def _compare_parts(arguments: argparse.Namespace, folder: Path, recipe: Path, frames: list[Frame]) -> None:
    """Daemons live all the while, and take turns at work."""
    count = arguments.parts
    plain, parted = f"{count} cameras", f"parts of {count} cameras"
    ways = {"one camera": (1, None), plain: (count, None), parted: (count, count)}
    stations: dict[str, _Station] = {}
    with contextlib.ExitStack() as stack:
        for name, (cameras, parts) in ways.items():
            settings = argparse.Namespace(**vars(arguments) | {"cameras": cameras, "parts": parts})
            stations[name] = stack.enter_context(_Station(folder / str(len(stations)), recipe, settings))
            stations[name].time(frames[:_WARM_UP])
        rounds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(arguments.rounds):
            for name in list(ways)[:: 1 if number % 2 == 0 else -1]:  # what slows down with time slows all alike
                rounds[name].append(stations[name].time(frames))
    for station in stations.values():
        _check_results(arguments, station.counted)
    waits = measure_waits(list(zip(stations[parted].arrivals, stations[parted].results, strict=True)))
    _write_json(arguments, print_parts(rounds, compute_shares(rounds, plain), waits[_WARM_UP:]))


def _compare_switch(arguments: argparse.Namespace, folder: Path, recipe: Path, frames: list[Frame]) -> None:
    """One daemon; half its own rate, measured first."""
    other = folder / "other"
    shutil.copytree(recipe, other)
    first = load_recipe(recipe)
    changed = first.model_copy(update={"recipe_id": f"{first.recipe_id}-other", "sigma": first.sigma * 1.001})
    (other / RECIPE_FILE).write_text(dump_recipe(changed), encoding="utf-8")
    with _Station(folder, recipe, arguments) as station:
        station.time(frames[:_WARM_UP])
        period_s = 2 * station.time(frames)
        content = compare_switch(station, frames[:2], period_s, other, arguments.seconds)
        _check_results(arguments, station.counted)
    for name, (p50, p99) in content["ms"].items():
        print(f"{name:12} {content['frames'][name]:6} frames, p50 {p50:8.1f} ms, p99 {p99:8.1f} ms")
    print(f"a frame each {content['period_ms']:.1f} ms; the other recipe was prepared in {content['prepared_s']:.1f} s")
    print(f"p99 switching / undisturbed: {content['p99_ratio']:.2f}")
    _write_json(arguments, content)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--frame-hw", type=int, nargs=2, default=[2048, 2448], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=20, help="per round and camera")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--fail", action="store_true", help="every frame fails and has an overlay drawn")
    parser.add_argument("--journal-share", action="store_true", help="compare with a daemon that has no journal")
    parser.add_argument("--trigger", action="store_true", help="compare frames that are pushed with triggered ones")
    parser.add_argument("--parts", type=int, metavar="N", help="compare with N cameras that see one part")
    parser.add_argument("--scrapes-per-s", type=float, metavar="N", help="compare with and without so many scrapes")
    parser.add_argument("--switch", action="store_true", help="compare with verdicts while a recipe is compiled")
    parser.add_argument("--seconds", type=float, default=30.0, help="undisturbed, with --switch")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args(argv)
    if arguments.parts is not None and arguments.parts < 2:
        parser.error(f"--parts: must be 2 or more, as a part has so many cameras, got {arguments.parts}")
    return arguments


def _prepare(arguments: argparse.Namespace, folder: Path, frames: list[Frame]) -> Path:
    """A copy of the recipe that expects these frames, unscaled, and passes or fails them all."""
    target = folder / "recipe"
    shutil.copytree(arguments.recipe, target)
    recipe = load_recipe(target)
    plain = recipe.preprocessing.model_copy(
        update={"scale": 1.0, "resize_hw": None, "short_side": None, "frame_hw": None}
    )
    threshold = Threshold(value=1e-6 if arguments.fail else 1e6, method="manual")
    recipe = recipe.model_copy(update={"preprocessing": plain, "threshold": threshold})
    recipe = adopt_expectation(recipe, [compute_look(frame, PixelFormat.RGB8) for frame in frames[:2]], target)
    expected = recipe.expected_frames and recipe.expected_frames.model_copy(update={"off": ("repeated",)})
    recipe = recipe.model_copy(update={"expected_frames": expected})
    (target / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")
    return target


def _make_frames(arguments: argparse.Namespace) -> list[Frame]:
    height, width = arguments.frame_hw
    generator = np.random.default_rng(0)
    different = [generator.integers(60, 200, (height, width, 3), dtype=np.uint8) for _ in range(2)]
    return [different[number % 2] for number in range(arguments.frames)]


def _time_bare(detector: Detector, frames: list[Frame]) -> float:
    """Seconds per frame."""
    started = time.monotonic()
    for frame in frames:
        detector.judge(frame, PixelFormat.RGB8)
    return (time.monotonic() - started) / len(frames)


class _Station:
    """A daemon in a process of its own, a sender, a subscriber and a scraper."""

    def __init__(
        self,
        folder: Path,
        recipe: Path,
        arguments: argparse.Namespace,
        *,
        program: tuple[str, ...] = _PROGRAM,
        scrapes_itself: bool = True,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._program = program
        self._scrapes_itself = scrapes_itself
        names = ("frames", "results", "overlays", "requests", "imagezmq")
        self.sockets = {name: f"ipc://{folder}/{name}" for name in names}
        self.cameras = [f"camera{number}" for number in range(arguments.cameras)]
        height, width = arguments.frame_hw
        camera = {"recipe": str(recipe), "source": {"type": "zmq"}, "deadline_ms": 600_000}
        camera |= {"triggers": "software"} if arguments.trigger else {}
        station = {
            "schema": 1,
            "station": "benchmark",
            "state_dir": str(folder / "state"),
            "device": arguments.device,
            "sockets": self.sockets,
            "http": {"port": free_port()},
            "buffer": {"max_bytes": 2 * 3 * height * width, "when_full": "block"},
            "cameras": dict.fromkeys(self.cameras, camera),
        }
        if arguments.parts:
            part = {"cameras": self.cameras, "by": "part_id", "window_ms": 600_000}
            station["parts"] = {"body": part}
        self._verdicts = len(self.cameras) + bool(arguments.parts)  # of one frame of each camera
        self._part_ids = map(str, itertools.count())
        self.http = f"http://127.0.0.1:{station['http']['port']}"
        self._path = folder / "station.yaml"
        self._path.write_text(yaml.safe_dump(station), encoding="utf-8")
        self.results: list[dict[str, Any]] = []
        self.arrivals: list[float] = []
        self._stop_asked = threading.Event()

    def __enter__(self) -> _Station:
        self._process = subprocess.Popen([sys.executable, *self._program, "run", str(self._path)])  # noqa: S603
        self._context = zmq.Context()
        self._sender = self._context.socket(zmq.PUSH)
        self._sender.sndhwm = 1
        self._sender.connect(self.sockets["frames"])
        self._subscriber = self._context.socket(zmq.SUB)
        for topic in ("result/", "part/"):
            self._subscriber.subscribe(topic)
        self._subscriber.connect(self.sockets["results"])
        deadline = time.monotonic() + 120
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the daemon did not start")
            time.sleep(0.1)
        if self._scrapes_itself:
            threading.Thread(target=self._scrape, name="scraper", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_asked.set()
        self._process.terminate()
        self._process.wait(60)
        self._context.destroy(linger=0)

    @property
    def counted(self) -> list[dict[str, Any]]:
        """All results but those of the warm-up."""
        return self.results[_WARM_UP * self._verdicts :]

    def time(self, frames: list[Frame]) -> float:
        """Seconds per frame, between the first result and the last: the pipe is full all the while."""
        thread = threading.Thread(target=self._send, args=(frames,), name="sender")
        thread.start()
        first = len(self.results)
        for _ in range(len(frames) * self._verdicts):
            if self.receive(300_000) is None:
                raise SystemExit("a result did not come")
        thread.join()
        return (self.arrivals[-1] - self.arrivals[first]) / (len(frames) * len(self.cameras) - 1)

    @property
    def camera(self) -> str:
        """The first one."""
        return self.cameras[0]

    @property
    def requests(self) -> str:
        """Where it takes requests."""
        return self._sockets["requests"]

    def send(self, frame_id: str, frame: Frame) -> None:
        """Send one frame of the first camera."""
        self._sender.send_multipart(build_message(self.camera, frame_id, frame, pixel_format="RGB8"), copy=False)

    def receive(self, timeout_ms: int) -> dict[str, Any] | None:
        """The next result, if it comes in time."""
        if not self._subscriber.poll(timeout_ms):
            return None
        self.results.append(json.loads(self._subscriber.recv_multipart()[1]))
        self.arrivals.append(time.monotonic())
        return self.results[-1]

    def _send(self, frames: list[Frame]) -> None:
        for number, frame in enumerate(frames):
            part_id = next(self._part_ids)
            for camera in self.cameras:
                message = build_message(camera, str(number), frame, pixel_format="RGB8", part_id=part_id)
                self._sender.send_multipart(message, copy=False)

    def _scrape(self) -> None:
        while not self._stop_asked.wait(0.5):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.http}/metrics", timeout=5).read()  # noqa: S310

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.http}/ready", timeout=1) as reply:  # noqa: S310
                return bool(reply.status == 200)
        except OSError:
            return False


def _check_results(arguments: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    wrong = [result for result in results if result["verdict"] != ("FAIL" if arguments.fail else "PASS")]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(results)} results are not what they must be, first: {wrong[0]}")


def _print_rounds(names: tuple[str, str], rounds: list[tuple[float, float]], title: str) -> float:
    """Print the table; the second's speed as a share of the first's, both the median over the rounds."""
    first, second = (statistics.median(column) for column in zip(*rounds, strict=True))
    table = Table("round", *(f"{name} frames/s" for name in names), f"{names[1]} / {names[0]}", title=title)
    for number, (left, right) in enumerate(rounds, start=1):
        table.add_row(str(number), f"{1 / left:.3f}", f"{1 / right:.3f}", f"{left / right:.1%}")
    table.add_row("median", f"{1 / first:.3f}", f"{1 / second:.3f}", f"{first / second:.1%}")
    Console(width=120).print(table)
    return first / second


def _measure_stages(results: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """p50 and p99 of each stage, in milliseconds."""
    return {name: _quantiles([r["latency_ms"].get(name, 0.0) for r in results]) for name in _name_stages(results)}


def _print_stages(stages: dict[str, dict[str, tuple[float, float]]]) -> None:
    """One pair of columns for each daemon."""
    columns = [f"{name} {quantile} ms" for name in stages for quantile in ("p50", "p99")]
    table = Table("stage", *columns, title="per frame")
    for stage in next(iter(stages.values())):
        table.add_row(stage, *(f"{value:.2f}" for of in stages.values() for value in of[stage]))
    Console(width=120).print(table)


def _write_json(arguments: argparse.Namespace, content: dict[str, Any]) -> None:
    if arguments.json:
        arguments.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _name_stages(results: list[dict[str, Any]]) -> Iterator[str]:
    yield from dict.fromkeys(name for result in results for name in result["latency_ms"])


def _quantiles(values: list[float]) -> tuple[float, float]:
    return float(np.quantile(values, 0.5)), float(np.quantile(values, 0.99))


if __name__ == "__main__":
    main()
