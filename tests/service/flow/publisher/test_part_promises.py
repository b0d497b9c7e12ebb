"""Whatever comes, in whatever order: each part has one message, and a PASS only after a PASS of each of its views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspector.detection.run import Judgement
from inspector.service.flow.judges import Judges
from inspector.service.flow.ledger import Ledger, Outcome, Ticket, error_outcome
from inspector.service.flow.publisher import Publisher
from inspector.service.orders.offline import Offline
from inspector.service.orders.parts import Group, Parts, build_part_frame
from inspector.types import Frame
from tests.service.conftest import DEADLINES_MS
from tests.service.flow.publisher.parts import Make, MakeJudge, RecordingSocket, StubRecorder

CAMERAS = ("top", "side")
PARTS = ("p1", "p2", "p3", "p4")
Event = tuple[Any, ...]

WHOLE: list[Event] = [("view", part, camera) for part in PARTS for camera in CAMERAS]
TROUBLE = st.one_of(
    st.tuples(st.just("view"), st.sampled_from(PARTS), st.sampled_from(CAMERAS)),
    st.tuples(st.just("end"), st.sampled_from(PARTS)),
    st.tuples(st.just("disk"), st.sampled_from(["hangs", "full"])),
    st.tuples(st.just("disk"), st.just("well")),
    st.tuples(st.sampled_from(["offline", "online"]), st.sampled_from(CAMERAS)),
)
SCORES = st.sampled_from([0.2, 0.5, 0.5, 0.5, 0.95, 2.0])


@st.composite
def draw_events(draw: st.DrawFn) -> list[Event]:
    """All views but those that are dropped, a verdict for each, and up to four troubles, in any order."""
    dropped = draw(st.sets(st.sampled_from(WHOLE), max_size=2))
    verdicts = [("judge", draw(st.integers(0, 9)), draw(SCORES), draw(st.sampled_from([1, 1, 2]))) for _ in WHOLE]
    troubles = draw(st.lists(TROUBLE, max_size=4))
    return draw(st.permutations([each for each in WHOLE if each not in dropped] + verdicts + troubles))


class Line:
    """A publisher that works step by step, and frames whose verdicts are made when an event says so."""

    def __init__(self, make: Make, recorder: StubRecorder, offline: Offline, judge: Callable[..., Judgement]) -> None:
        self.ledger = Ledger(DEADLINES_MS | {"part/body": 60_000})
        self.parts = Parts([Group("body", CAMERAS, "part_id")], self._open_part)
        self.publisher: Publisher = make()
        self.publisher._ledger, self.publisher._parts = self.ledger, self.parts
        self.opened: list[str] = []
        self.waiting: list[Ticket] = []
        self._recorder = recorder
        self._offline = offline
        self._judge = judge
        self.set_disk("well")

    def _open_part(self, group: Group, view: Frame) -> int:
        self.opened.append(str(view.part_id))
        return self.ledger.accept(build_part_frame(group, view)).number

    def see(self, frame: Frame) -> None:
        refusals: list[Any] = []
        ticket = self.ledger.accept(frame, lambda ticket: refusals.append(self.parts.admit(ticket.number, frame)))
        if refusals[0] is None:
            self.waiting.append(ticket)
        else:
            self.publisher.submit(error_outcome(ticket, *refusals[0]))

    def judge(self, index: int, score: float, times: int) -> None:
        if self.waiting:
            ticket = self.waiting.pop(index % len(self.waiting))
            judgement = self._judge(score)
            outcome = Outcome(ticket, judgement.decision.verdict, judgement.decision.reason, judgement=judgement)
            for _ in range(times):
                self.publisher.submit(outcome)

    def end(self, part_id: str) -> None:
        """Its window is over."""
        for ticket in self.ledger.open_tickets():
            if ticket.is_of_part and ticket.frame.frame_id == part_id:
                object.__setattr__(ticket, "deadline_monotonic_ns", 1)

    def set_disk(self, state: str) -> None:
        """What hung is answered before."""
        while not self._recorder._handed.empty():
            self._recorder.answer(1, "full" if state == "full" else None)
        self._recorder.hangs, self._recorder.error = state == "hangs", "full" if state == "full" else None

    def step(self) -> None:
        """Until nothing is left to do at once."""
        while not self.publisher._inbox.empty():
            self.publisher._take(self.publisher._receive(0.0))
            self.publisher._answer_expired()
        self.publisher._answer_expired()

    def finish(self) -> None:
        """The windows of all end, and the disk answers."""
        self.set_disk("well")
        self.step()
        for ticket in self.ledger.open_tickets():
            object.__setattr__(ticket, "deadline_monotonic_ns", 1)
        self.step()
        self.step()


@pytest.fixture
def judges(make_judge: MakeJudge) -> Judges:
    judges = Judges()
    judges.switch({"top": make_judge(), "side": make_judge()})
    return judges


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw_events())
def test_each_part_is_told_once_and_no_pass_lacks_a_view_over_drops_doubles_delays_faults_of_the_disk_and_offline(
    make: Make, recorder: StubRecorder, socket: RecordingSocket, offline: Offline, make_frame: Callable[..., Frame],
    make_judgement: Callable[..., Judgement], events: list[Event],
) -> None:  # fmt: skip
    socket.all()
    offline.answer_online({}, "anna")
    line = Line(make, recorder, offline, make_judgement)
    play(line, events, offline, make_frame)
    line.finish()
    sent = socket.all()
    assert line.ledger.open_tickets() == []
    assert line.ledger.account().balances
    assert Counter(m["frame_id"] for m in sent if m["camera"] == "part/body") == Counter(line.opened)
    assert max(Counter(line.opened).values(), default=1) == 1
    for place, part in enumerate(sent):
        if part["camera"] == "part/body" and part["verdict"] == "PASS":
            before = [m for m in sent[:place] if m["part_id"] == part["frame_id"]]
            assert sorted((m["camera"], m["verdict"]) for m in before) == [("side", "PASS"), ("top", "PASS")], before
            assert part["recorded"]
            assert {view["camera"]: (view["seq"], view["verdict"]) for view in part["views"]} == {
                m["camera"]: (m["seq"], "PASS") for m in before
            }


def play(line: Line, events: list[Event], offline: Offline, make_frame: Callable[..., Frame]) -> None:
    for number, (kind, *what) in enumerate(events):
        if kind == "view":
            part_id, camera = what
            line.see(make_frame(f"f{number}", camera, part_id=part_id))
        elif kind == "judge":
            line.judge(*what)
        elif kind == "end":
            line.end(what[0])
        elif kind == "disk":
            line.set_disk(what[0])
        else:
            getattr(offline, f"answer_{kind}")({"camera": what[0]}, "anna")
        line.step()
