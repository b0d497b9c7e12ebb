"""Files on record as frames: by camera and name, the last version of each, in one write with their frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspector.errors import JournalError
from inspector.journal import schema as journal_schema
from inspector.journal import writer as journal_writer
from inspector.journal.verification import verify
from inspector.journal.writer import Journal, OpenFrame
from inspector.types import FileVersion, TakenFile

FIRST, LATER = FileVersion(10, 2**62), FileVersion(11, 2**62 + 1)
OPEN = OpenFrame(1, "top", "a.png", None, None, 0, 1, 2000, False)


def test_files_are_known_by_camera_and_name_when_opened_again(journal: Journal, path: Path) -> None:
    journal.write([OPEN], [], files=[TakenFile("top", "a.png", FIRST), TakenFile("side", "a.png", LATER)])
    journal.write([], [], files=[TakenFile("top", "b.png", FIRST)])
    journal.close()
    again = Journal(path)
    assert again.taken_files() == {"top": {"a.png": FIRST, "b.png": FIRST}, "side": {"a.png": LATER}}
    assert [frame.frame_id for frame in again.open_frames()] == ["a.png"]
    again.close()


def test_last_word_on_a_file_counts_within_one_write(journal: Journal) -> None:
    gone = TakenFile("top", "a.png", None)
    journal.write([], [], files=[TakenFile("top", "a.png", FIRST), gone, TakenFile("top", "a.png", LATER)])
    assert journal.taken_files() == {"top": {"a.png": LATER}}
    journal.write([], [], files=[gone])
    assert journal.taken_files() == {}


def test_file_is_not_on_record_when_its_frame_is_not(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "append_events", lambda *_: (_ for _ in ()).throw(JournalError("disk")))
    with pytest.raises(JournalError, match="disk"):
        journal.write([OPEN], [], files=[TakenFile("top", "a.png", FIRST)])
    assert (journal.open_frames(), journal.taken_files()) == ([], {})


def test_journal_of_version_2_remembers_files_once_it_was_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(journal_schema, "MIGRATIONS", journal_schema.MIGRATIONS[:2])
        Journal(path).close()
    assert verify(path).faults == ()
    journal = Journal(path)
    journal.write([], [], files=[TakenFile("top", "a.png", FIRST)])
    assert journal.taken_files() == {"top": {"a.png": FIRST}}
    journal.close()
    assert verify(path).faults == ()
