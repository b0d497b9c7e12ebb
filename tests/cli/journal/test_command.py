"""`inspector journal`: verify, export and query, on a journal or a station file."""

from __future__ import annotations

import csv
import dataclasses
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inspector.cli.journal import export as journal_export
from inspector.cli.journal.export import WIRE_KEYS
from inspector.errors import JournalError
from inspector.journal.events import Event, Kind
from inspector.journal.mark import Mark, find_mark, write_mark
from inspector.journal.writer import Closing, Journal
from inspector.types import Reason, Region, Result, Verdict, Web

Run = Callable[..., tuple[int, str]]
NOON_NS = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 10**9
HOUR_NS = 3600 * 10**9
ODD_ID = 'a "b", c\r\nd;\té№'
RESULT = Result(
    station="line1",
    boot_id="boot",
    seq=1,
    camera="top",
    frame_id="f1",
    part_id=None,
    trigger_id=None,
    verdict=Verdict.PASS,
    reason=Reason.OK,
    score=0.25,
    threshold=1.0,
    regions=(),
    captured_utc_ns=1,
    received_utc_ns=2,
    published_utc_ns=NOON_NS,
    deadline_ms=2000,
)
RESULTS = [
    RESULT,
    dataclasses.replace(
        RESULT, seq=2, frame_id=ODD_ID, part_id="p7", verdict=Verdict.FAIL, reason=Reason.DEFECT, score=2.5,
        regions=(Region((1, 2, 30, 40), 2.5, 17, defect=700),), web=Web(1, (100, 200), (120, 200)),
        latency_ms={"total": 12.5}, published_utc_ns=NOON_NS + HOUR_NS,
    ),
    dataclasses.replace(
        RESULT, seq=3, camera="side", frame_id="=1+1", part_id="-7", score=None, verdict=Verdict.ERROR,
        reason=Reason.DEADLINE, message="m\udcfc", published_utc_ns=NOON_NS + 2 * HOUR_NS, simulated=True,
    ),
]  # fmt: skip
LATE = dataclasses.replace(RESULT, verdict=Verdict.ERROR, reason=Reason.DEADLINE, message="late", score=-0.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three results; the first, top 1, was amended from PASS to ERROR DEADLINE."""
    path = tmp_path / "line1" / "journal.sqlite"
    journal = Journal(path)
    journal.append(RESULTS)
    journal.write([], [Closing(None, LATE, amends=True)])
    journal.close()
    return path


def wire(result: Result) -> dict[str, Any]:
    return json.loads(json.dumps(result.to_wire()))  # type: ignore[no-any-return]


# ---------------------------------------------------------------- verify


def test_verify_prints_counts_and_head_and_ends_with_0_when_nothing_is_wrong(run: Run, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (head,) = connection.execute("SELECT hash FROM results WHERE n = 4").fetchone()
    status, printed = run("journal", "verify", path)
    assert status == 0
    assert printed == (
        f"{path}: 4 row(s), 1 of them corrections, 0 frame(s) open camera side: 3 to 3, 0 missing"
        f" camera top: 1 to 2, 0 missing head: row 4, sha256 {head.hex()}"
        f" 0 event(s), head: event 0, sha256 {'0' * 64} no faults found"
    )


def test_verify_shows_the_mark_and_tells_a_journal_that_is_older(run: Run, path: Path) -> None:
    journal = Journal(path)
    journal.write_mark({"top": 2, "side": 3})
    journal.close()
    status, printed = run("journal", "verify", path)
    assert status == 0
    with closing(sqlite3.connect(path)) as connection:
        (head,) = connection.execute("SELECT hash FROM results WHERE n = 4").fetchone()
    assert f"mark: row 4, sha256 {head.hex()}; numbers used, side up to 3, top up to 2 no faults found" in printed
    mark = find_mark(path)
    mark.write_text(mark.read_text().replace('"head": 4', '"head": 9'))
    status, printed = run("journal", "verify", path)
    assert status == 1
    assert "FAULT it is older than its mark: its last row is 4, but 9 had been recorded" in printed


def test_verify_names_the_fault_and_ends_with_1_when_a_row_was_altered(run: Run, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE results SET verdict = 'PASS', camera = 'to\x1b[2Jp' WHERE n = 2")
        connection.commit()
    status, printed = run("journal", "verify", path)
    assert status == 1
    assert "FAULT row 2 (to\\x1b[2Jp 2): altered, or in the wrong place" in printed
    assert "no fault" not in printed


def test_verify_reads_the_journal_of_a_station_file(run: Run, path: Path, tmp_path: Path) -> None:
    station = tmp_path / "station.yaml"
    station.write_text("schema: 1\nstation: line1\nstate_dir: .\ncameras: {top: {}}\n")
    status, printed = run("journal", "verify", station)
    assert (status, printed.split(":")[0]) == (0, str(path))
    station.write_text("schema: 1\nstation: line1\nstate_dir: .\ncameras: {}\n")
    status, printed = run("journal", "verify", station)
    assert status == 78
    assert "cameras" in printed


@pytest.mark.parametrize("command", [("verify",), ("query",), ("export", "--out", "out.csv")], ids=lambda c: c[0])
def test_journal_command_ends_with_1_and_makes_no_file_when_there_is_no_journal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed = run("journal", command[0], "none.sqlite", *command[1:])
    assert status == 1
    assert "inspector: journal none.sqlite: cannot be read: unable to open" in printed
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- accept


@pytest.fixture
def station(path: Path, tmp_path: Path) -> Path:
    """A station file whose journal is older than its mark."""
    write_mark(path, Mark(9, bytes(32), {"top": 7}))
    station = tmp_path / "station.yaml"
    station.write_text("schema: 1\nstation: line1\nstate_dir: .\ncameras: {top: {}}\n")
    return station


def test_accept_lets_the_next_start_go_on_with_an_older_journal(
    run: Run, station: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    with pytest.raises(JournalError, match="older than its mark"):
        Journal(path)
    assert run("journal", "accept", station) == (0, f"{path}: accepted up to row 4; 9 had been recorded")
    journal = Journal(path)
    (event,) = journal.skip_lost("boot")
    journal.close()
    assert (event.camera, event.details["reason"]) == ("top", "an older copy, accepted by ann")
    assert run("journal", "accept", station) == (0, f"{path}: nothing to accept: the next start will use it as it is")
    _, printed = run("journal", "events", path)
    assert printed.endswith("top journal lost by station: numbers 3 to 10007; an older copy, accepted by ann")


def test_accept_is_refused_while_the_station_runs(
    run: Run, station: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspector.service.control.lock.find_daemon", lambda _: 4711)
    before = find_mark(path).read_bytes()
    status, printed = run("journal", "accept", station)
    assert status == 1
    assert printed.startswith(f"inspector: {station}: the station must be stopped, but process 4711 runs it see ")
    assert find_mark(path).read_bytes() == before


def test_damaged_journal_is_not_accepted(run: Run, station: Path, path: Path) -> None:
    path.write_bytes(b"shopping list" * 400)
    status, printed = run("journal", "accept", station)
    assert status == 1
    assert printed.startswith(f"inspector: journal {path}: cannot be accepted: file is not a database see ")


def test_there_is_nothing_to_accept_when_there_is_no_journal(run: Run, station: Path, path: Path) -> None:
    path.unlink()
    assert run("journal", "accept", station)[0] == 0


# ---------------------------------------------------------------- export


def test_columns_are_the_keys_on_the_wire() -> None:
    assert tuple(RESULT.to_wire()) == WIRE_KEYS


def test_csv_holds_every_result_as_published_when_exported(run: Run, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("of last week")
    assert run("journal", "export", path, "--out", out) == (0, f"{out}: 3 result(s)")
    with out.open(encoding="utf-8", newline="") as file:
        fail, error, late = csv.DictReader(file)
    assert tuple(fail) == WIRE_KEYS
    assert (fail["frame_id"], fail["score"], fail["margin"], fail["warn"]) == (ODD_ID, "2.5", "1.5", "False")
    (region,) = json.loads(fail["regions"])
    assert (region["xyxy"], region["peak"], region["area"], region["defect"]) == ([1, 2, 30, 40], 2.5, 17, 700)
    assert json.loads(fail["web"])["owned"] == [120, 200]
    assert json.loads(fail["latency_ms"]) == {"total": 12.5}
    assert (late["verdict"], late["reason_code"], late["message"], late["part_id"]) == ("ERROR", "11", "late", "")
    assert late["score"] == "-0.5"  # a number is no formula
    assert (error["frame_id"], error["part_id"], error["score"]) == ("'=1+1", "'-7", "")
    assert error["message"] == "m\\udcfc"
    assert [entry.name for entry in tmp_path.iterdir()] == ["line1", "out.csv"]


def test_json_lines_are_as_on_the_wire_when_exported(run: Run, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.dat"
    assert run("journal", "export", path, "--out", out, "--format", "JSONL")[0] == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines == [wire(RESULTS[1]), wire(RESULTS[2]), wire(LATE)]


def test_amended_results_and_row_numbers_are_exported_when_all_are_asked_for(
    run: Run, path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    run("journal", "export", path, "--out", out, "--all")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["n"], line["amends"], line["verdict"]) for line in lines] == [
        (1, None, "PASS"), (2, None, "FAIL"), (3, None, "ERROR"), (4, 1, "ERROR"),
    ]  # fmt: skip
    run("journal", "export", path, "--out", tmp_path / "out.csv", "--all")
    assert (tmp_path / "out.csv").read_text().startswith("n,amends,schema,station,")


def test_parquet_has_typed_columns_when_exported(
    run: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra inspector[parquet]")
    monkeypatch.setattr(journal_export, "_ROW_GROUP", 2)
    out = tmp_path / "out.parquet"
    assert run("journal", "export", path, "--out", out, "--all")[0] == 0
    table = parquet.read_table(out)
    assert tuple(table.column_names) == ("n", "amends", *WIRE_KEYS)
    rows = table.to_pylist()
    flat = {"n": 2, "amends": None, **wire(RESULTS[1])}
    assert rows[1] == flat | {name: json.dumps(flat[name]) for name in ("regions", "latency_ms", "views", "web")}
    assert [(row["n"], row["amends"], row["score"], row["frame_id"]) for row in rows] == [
        (1, None, 0.25, "f1"), (2, None, 2.5, ODD_ID), (3, None, None, "=1+1"), (4, 1, -0.5, "f1"),
    ]  # fmt: skip
    assert rows[2]["message"] == "m\\udcfc"
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["seq"], types["score"], types["warn"], types["part_id"]) == ("int64", "double", "bool", "string")


def test_export_names_the_extra_when_pyarrow_is_absent(
    run: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, printed = run("journal", "export", path, "--out", tmp_path / "out.parquet")
    assert status == 1
    assert "--format parquet: needs pyarrow, from the extra inspector[parquet]" in printed
    assert [entry.name for entry in tmp_path.iterdir()] == ["line1"]


def test_what_was_there_stays_when_an_export_breaks_off(run: Run, path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE results SET json = '{' WHERE n = 4")
        connection.commit()
    out = tmp_path / "out.csv"
    out.write_text("of last week")
    status, printed = run("journal", "export", path, "--out", out)
    assert status == 1
    assert "cannot be read: Expecting property name" in printed
    assert out.read_text() == "of last week"
    assert [entry.name for entry in tmp_path.iterdir()] == ["line1", "out.csv"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ("--out", "out.xlsx"),
            2,
            "'--out': must end in one of .csv, .jsonl, .parquet if --format is not given, got",
        ),
        (("--out", "out.csv", "--format", "xml"), 2, "'--format': must be one of csv, jsonl, parquet, got 'xml'"),
        (("--out", "none/out.csv"), 1, "--out: must be a file in a folder that exists, and not the journal, got none/"),
        (("--out", "line1/journal.sqlite", "--format", "csv"), 1, "--out: must be a file in a folder that exists, and"),
    ],
)
def test_export_is_refused_when_an_option_breaks_its_rule(
    run: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, status: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = path.read_bytes()
    ended, printed = run("journal", "export", path, *arguments)
    assert ended == status
    assert message in printed
    assert path.read_bytes() == before


# ---------------------------------------------------------------- query


def ids(printed: str) -> list[str]:
    decoder, found, rest = json.JSONDecoder(), [], printed
    while rest:
        result, end = decoder.raw_decode(rest)
        found.append(f"{result['camera']} {result['seq']} {result['verdict']}")
        rest = rest[end:].strip()
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["top 1 ERROR", "side 3 ERROR", "top 2 FAIL"]),
        (("--limit", 1), ["top 1 ERROR"]),
        (("--camera", "top"), ["top 1 ERROR", "top 2 FAIL"]),
        (("--verdict", "fail"), ["top 2 FAIL"]),
        (("--reason", "deadline"), ["top 1 ERROR", "side 3 ERROR"]),
        (("--reason", "OK"), []),  # what was amended is no result
        (("--part-id", "p7"), ["top 2 FAIL"]),
        (("--frame-id", ODD_ID), ["top 2 FAIL"]),
        (("--since", "2026-11-24T13:00"), ["side 3 ERROR", "top 2 FAIL"]),
        (("--until", "2026-11-24T13:00Z"), ["top 1 ERROR"]),
        (("--since", "2026-11-24T13:30:00+01:00", "--until", "2026-11-24 14:00"), ["top 2 FAIL"]),
        (("--until", "2026-11-24"), []),
        (("--since", "0001-01-01", "--until", "9999-12-31"), ["top 1 ERROR", "side 3 ERROR", "top 2 FAIL"]),
    ],
)
def test_query_finds_the_results_that_fit_newest_first(
    run: Run, path: Path, options: tuple[object, ...], expected: list[str]
) -> None:
    status, printed = run("journal", "query", path, "--json", *options)
    assert status == 0
    assert ids(printed.replace("no such result in the journal", "")) == expected


def test_query_prints_a_table_of_what_is_text_only(run: Run, path: Path) -> None:
    status, printed = run("journal", "query", path)
    assert status == 0
    assert '2026-11-24 13:00:00.000 │ top │ 2 │ FAIL │ DEFECT │ 2.5 │ p7 │ a "b", c\\r\\nd;\\té№ │' in printed
    assert "│ side │ 3 │ ERROR (simulated) │ DEADLINE │" in printed
    assert printed.index("│ top │ 1 │") < printed.index("│ side │ 3 │") < printed.index("│ top │ 2 │")


def test_query_says_so_and_ends_with_0_when_there_is_no_such_result(run: Run, path: Path) -> None:
    assert run("journal", "query", path, "--part-id", "p8") == (0, "no such result in the journal")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--since", "yesterday", "must be an ISO 8601 time such as 2026-11-24T06:00, got 'yesterday'"),
        ("--until", "2026-13-01", "must be an ISO 8601 time such as 2026-11-24T06:00, got '2026-13-01'"),
        ("--reason", "tired", "must be one of OK, DEFECT, OVERLOAD, "),
        ("--verdict", "maybe", "must be one of PASS, FAIL, ERROR, got 'maybe'"),
        ("--limit", "0", "greater than or equal to 1"),
    ],
)
def test_query_is_wrong_usage_when_an_option_breaks_its_rule(
    run: Run, path: Path, option: str, value: str, message: str
) -> None:
    status, printed = run("journal", "query", path, option, value)
    assert status == 2
    assert f"Invalid value for '{option}': " in printed
    assert message in printed


# ---------------------------------------------------------------- events


def recipe(recipe_id: str, threshold: float) -> dict[str, Any]:
    return {"folder": f"recipes/{recipe_id}", "recipe_id": recipe_id, "recipe_sha256": "ab" * 32,
            "model_sha256": "cd" * 32, "threshold": threshold}  # fmt: skip


@pytest.fixture
def changed(path: Path) -> Path:
    """The journal with four events, an hour apart."""
    details: list[dict[str, Any]] = [
        {"version": "1.0"},
        {"old": recipe("lens", 1.25), "new": recipe("lens", 1.5)},
        {"recipe": "/srv/[red]lens3", "reason": "torn\nin two"},
        {"changes": [{"field": "stop_timeout_s", "old": 10.0, "new": 3.0}]},
    ]
    what = [(Kind.START, "started", None), (Kind.RECIPE, "switched", "top"), (Kind.RECIPE, "refused", "side"),
            (Kind.RELOAD, "applied", None)]  # fmt: skip
    journal = Journal(path)
    for hour, ((kind, outcome, camera), more) in enumerate(zip(what, details, strict=True)):
        journal.write([], [], [Event(NOON_NS + hour * HOUR_NS, "boot", kind, camera, "ann", outcome, more)])
    journal.close()
    return path


def test_events_say_who_changed_what_and_when(run: Run, changed: Path) -> None:
    status, printed = run("journal", "events", changed)
    assert status == 0
    assert printed == (
        "2026-11-24 12:00:00.000 station start started by ann: 1.0 "
        "2026-11-24 13:00:00.000 top recipe switched by ann: lens (threshold 1.25, sha256 abababababab) -> "
        "lens (threshold 1.5, sha256 abababababab) "
        "2026-11-24 14:00:00.000 side recipe refused by ann: /srv/[red]lens3; torn\\nin two "
        "2026-11-24 15:00:00.000 station reload applied by ann: stop_timeout_s 10.0 -> 3.0"
    )


def test_events_are_those_of_a_camera_or_since_then_and_whole_as_json(run: Run, changed: Path) -> None:
    _, printed = run("journal", "events", changed, "--camera", "top", "--since", "2026-11-24T12:30", "--json")
    first, second = (json.loads(line) for line in printed.replace("} {", "}\n{").splitlines())
    assert (first["kind"], first["camera"], first["who"], first["boot_id"]) == ("recipe", "top", "ann", "boot")
    assert (first["at_utc_ns"], first["new"]) == (NOON_NS + HOUR_NS, recipe("lens", 1.5))
    assert (second["kind"], second["camera"]) == ("reload", None)
    assert run("journal", "events", changed, "--since", "2027-01-01") == (0, "no such event in the journal")


def test_verify_counts_events_and_names_one_that_was_altered(run: Run, changed: Path) -> None:
    status, printed = run("journal", "verify", changed)
    assert status == 0
    assert "4 event(s), head: event 4, sha256 " in printed
    with closing(sqlite3.connect(changed)) as connection:
        connection.executescript("UPDATE events SET who = 'bob' WHERE n = 2")
    status, printed = run("journal", "verify", changed)
    assert status == 1
    assert "FAULT event 2 " in printed
