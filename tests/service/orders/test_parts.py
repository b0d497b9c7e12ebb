"""A part is decided once, by what left of its views; whatever is in doubt is ERROR."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.service.orders import parts as module
from inspector.service.orders.parts import REMEMBERED_S, Decided, Group, Parts, Refusal, build_part_frame
from inspector.sources.base import build_frame
from inspector.types import Frame, PixelFormat, Reason, Result, Verdict, View

CAMERAS = ("top", "left", "right")
BODY = Group("body", CAMERAS, "part_id")
REASONS = {Verdict.PASS: Reason.OK, Verdict.FAIL: Reason.DEFECT, Verdict.ERROR: Reason.DEADLINE}


def build_view(camera: str, number: int, **ids: Any) -> Frame:
    return build_frame(camera, f"f{number}", None, PixelFormat.MONO8, **ids)


def build_result(frame: Frame, verdict: Verdict, score: float = 0.5, reason: Reason | None = None) -> Result:
    """What left of a view; its threshold is 1."""
    return Result(
        station="press-3", boot_id="boot", seq=1, camera=frame.camera, frame_id=frame.frame_id, part_id=frame.part_id,
        trigger_id=frame.trigger_id, verdict=verdict, reason=reason or REASONS[verdict],
        score=None if verdict is Verdict.ERROR else score, threshold=1.0, regions=(), captured_utc_ns=0,
        received_utc_ns=1, published_utc_ns=2, deadline_ms=60_000,
    )  # fmt: skip


class Bench:
    """Parts with numbers as a ledger gives them, and a clock that is set by hand."""

    def __init__(self, group: Group = BODY) -> None:
        self.now = 0.0
        self.offline: set[str] = set()
        self.parts = Parts([group], self._open, lambda: self.now, self.offline.__contains__)
        self.opened: dict[str, int] = {}
        self.frames: dict[int, Frame] = {}
        self._numbers = itertools.count(1)

    def admit(self, camera: str, *, number: int | None = None, **ids: Any) -> tuple[int, Refusal | None]:
        number = number or next(self._numbers)
        self.frames[number] = build_view(camera, number, **ids)
        return number, self.parts.admit(number, self.frames[number])

    def admit_trigger(self, camera: str, number: int = 0, **ids: Any) -> tuple[int, Refusal | None]:
        """A trigger that waits for its frame; of a frame that waits for its trigger, by its number."""
        awaits_frame, number = not number, number or next(self._numbers)
        self.frames[number] = build_view(camera, number, **ids)
        return number, self.parts.admit_trigger(number, self.frames[number], awaits_frame=awaits_frame)

    def answer(self, number: int, verdict: Verdict = Verdict.PASS, **details: Any) -> Decided | None:
        return self.parts.note(number, build_result(self.frames[number], verdict, **details))

    def see(self, camera: str, verdict: Verdict = Verdict.PASS, **details: Any) -> Decided | None:
        """A view of part `p1` that came and is answered."""
        return self.answer(self.admit(camera, part_id="p1")[0], verdict, **details)

    def _open(self, group: Group, frame: Frame) -> int:
        self.opened[str(getattr(frame, group.by))] = number = next(self._numbers)
        return number


@pytest.fixture
def bench() -> Bench:
    return Bench()


def explain(decided: Decided | None) -> tuple[Any, ...]:
    assert decided is not None
    return decided.verdict, decided.reason, decided.message


# ---------------------------------------------------------------- what the views say


def test_part_passes_when_all_its_views_passed(bench: Bench) -> None:
    assert bench.see("top", score=0.2) is None
    assert bench.see("left", score=0.7) is None
    decided = bench.see("right", score=0.4)
    assert explain(decided) == (Verdict.PASS, Reason.OK, None)
    assert decided is not None
    assert decided.number == bench.opened["p1"]
    assert decided.lead is not None
    assert decided.lead.camera == "left"  # the nearest to its threshold
    assert {view.camera: view.verdict for view in decided.views} == dict.fromkeys(CAMERAS, "PASS")
    assert [frame.camera for frame in decided.frames] == list(CAMERAS)


def test_part_fails_when_one_view_failed_whatever_the_others_are(bench: Bench) -> None:
    bench.see("top", Verdict.ERROR)
    bench.see("left", Verdict.FAIL, score=1.5)
    decided = bench.parts.expire(bench.opened["p1"])
    assert explain(decided) == (Verdict.FAIL, Reason.DEFECT, None)
    assert decided is not None
    assert decided.lead is not None
    assert decided.lead.camera == "left"
    assert decided.views[2] == View("right", None)


def test_part_is_an_error_that_names_the_view_when_one_is_an_error(bench: Bench) -> None:
    bench.see("top")
    bench.see("left", Verdict.ERROR)
    decided = bench.see("right")
    assert explain(decided) == (Verdict.ERROR, Reason.VIEW_ERROR, "views answered ERROR: left DEADLINE")


@pytest.mark.parametrize(
    ("left", "expected", "message"),
    [
        (Verdict.PASS, Reason.OFFLINE, "offline: camera right"),
        (Verdict.ERROR, Reason.VIEW_ERROR, "views answered ERROR: left DEADLINE"),
        (Verdict.FAIL, Reason.DEFECT, None),
        (None, Reason.VIEW_MISSING, "no view of camera left"),
    ],
)
@pytest.mark.parametrize("right", ["answered OFFLINE", "its trigger was refused", "its trigger got no frame"])
def test_part_is_offline_where_nothing_but_a_camera_that_is_keeps_it_from_a_pass(
    bench: Bench, left: Verdict | None, expected: Reason, message: str | None, right: str
) -> None:
    decided = bench.see("top")
    if left is not None:
        decided = bench.see("left", left)
    if right == "answered OFFLINE":  # and is back online by now
        decided = bench.see("right", Verdict.ERROR, reason=Reason.OFFLINE)
    else:
        bench.offline.add("right")
    if right == "its trigger got no frame":
        decided = bench.see("right", Verdict.ERROR, reason=Reason.NO_FRAME)
    decided = decided or bench.parts.expire(bench.opened["p1"])
    verdict = Verdict.FAIL if left is Verdict.FAIL else Verdict.ERROR
    assert explain(decided) == (verdict, expected, message)


def test_part_is_no_pass_of_the_views_that_are_there_when_all_cameras_are_offline(bench: Bench) -> None:
    bench.offline.update(CAMERAS)
    bench.see("top", Verdict.ERROR, reason=Reason.OFFLINE)
    decided = bench.parts.expire(bench.opened["p1"])
    assert explain(decided) == (Verdict.ERROR, Reason.OFFLINE, "offline: camera top, left, right")


def test_part_is_an_error_that_names_the_views_when_its_window_ends_before_they_came(bench: Bench) -> None:
    bench.see("left")
    decided = bench.parts.expire(bench.opened["p1"])
    assert explain(decided) == (Verdict.ERROR, Reason.VIEW_MISSING, "no view of camera top, right")
    assert bench.parts.expire(bench.opened["p1"]) is None


def test_part_is_an_error_when_a_view_came_and_has_no_verdict_within_the_window(bench: Bench) -> None:
    bench.see("top")
    bench.see("left")
    number, refusal = bench.admit("right", part_id="p1")
    assert refusal is None
    decided = bench.parts.expire(bench.opened["p1"])
    assert explain(decided) == (
        Verdict.ERROR,
        Reason.VIEW_LATE,
        "no verdict within the window on the view of camera right",
    )
    assert bench.answer(number) is None


def test_view_is_missing_when_its_trigger_got_no_frame(bench: Bench) -> None:
    bench.see("top")
    bench.see("left")
    decided = bench.see("right", Verdict.ERROR, reason=Reason.NO_FRAME)
    assert explain(decided) == (Verdict.ERROR, Reason.VIEW_MISSING, "no view of camera right")


def test_view_is_missing_when_the_window_ends_before_the_frame_of_its_trigger(bench: Bench) -> None:
    bench.see("top")
    bench.see("left")
    number = next(bench._numbers)
    trigger = build_view("right", number, part_id="p1")
    assert bench.parts.admit_trigger(number, trigger, awaits_frame=True) is None
    decided = bench.parts.expire(bench.opened["p1"])
    assert explain(decided) == (Verdict.ERROR, Reason.VIEW_MISSING, "no view of camera right")
    assert decided is not None
    assert decided.views[2] == View("right", None)


def test_part_stays_open_when_a_frame_of_it_expires(bench: Bench) -> None:
    number, _ = bench.admit("top", part_id="p1")
    assert bench.parts.expire(number) is None
    assert bench.answer(number, Verdict.ERROR) is None
    assert explain(bench.parts.expire(bench.opened["p1"]))[1] is Reason.VIEW_MISSING


# ---------------------------------------------------------------- whose a view is


def test_second_view_of_a_camera_is_refused_and_the_part_an_error_at_once(bench: Bench) -> None:
    bench.see("top", Verdict.FAIL)
    number, refusal = bench.admit("top", part_id="p1")
    why = "camera top gave two views: 'f1' and 'f3'"
    assert refusal == Refusal(Reason.VIEW_DOUBLED, why)
    assert explain(bench.answer(number, Verdict.ERROR)) == (Verdict.ERROR, Reason.VIEW_DOUBLED, why)
    assert bench.admit("left", part_id="p1")[1] == Refusal(Reason.VIEW_LATE, "part body 'p1' is answered already")


def test_views_of_one_trigger_with_other_part_ids_make_the_part_an_error() -> None:
    bench = Bench(Group("body", CAMERAS, "trigger_id"))
    assert bench.admit("top", trigger_id="t1", part_id="p1")[1] is None
    assert bench.admit("left", trigger_id="t1")[1] is None  # says nothing
    number, refusal = bench.admit("right", trigger_id="t1", part_id="p2")
    why = "part_id: must be the same in all views, got 'p1' from camera top, 'p2' from right"
    assert refusal == Refusal(Reason.VIEW_MISMATCH, why)
    assert explain(bench.answer(number, Verdict.ERROR)) == (Verdict.ERROR, Reason.VIEW_MISMATCH, why)


def test_frame_takes_the_place_of_its_trigger_and_is_no_second_view(bench: Bench) -> None:
    number, refusal = bench.admit("top", part_id="p1")
    assert refusal is None
    assert bench.admit("top", number=number, part_id="p1")[1] is None
    assert bench.answer(number) is None
    bench.see("left")
    assert explain(bench.see("right")) == (Verdict.PASS, Reason.OK, None)


def test_frame_without_the_id_is_refused_and_opens_nothing(bench: Bench) -> None:
    refusal = bench.admit("top", trigger_id="t1")[1]
    assert refusal == Refusal(Reason.NO_PART_ID, "part_id: required of camera top, a view of part body")
    assert bench.opened == {}


def test_trigger_that_is_refused_was_never_a_view(bench: Bench) -> None:
    bench.see("top")
    number, refusal = bench.admit_trigger("top", part_id="p1")
    assert refusal is not None
    assert bench.answer(number) is None
    decided = bench.parts.expire(bench.opened["p1"])  # which part was triggered twice stays in doubt
    assert explain(decided)[1] is Reason.VIEW_DOUBLED
    assert bench.parts._by_number == {}


def test_frame_that_waits_is_the_view_of_the_part_that_took_it_when_another_refused_it() -> None:
    bench = Bench(Group("body", CAMERAS, "trigger_id"))
    bench.admit("top", trigger_id="t1", part_id="p1")
    number, refusal = bench.admit_trigger("left", 50, trigger_id="t1", part_id="p2")
    assert refusal is not None
    assert refusal.reason is Reason.VIEW_MISMATCH
    assert bench.admit_trigger("left", number, trigger_id="t2", part_id="p2")[1] is None
    decided = bench.parts.expire(bench.opened["t1"])
    assert decided is not None
    assert [frame.camera for frame in decided.frames] == ["top"]
    bench.answer(number)
    for camera in ("top", "right"):
        decided = bench.answer(bench.admit(camera, trigger_id="t2")[0])
    assert explain(decided) == (Verdict.PASS, Reason.OK, None)


def test_part_is_named_by_the_id_that_its_views_share_alone() -> None:
    view = build_view("top", 1, part_id="p1", trigger_id="t1")
    by_part, by_trigger = (build_part_frame(Group("body", CAMERAS, by), view) for by in ("part_id", "trigger_id"))
    assert (by_part.camera, by_part.frame_id, by_part.part_id, by_part.trigger_id) == ("part/body", "p1", "p1", None)
    assert (by_trigger.frame_id, by_trigger.part_id, by_trigger.trigger_id) == ("t1", "p1", "t1")


def test_frame_of_a_camera_of_no_part_is_its_own(bench: Bench) -> None:
    number, refusal = bench.admit("door", part_id="p1")
    assert refusal is None
    assert bench.answer(number) is None
    assert bench.opened == {}


def test_late_view_opens_no_second_part_until_the_id_is_forgotten(bench: Bench) -> None:
    for camera in CAMERAS:
        bench.see(camera)
    first = bench.opened["p1"]
    bench.now = REMEMBERED_S
    assert bench.admit("top", part_id="p1")[1] == Refusal(Reason.VIEW_LATE, "part body 'p1' is answered already")
    assert bench.opened["p1"] == first
    bench.now += 1
    assert bench.admit("top", part_id="p1")[1] is None
    assert bench.opened["p1"] > first


def test_part_of_an_earlier_run_is_not_opened_again(bench: Bench) -> None:
    bench.parts.remember("body", ["p1", "p2"])
    assert bench.admit("top", part_id="p2")[1] == Refusal(Reason.VIEW_LATE, "part body 'p2' is answered already")
    assert bench.admit("top", part_id="p3")[1] is None


def test_oldest_id_is_forgotten_when_there_are_too_many(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    bench.parts.remember("body", ["p1", "p2", "p3"])
    assert [bench.admit("top", part_id=f"p{number}")[1] is None for number in (1, 2, 3)] == [True, False, False]


def test_part_is_answered_at_once_when_too_many_are_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 1)
    assert bench.admit("top", part_id="p1")[1] is None
    number, refusal = bench.admit("top", part_id="p2")
    why = "at most 1 parts body may be open"
    assert refusal == Refusal(Reason.OVERLOAD, why)
    assert explain(bench.answer(number, Verdict.ERROR)) == (Verdict.ERROR, Reason.OVERLOAD, why)


def test_second_frame_of_a_trigger_makes_its_part_doubtful_until_it_is_answered_and_no_other(bench: Bench) -> None:
    top, _ = bench.admit_trigger("top", part_id="p1")
    second = build_view("top", 9)
    bench.parts.note_surplus(top, 50, second)  # of an earlier trigger of this id: its own frame has not come
    bench.admit("top", number=top, part_id="p1")
    bench.parts.note_surplus(99, 50, second)
    bench.answer(top)
    for camera in ("left", "right"):
        decided = bench.answer(bench.admit(camera, part_id="p1")[0])
    assert explain(decided)[0] is Verdict.PASS
    bench.parts.note_surplus(top, 50, second)
    number, _ = bench.admit("top", part_id="p2")
    bench.answer(number)
    bench.parts.note_surplus(number, 51, second)
    bench.frames[51] = second
    decided = bench.answer(51, Verdict.ERROR)  # at once
    assert explain(decided)[:2] == (Verdict.ERROR, Reason.VIEW_DOUBLED)


def test_view_may_be_asked_for_again_once_its_trigger_got_no_frame(bench: Bench) -> None:
    first, _ = bench.admit_trigger("top", part_id="p1")
    assert bench.answer(first, Verdict.ERROR, reason=Reason.NO_FRAME) is None
    again, refusal = bench.admit_trigger("top", part_id="p1")
    assert refusal is None
    bench.admit("top", number=again, part_id="p1")
    bench.answer(again)
    for camera in ("left", "right"):
        decided = bench.answer(bench.admit(camera, part_id="p1")[0])
    assert explain(decided) == (Verdict.PASS, Reason.OK, None)


def test_trigger_that_does_not_say_its_part_is_a_view_once_its_frame_says_it(bench: Bench) -> None:
    number, refusal = bench.admit_trigger("top")
    assert (refusal, bench.opened) == (None, {})
    assert bench.admit("top", number=number, part_id="p1")[1] is None
    assert list(bench.opened) == ["p1"]
    number, _ = bench.admit_trigger("left")
    refusal = bench.admit("left", number=number)[1]
    assert refusal is not None
    assert refusal.reason is Reason.NO_PART_ID


def test_trigger_opens_no_part_when_too_many_are_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 1)
    assert bench.admit_trigger("top", part_id="p1")[1] is None
    assert bench.admit_trigger("left", part_id="p1")[1] is None  # of a part that is open
    refusal = bench.admit_trigger("top", part_id="p2")[1]
    assert refusal == Refusal(Reason.OVERLOAD, "at most 1 parts body may be open")
    assert list(bench.opened) == ["p1"]
    assert len(bench.parts._by_number) == 3


# ---------------------------------------------------------------- over all that may happen

Event = tuple[str, Any, Any]


@st.composite
def draw_events(draw: st.DrawFn) -> list[Event]:
    """All views of two parts, less drops and with doubles, their answers, ends of windows and restarts, shuffled."""
    views: list[Event] = [("view", part, camera) for part in ("p1", "p2") for camera in CAMERAS]
    dropped = draw(st.sets(st.sampled_from(views), max_size=2))
    doubled = draw(st.lists(st.sampled_from(views), max_size=2))
    verdicts = st.sampled_from([Verdict.PASS] * 8 + [Verdict.FAIL, Verdict.ERROR])
    answers: list[Event] = [("answer", draw(st.integers(0, 7)), draw(verdicts)) for _ in range(8)]
    others = draw(
        st.lists(st.sampled_from([("end", "p1", None), ("end", "p2", None), ("restart", None, None)]), max_size=2)
    )
    return draw(st.permutations([each for each in views if each not in dropped] + doubled + answers + others))


@settings(max_examples=400)
@given(draw_events())
def test_each_part_has_one_verdict_and_no_unearned_pass_over_drops_delays_doubles_and_restarts(
    events: list[Event],
) -> None:
    assert_promises(*play(events))


def play(events: list[Event]) -> tuple[Bench, Counter[str], dict[str, list[Any]]]:
    """Play events, views answered in any order; what was answered of each part, and what came of its views."""
    bench, answered, came = Bench(), Counter[str](), {}
    waiting: list[int] = []

    def take(decided: Decided | None) -> None:
        if decided is not None:
            name = next(name for name, number in bench.opened.items() if number == decided.number)
            answered[name] += 1
            if decided.verdict is Verdict.PASS:
                assert came[name] == [(camera, Verdict.PASS) for camera in sorted(CAMERAS)], name

    for kind, what, more in events:
        if kind == "view":
            number, refusal = bench.admit(more, part_id=what)
            if refusal is None or refusal.reason is Reason.VIEW_DOUBLED:
                came.setdefault(what, []).append((more, None))
                waiting.append(number)
            else:
                assert answered[what] == 1, "a view is late only where its part is answered"
        elif kind == "answer" and waiting:
            number = waiting.pop(what % len(waiting))
            frame = bench.frames[number]
            views = came[str(frame.part_id)]
            views.remove((frame.camera, None))
            views.append((frame.camera, more))
            views.sort(key=str)
            take(bench.answer(number, more))
        elif kind == "end" and what in bench.opened:
            take(bench.parts.expire(bench.opened[what]))
        elif kind == "restart":  # what was open is answered RESTART by the next start, which knows all ids
            answered.update(name for name in bench.opened if not answered[name])
            waiting.clear()
            bench.parts = Parts([BODY], bench._open, lambda: bench.now)
            bench.parts.remember("body", answered)
    for number in bench.opened.values():
        take(bench.parts.expire(number))
    return bench, answered, came


def assert_promises(bench: Bench, answered: Counter[str], came: dict[str, list[Any]]) -> None:
    assert dict(answered) == dict.fromkeys(bench.opened, 1)
    assert came.keys() == bench.opened.keys()
