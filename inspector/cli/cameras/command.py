"""`inspector cameras` and `inspector snapshot`: what there is, and what it sees."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspector.cli.cameras.opening import READ_S, CameraName, load_with_camera, open_camera
from inspector.cli.terminal.asking import Daemon
from inspector.cli.terminal.options import ClientKeyFile, StationFile
from inspector.errors import InspectorError
from inspector.logs.lines import escape

if TYPE_CHECKING:
    from inspector.codec import Pixels
    from inspector.config import Station
    from inspector.sources.base import Source
    from inspector.types import PixelFormat

_WIDEST = 8192
"""The widest picture that a station gives, in pixels."""


def cameras() -> None:
    """List the cameras that each kind of source sees, with what to write into the station file.

    A kind whose library is missing says what to install. A camera that another program has is listed too.
    """
    from inspector.sources.registry import KINDS

    for kind, settings in KINDS.items():
        is_empty = bool(settings.device_field)  # without: it looks for none
        try:
            for device in settings.find_devices():
                is_empty = False
                typer.echo(f"{kind}: {device.name}  ({settings.device_field}: {device.address!r})")
        except InspectorError as error:
            typer.echo(f"{kind}: {str(error).removeprefix(f'{kind}: ')}")
        else:
            if is_empty:
                typer.echo(f"{kind}: none")


def _check_png(path: Path) -> Path:
    if path.suffix.lower() != ".png":
        raise typer.BadParameter(f"must end in .png, got {path.name!r}")
    return path


def snapshot(
    station: StationFile,
    camera: CameraName,
    out: Annotated[Path, typer.Argument(metavar="OUT.png", callback=_check_png, help="The file to write, PNG.")],
    timeout_s: Annotated[float, typer.Option(min=0.1, help="How long to wait for a frame, in seconds.")] = 30.0,
    key: ClientKeyFile = None,
) -> None:
    """Take one frame from a camera, with its settings in the station file, and write it as a PNG file.

    Nothing is judged. A camera has one reader: where the station runs, it is asked for the camera's last frame, which
    comes through a JPEG. That one is to look at, not to train on.
    """
    from inspector.files import write_whole
    from inspector.service.control.lock import find_daemon
    from inspector.sources.recording import encode_png

    loaded = load_with_camera(station, camera)
    if find_daemon(loaded.folder) is not None:
        _show_last(loaded, camera, out, key)
        return
    with open_camera(station, camera) as source:
        pixels, pixel_format = _take(source, timeout_s)
    write_whole(out, encode_png(pixels, pixel_format))
    typer.echo(f"{out}: {pixels.shape[1]} × {pixels.shape[0]}, {pixel_format.value}")


def _show_last(station: Station, camera: str, out: Path, key: Path | None) -> None:
    """Write the running station's last frame of the camera.

    Raises:
        InspectorError: the station does not answer, or refuses.
    """
    import cv2
    import numpy as np

    from inspector.files import write_whole

    with Daemon(station.sockets.requests, key, option="sockets.requests") as daemon:
        last = daemon.ask("snapshot", camera=camera, width=_WIDEST)
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(last["jpeg"]), np.uint8), cv2.IMREAD_UNCHANGED)
    write_whole(out, cv2.imencode(".png", pixels)[1].tobytes())
    received = datetime.fromtimestamp(last["received_utc_ns"] // 1_000_000_000, UTC).isoformat()
    told = f"the running station's last frame {last['frame_id']}, received {received}, through a JPEG"
    typer.echo(escape(f"{out}: {told}"))


def _take(source: Source, timeout_s: float) -> tuple[Pixels, PixelFormat]:
    """The first frame.

    Raises:
        InspectorError: none came in time, or it did not come whole.
    """
    deadline = time.monotonic() + timeout_s
    source.fire("snapshot", time.monotonic_ns() + int(timeout_s * 1e9))
    while time.monotonic() < deadline:
        frame = source.read(READ_S)
        if frame is not None and frame.pixels is None:
            raise InspectorError(f"camera {source.name}: {frame.error}")
        if frame is not None and frame.pixels is not None:
            return frame.pixels, frame.pixel_format
    raise InspectorError(f"camera {source.name}: no frame within {timeout_s:g} s; is it triggered?")
