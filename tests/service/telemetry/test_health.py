"""What /live, /ready, the lifebit and the watchdog are told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from inspector.service.telemetry import health as module
from inspector.service.telemetry import rate_limit
from inspector.service.telemetry.health import TRANSITIONS, Health, State

Bring = Callable[[Health, State], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time for the module under test stands at `now`."""
    clock = SimpleNamespace(now=1000.0)
    for each in (module, rate_limit):
        monkeypatch.setattr(each, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_station_is_live_but_not_ready_when_starting(health: Health) -> None:
    assert health.state is State.STARTING
    assert health.live() == (True, "STARTING")
    assert health.ready() == (False, "STARTING")


@pytest.mark.parametrize("state", [State.READY, State.RUNNING])
def test_station_is_ready_when_all_is_well(health: Health, bring: Bring, state: State) -> None:
    bring(health, state)
    assert health.state is state
    assert health.live() == health.ready() == (True, state.value)


@pytest.mark.parametrize("state", [State.READY, State.RUNNING])
def test_station_is_degraded_and_names_all_at_fault_when_components_have_problems(
    health: Health, bring: Bring, state: State
) -> None:
    bring(health, state)
    health.report("source top", "cable out")
    health.report("journal", "disk full")
    assert health.state is State.DEGRADED
    assert health.live() == (True, "DEGRADED: journal: disk full; source top: cable out")
    assert health.ready() == (False, "DEGRADED: journal: disk full; source top: cable out")
    assert health.last_error == "journal: disk full"


def test_station_is_well_again_only_when_every_problem_is_withdrawn(health: Health, bring: Bring) -> None:
    bring(health, State.RUNNING)
    health.report("a", "broken")
    health.report("b", "broken too")
    health.report("a", None)
    assert health.ready() == (False, "DEGRADED: b: broken too")
    health.report("b", None)
    assert health.ready() == (True, "RUNNING")
    assert health.last_error == "b: broken too"  # kept for the status


def test_problem_is_replaced_when_a_component_reports_another(health: Health, bring: Bring) -> None:
    bring(health, State.RUNNING)
    health.report("a", "first")
    health.report("a", "second")
    assert health.ready() == (False, "DEGRADED: a: second")
    health.report("a", None)
    health.report("a", None)
    assert health.ready() == (True, "RUNNING")


def test_starting_station_stays_starting_when_a_component_has_a_problem(health: Health) -> None:
    health.report("source top", "cable out")
    assert (health.state, health.ready()) == (State.STARTING, (False, "STARTING: source top: cable out"))


@pytest.mark.parametrize("later", list(State))
def test_fault_is_never_left_when_another_state_is_entered(health: Health, bring: Bring, later: State) -> None:
    bring(health, State.RUNNING)
    health.fault("device", "CUDA error")
    health.report("device", None)
    health.enter(later)
    assert health.state is State.FAULT
    assert health.live()[0] is health.ready()[0] is False
    assert health.last_error == "device: CUDA error"


def test_fault_names_the_component_when_asked(health: Health, bring: Bring) -> None:
    bring(health, State.RUNNING)
    health.fault("device", "CUDA error")
    assert health.live() == health.ready() == (False, "FAULT: device: CUDA error")


@pytest.mark.parametrize("later", sorted(set(State) - {State.FAULT}))
def test_stopping_is_left_for_a_fault_only(health: Health, later: State) -> None:
    health.enter(State.STOPPING)
    health.enter(later)
    assert health.state is State.STOPPING
    assert health.live()[0] is True
    assert health.ready() == (False, "STOPPING")
    health.fault("publisher", "died")
    assert health.state is State.FAULT


def test_component_stalls_when_its_beat_is_too_old(clock: SimpleNamespace, bring: Bring) -> None:
    health = Health(stall_after_s=20.0)
    bring(health, State.RUNNING)
    health.beat("device")
    health.beat("publisher")
    clock.now += 15
    health.beat("publisher")
    clock.now += 5
    assert health.stalled() == []
    clock.now += 0.5
    assert health.stalled() == ["device"]
    assert health.live() == health.ready() == (False, "no progress: device")
    health.beat("device")
    assert health.ready() == (True, "RUNNING")


def test_component_does_not_stall_when_it_ended_as_it_should(clock: SimpleNamespace, health: Health) -> None:
    health.beat("ingest-top")
    health.forget("ingest-top")
    health.forget("ingest-top")
    clock.now += 1000
    assert (health.stalled(), health.live()) == ([], (True, "STARTING"))


def test_lifebit_moves_only_when_all_is_moving(clock: SimpleNamespace, bring: Bring) -> None:
    health = Health(stall_after_s=20.0)
    bring(health, State.RUNNING)
    health.beat("device")
    assert [tick_after(clock, health, 1.0) for _ in range(22)] == [True] * 20 + [False] * 2
    assert health.lifebit == 20
    health.beat("device")
    assert (health.tick(), health.lifebit) == (True, 21)
    health.fault("device", "CUDA error")
    assert (health.tick(), health.lifebit) == (False, 21)


def tick_after(clock: SimpleNamespace, health: Health, seconds: float) -> bool:
    clock.now += seconds
    return health.tick()


def test_lifebit_moves_when_degraded(health: Health, bring: Bring) -> None:
    bring(health, State.RUNNING)
    health.report("source top", "cable out")
    assert (health.tick(), health.lifebit) == (True, 1)


def test_beat_may_stay_away_longer_when_the_component_said_so(clock: SimpleNamespace) -> None:
    health = Health(stall_after_s=20.0)
    health.beat("ingest-top", within_s=30.0)
    clock.now += 49
    assert health.stalled() == []
    clock.now += 2
    assert health.stalled() == ["ingest-top"]
    health.beat("ingest-top")  # the longer time was for that once
    clock.now += 21
    assert health.stalled() == ["ingest-top"]


def test_nothing_stalls_when_the_process_itself_stood_still(clock: SimpleNamespace) -> None:
    health = Health(stall_after_s=20.0)
    health.beat("device")
    health.tick()
    clock.now += 5
    assert [tick_after(clock, health, 1000), health.stalled()] == [True, []]
    # It had been quiet for 5 of its 20 s; the time that stood still is added, and no more.
    assert [tick_after(clock, health, 1.0) for _ in range(22)] == [True] * 20 + [False] * 2


def test_component_stalls_as_ever_when_ticks_are_not_far_apart(clock: SimpleNamespace) -> None:
    health = Health(stall_after_s=20.0)
    health.beat("device")
    assert [tick_after(clock, health, 1.9) for _ in range(12)] == [True] * 10 + [False] * 2


# ---------------------------------------------------------------- states


@pytest.mark.parametrize("later", list(State))
@pytest.mark.parametrize("state", list(State))
def test_state_is_entered_exactly_when_the_table_allows_it(
    health: Health, bring: Bring, state: State, later: State
) -> None:
    bring(health, state)
    allowed = later is state or later in TRANSITIONS[state]
    assert health.enter(later) is allowed
    health.report("source top", None)
    if later is State.DEGRADED:
        allowed = False  # without a problem nothing keeps it there
    expected = later if allowed else State.READY if state is State.DEGRADED else state
    assert health.state is expected


@pytest.mark.parametrize("state", [State.READY, State.RUNNING])
def test_problem_leads_where_the_table_allows_it_and_back(health: Health, bring: Bring, state: State) -> None:
    bring(health, state)
    health.report("journal", "disk full")
    assert health.state is State.DEGRADED
    assert State.DEGRADED in TRANSITIONS[state]
    health.report("journal", None)
    assert health.state is state
    assert state in TRANSITIONS[State.DEGRADED]


def test_station_is_degraded_when_it_starts_with_a_problem(health: Health) -> None:
    health.report("source top", "cable out")
    assert health.enter(State.READY)
    assert health.ready() == (False, "DEGRADED: source top: cable out")
    health.report("source top", None)
    assert health.ready() == (True, "READY")


def test_station_runs_once_it_is_well_when_a_frame_came_while_it_was_degraded(health: Health, bring: Bring) -> None:
    bring(health, State.DEGRADED)
    assert health.enter(State.RUNNING)
    assert health.ready() == (False, "DEGRADED: source top: cable out")
    health.report("source top", None)
    assert health.ready() == (True, "RUNNING")


def test_station_is_ready_and_not_running_when_a_frame_came_before_it_was(health: Health) -> None:
    assert not health.enter(State.RUNNING)
    assert health.state is State.STARTING
    health.enter(State.READY)
    assert health.state is State.READY


@pytest.mark.parametrize("state", [State.STOPPING, State.STARTING])
def test_problem_changes_no_other_state_when_it_comes_or_goes(health: Health, bring: Bring, state: State) -> None:
    bring(health, state)
    health.report("journal", "disk full")
    assert (health.state, health.problem("journal")) == (state, "disk full")
    health.report("journal", None)
    assert (health.state, health.problem("journal")) == (state, None)


def test_station_is_degraded_and_no_more_when_a_thread_stalls_that_costs_no_verdict(clock: SimpleNamespace) -> None:
    health = Health(stall_after_s=20.0)
    health.enter(State.READY)
    health.beat("evidence", vital=False)
    for _ in range(21):
        clock.now += 1
        assert health.tick()
    assert health.stalled() == []
    assert health.ready() == (True, "DEGRADED: evidence thread: no progress")
    health.beat("evidence", vital=False)
    assert health.tick()
    assert health.ready() == (True, "READY")


# ---------------------------------------------------------------- what the log says of it


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_each_change_of_state_is_logged_once_with_from_to_and_why(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    health.report("source top", "cable out")
    health.enter(State.READY, "all recipes are loaded")
    for _ in range(3):
        health.report("source top", "cable out")
        health.enter(State.RUNNING, "a frame arrived")
        health.enter(State.DEGRADED)
    for _ in range(3):
        health.report("source top", None)
    for _ in range(3):
        health.fault("device", "CUDA error")
    health.enter(State.STOPPING, "SIGTERM")
    assert lines(caplog) == [
        ("INFO", "state STARTING → READY: all recipes are loaded"),
        ("WARNING", "state READY → DEGRADED: source top: cable out"),
        ("INFO", "state DEGRADED → RUNNING: source top: recovered"),
        ("ERROR", "state RUNNING → FAULT: device: CUDA error"),
    ]
    last = caplog.records[-1]
    assert (getattr(last, "from"), last.to, last.why) == ("RUNNING", "FAULT", "device: CUDA error")


def test_state_that_comes_and_goes_does_not_fill_the_log_and_its_last_change_is_there(
    clock: SimpleNamespace, bring: Bring, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health()
    bring(health, State.READY)
    caplog.set_level(logging.INFO)
    for number in range(50):
        health.report("source top", None if number % 2 else f"lost {number}")
    health.report("source top", "gone")
    written = len(caplog.records)
    assert 5 <= written <= 10
    for _ in range(7):
        tick_after(clock, health, 1.0)
    assert [message for _, message in lines(caplog)[written:]] == [
        f"state READY → DEGRADED: source top: gone ({50 - written} more like this)"
    ]


def test_end_is_logged_at_once_when_changes_are_held_back(
    clock: SimpleNamespace, bring: Bring, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health()
    bring(health, State.READY)
    caplog.set_level(logging.INFO)
    for number in range(50):
        health.report("source top", None if number % 2 else "lost")
    health.enter(State.STOPPING, "SIGTERM")
    assert lines(caplog)[-1][1].startswith("state READY → STOPPING: SIGTERM")
