"""A publisher and its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inspector.service.flow.judges import Judges
from inspector.service.flow.ledger import Ledger, Outcome
from inspector.service.flow.publisher import Publisher
from inspector.service.flow.status import Identity, StatusBoard
from inspector.service.orders.offline import Offline
from inspector.service.orders.parts import Parts
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from tests.service.flow.publisher.parts import (
    WAIT_S,
    Accept,
    End,
    Launch,
    Make,
    MakeJudge,
    MakeJudgement,
    RecordingSocket,
    StubRecorder,
)


@pytest.fixture
def trace() -> list[Any]:
    """What recorder, socket and tap were handed, in order."""
    return []


@pytest.fixture
def recorder(trace: list[Any]) -> StubRecorder:
    return StubRecorder(trace)


@pytest.fixture
def socket(trace: list[Any]) -> RecordingSocket:
    return RecordingSocket(trace)


@pytest.fixture
def judges(make_judge: MakeJudge) -> Judges:
    """Camera `top` has recipe `lens`, `side` has none."""
    judges = Judges()
    judges.switch({"top": make_judge()})
    return judges


@pytest.fixture
def forgotten() -> list[str]:
    """Frames that the buffer was told to forget."""
    return []


@pytest.fixture
def make(
    trace: list[Any], recorder: StubRecorder, socket: RecordingSocket, ledger: Ledger, running: Health,
    metrics: Metrics, judges: Judges, forgotten: list[str], offline: Offline, parts: Parts,
) -> Make:  # fmt: skip
    """A publisher that is not started yet, with other parts than the fixtures' on request."""

    def make(**others: Any) -> Publisher:
        identity, last_seqs = Identity(station="press-3", boot_id="boot-7"), others.get("last_seqs", {})
        status = StatusBoard(
            identity,
            ledger.deadlines_ms,
            last_seqs=last_seqs,
            last_results=others.get("last_results", {}),
            queue_depth=lambda: 3,
            more=lambda: {"last_reload": None},
            health=running,
        )
        return Publisher(
            ledger,
            others.get("recorder", recorder),
            others.get("socket", socket),
            identity,
            judges,
            last_seqs=last_seqs,
            forget=lambda ticket: forgotten.append(ticket.frame.frame_id),
            taps=others.get("taps", (lambda outcome, result: trace.append(("tap", result.frame_id)),)),
            status=status,
            offline=offline,
            parts=parts,
            health=running,
            metrics=metrics,
        )

    return make


@pytest.fixture
def end() -> End:
    """Ask a publisher to stop, with all the time it may want, and see it end."""

    def end(thread: Any) -> None:
        if isinstance(thread, Publisher):
            thread.stop(within_s=WAIT_S)
        else:
            thread.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()

    return end


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start a thread; it is ended with the test at the latest, without waiting for the disk."""
    launched: list[Any] = []

    def launch(thread: Any) -> Any:
        thread.start()
        launched.append(thread)
        return thread

    yield launch
    for thread in reversed(launched):
        if isinstance(thread, Publisher):
            thread.stop(within_s=0.0)
        else:
            thread.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()


@pytest.fixture
def judged(accept: Accept, make_judgement: MakeJudgement, judges: Judges) -> Callable[..., Outcome]:
    """The outcome of a frame that the ledger accepted and a detector judged."""

    def judged(frame_id: str, score: float = 0.5, **details: Any) -> Outcome:
        judgement = make_judgement(score)
        decision = judgement.decision
        ticket = accept(frame_id, **details)
        return Outcome(
            ticket,
            decision.verdict,
            decision.reason,
            judgement=judgement,
            judge=judges.get(ticket.frame.camera),
            latency_ms={"queue": 2.0, **judgement.latency_ms},
        )

    return judged
