"""What a record looks like as text, logfmt and JSON, and that nothing in it can look like another line."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from inspector import secret as secret_module
from inspector.logs.lines import Format, LineFormatter, quote
from inspector.secret import read_secret, remember_secret

FORMATS: tuple[Format, ...] = ("text", "keyvalue", "json")
HOSTILE = (
    'x\n2026-11-27 10:00:00,000 ERROR device state RUNNING → FAULT\r\x1b[2K" level=error \x85\u2028{"level": "error"}'
)
"""A frame's id from the network: every character that some reader takes for the end of a line or of a value."""


def make_record(
    message: str = "it broke", *args: Any, level: int = logging.WARNING, **fields: Any
) -> logging.LogRecord:
    record = logging.getLogger("inspector.service.flow.ingest").makeRecord(
        "inspector.service.flow.ingest", level, "file.py", 1, message, args, None, extra=fields
    )
    record.created, record.msecs, record.threadName = 1_700_000_000.25, 250.0, "ingest-zmq"
    return record


def add_traceback(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    try:
        raise error
    except Exception:  # noqa: BLE001
        record.exc_info = sys.exc_info()
    return record


@pytest.fixture(autouse=True)
def _no_secret_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_module, "_known", frozenset())
    monkeypatch.setenv("TZ", "UTC")


def test_line_is_text_for_people_when_nothing_is_said() -> None:
    line = LineFormatter("text", journal=False).format(make_record("camera %s: %d ms", "top", 7, camera="top"))
    assert line[10:] == line[10:20] + "0,250 WARNING ingest-zmq camera top: 7 ms"[-len(line) + 20 :]
    assert line.endswith(",250 WARNING ingest-zmq camera top: 7 ms")


def test_line_is_an_object_with_the_fields_of_the_call_when_json() -> None:
    record = make_record("frame %s", "f1", camera="top", reason="STALE", tries=3, station="forged", level_=None)
    assert json.loads(LineFormatter("json", journal=False, station="press-3").format(record)) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "thread": "ingest-zmq",
        "logger": "inspector.service.flow.ingest",
        "message": "frame f1",
        "station": "press-3",
        "camera": "top",
        "reason": "STALE",
        "tries": 3,
    }


def test_line_is_logfmt_when_keyvalue() -> None:
    record = make_record("camera out", camera="top", why='cable "A" = out', empty="", ok=True)
    assert LineFormatter("keyvalue", journal=False, station="press-3").format(record) == (
        "time=2023-11-14T22:13:20.250Z level=warning thread=ingest-zmq logger=inspector.service.flow.ingest "
        'message="camera out" station=press-3 camera=top why="cable \\"A\\" = out" empty="" ok=true'
    )


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("journal", [False, True])
def test_message_from_the_network_cannot_forge_a_line_or_a_value(style: Format, journal: bool) -> None:
    formatter = LineFormatter(style, journal=journal)
    line = formatter.format(make_record("camera top, frame %s: refused", HOSTILE, frame_id=HOSTILE))
    assert line.isprintable()  # neither an end of a line nor a terminal's control code
    assert len(line.splitlines()) == 1
    if style == "json":
        assert json.loads(line.removeprefix("<4>"))["frame_id"] == HOSTILE
    elif style == "keyvalue":
        assert read_logfmt(line.removeprefix("<4>"))["frame_id"] == HOSTILE
        assert read_logfmt(line.removeprefix("<4>"))["level"] == "warning"


def read_logfmt(line: str) -> dict[str, str]:
    """As a strict reader does: bare words, or JSON strings."""
    fields, rest = {}, line
    while rest:
        key, rest = rest.split("=", 1)
        if rest.startswith('"'):
            fields[key], end = json.JSONDecoder().raw_decode(rest)
        else:
            end = rest.find(" ") if " " in rest else len(rest)
            fields[key] = rest[:end]
        rest = rest[end:].removeprefix(" ")
    return fields


@pytest.mark.parametrize(
    ("value", "quoted"),
    [("top", "top"), ("", '""'), ("a b", '"a b"'), ("a=b", '"a=b"'), ("ä→", "ä→"), ("ä ä", '"ä ä"'), ("\\", '"\\\\"')],
)
def test_value_is_quoted_only_where_it_must_be(value: str, quoted: str) -> None:
    assert quote(value) == quoted


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (logging.DEBUG, "<7>"),
        (logging.INFO, "<6>"),
        (logging.WARNING, "<4>"),
        (logging.ERROR, "<3>"),
        (logging.CRITICAL, "<2>"),
    ],
)
def test_each_line_says_its_priority_when_the_journal_reads(style: Format, level: int, prefix: str) -> None:
    record = add_traceback(make_record(level=level), ValueError(f"bad\n{HOSTILE}"))
    lines = LineFormatter(style, journal=True).format(record).splitlines()
    assert all(line.startswith(prefix) for line in lines)
    assert len(lines) > 3 if style == "text" else len(lines) == 1
    # The journal has a time of its own.
    assert ("2023-" in lines[0]) is (style == "json")


def test_traceback_is_one_field_when_json_and_indented_lines_when_text() -> None:
    record = add_traceback(make_record(), ValueError("bad\nsecond line"))
    text = LineFormatter("text", journal=False).format(record).splitlines()
    assert text[1] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in text[1:])
    exception = json.loads(LineFormatter("json", journal=False).format(record))["exception"]
    assert exception.startswith("Traceback (most recent call last):\n")
    assert exception.endswith("ValueError: bad\nsecond line")


@pytest.mark.parametrize("style", FORMATS)
def test_line_stays_short_enough_for_the_journal_when_all_is_long(style: Format) -> None:
    record = add_traceback(make_record("€" * 100_000, frame_id="€" * 100_000), ValueError("€" * 100_000))
    assert max(len(line.encode()) for line in LineFormatter(style, journal=True).format(record).split("\n")) < 48 * 1024


@pytest.mark.parametrize("style", FORMATS)
def test_secrets_never_show_wherever_they_stand(style: Format, tmp_path: Path) -> None:
    password, key = 'tr0ub4dor"&3', "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
    (tmp_path / "password").write_text(password)
    (tmp_path / "password").chmod(0o600)
    read_secret(str(tmp_path / "password"), "http.password")
    remember_secret(key)
    record = make_record("got %s and %s", password, key, level=logging.DEBUG, given=f"key {key}", where={"p": password})
    add_traceback(record, ValueError(f"{password} {key}"))
    line = LineFormatter(style, journal=False).format(record)
    for part in (password, key, "tr0ub4dor", "rq:rM"):
        assert part not in line
    assert "got *** and ***" in line


@pytest.mark.parametrize("style", FORMATS)
def test_password_in_a_url_never_shows(style: Format) -> None:
    record = make_record("camera top: %r could not be opened", "rtsp://viewer:hunter2@192.0.2.7/live", to="http://a@b/")
    line = LineFormatter(style, journal=False).format(record)
    assert "rtsp://***@192.0.2.7/live" in line
    assert "hunter2" not in line
    assert "http://a@" not in line
