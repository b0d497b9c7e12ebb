"""The one loop that reads every kind of source: lost, found, refused, full; no accepted frame is forgotten."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Camera, Station, WhenFull
from inspector.errors import ConfigError, NotConnectedError, SourceExhaustedError, UnidentifiedFrameError
from inspector.service.flow import ingest as module
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.ingest import IngestThread
from inspector.service.flow.judges import Judge, Judges
from inspector.service.flow.ledger import Ledger, Outcome, Ticket
from inspector.service.orders.arrivals import Attached
from inspector.service.orders.offline import Offline
from inspector.service.orders.parts import Parts
from inspector.service.orders.snapshots import Snapshots
from inspector.service.orders.triggers import Triggers
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.sources.base import Source
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.pylon import PylonSettings
from inspector.sources.detached import DetachedSource
from inspector.testing.fake_camera import FakeCamera, make_image
from inspector.types import Frame, Reason, Verdict

Connection = BaseException | Sequence[Frame | BaseException | None]
Launch = Callable[[Any], Any]
MakeFrame = Callable[..., Frame]

WAIT_S = 10.0
AWAY = NotConnectedError("camera is away")
LOST = NotConnectedError("cable out")


class ScriptedSource:
    """Each connection of the script fails, or delivers frames, nothing or errors; after the last it is exhausted."""

    def __init__(self, *script: Connection, can_wait: bool = False, cameras: tuple[str, ...] = ("top",)) -> None:
        self.name = "line"
        self.cameras = cameras
        self.can_wait = can_wait
        self.connect_s = 7.0
        self.is_caught_up = True
        self.losses: dict[str, int] = {}
        self.asks = False  # whether its senders wait to be told
        self.answers: list[str | None] = []
        self.unfinished: list[Frame] = []
        self.calls: list[str] = []
        self.connecting: queue.Queue[int] = queue.Queue()
        self.delivered: queue.Queue[str] = queue.Queue()
        self._script = iter(script)
        self._items: Any = None

    def connect(self) -> None:
        self.calls.append("connect")
        self.connecting.put(len(self.calls))
        if self._items is not None:
            return
        connection = next(self._script)
        if isinstance(connection, BaseException):
            raise connection
        self._items = iter(connection)

    def read(self, timeout_s: float) -> Frame | None:
        assert self._items is not None, "read while closed"
        assert 0 < timeout_s <= 1, "a stop must be noticed soon"
        self.calls.append("read")
        item = next(self._items, SourceExhaustedError("all frames read"))
        if isinstance(item, BaseException):
            raise item
        if item is not None:
            self.delivered.put(item.frame_id)
        return item

    def awaits_answer(self) -> bool:
        return self.asks

    def interrupt(self) -> None:
        self.calls.append("interrupt")

    def answer(self, problem: str | None) -> None:
        self.answers.append(problem)

    def defer_answer(self) -> Callable[[str | None], None]:
        return self.answer

    def is_busy(self) -> bool:
        return False

    def drain(self, within_s: float) -> Iterator[Frame]:
        assert 0 < within_s <= 2, "a stop must not take long"
        yield from self.unfinished

    def close(self) -> None:
        self.calls.append("close")
        self._items = None


class StubRecorder:
    """Notes what it is to record as open. A durable one says so at once, in `trace` too."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.is_durable = True

    def open(self, ticket: Ticket, recorded: threading.Event | None = None) -> None:
        self.opened.append(ticket.frame.frame_id)
        if recorded is not None and self.is_durable:
            recorded.set()


class Impatient(threading.Event):
    """A stop request that notes how long it was waited for, and does not wait."""

    def __init__(self, look: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self.seen: list[Any] = []
        self._look = look

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        self.seen.append(self._look())
        return self.is_set()


def set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


class Line:
    """An ingest thread, the buffer it fills and the outcomes it submits."""

    def __init__(
        self, ledger: Ledger, health: Health, metrics: Metrics, judge: Judge, offline: Offline, parts: Parts
    ) -> None:
        self.buffer = FrameBuffer(1000, WhenFull.DROP_OLDEST)
        self.recorder = StubRecorder()
        self.judges = Judges()
        self.judges.switch({"top": judge})
        self.cameras: Mapping[str, Camera] = {"top": Camera(), "side": Camera()}
        self.outcomes: list[Outcome] = []
        self.ledger = ledger
        self._health = health
        self._metrics = metrics
        self.offline = offline
        self.snapshots = Snapshots(["top", "side"])
        self.triggers = Triggers(
            {"top": Camera(triggers="software")},
            ledger, station="press-3", offline=offline,
            open_ticket=lambda frame, ms: (ledger.await_frame(frame, ms).number, set_event()),
            attach=self._attach, fire=lambda *_: None, is_connected=lambda _: True,
        )  # fmt: skip
        self.parts = parts

    def _attach(self, number: int, trigger_id: str, part_id: str | None) -> Attached | None:
        ticket = self.ledger.attach(number, trigger_id, part_id)
        return None if ticket is None else Attached(set_event(), lambda: None)

    def build(self, source: Source, *, impatient: Impatient | None = None) -> IngestThread:
        thread = IngestThread(
            source, self.buffer, self.ledger, self.recorder, self.outcomes.append, judges=self.judges,
            cameras=self.cameras, offline=self.offline, snapshots=self.snapshots, triggers=self.triggers,
            parts=self.parts,
            health=self._health, metrics=self._metrics,
        )  # fmt: skip
        if impatient is not None:
            thread._stop_asked = impatient
        return thread

    def run(self, source: Source, *, impatient: Impatient | None = None) -> IngestThread:
        """To the end of the source's script."""
        thread = self.build(source, impatient=impatient or Impatient())
        thread.start()
        thread.join(WAIT_S)
        assert not thread.is_alive()
        return thread

    def waiting(self) -> list[str]:
        """Frames in the buffer."""
        tickets = iter(lambda: self.buffer.get(0), None)
        return [ticket.frame.frame_id for ticket in tickets]

    def answers(self) -> list[tuple[str, Verdict, Reason, str | None]]:
        return [(o.ticket.frame.frame_id, o.verdict, o.reason, o.message) for o in self.outcomes]


@pytest.fixture
def line(
    ledger: Ledger, health: Health, metrics: Metrics, make_judge: Callable[..., Judge], offline: Offline, parts: Parts
) -> Line:
    return Line(ledger, health, metrics, make_judge(), offline, parts)


# ---------------------------------------------------------------- flow


def test_frames_reach_the_buffer_in_order_when_read(line: Line, make_frame: MakeFrame, health: Health) -> None:
    source = ScriptedSource([make_frame("f1"), None, make_frame("f2"), make_frame("f3")])
    health.enter(State.READY)
    thread = line.run(source)
    assert line.waiting() == ["f1", "f2", "f3"]
    assert line.outcomes == []
    assert line.ledger.account().received == {"top": 3, "side": 0}
    assert [ticket.frame.frame_id for ticket in line.ledger.open_tickets()] == ["f1", "f2", "f3"]
    assert health.state is State.RUNNING
    assert line.recorder.opened == ["f1", "f2", "f3"]
    assert thread.failure is None


def test_what_was_not_whole_when_the_source_is_stopped_is_accepted_too(line: Line, make_frame: MakeFrame) -> None:
    source = ScriptedSource([make_frame("f1")])
    source.unfinished = [make_frame("rest"), make_frame("short", error="5 of 8 lines", error_reason=Reason.SHUTDOWN)]
    line.run(source)
    assert line.waiting() == ["f1", "rest"]
    assert line.answers() == [("short", Verdict.ERROR, Reason.SHUTDOWN, "5 of 8 lines")]
    assert source.calls[-1] == "close"


@pytest.mark.parametrize("refuses", [True, False, None], ids=["refused", "switched off", "a recipe of before"])
def test_frame_with_the_bytes_of_its_cameras_last_one_is_refused_when_the_recipe_minds(
    line: Line, make_frame: MakeFrame, refuses: bool | None
) -> None:
    (judge,) = (judge for _, judge in line.judges)
    judge.detector.expectation = None if refuses is None else SimpleNamespace(refuses_repeats=refuses)
    now = {"captured_utc_ns": time.time_ns()}
    line.run(ScriptedSource([make_frame("f1", **now), make_frame("f1", **now), make_frame("f2", **now)]))
    why = "its pixels are the same as those of the camera's last frame: the camera may have stopped"
    answers = [("f2", Verdict.ERROR, Reason.REPEATED_FRAME, why)] if refuses else []
    assert line.answers() == answers
    assert line.waiting() == ["f1", "f1"] if refuses else ["f1", "f1", "f2"]


def test_last_frame_of_a_camera_is_known_though_it_was_refused(line: Line, make_frame: MakeFrame) -> None:
    (judge,) = (judge for _, judge in line.judges)
    judge.detector.expectation = SimpleNamespace(refuses_repeats=True)
    line.cameras = {"top": Camera(max_age_ms=1000), "side": Camera()}
    now = time.time_ns()
    line.run(ScriptedSource([make_frame("old", captured_utc_ns=1), make_frame("new", captured_utc_ns=now)]))
    assert [(name, reason) for name, _, reason, _ in line.answers()] == [
        ("old", Reason.STALE), ("new", Reason.REPEATED_FRAME),
    ]  # fmt: skip


@pytest.mark.parametrize("can_wait", [False, True])
def test_pixels_are_refused_or_waited_for_when_frames_not_yet_answered_hold_too_much(
    line: Line, make_frame: MakeFrame, can_wait: bool
) -> None:
    line.buffer.limit(10, WhenFull.DROP_OLDEST)
    waiting = line.ledger.accept(make_frame("waits for the disk", size=100))
    source = ScriptedSource([make_frame("f1")])
    source.can_wait = can_wait
    close = Impatient(lambda: line.ledger.is_open(waiting) and line.ledger.close(waiting, Verdict.PASS, Reason.OK))
    line.run(source, impatient=close)
    if can_wait:
        assert line.waiting() == ["f1"]
    else:
        (outcome,) = line.outcomes
        assert (outcome.reason, outcome.ticket.frame.pixels) == (Reason.OVERLOAD, None)
        assert line.recorder.opened == ["f1"]


def test_camera_that_holds_little_has_room_when_another_floods(line: Line, make_frame: MakeFrame) -> None:
    judge = line.judges.get("top")
    assert judge is not None
    line.judges.switch({"top": judge, "side": judge})
    line.buffer.limit(10, WhenFull.DROP_OLDEST)
    for number in range(7):
        line.ledger.accept(make_frame(f"flood{number}"))
    line.run(ScriptedSource([make_frame("more"), make_frame("other", "side")], cameras=("top", "side")))
    assert [(name, reason) for name, _, reason, _ in line.answers()] == [("more", Reason.OVERLOAD)]
    assert line.waiting() == ["other"]


def test_thread_ends_and_closes_its_source_when_that_is_exhausted(line: Line, beats: queue.Queue[str]) -> None:
    source = ScriptedSource([])
    thread = line.run(source)
    assert source.calls == ["connect", "read", "close"]
    assert thread.failure is None
    assert thread.name == "ingest-line"
    assert beats.queue[-1] == "forget ingest-line"


def test_arrival_is_measured_when_a_frame_is_read(
    line: Line, make_frame: MakeFrame, registry: CollectorRegistry
) -> None:
    line.run(ScriptedSource([make_frame("f1", received_utc_ns=5_000_000_000)]))
    assert registry.get_sample_value("inspector_last_frame_timestamp_seconds", {"camera": "top"}) == 5.0


def test_thread_ends_soon_when_asked_to_stop(line: Line, make_frame: MakeFrame, launch: Launch, end: Any) -> None:
    class Endless(ScriptedSource):
        def read(self, timeout_s: float) -> Frame | None:
            self.delivered.put("")
            return None

    source = Endless([])
    thread = launch(line.build(source))
    source.delivered.get(timeout=WAIT_S)
    end(thread)
    assert source.calls[-1] == "close"
    assert thread.failure is None


def test_frames_that_were_read_are_accepted_and_their_senders_told_when_the_thread_ends(
    line: Line, make_frame: MakeFrame
) -> None:
    source = ScriptedSource([make_frame("f1")])
    source.asks = True
    late = {"pixels": None, "error": "not decoded", "error_reason": Reason.SHUTDOWN}
    source.unfinished = [make_frame("f2"), dataclasses.replace(make_frame("f3"), **late)]
    line.run(source)
    assert line.waiting() == ["f1", "f2"]
    assert line.answers() == [("f3", Verdict.ERROR, Reason.SHUTDOWN, "not decoded")]
    assert line.recorder.opened == ["f1", "f2", "f3"]
    assert source.answers == [None, None, "not decoded"]
    assert source.calls[-1] == "close"


def test_source_is_drained_within_the_time_that_the_stop_gives(line: Line, launch: Launch, end: Any) -> None:
    class Draining(ScriptedSource):
        within_s = 0.0

        def drain(self, within_s: float) -> Iterator[Frame]:
            self.within_s = within_s
            return iter(())

    source = Draining([])
    thread = line.build(source)
    thread.stop(within_s=0.25)
    end(launch(thread))
    assert source.within_s == 0.25


# ---------------------------------------------------------------- lost and found


def test_source_is_closed_and_connected_again_when_away_or_lost(line: Line, make_frame: MakeFrame) -> None:
    source = ScriptedSource(AWAY, [make_frame("f1"), LOST], [make_frame("f2")])
    thread = line.run(source)
    assert source.calls == [
        "connect", "close",
        "connect", "read", "read", "close",
        "connect", "read", "read", "close",
    ]  # fmt: skip
    assert line.waiting() == ["f1", "f2"]
    assert thread.failure is None


def test_frames_that_never_came_are_counted_by_camera_and_cause(
    line: Line, make_frame: MakeFrame, registry: CollectorRegistry
) -> None:
    class Losing(ScriptedSource):
        def read(self, timeout_s: float) -> Frame | None:
            self.losses["gap"] = self.losses.get("gap", 0) + 2
            return super().read(timeout_s)

    line.run(Losing([make_frame("f1"), None, LOST], [make_frame("f2")]))

    def count(camera: str, cause: str) -> float | None:
        return registry.get_sample_value("inspector_frames_missing_total", {"camera": camera, "cause": cause})

    assert [count("top", "gap"), count("top", "damaged"), count("side", "gap")] == [10, 0, 0]


def test_backoff_doubles_up_to_its_last_when_the_source_stays_away(line: Line) -> None:
    impatient = Impatient()
    line.run(ScriptedSource(*[AWAY] * 8, []), impatient=impatient)
    assert impatient.waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_backoff_starts_again_when_a_frame_was_delivered(line: Line, make_frame: MakeFrame) -> None:
    impatient = Impatient()
    frame = make_frame("f")
    line.run(ScriptedSource(*[AWAY] * 6, [frame, LOST], AWAY, [frame, frame, LOST], [frame]), impatient=impatient)
    assert impatient.waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 0.2, 0.4, 0.2]


def test_backoff_goes_on_when_the_source_connects_but_delivers_nothing(line: Line) -> None:
    impatient = Impatient()
    refused = UnidentifiedFrameError("camera", "no such camera")
    line.run(ScriptedSource([LOST], [None, LOST], [refused, LOST], [LOST], []), impatient=impatient)
    assert impatient.waits == [0.2, 0.4, 0.8, 1.6]


def test_loss_shows_in_metrics_and_health_until_the_source_is_back(
    line: Line, make_frame: MakeFrame, registry: CollectorRegistry, health: Health
) -> None:
    def look() -> tuple[Any, ...]:
        return (*(up(camera) for camera in ("top", "side")), health.ready())

    def up(camera: str) -> float | None:
        return registry.get_sample_value("inspector_source_up", {"camera": camera})

    class Watched(ScriptedSource):
        def read(self, timeout_s: float) -> Frame | None:
            connected.append(look())
            return super().read(timeout_s)

    connected: list[Any] = []
    impatient = Impatient(look)
    health.enter(State.READY)
    line.run(Watched(AWAY, [LOST], [], cameras=("top", "side")), impatient=impatient)
    assert impatient.seen == [
        (0, 0, (False, "DEGRADED: source line: camera is away")),
        (0, 0, (False, "DEGRADED: source line: cable out")),
    ]
    assert connected == [(1, 1, (True, "READY"))] * 2
    assert (up("top"), up("side")) == (0, 0)  # the thread ended
    for camera in ("top", "side"):
        assert registry.get_sample_value("inspector_source_reconnects_total", {"camera": camera}) == 2


def test_thread_ends_at_once_when_asked_to_stop_during_the_backoff(
    line: Line, launch: Launch, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_BACKOFF_S", 60.0)
    source = ScriptedSource(AWAY)
    thread = launch(line.build(source))
    source.connecting.get(timeout=WAIT_S)
    end(thread)
    assert [call for call in source.calls if call != "interrupt"] == ["connect", "close", "close"]
    assert thread.failure is None


# ---------------------------------------------------------------- refused


def test_unidentified_messages_are_counted_by_cause_and_the_flow_goes_on(
    line: Line, make_frame: MakeFrame, registry: CollectorRegistry
) -> None:
    refused = [UnidentifiedFrameError(cause, "refused") for cause in ("parts", "header", "camera", "camera")]
    source = ScriptedSource([*refused, make_frame("f1")])
    thread = line.run(source)
    counts = [
        registry.get_sample_value("inspector_frames_unidentified_total", {"cause": cause})
        for cause in ("parts", "header", "camera")
    ]
    assert counts == [1, 1, 2]
    assert line.ledger.account().received == {"top": 1, "side": 0}
    assert line.waiting() == ["f1"]
    assert source.calls.count("connect") == 1
    assert thread.failure is None


def test_bad_frame_is_answered_with_its_error_and_never_judged(line: Line, make_frame: MakeFrame) -> None:
    line.run(ScriptedSource([make_frame("bad", error="image: truncated"), make_frame("good")]))
    assert line.answers() == [("bad", Verdict.ERROR, Reason.BAD_FRAME, "image: truncated")]
    assert line.waiting() == ["good"]
    assert line.ledger.account().received["top"] == 2


def test_frame_refused_undecoded_is_answered_with_its_reason(line: Line, make_frame: MakeFrame) -> None:
    line.run(ScriptedSource([make_frame("large", error="frame_hw: …", error_reason=Reason.FRAME_MISMATCH)]))
    assert line.answers() == [("large", Verdict.ERROR, Reason.FRAME_MISMATCH, "frame_hw: …")]


def test_frame_is_answered_no_recipe_when_its_camera_has_none(line: Line, make_frame: MakeFrame) -> None:
    line.run(ScriptedSource([make_frame("f1", "side"), make_frame("f2")], cameras=("top", "side")))
    assert line.answers() == [("f1", Verdict.ERROR, Reason.NO_RECIPE, "camera side has no recipe")]
    assert line.waiting() == ["f2"]


def test_bad_frame_keeps_its_reason_when_its_camera_has_no_recipe(line: Line, make_frame: MakeFrame) -> None:
    line.run(ScriptedSource([make_frame("f1", "side", error="image: truncated")]))
    assert line.answers() == [("f1", Verdict.ERROR, Reason.BAD_FRAME, "image: truncated")]


def test_frame_is_answered_not_ready_when_recipes_are_still_being_loaded(
    line: Line, make_frame: MakeFrame, health: Health
) -> None:
    line.judges = Judges()
    line.run(ScriptedSource([make_frame("f1"), make_frame("f2", error="image: truncated")]))
    assert line.answers() == [
        ("f1", Verdict.ERROR, Reason.NOT_READY, "the station is starting: recipes are being loaded"),
        ("f2", Verdict.ERROR, Reason.BAD_FRAME, "image: truncated"),
    ]
    assert line.waiting() == []
    assert line.recorder.opened == ["f1", "f2"]
    assert health.state is State.STARTING


# ---------------------------------------------------------------- stale

SECOND_NS = 1_000_000_000
NOW_NS = 1_700_000_000 * SECOND_NS
ADVICE = "synchronise them (NTP, PTP), or set max_age_ms"


def run_aged(line: Line, make_frame: MakeFrame, *captured_utc_ns: int) -> list[tuple[Reason, str | None]]:
    """The answers to frames received at `NOW_NS` and captured at these instants; those that wait have none."""
    frames = [make_frame(f"f{at}", received_utc_ns=NOW_NS, captured_utc_ns=at) for at in captured_utc_ns]
    line.run(ScriptedSource(frames))
    return [answer[2:] for answer in line.answers()]


def test_no_frame_is_stale_when_the_limit_is_switched_off_in_words(line: Line, make_frame: MakeFrame) -> None:
    line.cameras = {"top": Camera(max_age_ms=None)}
    assert run_aged(line, make_frame, 0, 1, NOW_NS - 3600 * SECOND_NS, NOW_NS + 3600 * SECOND_NS) == []
    assert len(line.waiting()) == 4


def test_frame_is_stale_when_it_was_captured_longer_ago_than_its_deadline_and_the_file_says_nothing(
    line: Line, make_frame: MakeFrame
) -> None:
    line.cameras = {"top": Camera(deadline_ms=5000)}
    young, old = NOW_NS - 5 * SECOND_NS, NOW_NS - 12 * SECOND_NS
    why = "it was delayed on the way, or the clocks differ"
    answers = run_aged(line, make_frame, young, old)
    assert answers == [
        (Reason.STALE, f"captured 12000 ms before it arrived; max_age_ms is 5000 (as deadline_ms): {why}: {ADVICE}")
    ]
    assert line.waiting() == [f"f{young}"]


def test_frame_is_judged_when_neither_it_nor_the_file_says_how_old_it_may_be(line: Line, make_frame: MakeFrame) -> None:
    line.cameras = {"top": Camera(deadline_ms=1)}
    assert run_aged(line, make_frame, 0) == []


def test_frame_is_stale_when_it_was_captured_too_long_ago(line: Line, make_frame: MakeFrame) -> None:
    line.cameras = {"top": Camera(max_age_ms=500)}
    answers = run_aged(line, make_frame, NOW_NS - SECOND_NS // 2, NOW_NS - SECOND_NS * 3 // 4)
    why = "it was delayed on the way, or the clocks differ"
    assert answers == [(Reason.STALE, f"captured 750 ms before it arrived; max_age_ms is 500: {why}: {ADVICE}")]
    assert line.waiting() == [f"f{NOW_NS - SECOND_NS // 2}"]


def test_frame_is_stale_when_it_does_not_say_when_it_was_captured_and_the_file_gives_a_number(
    line: Line, make_frame: MakeFrame
) -> None:
    line.cameras = {"top": Camera(max_age_ms=500)}
    answers = run_aged(line, make_frame, 0)
    assert answers == [(Reason.STALE, "captured_utc_ns: required, since max_age_ms is 500; got none")]
    assert line.waiting() == []


@pytest.mark.parametrize(
    ("camera", "limit"), [(Camera(max_age_ms=500), "500"), (Camera(deadline_ms=500), "500 (as deadline_ms)")]
)
def test_frame_is_stale_when_it_comes_from_the_future(
    line: Line, make_frame: MakeFrame, camera: Camera, limit: str
) -> None:
    line.cameras = {"top": camera}
    answers = run_aged(line, make_frame, NOW_NS + SECOND_NS // 2, NOW_NS + SECOND_NS)
    why = f"captured 1000 ms after it arrived: the clocks differ by more than max_age_ms, {limit}: {ADVICE}"
    assert answers == [(Reason.STALE, why)]
    assert line.waiting() == [f"f{NOW_NS + SECOND_NS // 2}"]


def test_frames_are_answered_offline_and_shown_while_their_camera_is_offline(
    line: Line, make_frame: MakeFrame, caplog: pytest.LogCaptureFixture
) -> None:
    line.offline.answer_offline({"camera": "top"}, "anna")
    line.run(ScriptedSource([make_frame("good"), make_frame("bad", error="no JPEG")]))
    why = "camera top is offline: anna asked for it"
    assert line.answers() == [(name, Verdict.ERROR, Reason.OFFLINE, why) for name in ("good", "bad")]
    assert line.waiting() == []
    assert line.snapshots.answer({"camera": "top"}, "anna")["frame_id"] == "good"
    assert "frame good" not in caplog.text


def test_frame_that_may_be_announced_waits_and_one_that_is_refused_does_not(line: Line, make_frame: MakeFrame) -> None:
    cameras = {"top": Camera(triggers="hardware", announce_within_ms=500)}
    line.triggers.reconfigure(cast("Station", SimpleNamespace(cameras=cameras)))
    frames = [make_frame("f1", captured_utc_ns=time.time_ns()), make_frame("old", captured_utc_ns=1)]
    line.run(ScriptedSource(frames))
    assert line.waiting() == []
    assert [(frame_id, reason) for frame_id, _, reason, _ in line.answers()] == [("old", Reason.STALE)]
    waits, old = line.ledger.open_tickets()
    assert (waits.frame.frame_id, waits.awaits_trigger, waits.deadline_ms) == ("f1", True, 500)
    assert not old.awaits_trigger


@pytest.mark.parametrize("trigger", ["line", "software", "free"])
def test_frame_of_a_genicam_camera_is_that_of_its_announced_trigger(line: Line, trigger: str) -> None:
    line.buffer.limit(10_000, WhenFull.DROP_OLDEST)
    settings = PylonSettings(type="pylon", trigger=trigger)
    camera = FakeCamera(dict.fromkeys(("TriggerSource", "TriggerActivation"), ""))
    cameras = {"top": Camera(triggers="hardware", source=settings)}
    line.triggers.reconfigure(cast("Station", SimpleNamespace(cameras=cameras)))
    line.triggers.answer_announce({"camera": "top", "trigger_id": "t1"}, "plc")
    camera.images.extend([make_image(1, device_ns=time.monotonic_ns()), SourceExhaustedError("the test ends")])
    line.run(GenicamSource("top", settings, camera))
    assert line.answers() == []
    (ticket,) = line.ledger.open_tickets()
    assert (ticket.frame.trigger_id, ticket.of_trigger, ticket.awaits_frame) == ("t1", True, False)


def test_triggers_frame_goes_to_the_buffer_with_its_ids_and_a_second_one_is_refused(
    line: Line, make_frame: MakeFrame
) -> None:
    line.triggers.answer_trigger({"camera": "top", "trigger_id": "t1", "part_id": "p1"}, "plc")
    line.run(ScriptedSource([make_frame("f1", trigger_id="t1"), make_frame("f2", trigger_id="t1"), make_frame("f3")]))
    (ticket,) = [ticket for ticket in line.ledger.open_tickets() if ticket.of_trigger]
    assert (ticket.frame.frame_id, ticket.frame.part_id, ticket.awaits_frame) == ("f1", "p1", False)
    assert line.waiting() == ["f1", "f3"]
    why = "trigger 't1' is not open: never told, answered already, or it has its frame"
    assert line.answers() == [("f2", Verdict.ERROR, Reason.TRIGGER_MISMATCH, why)]
    assert line.outcomes[0].ticket.frame.trigger_id is None
    assert line.ledger.account().balances


def test_limit_holds_for_its_own_camera_when_others_have_none(line: Line, make_frame: MakeFrame) -> None:
    line.cameras = {"side": Camera(max_age_ms=500), "top": Camera(max_age_ms=None)}
    assert run_aged(line, make_frame, 1) == []


def undated(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "has a capture time" in line]


def test_camera_is_told_once_when_none_of_its_frames_says_when_it_was_captured(
    line: Line, make_frame: MakeFrame, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [make_frame(f"f{number}") for number in range(250)]
    line.run(ScriptedSource(frames[:99]))
    assert undated(caplog) == []
    line.run(ScriptedSource(frames))
    (told,) = undated(caplog)
    assert told.startswith("camera top: none of 100 frames has a capture time (captured_utc_ns): a delayed frame")


def test_camera_is_not_told_of_when_frames_say_when_they_were_captured_or_the_file_says_more_than_the_default(
    line: Line, make_frame: MakeFrame, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [make_frame(f"f{number}", captured_utc_ns=time.time_ns() if number % 50 else 0) for number in range(250)]
    line.run(ScriptedSource(frames))
    for camera in (Camera(max_age_ms=None), Camera(max_age_ms=500)):
        line.cameras = {"top": camera}
        line.run(ScriptedSource([make_frame(f"g{number}") for number in range(120)]))
    assert undated(caplog) == []


# ---------------------------------------------------------------- senders that are told


def test_sender_is_told_its_frame_is_on_record_when_it_waits_for_that(line: Line, make_frame: MakeFrame) -> None:
    source = ScriptedSource([make_frame("good"), make_frame("bad", error="image: truncated")])
    source.asks = True
    line.run(source)
    assert source.answers == [None, "image: truncated"]


def test_sender_is_told_nothing_before_its_frame_is_on_record(
    line: Line, make_frame: MakeFrame, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECORD_S", WAIT_S)
    handed: queue.Queue[threading.Event] = queue.Queue()
    monkeypatch.setattr(line.recorder, "open", lambda ticket, recorded: handed.put(recorded))
    source = ScriptedSource([make_frame("f1")])
    source.asks = True
    thread = launch(line.build(source))
    recorded = handed.get(timeout=WAIT_S)
    assert line.buffer.get(WAIT_S) is not None  # the device does not wait for the disk
    thread.join(0.2)
    assert source.answers == []
    recorded.set()
    thread.join(WAIT_S)
    assert source.answers == [None]


def test_sender_is_told_an_error_when_its_frame_is_not_on_record_in_time(
    line: Line, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECORD_S", 0.05)
    line.recorder.is_durable = False
    source = ScriptedSource([make_frame("f1"), make_frame("f2")])
    source.asks = True
    thread = line.run(source)
    assert source.answers == ["not recorded: the journal could not be written in time"] * 2
    assert line.waiting() == ["f1", "f2"]
    assert thread.failure is None


def test_frames_are_read_on_while_a_sender_waits_for_a_slow_disk(
    line: Line, make_frame: MakeFrame, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECORD_S", 60.0)
    handed: queue.Queue[threading.Event | None] = queue.Queue()
    monkeypatch.setattr(line.recorder, "open", lambda ticket, recorded: handed.put(recorded))

    class Asking(ScriptedSource):
        def awaits_answer(self) -> bool:
            return self.calls.count("read") <= 2

    source = Asking([make_frame("asked1"), make_frame("asked2"), *(make_frame(f"f{n}") for n in range(20))])
    thread = launch(line.build(source))
    recorded = [handed.get(timeout=WAIT_S) for _ in range(22)]
    assert [event is not None for event in recorded] == [True, True] + [False] * 20
    assert source.answers == []
    for event in recorded[:2]:
        assert event is not None
        event.set()
    thread.join(WAIT_S)
    assert source.answers == [None, None]


def test_senders_are_told_as_soon_as_their_frames_are_on_record_while_none_comes(
    line: Line, make_frame: MakeFrame, launch: Launch, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    monkeypatch.setattr(module, "_RECORD_S", WAIT_S)
    handed: queue.Queue[threading.Event] = queue.Queue()
    told: queue.Queue[str | None] = queue.Queue()
    monkeypatch.setattr(line.recorder, "open", lambda ticket, recorded: handed.put(recorded))

    class Quiet(ScriptedSource):
        def read(self, timeout_s: float) -> Frame | None:
            if self.delivered.empty():
                return super().read(timeout_s)
            assert timeout_s <= 0.05 or on_record.is_set()
            return None

    on_record = threading.Event()
    source = Quiet([make_frame("asked")])
    source.asks = True
    monkeypatch.setattr(source, "answer", told.put)
    thread = launch(line.build(source))
    recorded = handed.get(timeout=WAIT_S)
    with pytest.raises(queue.Empty):
        told.get(timeout=0.1)
    on_record.set()
    recorded.set()
    assert told.get(timeout=WAIT_S) is None
    monkeypatch.setattr(Quiet, "read", lambda self, timeout_s: None)
    end(thread)
    assert told.empty()  # once
    assert thread.failure is None


def test_disk_is_not_waited_for_when_no_sender_waits_to_be_told(line: Line, make_frame: MakeFrame) -> None:
    line.recorder.is_durable = False
    source = ScriptedSource([make_frame(f"f{number}") for number in range(50)])  # a second for each would be too long
    line.run(source)
    assert source.answers == []
    assert len(line.waiting()) == 50


# ---------------------------------------------------------------- full


@pytest.mark.parametrize(
    ("policy", "dropped", "kept"),
    [(WhenFull.DROP_OLDEST, ["f1", "f2"], ["f3", "f4"]), (WhenFull.DROP_NEWEST, ["f3", "f4"], ["f1", "f2"])],
)
def test_dropped_frames_are_answered_overload_when_the_buffer_is_full(
    line: Line, make_frame: MakeFrame, policy: WhenFull, dropped: list[str], kept: list[str]
) -> None:
    line.buffer = FrameBuffer(20, policy)
    line.run(ScriptedSource([make_frame(f"f{number}") for number in (1, 2, 3, 4)]))
    message = "dropped: the frame buffer is full"
    assert line.answers() == [(name, Verdict.ERROR, Reason.OVERLOAD, message) for name in dropped]
    assert line.waiting() == kept


def test_frame_is_answered_overload_when_it_is_larger_than_the_buffer(line: Line, make_frame: MakeFrame) -> None:
    line.buffer = FrameBuffer(20, WhenFull.BLOCK)
    line.run(ScriptedSource([make_frame("large", size=21), make_frame("small")], can_wait=True))
    assert [answer[:3] for answer in line.answers()] == [("large", Verdict.ERROR, Reason.OVERLOAD)]
    assert line.waiting() == ["small"]


@pytest.mark.parametrize(("policy", "can_wait"), [(WhenFull.DROP_OLDEST, True), (WhenFull.BLOCK, False)])
def test_nothing_is_dropped_when_the_source_or_the_policy_waits_for_room(
    line: Line, make_frame: MakeFrame, launch: Launch, policy: WhenFull, can_wait: bool
) -> None:
    line.buffer = FrameBuffer(10, policy)
    source = ScriptedSource([make_frame(f"f{number}") for number in range(5)], can_wait=can_wait)
    thread = launch(line.build(source))
    got = [ticket.frame.frame_id for _ in range(5) if (ticket := line.buffer.get(WAIT_S))]
    assert got == [f"f{number}" for number in range(5)]
    thread.join(WAIT_S)
    assert line.outcomes == []


def test_thread_ends_and_leaves_the_frame_open_when_stopped_while_it_waits_for_room(
    line: Line, make_frame: MakeFrame, launch: Launch, end: Any
) -> None:
    line.buffer = FrameBuffer(10, WhenFull.BLOCK)
    source = ScriptedSource([make_frame("f1"), make_frame("f2"), make_frame("f3")])
    thread = launch(line.build(source))
    assert [source.delivered.get(timeout=WAIT_S) for _ in range(2)] == ["f1", "f2"]
    end(thread)
    assert line.outcomes == []
    assert [ticket.frame.frame_id for ticket in line.ledger.open_tickets()] == ["f1", "f2"]  # the stop answers them
    assert line.waiting() == ["f1"]


def test_frame_is_given_up_when_it_was_answered_while_it_waited_for_room(
    line: Line, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.buffer = FrameBuffer(10, WhenFull.BLOCK)

    def is_open(ticket: Ticket) -> bool:
        return ticket.frame.frame_id != "f2"

    monkeypatch.setattr(line.ledger, "is_open", is_open)
    line.run(ScriptedSource([make_frame("f1"), make_frame("f2"), make_frame("bad", error="truncated")]))
    assert line.waiting() == ["f1"]
    assert [answer[0] for answer in line.answers()] == ["bad"]


def test_frames_of_other_cameras_are_read_in_time_when_one_fills_a_buffer_that_blocks(
    line: Line, make_frame: MakeFrame, launch: Launch
) -> None:
    line.buffer = FrameBuffer(20, WhenFull.BLOCK)
    line.ledger.deadlines_ms = {"top": 60_000, "side": 400}
    flood = [make_frame(f"f{number}") for number in range(5)]
    source = ScriptedSource([*flood, make_frame("other", "side")], cameras=("top", "side"))
    source.is_caught_up = False
    judge = line.judges.get("top")
    assert judge is not None
    line.judges.switch({"top": judge, "side": judge})
    started = time.monotonic()
    launch(line.build(source)).join(WAIT_S)
    assert 0.1 <= time.monotonic() - started < 5.0  # a quarter of the shortest deadline
    assert [answer[0] for answer in line.answers()] == [f"f{number}" for number in range(4)]
    assert {answer[2] for answer in line.answers()} == {Reason.OVERLOAD}
    assert sorted(line.waiting()) == ["f4", "other"]


def test_frames_lie_unread_while_the_buffer_is_full_and_all_were_read_a_moment_ago(
    line: Line, make_frame: MakeFrame, launch: Launch
) -> None:
    line.buffer = FrameBuffer(20, WhenFull.BLOCK)
    source = ScriptedSource([make_frame(f"f{number}") for number in range(6)], cameras=("top", "side"))
    thread = line.build(source)
    thread._caught_up -= 1000.0
    launch(thread)
    got = [ticket.frame.frame_id for _ in range(6) if (ticket := line.buffer.get(WAIT_S))]
    thread.join(WAIT_S)
    assert got == [f"f{number}" for number in range(6)]
    assert line.outcomes == []


def test_lone_camera_waits_for_room_however_long_its_frames_lie_unread(
    line: Line, make_frame: MakeFrame, launch: Launch
) -> None:
    line.buffer = FrameBuffer(10, WhenFull.BLOCK)
    line.ledger.deadlines_ms = {"top": 4}
    source = ScriptedSource([make_frame("f1"), make_frame("f2")])
    source.is_caught_up = False
    thread = launch(line.build(source))
    time.sleep(0.1)
    assert line.outcomes == []
    got = [ticket.frame.frame_id for _ in range(2) if (ticket := line.buffer.get(WAIT_S))]
    thread.join(WAIT_S)
    assert (got, line.outcomes) == (["f1", "f2"], [])


# ---------------------------------------------------------------- hangs


class HangingSource(ScriptedSource):
    """Whose next call does not return before it is told to."""

    def __init__(self, *script: Connection) -> None:
        super().__init__(*script, can_wait=True)
        self.connect_s = 0.2
        self.hangs = threading.Event()
        self.answers_again = threading.Event()

    def connect(self) -> None:
        self._hang()
        super().connect()

    def read(self, timeout_s: float) -> Frame | None:
        self._hang()
        return super().read(timeout_s)

    def _hang(self) -> None:
        if self.hangs.is_set():
            self.hangs.clear()
            assert self.answers_again.wait(WAIT_S)


@pytest.mark.parametrize("moment", ["connecting", "reading"])
def test_source_that_hangs_is_told_by_name_and_no_stall_and_comes_back_by_itself(
    line: Line, make_frame: MakeFrame, launch: Launch, value: Any, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_for(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline
            assert health.stalled() == []
            time.sleep(0.01)

    health = Health(stall_after_s=1.0)
    monkeypatch.setattr(line, "_health", health)
    health.enter(State.READY)
    source = HangingSource([*(None for _ in range(100_000)), make_frame("f1")])
    if moment == "connecting":
        source.hangs.set()
    thread = launch(line.build(DetachedSource(source)))
    if moment == "reading":
        wait_for(lambda: value("source_up", camera="top") == 1)
        source.hangs.set()
    wait_for(lambda: health.state is State.DEGRADED)
    assert value("source_up", camera="top") == 0
    assert (health.problem("source line") or "").startswith("line: no answer for ")
    time.sleep(1.2)  # more than `stall_after_s`
    assert health.stalled() == []
    assert thread.is_alive()
    source.answers_again.set()
    wait_for(lambda: health.state is not State.DEGRADED)
    wait_for(lambda: value("source_up", camera="top") == 1)


def test_thread_ends_at_once_when_stopped_while_its_source_hangs(
    line: Line, make_frame: MakeFrame, launch: Launch, end: Any
) -> None:
    source = HangingSource([make_frame("f1")])
    source.connect_s = 60.0
    source.hangs.set()
    thread = launch(line.build(DetachedSource(source)))
    deadline = time.monotonic() + WAIT_S
    while source.hangs.is_set():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    end(thread)
    assert thread.failure is None
    assert thread.is_asking_outside
    assert line.ledger.account().received["top"] == 0
    source.answers_again.set()


# ---------------------------------------------------------------- death


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([ConfigError("sockets.frames: in use")], ConfigError),
        ([[RuntimeError("driver crashed")]], RuntimeError),
    ],
    ids=["connect", "read"],
)
def test_failure_is_kept_and_the_source_closed_when_the_thread_dies(
    line: Line, script: list[Connection], kind: type[Exception], beats: queue.Queue[str]
) -> None:
    source = ScriptedSource(*script)
    thread = line.run(source)
    assert type(thread.failure) is kind
    assert source.calls[-1] == "close"
    assert beats.queue[-1] == "forget ingest-line"


def test_frame_stays_owed_when_the_thread_dies_of_it(
    line: Line, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(ticket: Ticket, **_: Any) -> None:
        raise MemoryError("no room at all")

    monkeypatch.setattr(line.buffer, "put", put)
    thread = line.run(ScriptedSource([make_frame("f1")]))
    assert type(thread.failure) is MemoryError
    assert [ticket.frame.frame_id for ticket in line.ledger.open_tickets()] == ["f1"]


def test_thread_beats_at_every_read_when_nothing_comes(line: Line, beats: queue.Queue[str]) -> None:
    source = ScriptedSource([None] * 5)
    line.run(source)
    assert list(beats.queue)[:-1].count("ingest-line") >= source.calls.count("read") == 6


def test_thread_beats_while_it_waits_for_room_when_the_buffer_is_full(
    line: Line, make_frame: MakeFrame, launch: Launch, beats: queue.Queue[str]
) -> None:
    line.buffer = FrameBuffer(10, WhenFull.BLOCK)
    source = ScriptedSource([make_frame("f1"), make_frame("f2")])
    launch(line.build(source))
    # two reads with their connection make three; the others come from the wait
    assert [beats.get(timeout=WAIT_S) for _ in range(5)] == ["ingest-line"] * 5
    assert source.calls == ["connect", "read", "read"]


def test_beat_before_a_connect_allows_for_the_time_it_may_take(
    line: Line, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(health, "beat", lambda name, within_s=0.0: told.append(within_s))
    line.run(ScriptedSource(AWAY, [None]))
    assert told == [7.0, 7.0, 0.0, 0.0]


def test_source_is_interrupted_when_the_thread_is_asked_to_stop(line: Line) -> None:
    source = ScriptedSource([])
    line.build(source).stop()
    assert source.calls == ["interrupt"]
