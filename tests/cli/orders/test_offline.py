"""`inspector offline` and `online` ask the daemon of the station file, and say what it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
import zmq

Run = Callable[..., tuple[int, str]]
KEPT = {"top": {"since_utc_ns": 1, "who": "anna", "keep": True}}


@pytest.fixture
def answer(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """Answer the next request so; what was asked is in the list. The station file names the socket."""

    def answer(reply: dict[str, Any]) -> list[dict[str, Any]]:
        socket = context.socket(zmq.REP)
        endpoint = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
        station = {
            "schema": 1,
            "station": "press",
            "sockets": {"requests": endpoint},
            "cameras": {"top": {}, "side": {}},
        }
        (tmp_path / "station.yaml").write_text(yaml.safe_dump(station, sort_keys=False))
        asked: list[dict[str, Any]] = []

        def serve() -> None:
            if socket.poll(10_000):
                asked.append(json.loads(socket.recv()))
                socket.send_json(reply)
            socket.close(linger=1000)

        threading.Thread(target=serve).start()
        return asked

    return answer


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (("offline",), {"request": "offline", "keep": False}),
        (("offline", "--camera", "top", "--keep"), {"request": "offline", "camera": "top", "keep": True}),
        (("online", "--camera", "side"), {"request": "online", "camera": "side"}),
    ],
)
def test_what_was_asked_for_is_told_for_each_camera(
    run: Run, answer: Callable[..., list[Any]], tmp_path: Path, arguments: tuple[str, ...], request_: dict[str, Any]
) -> None:
    asked = answer({"ok": True, "offline": KEPT})
    status, printed = run(arguments[0], tmp_path / "station.yaml", *arguments[1:])
    assert asked == [request_]
    assert status == 0
    assert printed == "camera top: offline, over a restart too; anna asked for it camera side: online"


def test_refusal_is_told_and_ends_with_1(run: Run, answer: Callable[..., list[Any]], tmp_path: Path) -> None:
    answer({"ok": False, "error": "camera: must be one of ['top']"})
    status, printed = run("offline", tmp_path / "station.yaml", "--camera", "rear")
    assert status == 1
    assert printed.startswith("inspector: refused: camera: must be one of ['top'] see ")
