"""Commands around the running daemon: run, send, tail."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspector import logs
from inspector.cli.terminal.options import ClientKeyFile, StationFile
from inspector.cli.terminal.peer import Peer
from inspector.errors import ConfigError, FrameError, InspectorError, StartError
from inspector.logs.lines import escape
from inspector.transient import is_transient

if TYPE_CHECKING:
    from inspector.client import Sender
    from inspector.codec import Pixels
    from inspector.types import PixelFormat

FRAMES_ENDPOINT = "tcp://127.0.0.1:5555"
RESULTS_ENDPOINT = "tcp://127.0.0.1:5556"


def run(station: StationFile) -> None:
    """Run the daemon until SIGTERM or SIGINT (drains first), or until a fault."""
    from inspector.service.orders.signals import OFFLINE, ONLINE

    for signum in (
        signal.SIGHUP,
        signal.SIGUSR1,
        OFFLINE,
        ONLINE,
    ):  # until the daemon takes them: by themselves they end the process
        signal.signal(signum, signal.SIG_IGN)
    try:
        status = _run(station)
    except ConfigError as error:
        if not is_transient(error):
            raise
        raise StartError(f"cannot start now; try again later, as systemd does:\n{error}") from error
    raise typer.Exit(status)


def _run(station: Path) -> int:
    from inspector.config import load_station, locate_field
    from inspector.service.daemon import Daemon, set_up_logs

    loaded = load_station(station)
    set_up_logs(loaded)
    logs.log_unforeseen()
    try:
        return Daemon(loaded, station).run()
    except ConfigError as error:
        raise ConfigError(f"{locate_field(station, error.field)}: {error}") from error


def send(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images or folders of images.")],
    to: Annotated[str, typer.Option(help="The daemon's frames endpoint.")] = FRAMES_ENDPOINT,
    camera: Annotated[str, typer.Option(help="Camera name in the station file.")] = "top",
    fps: Annotated[float, typer.Option(min=0, help="Frames per second; 0: as fast as the daemon accepts them.")] = 0.0,
    count: Annotated[int, typer.Option(min=0, help="Stop after this many frames; 0: send each image once.")] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the daemon to accept a frame.")] = 30.0,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="The frames show real parts, and a PASS lets a part through. Default: the frames are simulated.",
        ),
    ] = False,
    key: ClientKeyFile = None,
) -> None:
    """Send images to a running daemon, as raw pixels. With --count they repeat. Exits 1 if one could not be sent.

    Unless --live is given, verdicts are marked `simulated`, so that they never let a part through.
    """
    from inspector.training.data.datasets import list_images

    # Named with their folder, so that good/000.png and dent/000.png stay apart.
    files = [(_name_frame(file, path), file) for path in paths for file in list_images(path)]
    if not files:
        raise InspectorError(f"PATH: must be images or folders of images, found none in {[str(p) for p in paths]}")
    left_out: list[str] = []
    sent, started = 0, time.monotonic()
    with _open_sender(to, camera, key, timeout, simulated=not live) as sender:
        for name, pixels, pixel_format in _read_frames(files, count, left_out):
            if fps:
                time.sleep(max(0.0, started + sent / fps - time.monotonic()))
            try:
                sender.send(pixels, frame_id=f"{sent}-{name}" if count else name, pixel_format=str(pixel_format))
            except ConnectionRefusedError as error:
                raise InspectorError(str(error)) from error
            except TimeoutError as error:
                raise InspectorError(
                    f"no daemon accepted a frame at {to} within {timeout} s; {sent} sent; "
                    "a station takes frames there only for cameras with the source zmq or imagezmq"
                ) from error
            sent += 1
    typer.echo(f"{sent} frames sent to {to} in {time.monotonic() - started:.1f} s", err=True)
    if left_out:
        names = ", ".join(map(escape, left_out))
        raise InspectorError(f"{len(left_out)} of {len(files)} files could not be sent: {names}")


def _open_sender(to: str, camera: str, key: Path | None, timeout_s: float, *, simulated: bool) -> Sender:
    from inspector.client import KeyFileError, Sender

    try:
        return Sender(to, camera=camera, key=key, timeout_s=timeout_s, simulated=simulated)
    except KeyFileError as error:
        raise typer.BadParameter(str(error), param_hint="'--key'") from error
    except ValueError as error:
        raise typer.BadParameter(f"must be an endpoint, got {to!r}", param_hint="'--to'") from error


def _name_frame(file: Path, path: Path) -> str:
    """A frame's id: the file's name from the folder given on; the daemon takes text of 256 characters at most."""
    name = file.relative_to(path.parent).as_posix()
    return name.encode("utf-8", "backslashreplace").decode()[-200:]


def _read_frames(
    files: list[tuple[str, Path]], count: int, left_out: list[str]
) -> Iterator[tuple[str, Pixels, PixelFormat]]:
    """Frames by name, each once, or `count` of them, repeating; one that cannot be read is named in `left_out`."""
    from inspector.training.data.datasets import read_image

    usable, read = list(files), 0
    while usable:
        for name, file in list(usable):
            try:
                frame = read_image(file)
            except FrameError as error:
                typer.echo(escape(f"not sent: {error}"), err=True)
                left_out.append(str(file))
                usable.remove((name, file))
                continue
            yield name, *frame
            read += 1
            if read == count:
                return
        if not count:
            return


def tail(
    from_: Annotated[str, typer.Option("--from", help="The daemon's results endpoint.")] = RESULTS_ENDPOINT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, as received.")] = False,
    count: Annotated[int, typer.Option(min=0, help="Stop after this many results; 0: never.")] = 0,
    timeout: Annotated[
        float, typer.Option(min=0, help="Exit with status 1 after this many seconds without a result; 0: never.")
    ] = 0.0,
    key: ClientKeyFile = None,
) -> None:
    """Print results as the daemon publishes them."""
    import zmq

    from inspector.types import PART_PREFIX

    seen = 0
    with Peer(zmq.SUB, from_, key, option="--from") as peer:
        for topic in ("result/", PART_PREFIX):
            peer.socket.subscribe(topic)
        while not count or seen < count:
            if not peer.wait(timeout or None, zmq.POLLIN):
                raise InspectorError(f"no result from {from_} for {timeout} s; {seen} received")
            message = json.loads(peer.socket.recv_multipart()[1])
            typer.echo(json.dumps(message) if as_json else describe_result(message))
            seen += 1


def describe_result(result: dict[str, Any]) -> str:
    """A result in one line, as text: its frame's id comes from a sender. Of a part, with what each view says."""
    score = "" if result["score"] is None else f" score {result['score']:.4g}/{result['threshold']:.4g}"
    name = f"{result['camera']} #{result['seq']} {result['frame_id']}"
    marks = "".join(f" {mark}" for mark in ("warn", "simulated") if result[mark])
    marks += "".join(f", {view['camera']} {view['reason'] or 'without verdict'}" for view in result.get("views", ()))
    took = f"{result['latency_ms']['total']:.0f} ms"
    return escape(f"{result['verdict']:<5} {result['reason']:<15} {name}{score} {took}{marks}")
