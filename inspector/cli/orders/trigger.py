"""Fire cameras of a running daemon, and say what became of it."""

from __future__ import annotations

import json
import time
import uuid
from typing import Annotated, Any

import typer

from inspector.cli.online import describe_result
from inspector.cli.terminal.asking import Daemon
from inspector.cli.terminal.options import ClientKeyFile, StationFile
from inspector.cli.terminal.peer import Peer
from inspector.errors import InspectorError

_MORE_S = 2.0
"""Beside the trigger's timeout and the camera's deadline: for the way, and for a busy machine."""
_JOIN_S = 5.0


def trigger(
    station: StationFile,
    cameras: Annotated[
        list[str], typer.Argument(metavar="CAMERA...", help="Camera names in the station file; all are fired, or none.")
    ],
    trigger_id: Annotated[str | None, typer.Option("--id", help="The trigger's id; made up if not said.")] = None,
    part: Annotated[str | None, typer.Option(help="Id of the part, for the result.")] = None,
    timeout_ms: Annotated[
        int | None, typer.Option(min=1, help="How long its frame may take to come; the camera's deadline if not said.")
    ] = None,
    key: ClientKeyFile = None,
) -> None:
    """Fire cameras of a running daemon and print each one's verdict; exits 1 unless all are PASS.

    The cameras' `triggers` must be `software` in the station file.
    """
    import zmq

    from inspector.config import load_station

    loaded = load_station(station)
    trigger_id = trigger_id or f"cli-{uuid.uuid4().hex[:12]}"
    fields = {"part_id": part, "timeout_ms": timeout_ms}
    fields = {name: value for name, value in fields.items() if value is not None}
    with Peer(zmq.SUB, loaded.sockets.results, key, option="sockets.results") as results:
        results.socket.subscribe("status")
        for camera in cameras:
            results.socket.subscribe(f"result/{camera}")
        if not results.wait(_JOIN_S, zmq.POLLIN):  # else a verdict might leave before anyone listens
            raise InspectorError(f"no daemon speaks at {loaded.sockets.results}")
        with Daemon(loaded.sockets.requests, key, option="sockets.requests") as daemon:
            named = cameras[0] if len(cameras) == 1 else cameras
            answer = daemon.ask("trigger", camera=named, trigger_id=trigger_id, **fields)
        deadlines_ms = [loaded.cameras[camera].deadline_ms for camera in cameras]
        waits_s = (answer["timeout_ms"] + max(deadlines_ms)) / 1000 + _MORE_S
        verdicts = _print_results(results, cameras, trigger_id, time.monotonic() + waits_s)
    if verdicts != ["PASS"] * len(cameras):
        raise typer.Exit(1)


def _print_results(results: Peer, cameras: list[str], trigger_id: str, deadline: float) -> list[str]:
    """Print each camera's verdict as it comes."""
    import zmq

    verdicts, missing = [], {f"result/{camera}".encode(): camera for camera in cameras}
    while missing and results.wait(max(0.0, deadline - time.monotonic()), zmq.POLLIN):
        topic, body = results.socket.recv_multipart()
        message: dict[str, Any] = json.loads(body)
        if topic in missing and message["trigger_id"] == trigger_id:
            del missing[topic]
            typer.echo(describe_result(message))
            verdicts.append(message["verdict"])
    if missing:
        named = ", ".join(missing.values())
        raise InspectorError(f"camera {named}: no verdict on trigger {trigger_id} came in time")
    return verdicts
