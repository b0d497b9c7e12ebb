"""A station is put together whole, or leaves the one that runs already alone; at a stop nothing of it stays open."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from inspector.config import SOCKETS, Station
from inspector.errors import ConfigError
from inspector.service.assembly import Assembly
from inspector.service.flow.ingest import IngestThread
from inspector.service.flow.overlayer import Overlayer
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.types import Frame, PixelFormat, Reason, Verdict

WAIT_S = 10.0


@contextmanager
def context() -> Iterator[zmq.Context]:
    made = zmq.Context()
    try:
        yield made
    finally:
        made.destroy(linger=0)


def make_station(folder: Path, **camera: Any) -> Station:
    sockets = {name: f"ipc://{folder}/{name}" for name in SOCKETS}
    fields = {"schema": 1, "station": "press", "state_dir": folder, "device": "cpu", "sockets": sockets}
    return Station.model_validate(fields | {"cameras": {"top": camera}})


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a name short enough for sockets in it."""
    return tmp_path_factory.mktemp("a")


@pytest.fixture
def build(folder: Path, health: Health, metrics: Metrics) -> Callable[..., Assembly]:
    """A station's parts, camera `top` as the file describes it; nothing is started. Sockets are files in the folder."""

    def run(context: zmq.Context, **camera: Any) -> Assembly:
        return Assembly(
            make_station(folder, **camera),
            folder / "station.yaml",
            context,
            read_again=lambda: make_station(folder, **camera),
            apply=lambda _: None,
            drain=lambda _: None,
            health=health,
            metrics=metrics,
        )

    return run


@pytest.mark.parametrize("name", SOCKETS)
def test_socket_that_another_program_has_is_refused_and_stays_its_own(
    folder: Path, build: Callable[..., Assembly], name: str
) -> None:
    with context() as running, running.socket(zmq.ROUTER) as other:
        other.bind(f"ipc://{folder}/{name}")
        before = (folder / name).stat().st_ino
        with context() as second, pytest.raises(ConfigError, match=r" is already listening there$") as caught:
            build(second)
        assert caught.value.field == ("sockets", name)
        assert (folder / name).stat().st_ino == before


@pytest.mark.parametrize("name", SOCKETS)
def test_station_is_at_fault_when_the_file_of_a_socket_is_gone(
    folder: Path, build: Callable[..., Assembly], name: str, running: Health
) -> None:
    with context() as made:
        parts = build(made)
        parts.check()
        assert running.state is State.RUNNING
        (folder / name).unlink()
        parts.check()
        assert running.state is State.FAULT
        assert not running.ready()[0]
        words = f"sockets.{name}: ipc://{folder}/{name}: clients can no longer connect: its file cannot be found"
        assert (running.last_error or "").startswith(words)


# ---------------------------------------------------------------- stop


def can_end(context: zmq.Context) -> bool:
    """Whether no socket is left open that would hold up the end of the process."""
    term = threading.Thread(target=context.term, daemon=True)
    term.start()
    term.join(WAIT_S)
    return not term.is_alive()


def stop(parts: Assembly, timeout_s: float) -> list[str]:
    return parts.stop(time.monotonic() + timeout_s, timeout_s=timeout_s, note=lambda: None)


def test_nothing_is_left_open_by_a_stop(folder: Path, build: Callable[..., Assembly]) -> None:
    with context() as made:
        parts = build(made)
        parts.start()
        assert stop(parts, timeout_s=60.0) == []
        assert can_end(made)
    assert [name for name in SOCKETS if (folder / name).exists()] == []


def test_frames_that_are_being_decoded_at_a_stop_have_their_verdicts(
    folder: Path, build: Callable[..., Assembly], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: queue.Queue[None] = queue.Queue()

    def decode_slowly(data: bytes, **_: Any) -> Any:
        begun.put(None)
        time.sleep(0.3)
        return np.zeros((8, 8), np.uint8), PixelFormat.MONO8

    monkeypatch.setattr("inspector.sources.wire.decode_image", decode_slowly)
    with context() as made, made.socket(zmq.PUSH) as push:
        parts = build(made)
        parts.start()
        push.connect(f"ipc://{folder}/frames")
        for number in (1, 2):
            header = {"camera": "top", "frame_id": number, "encoding": "jpeg"}
            push.send_multipart([json.dumps(header).encode(), b"\xff\xd8\xff\xd9"])
        for _ in range(2):
            begun.get(timeout=WAIT_S)
        assert parts.ledger.account().received == {"top": 0}
        assert stop(parts, timeout_s=20.0) == []
        account = parts.ledger.account()
        assert (account.received, account.in_flight) == ({"top": 2}, {"top": 0})
        assert account.results == {("top", Verdict.ERROR, Reason.NOT_READY): 2}


@pytest.mark.parametrize(("timeout_s", "share_s"), [(2.0, 0.4), (60.0, 1.0)])
def test_what_is_being_decoded_has_a_share_of_the_time_for_the_stop(
    build: Callable[..., Assembly], monkeypatch: pytest.MonkeyPatch, timeout_s: float, share_s: float
) -> None:
    told: list[float] = []
    really_stop = IngestThread.stop

    def note(self: IngestThread, within_s: float) -> None:
        told.append(within_s)
        really_stop(self, within_s)

    monkeypatch.setattr(IngestThread, "stop", note)
    with context() as made:
        parts = build(made)
        parts.start()
        stop(parts, timeout_s)
    assert told == [share_s]


def test_frame_whose_trigger_is_announced_as_the_station_stops_is_answered_shutdown(
    build: Callable[..., Assembly], make_frame: Callable[..., Frame]
) -> None:
    with context() as made:
        parts = build(made)
        parts.start()
        ticket = parts.ledger.accept(make_frame("f1"), parts._recorder.open)
        parts.buffer.close()
        parts._wait_for_device(ticket)
        stop(parts, timeout_s=60.0)
        assert parts.ledger.account().results == {("top", Verdict.ERROR, Reason.SHUTDOWN): 1}


def test_thread_that_ends_right_after_the_stop_looked_at_it_is_told_since_its_socket_is_open(
    build: Callable[..., Assembly], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at twice it was alive when sockets were closed, and gone when it was asked who holds up the end."""
    ends = threading.Event()
    run, really_is_alive = Overlayer.run, Overlayer.is_alive

    def run_on(self: Overlayer) -> None:
        run(self)
        ends.wait(WAIT_S)

    def is_alive(self: Overlayer) -> bool:
        alive = really_is_alive(self)
        ends.set()
        self.join(WAIT_S)
        return alive

    monkeypatch.setattr(Overlayer, "run", run_on)
    with context() as made:
        parts = build(made)
        parts.start()
        monkeypatch.setattr(Overlayer, "is_alive", is_alive)
        assert "overlays" in stop(parts, timeout_s=2.0)


def test_time_for_the_answers_is_kept_when_another_thread_takes_all_of_it(
    build: Callable[..., Assembly], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = threading.Event()
    monkeypatch.setattr(Overlayer, "run", lambda self: ends.wait(WAIT_S))
    monkeypatch.setattr("inspector.service.assembly.FAREWELL_S", WAIT_S)
    with context() as made:
        parts = build(made)
        parts.start()
        assert {"requests", "refuser"}.isdisjoint(stop(parts, timeout_s=0.0))
        ends.set()


# ---------------------------------------------------------------- cameras


def test_age_of_frames_is_bounded_anew_when_a_reload_changes_the_limit_or_the_deadline_it_follows(
    folder: Path, build: Callable[..., Assembly]
) -> None:
    with context() as made:
        assembly = build(made, deadline_ms=300)
        (thread,) = assembly._ingest
        assert thread.cameras["top"].age_limit_ms == 300
        for changed, limit_ms in (({"deadline_ms": 700}, 700), ({"max_age_ms": 50}, 50), ({"max_age_ms": None}, None)):
            assembly.apply(make_station(folder, **changed))
            assert thread.cameras["top"].age_limit_ms == limit_ms


def test_camera_whose_frames_may_be_of_any_age_is_told_at_the_start_and_when_a_reload_makes_it_so(
    folder: Path, build: Callable[..., Assembly], caplog: pytest.LogCaptureFixture
) -> None:
    told = ["camera top: max_age_ms is null: a frame is judged no matter how long it was delayed on the way"]
    with context() as made:
        assembly = build(made, max_age_ms=None)
        assert caplog.messages == told
        caplog.clear()
        assembly.apply(make_station(folder))
        assert caplog.messages == []
        assembly.apply(make_station(folder, max_age_ms=None))
        assert caplog.messages == told


def test_source_that_hangs_is_known_at_the_end_so_that_the_process_does_not_wait_for_it(
    folder: Path, build: Callable[..., Assembly], monkeypatch: pytest.MonkeyPatch
) -> None:
    with context() as made:
        assembly = build(made, source={"type": "folder", "path": folder})
        assert not assembly.is_asking_outside
        (thread,) = assembly._ingest
        monkeypatch.setattr(thread._source, "is_busy", lambda: True)
        assert assembly.is_asking_outside


def test_each_device_has_a_worker_and_its_cameras(folder: Path, health: Health, metrics: Metrics) -> None:
    fields = make_station(folder).model_dump(by_alias=True)
    cameras: dict[str, Any] = {name: {} for name in ("top", "side", "back")}
    station = Station.model_validate(fields | {"device": ["cpu", "cpu"], "cameras": cameras})
    with context() as made:
        parts = Assembly(
            station,
            folder / "station.yaml",
            made,
            read_again=lambda: station,
            apply=lambda _: None,
            drain=lambda _: None,
            health=health,
            metrics=metrics,
        )
        parts.start()
        try:
            names = {thread.name for thread in threading.enumerate()}
            assert {"device cpu:0", "device cpu:1"} <= names
            assert parts.devices == {"cpu:0": ["top", "back"], "cpu:1": ["side"]}
            parts.check()
            assert health.state is State.STARTING
        finally:
            assert stop(parts, timeout_s=60.0) == []
