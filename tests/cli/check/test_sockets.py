"""Addresses that a daemon could not bind are found, with what to do, and none of a running one is touched."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq

from inspector.cli.check.finding import Finding
from inspector.cli.check.sockets import check_sockets
from inspector.config import Station
from inspector.locks import hold

SOCKETS = ("frames", "results", "overlays", "requests", "imagezmq")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that a program listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def check(
    folder: Path, daemon: int | None = None, http: dict[str, Any] | None = None, **sockets: str
) -> dict[str, Finding]:
    """All sockets are ipc in a folder of their own but for those given."""
    values = {name: f"ipc://{folder}/{name}" for name in SOCKETS} | sockets | {"open_without_authentication": True}
    station = Station.model_validate(
        {"schema": 1, "station": "a", "sockets": values, "http": http or {"port": 0}, "cameras": {"top": {}}}
    )
    return {finding.what: finding for finding in check_sockets(station, daemon)}


def test_nothing_is_found_when_all_is_well_and_nothing_is_left_behind(folder: Path) -> None:
    results = "tcp://[::1]:15555" if Path("/proc/net/if_inet6").exists() else "tcp://*:15556"
    found = check(folder, frames="tcp://*:15555", results=results, overlays="ipc://@abstract")
    assert set(found) == {*(f"sockets.{name}" for name in SOCKETS), "http"}
    assert [finding.problem for finding in found.values()] == [None] * 6
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("endpoint", "problem", "fix"),
    [
        ("tcp://192.0.2.1:15555", "not an address of this machine", "ip address"),
        ("tcp://[2001:db8::1]:15555", "no", ""),  # no such address, or no such family
        ("tcp://nowhere.invalid:15555", "this host name has no address", "an address of this machine"),
        ("tcp://127.0.0.1:0", "port must be 1 to 65535, got 0", "another port"),
        ("tcp://127.0.0.1:99999", "port must be 1 to 65535, got 99999", "another port"),
        ("ipc:///nowhere/frames", "the folder /nowhere does not exist", "create /nowhere"),
        ("ipc:///tmp/" + "x" * 103, "must have at most 107 bytes after ipc://, has 108", "shorter path"),
        ("ipc:///tmp/" + "ä" * 52, "must have at most 107 bytes after ipc://, has 109", "shorter path"),
    ],
)
def test_address_that_cannot_be_bound_is_named_with_what_to_do(
    folder: Path, endpoint: str, problem: str, fix: str
) -> None:
    finding = check(folder, frames=endpoint)["sockets.frames"]
    assert finding.result == "FAIL"
    assert (finding.problem or "").startswith(f"{endpoint}: {problem}")
    assert fix in finding.fix


def test_longest_path_of_ipc_is_taken(folder: Path) -> None:
    path = f"{folder}/{'x' * (106 - len(str(folder)))}"
    assert check(folder, frames=f"ipc://{path}")["sockets.frames"].problem is None
    with zmq.Context() as context, context.socket(zmq.PULL) as peer:
        peer.bind(f"ipc://{path}")


def test_folder_that_the_service_makes_when_it_starts_need_not_be_there(folder: Path) -> None:
    endpoint = "ipc:///run/inspector/no-such-station/frames"
    found = check(folder, frames=endpoint)["sockets.frames"]
    assert found.problem is None
    assert found.detail == f"{endpoint}: the service creates the folder /run/inspector/no-such-station when it starts"
    assert check(folder, frames="ipc:///run/inspector/no/such/frames")["sockets.frames"].result == "FAIL"


def test_relative_path_of_ipc_is_a_warning(folder: Path) -> None:
    assert check(folder, frames="ipc://frames")["sockets.frames"].result == "WARN"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tcp://127.0.0.1:15555", "tcp://127.0.0.1:15555"),
        ("tcp://127.0.0.1:15555", "tcp://*:15555"),
        ("tcp://localhost:15555", "tcp://127.0.0.1:15555"),
        ("tcp://[::]:15555", "tcp://127.0.0.1:15555"),
        ("ipc:///tmp/x", "ipc:///tmp/x"),
        ("ipc:///tmp/x", "ipc:///tmp//../tmp/x"),
    ],
)
def test_two_sockets_at_one_address_name_each_other(folder: Path, one: str, other: str) -> None:
    found = check(folder, frames=one, results=other)
    assert "also used by sockets.results" in (found["sockets.frames"].problem or "")
    assert "also used by sockets.frames" in (found["sockets.results"].problem or "")


def test_http_port_of_a_socket_is_found(folder: Path) -> None:
    found = check(folder, frames="tcp://127.0.0.1:15555", http={"port": 15555})
    assert "also used by http" in (found["sockets.frames"].problem or "")


def test_port_in_use_is_a_fault_unless_this_stations_daemon_runs(folder: Path, taken: int) -> None:
    endpoint = f"tcp://127.0.0.1:{taken}"
    finding = check(folder, frames=endpoint)["sockets.frames"]
    assert (finding.problem or "").startswith(f"{endpoint}: in use by another program")
    finding = check(folder, 4711, frames=endpoint)["sockets.frames"]
    assert finding.problem is None
    assert finding.detail == f"{endpoint}: in use while this station's daemon runs (process 4711)"


def test_ipc_socket_of_a_running_program_is_found_and_left_to_it(folder: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        pull.bind(f"ipc://{folder}/frames")
        assert "in use by another program" in (check(folder)["sockets.frames"].problem or "")
        assert "process 4711" in check(folder, 4711)["sockets.frames"].detail
        push.connect(f"ipc://{folder}/frames")
        push.send(b"still there")
        assert pull.poll(10_000)
        assert pull.recv() == b"still there"


HOLD = (
    "import sys; from pathlib import Path; from inspector.locks import hold; print(hold(Path(sys.argv[1])), flush=True)"
)


def test_ipc_path_that_another_station_has_is_a_fault_that_names_its_process_whoever_runs_this_one(
    folder: Path,
) -> None:
    command = [sys.executable, "-c", f"{HOLD}; sys.stdin.read()", f"{folder}/frames.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        problem = f"ipc://{folder}/frames: in use by process {other.pid}: the station could not start"
        for daemon in (None, 4711):
            assert check(folder, daemon)["sockets.frames"].problem == problem
        assert "in use while this" in check(folder, other.pid)["sockets.frames"].detail
        other.kill()
    assert check(folder)["sockets.frames"].problem is None


def test_file_that_is_no_socket_is_not_taken_for_one(folder: Path) -> None:
    (folder / "frames").write_text("")
    (folder / "results").symlink_to(folder / "elsewhere")
    found = check(folder)
    for name in ("frames", "results"):
        assert found[f"sockets.{name}"].problem == f"ipc://{folder}/{name}: a file that is not a socket is in the way"


def test_lock_that_another_user_made_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hold(folder / "frames.lock")
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith(".lock"))  # root may write all
    assert f"its lock file {folder}/frames.lock cannot be written" in (check(folder)["sockets.frames"].problem or "")
