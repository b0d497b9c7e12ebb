"""What is too small to be written is kept, and only as text where it would hold on to more."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
import weakref
from collections.abc import Iterator

import pytest

from inspector.logs.lines import LineFormatter
from inspector.logs.ring import Ring

LOGGER = logging.Logger("test.ring")  # with no other handler above it


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = attach(Ring(3, below=logging.WARNING))
    yield ring
    LOGGER.removeHandler(ring)


def attach(ring: Ring) -> Ring:
    ring.setFormatter(LineFormatter("text", journal=True, timed=False))
    LOGGER.addHandler(ring)
    return ring


def test_last_lines_below_the_level_are_written_oldest_first_when_asked(
    ring: Ring, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        LOGGER.debug("line %d", number)
        LOGGER.warning("written elsewhere")
    ring.dump()
    assert capsys.readouterr().err == "".join(f"<7>DEBUG MainThread line {number}\n" for number in (2, 3, 4))
    ring.dump()
    assert capsys.readouterr().err == ""


def test_dump_is_bounded_and_keeps_the_newest_when_lines_are_long(capsys: pytest.CaptureFixture[str]) -> None:
    ring = attach(Ring(1000, below=logging.INFO))
    for number in range(1000):
        LOGGER.debug("%d %s", number, "x" * 1900)
    LOGGER.removeHandler(ring)
    ring.dump()
    written = capsys.readouterr().err
    assert 200_000 < len(written) < 263_000
    assert "DEBUG MainThread 999 " in written.splitlines()[-1]


def test_dump_ends_when_lines_are_added_as_fast_as_they_are_written(
    ring: Ring, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    added = itertools.count()

    def format(record: logging.LogRecord) -> str:
        if (number := next(added)) < 100:
            LOGGER.debug("added %d", number)
        return record.getMessage()

    LOGGER.debug("first")
    monkeypatch.setattr(ring, "format", format)
    ring.dump()
    assert capsys.readouterr().err == "first\n"
    assert len(ring) == 1


def test_nothing_is_formatted_and_no_lock_taken_when_a_line_is_kept(ring: Ring) -> None:
    with ring.lock:  # as a slow stderr may hold it
        thread = threading.Thread(target=LOGGER.debug, args=("frame %d", "as text it would fail"))
        thread.start()
        thread.join(5)
        assert not thread.is_alive()


def test_what_an_exception_holds_is_let_go_when_its_line_is_kept(
    ring: Ring, capsys: pytest.CaptureFixture[str]
) -> None:
    class Pixels:
        pass

    def fail() -> weakref.ref[Pixels]:
        pixels = Pixels()
        reference = weakref.ref(pixels)
        try:
            raise ValueError("bad frame")
        except ValueError as error:
            LOGGER.debug("died", exc_info=True)
            LOGGER.info("because of %s", error)
        return reference

    reference = fail()
    gc.collect()
    assert reference() is None
    ring.dump()
    written = capsys.readouterr().err
    assert "<7>    ValueError: bad frame" in written
    assert "<6>INFO MainThread because of bad frame" in written
