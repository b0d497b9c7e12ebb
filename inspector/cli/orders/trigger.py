"""Fire cameras of a running daemon, and say what became of it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from inspector.cli.online import describe_result
from inspector.cli.terminal.asking import Daemon
from inspector.cli.terminal.options import ClientKeyFile, StationFile
from inspector.cli.terminal.peer import Peer
from inspector.errors import InspectorError

if TYPE_CHECKING:
    from inspector.config import Station

_MORE_S = 2.0
"""Beside the trigger's timeout and the camera's deadline, or the part's window: for the way, and a busy machine."""
_JOIN_S = 5.0


class _Awaited(NamedTuple):
    """A verdict that is to come.

    Attributes:
        name: whose it is, for people.
        key: what in the result tells that it is this one's.
        id: what stands there.
    """

    name: str
    key: str
    id: str


def trigger(
    station: StationFile,
    cameras: Annotated[
        list[str], typer.Argument(metavar="CAMERA...", help="Camera names in the station file; all are fired, or none.")
    ],
    trigger_id: Annotated[str | None, typer.Option("--id", help="The trigger's id; made up if not said.")] = None,
    part: Annotated[str | None, typer.Option(help="Id of the part: for the result, and the part's verdict.")] = None,
    timeout_ms: Annotated[
        int | None, typer.Option(min=1, help="How long its frame may take to come; the camera's deadline if not said.")
    ] = None,
    key: ClientKeyFile = None,
) -> None:
    """Fire cameras of a running daemon and print each one's verdict; exits 1 unless all are PASS.

    The cameras' `triggers` must be `software` in the station file. Where they see one of its `parts`, and the trigger
    names it, the part's verdict counts too: another camera's view may be missing.
    """
    import zmq

    from inspector.config import load_station

    loaded = load_station(station)
    trigger_id = trigger_id or f"cli-{uuid.uuid4().hex[:12]}"
    fields = {"part_id": part, "timeout_ms": timeout_ms}
    fields = {name: value for name, value in fields.items() if value is not None}
    with Peer(zmq.SUB, loaded.sockets.results, key, option="sockets.results") as results:
        awaited = _list_awaited(loaded, cameras, trigger_id, part)
        for topic in ("status", *awaited):
            results.socket.subscribe(topic)
        if not results.wait(_JOIN_S, zmq.POLLIN):  # else a verdict might leave before anyone listens
            raise InspectorError(f"no daemon speaks at {loaded.sockets.results}")
        with Daemon(loaded.sockets.requests, key, option="sockets.requests") as daemon:
            named = cameras[0] if len(cameras) == 1 else cameras
            answer = daemon.ask("trigger", camera=named, trigger_id=trigger_id, **fields)
        limits_ms = [loaded.deadlines_ms[topic.removeprefix("result/")] for topic in awaited]
        waits_s = (answer["timeout_ms"] + max(limits_ms)) / 1000 + _MORE_S
        verdicts = _print_results(results, awaited, trigger_id, time.monotonic() + waits_s)
    if set(verdicts) != {"PASS"}:
        raise typer.Exit(1)


def _list_awaited(station: Station, cameras: list[str], trigger_id: str, part_id: str | None) -> dict[str, _Awaited]:
    """Whose verdicts are waited for, by topic: the cameras', and those of parts that the trigger names."""
    from inspector.types import PART_PREFIX

    awaited = {f"result/{camera}": _Awaited(f"camera {camera}", "trigger_id", trigger_id) for camera in cameras}
    for name, part in station.parts.items():
        id_ = part_id if part.by == "part_id" else trigger_id
        if id_ is not None and not set(cameras).isdisjoint(part.cameras):
            awaited[f"{PART_PREFIX}{name}"] = _Awaited(f"part {name}", "frame_id", id_)
    return awaited


def _print_results(results: Peer, awaited: Mapping[str, _Awaited], trigger_id: str, deadline: float) -> list[str]:
    """Print each verdict as it comes."""
    import zmq

    verdicts, missing = [], {topic.encode(): each for topic, each in awaited.items()}
    while missing and results.wait(max(0.0, deadline - time.monotonic()), zmq.POLLIN):
        topic, body = results.socket.recv_multipart()
        message: dict[str, Any] = json.loads(body)
        if topic in missing and message[missing[topic].key] == missing[topic].id:
            del missing[topic]
            typer.echo(describe_result(message))
            verdicts.append(message["verdict"])
    if missing:
        named = ", ".join(each.name for each in missing.values())
        raise InspectorError(f"{named}: no verdict on trigger {trigger_id} came in time")
    return verdicts
