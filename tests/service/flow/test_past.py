"""A station goes on from where its journal ends, and tells what is not in it any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from inspector.errors import ConfigError
from inspector.journal.mark import MARGIN
from inspector.journal.writer import Journal
from inspector.service.flow.past import JournalMemory, open_journal
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.transient import is_transient
from inspector.types import FileVersion, Result, TakenFile


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
