"""`inspector recipe` switches to what it prepared itself, or says what came between."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

Run = Callable[..., tuple[int, str]]
OURS, THEIRS = "1" * 32, "2" * 32


class ScriptedDaemon(threading.Thread):
    """Answers `recipe` requests of one command as a daemon whose status goes through these states."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], *states: dict[str, Any]) -> None:
        super().__init__(name="scripted-daemon")
        self._socket = context.socket(zmq.REP)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._states = list(states)
        self._stop_asked = threading.Event()
        self.asked: list[dict[str, Any]] = []
        self.in_force = {"recipe_id": "lens2", "folder": "/r/lens2", "recipe_sha256": "aa", "from_station_file": False}

    def run(self) -> None:
        while not self._stop_asked.is_set():
            if self._socket.poll(50):
                request = json.loads(self._socket.recv())
                self.asked.append(request)
                self._socket.send_json({"ok": True} | self._answer(request["action"]))
        self._socket.close(linger=0)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(10)

    def _answer(self, action: str) -> dict[str, Any]:
        if action == "prepare":
            return {"id": OURS, "state": "preparing"}
        if action == "switch":
            return {"id": OURS, "state": "switched", "recipe_sha256": "aa"}
        change = {"id": OURS, "state": "prepared", "recipe": "/r/lens2", "who": "anna", "error": None}
        change |= self._states.pop(0) if self._states else {}
        return {"last_switch": {"top": change}, "recipes": {"top": self.in_force}}


@pytest.fixture
def serve(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Callable[..., ScriptedDaemon]]:
    """Start a daemon with these states; it ends with the test."""
    made: list[ScriptedDaemon] = []

    def serve(*states: dict[str, Any]) -> ScriptedDaemon:
        made.append(ScriptedDaemon(context, *states))
        made[-1].start()
        return made[-1]

    yield serve
    for daemon in made:
        daemon.stop()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "lens2").mkdir()
    (tmp_path / "lens2" / "recipe.yaml").touch()
    return tmp_path / "lens2"


def test_switch_names_the_preparation_that_the_command_asked_for(
    run: Run, serve: Callable[..., ScriptedDaemon], recipe: Path
) -> None:
    daemon = serve({"state": "preparing"})
    status, printed = run("recipe", "top", recipe, "--requests", daemon.endpoint)
    assert (status, "camera top: now judged with lens2 from /r/lens2" in printed) == (0, True)
    assert "until the daemon restarts or reloads" in printed
    assert [request["action"] for request in daemon.asked] == ["prepare", "status", "status", "switch", "status"]
    assert daemon.asked[3] == {"request": "recipe", "action": "switch", "camera": "top", "id": OURS}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"id": THEIRS, "recipe": "/r/lens3", "who": "ben"}, "camera top: ben requested /r/lens3 in the meantime"),
        ({"state": "refused", "error": "torn"}, "the recipe was refused, the previous one stays in use torn"),
    ],
    ids=["another's", "refused"],
)
def test_nothing_is_switched_when_another_was_asked_for_meanwhile_or_it_is_refused(
    run: Run, serve: Callable[..., ScriptedDaemon], recipe: Path, state: dict[str, Any], words: str
) -> None:
    daemon = serve(state)
    status, printed = run("recipe", "top", recipe, "--requests", daemon.endpoint)
    assert (status, words in printed) == (1, True), printed
    assert [request["action"] for request in daemon.asked] == ["prepare", "status"]


def test_command_fails_when_the_camera_was_switched_again_before_it_looked(
    run: Run, serve: Callable[..., ScriptedDaemon], recipe: Path
) -> None:
    daemon = serve()
    daemon.in_force |= {"folder": "/r/lens3", "recipe_sha256": "bb"}
    status, printed = run("recipe", "top", recipe, "--requests", daemon.endpoint)
    assert (status, "switched, but switched again since then: now judged with /r/lens3" in printed) == (1, True), (
        printed
    )
