"""A camera of the station file, opened without the station."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspector.errors import InspectorError

if TYPE_CHECKING:
    from inspector.config import Station
    from inspector.sources.base import Source

READ_S = 0.2
CameraName = Annotated[str, typer.Argument(metavar="CAMERA", help="Its name in the station file.")]


def load_with_camera(station: Path, camera: str) -> Station:
    """The station file, which lists the camera.

    Raises:
        ConfigError: of the station file.
    """
    from inspector.config import load_station

    loaded = load_station(station)
    if camera not in loaded.cameras:
        known = ", ".join(loaded.cameras)
        raise typer.BadParameter(f"must be one of {known}, got {camera!r}")
    return loaded


@contextlib.contextmanager
def open_camera(station: Path, camera: str) -> Iterator[Source]:
    """The camera's source, connected; closed in the end.

    Raises:
        ConfigError: of the station file.
        InspectorError: the station runs, and has the camera; or it cannot be opened, or frames are sent, not fetched.
    """
    from inspector.service.control.lock import find_daemon
    from inspector.sources.registry import assemble_lines

    loaded = load_with_camera(station, camera)
    if (process := find_daemon(loaded.folder)) is not None:
        raise InspectorError(f"the station runs as process {process}, and has the camera: stop it first")
    settings = loaded.cameras[camera].source
    built = settings.build(camera)
    if built is None:
        raise InspectorError(f"camera {camera}: {settings.type}: they are sent to the station, none is fetched")
    source = assemble_lines(built, loaded.cameras)
    try:
        source.connect()
        yield source
    finally:
        source.interrupt()
        source.close()
