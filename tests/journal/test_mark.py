"""The mark beside a journal outlives it, and keeps numbers from being given twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inspector.errors import JournalError
from inspector.journal.events import Event, Kind, select_events
from inspector.journal.mark import MARGIN, Mark, find_mark, read_mark, write_mark
from inspector.journal.verification import verify
from inspector.journal.writer import Journal
from inspector.types import Result

Make = Callable[..., Result]

MARK = Mark(12, bytes(range(32)), {"top": 9, "schön": 2**40})


@pytest.fixture
def marked(make: Make, path: Path) -> Path:
    """A journal of top 1 to 5 and side 1, closed, with its mark; top 7 was given, but never recorded."""
    journal = Journal(path)
    journal.append([*(make(seq) for seq in range(1, 6)), make(1, camera="side")])
    journal.write_mark({"top": 7, "side": 1})
    journal.close()
    return path


def delete(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def test_mark_reads_back_as_it_was_written(path: Path) -> None:
    for mark in (MARK, Mark(13, bytes(32), {}, accepted_by="ann")):
        write_mark(path, mark)
        assert read_mark(path) == mark
    assert find_mark(path) == path.parent / "journal-mark.json"


def test_there_is_no_mark_before_one_was_written(path: Path, journal: Journal) -> None:
    assert read_mark(path) is None
    assert read_mark(path / "below-a-file.sqlite") is None
    assert journal.skip_lost("boot") == []


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "\0" * 100, "[" * 100_000, '{"head": 1, "sha256": "00"}',
        '{"head": "x", "sha256": "00", "seqs": {}}', '{"head": 1, "sha256": "0", "seqs": {}}',
        '{"head": 1, "sha256": "00", "seqs": {"top": null}}', '{"head": Infinity, "sha256": "00", "seqs": {}}',
    ],
)  # fmt: skip
def test_mark_that_makes_no_sense_is_none_and_told(
    make: Make, marked: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    find_mark(marked).write_text(content)
    assert read_mark(marked) is None
    assert "journal-mark.json: not valid" in caplog.text
    journal = Journal(marked)  # it is whole, and needs none
    journal.append([make(6)])
    journal.close()


def test_station_is_told_when_the_mark_cannot_be_read_or_written(path: Path) -> None:
    find_mark(path).mkdir(parents=True)
    with pytest.raises(JournalError, match=r"journal-mark\.json: cannot be read: .*Is a directory"):
        Journal(path)
    with pytest.raises(JournalError, match=r"journal's mark: .*cannot be written"):
        write_mark(path, MARK)
    (path.parent / "file").touch()
    with pytest.raises(JournalError, match=r"journal's mark: .*File exists"):
        write_mark(path.parent / "file" / "journal.sqlite", MARK)


def test_mark_is_made_anew_with_its_folder_when_both_vanished(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(1), make(2)])
    path.parent.rename(path.parent.with_name("away"))
    journal.write_mark({"top": 3})
    assert [file.name for file in path.parent.iterdir()] == ["journal-mark.json"]
    mark = read_mark(path)
    assert mark is not None
    assert (mark.head_n, dict(mark.seqs)) == (2, {"top": 3})


def test_numbers_go_on_above_the_mark_when_the_journal_was_deleted(make: Make, marked: Path) -> None:
    delete(marked)
    journal = Journal(marked)
    events = journal.skip_lost("boot")
    assert [(event.kind, event.camera, event.outcome, event.boot_id) for event in events] == [
        (Kind.JOURNAL, "top", "lost", "boot"), (Kind.JOURNAL, "side", "lost", "boot"),
    ]  # fmt: skip
    assert dict(events[0].details) == {"from_seq": 1, "to_seq": 7 + MARGIN, "reason": "no longer in the journal"}
    assert journal.last_seqs() == {"top": 7 + MARGIN, "side": 1 + MARGIN}
    journal.append([make(7 + MARGIN + 1)])
    journal.close()
    assert list(select_events(marked)) == events
    assert verify(marked).faults == ()
    again = Journal(marked)
    assert again.skip_lost("boot 2") == []  # once is enough, for a camera that is gone, too
    assert again.last_seqs() == {"top": 7 + MARGIN + 1, "side": 1 + MARGIN}
    again.close()


def test_numbers_go_on_above_the_mark_when_the_first_start_without_a_journal_was_killed(marked: Path) -> None:
    delete(marked)
    Journal(marked).close()  # made, and nothing more
    journal = Journal(marked)
    journal.skip_lost("boot")
    journal.close()
    again = Journal(marked)  # killed before a first result
    assert again.last_seqs() == {"top": 7 + MARGIN, "side": 1 + MARGIN}
    again.close()


def test_only_numbers_that_the_journal_does_not_know_are_skipped(make: Make, marked: Path) -> None:
    journal = Journal(marked)
    (event,) = journal.skip_lost("boot")  # of side all is there
    assert (event.camera, event.details["from_seq"], event.details["to_seq"]) == ("top", 6, 7 + MARGIN)
    assert journal.last_seqs() == {"top": 7 + MARGIN, "side": 1}
    journal.append([make(7 + MARGIN + 1), make(2, camera="side")])
    journal.close()
    assert verify(marked).faults == ()  # the gap is on record, and no fault of the file's


def test_nothing_is_skipped_when_the_journal_is_further_than_its_mark(make: Make, marked: Path) -> None:
    journal = Journal(marked)
    journal.append([make(6), make(7), make(8), make(2, camera="side")])
    journal.close()
    again = Journal(marked)
    assert again.skip_lost("boot") == []
    assert again.last_seqs() == {"top": 8, "side": 2}
    again.close()


def test_no_number_is_given_when_what_was_lost_cannot_be_recorded(
    marked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise JournalError("no room")

    delete(marked)
    journal = Journal(marked)
    monkeypatch.setattr("inspector.journal.writer.write_mark", refuse)
    with pytest.raises(JournalError, match="no room"):
        journal.skip_lost("boot")
    journal.close()


def test_event_of_lost_results_says_who_accepted_an_older_copy(marked: Path) -> None:
    mark = read_mark(marked)
    assert mark is not None
    write_mark(marked, Mark(mark.head_n, mark.head_hash, mark.seqs, accepted_by="ann"))
    journal = Journal(marked)
    (event,) = journal.skip_lost("boot")
    assert event.details["reason"] == "an older copy, accepted by ann"
    journal.close()
    mark = read_mark(marked)
    assert mark is not None
    assert mark.accepted_by is None  # said once


def test_event_reads_back(marked: Path) -> None:
    journal = Journal(marked)
    (event,) = journal.skip_lost("boot")
    journal.close()
    (read,) = select_events(marked, camera="top")
    assert read == event
    assert isinstance(read, Event)
