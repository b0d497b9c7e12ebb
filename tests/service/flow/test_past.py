"""A station goes on from where its journal ends, and tells what is not in it any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Camera
from inspector.errors import ConfigError
from inspector.journal.mark import MARGIN
from inspector.journal.writer import Journal, OpenFrame
from inspector.service.flow.past import JournalMemory, open_journal, remember_parts, remember_triggers
from inspector.service.orders.parts import REMEMBERED_S, Group, Parts
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.transient import is_transient
from inspector.types import FileVersion, Frame, Reason, Result, TakenFile


@pytest.fixture
def path(tmp_path: Path, make_result: Callable[..., Result]) -> Path:
    """A journal of top 1 to 3, with its mark."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal.append([make_result(seq) for seq in (1, 2, 3)])
    journal.write_mark({"top": 3})
    journal.close()
    return path


def test_past_is_what_the_journal_has(path: Path, health: Health, metrics: Metrics) -> None:
    journal, past = open_journal(path, "boot", health=health, metrics=metrics)
    assert (past.left_open, past.judged, past.seqs) == ([], {}, {"top": 3})
    assert past.results["top"]["frame_id"] == "f3"
    assert health.last_error is None
    journal.close()


def test_folders_are_told_of_their_own_files_and_what_is_gone_is_noted(
    path: Path, health: Health, metrics: Metrics
) -> None:
    journal = Journal(path)
    journal.write([], [], files=[TakenFile("top", "a.png", FileVersion(10, 20))])
    journal.close()
    journal, past = open_journal(path, "boot", health=health, metrics=metrics)
    journal.close()
    noted: list[TakenFile] = []
    memory = JournalMemory(past.taken, noted.append)
    assert memory.find_versions("top") == {"a.png": FileVersion(10, 20)}
    assert memory.find_versions("side") == {}
    memory.forget("top", ["a.png"])
    assert noted == [TakenFile("top", "a.png", None)]


def test_lost_results_are_logged_counted_and_shown_when_the_journal_was_deleted(
    path: Path, health: Health, metrics: Metrics, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    path.unlink()
    journal, past = open_journal(path, "boot", health=health, metrics=metrics)
    assert past.seqs == {"top": 3 + MARGIN}
    words = (
        "journal: camera top: 3 or more results are not recorded, from number 1 on: no longer in the journal; "
        "results continue above 10003"
    )
    assert caplog.messages == [words]
    assert health.last_error == words
    assert registry.get_sample_value("inspector_journal_lost_total") == 3
    journal.close()


def test_fault_names_the_field_and_is_for_a_person_when_the_journal_is_damaged(
    path: Path, health: Health, metrics: Metrics
) -> None:
    path.write_bytes(b"shopping list\n" * 100)
    with pytest.raises(
        ConfigError, match=r"^state_dir: journal .*: cannot be opened: file is not a database; see docs"
    ) as error:
        open_journal(path, "boot", health=health, metrics=metrics)
    assert error.value.field == ("state_dir",)
    assert not is_transient(error.value)


def test_parts_answered_or_left_open_in_an_earlier_run_are_opened_by_no_view(
    path: Path, make_result: Callable[..., Result], make_frame: Callable[..., Frame]
) -> None:
    now = time.time_ns()
    old = now - int(2 * REMEMBERED_S * 1e9)
    journal = Journal(path)
    for seq, (frame_id, published) in enumerate((("old", old), ("answered", now)), 1):
        journal.append([make_result(seq, camera="part/body", frame_id=frame_id, published_utc_ns=published)])
    journal.append([make_result(1, camera="part/door", frame_id="other", published_utc_ns=now)])
    journal.close()
    left_open = [OpenFrame(n, camera, name, None, None, 0, 0, 1, False)
                 for n, (camera, name) in enumerate((("part/body", "open"), ("top", "frame")))]  # fmt: skip
    parts = Parts([Group("body", ("top", "side"), "part_id")], lambda group, view: 100)
    remember_parts(parts, ["body"], path, left_open)
    names = ("old", "answered", "other", "open", "frame")
    refusals = [parts.admit(n, make_frame(f"f{n}", part_id=name)) for n, name in enumerate(names)]
    late = [name for name, refusal in zip(names, refusals, strict=True) if refusal is not None]
    assert late == ["answered", "open"]
    assert {refusal.reason for refusal in refusals if refusal} == {Reason.VIEW_LATE}


def test_journal_that_cannot_be_read_for_parts_is_a_fault_of_the_station_file(tmp_path: Path) -> None:
    parts = Parts([], lambda group, view: 0)
    with pytest.raises(ConfigError) as caught:
        remember_parts(parts, ["body"], tmp_path / "none.sqlite", [])
    assert caught.value.field == ("state_dir",)


class Kept:
    """What triggers are told of earlier runs."""

    def __init__(self) -> None:
        self.known: list[tuple[str, list[tuple[str, int, bool]]]] = []

    def remember(self, camera: str, triggers: Iterable[tuple[str, int, bool]]) -> None:
        self.known.append((camera, list(triggers)))


def test_triggers_answered_or_left_open_in_an_earlier_run_are_known(
    path: Path, make_result: Callable[..., Result]
) -> None:
    now = time.time_ns()
    old = now - int(2 * REMEMBERED_S * 1e9)
    journal = Journal(path)
    told = (("old", old, "t1"), ("f2", now, "t2"), ("f3", now, None), ("f4", now, "t4"))
    for seq, (frame_id, published, trigger_id) in enumerate(told, 1):
        result = make_result(seq, camera="front", frame_id=frame_id, published_utc_ns=published)
        reason = Reason.NO_FRAME if frame_id == "f4" else result.reason
        journal.append([replace(result, trigger_id=trigger_id, reason=reason)])
    journal.close()
    left_open = [OpenFrame(8, "front", "trigger-t8", None, "t8", 0, 0, 1, False),
                 OpenFrame(9, "front", "f9", None, None, 0, 0, 1, False),
                 OpenFrame(7, "side", "trigger-t7", None, "t7", 0, 0, 1, False)]  # fmt: skip
    kept = Kept()
    cameras = {"front": Camera(triggers="software"), "side": Camera()}
    remember_triggers(kept, cameras, path, left_open)
    assert kept.known == [("front", [("t2", 0, True), ("t4", 0, False), ("t8", 8, False)])]


def test_journal_that_cannot_be_read_for_triggers_is_a_fault_of_the_station_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        remember_triggers(Kept(), {"top": Camera(triggers="software")}, tmp_path / "none.sqlite", [])
    assert caught.value.field == ("state_dir",)
