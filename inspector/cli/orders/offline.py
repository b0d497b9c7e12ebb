"""Take cameras of a running daemon offline while people work there, and back online."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspector.cli.terminal.asking import Daemon
from inspector.cli.terminal.options import ClientKeyFile, StationFile
from inspector.logs.lines import escape

CameraOrAll = Annotated[str | None, typer.Option(help="Camera name in the station file; all cameras if not said.")]


def offline(
    station: StationFile,
    camera: CameraOrAll = None,
    keep: Annotated[bool, typer.Option("--keep", help="Over a restart of the daemon too.")] = False,
    key: ClientKeyFile = None,
) -> None:
    """Take a camera of a running daemon offline: its frames are answered ERROR OFFLINE, and no part passes."""
    _ask(station, key, "offline", camera, keep=keep)


def online(station: StationFile, camera: CameraOrAll = None, key: ClientKeyFile = None) -> None:
    """Bring a camera back online: frames captured from now on are judged."""
    _ask(station, key, "online", camera)


def _ask(station: Path, key: Path | None, request: str, camera: str | None, **fields: bool) -> None:
    from inspector.config import load_station

    loaded = load_station(station)
    with Daemon(loaded.sockets.requests, key, option="sockets.requests") as daemon:
        absent = daemon.ask(request, **({} if camera is None else {"camera": camera}), **fields)["offline"]
    for name in loaded.cameras:
        if name not in absent:
            typer.echo(f"camera {name}: online")
            continue
        kept = "over a restart too" if absent[name]["keep"] else "until online or a restart"
        typer.echo(escape(f"camera {name}: offline, {kept}; {absent[name]['who']} asked for it"))
