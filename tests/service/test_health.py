"""What /live, /ready, the lifebit and the watchdog are told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from inspector.service import health as module
from inspector.service.health import Health, State


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time for the module under test stands at `now`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_station_is_live_but_not_ready_when_starting(health: Health) -> None:
    assert health.state is State.STARTING
    assert health.live() == (True, "STARTING")
    assert health.ready() == (False, "STARTING")


@pytest.mark.parametrize("state", [State.READY, State.RUNNING])
def test_station_is_ready_when_all_is_well(health: Health, state: State) -> None:
    health.enter(state)
    assert health.state is state
    assert health.live() == health.ready() == (True, state.value)


@pytest.mark.parametrize("state", [State.READY, State.RUNNING])
def test_station_is_degraded_and_names_all_at_fault_when_components_have_problems(health: Health, state: State) -> None:
    health.enter(state)
    health.report("source top", "cable out")
    health.report("journal", "disk full")
    assert health.state is State.DEGRADED
    assert health.live() == (True, "DEGRADED: journal: disk full; source top: cable out")
    assert health.ready() == (False, "DEGRADED: journal: disk full; source top: cable out")
    assert health.last_error == "journal: disk full"


def test_station_is_well_again_only_when_every_problem_is_withdrawn(health: Health) -> None:
    health.enter(State.RUNNING)
    health.report("a", "broken")
    health.report("b", "broken too")
    health.report("a", None)
    assert health.ready() == (False, "DEGRADED: b: broken too")
    health.report("b", None)
    assert health.ready() == (True, "RUNNING")
    assert health.last_error == "b: broken too"  # kept for the status


def test_problem_is_replaced_when_a_component_reports_another(health: Health) -> None:
    health.enter(State.RUNNING)
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
def test_fault_is_never_left_when_another_state_is_entered(health: Health, later: State) -> None:
    health.enter(State.RUNNING)
    health.fault("device", "CUDA error")
    health.report("device", None)
    health.enter(later)
    assert health.state is State.FAULT
    assert health.live()[0] is health.ready()[0] is False
    assert health.last_error == "device: CUDA error"


def test_fault_names_the_component_when_asked(health: Health) -> None:
    health.enter(State.RUNNING)
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


def test_component_stalls_when_its_beat_is_too_old(clock: SimpleNamespace) -> None:
    health = Health(stall_after_s=20.0)
    health.enter(State.RUNNING)
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


def test_lifebit_moves_only_when_all_is_moving(clock: SimpleNamespace) -> None:
    health = Health(stall_after_s=20.0)
    health.enter(State.RUNNING)
    health.beat("device")
    assert (health.tick(), health.tick(), health.lifebit) == (True, True, 2)
    clock.now += 21
    assert (health.tick(), health.lifebit) == (False, 2)
    health.beat("device")
    assert (health.tick(), health.lifebit) == (True, 3)
    health.fault("device", "CUDA error")
    assert (health.tick(), health.lifebit) == (False, 3)


def test_lifebit_moves_when_degraded(health: Health) -> None:
    health.enter(State.RUNNING)
    health.report("source top", "cable out")
    assert (health.tick(), health.lifebit) == (True, 1)
