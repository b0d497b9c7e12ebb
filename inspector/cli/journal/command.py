"""`inspector journal`: verdicts and events on record, verified, exported and searched; a copy put back, accepted."""

from __future__ import annotations

import getpass
import json
import os
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from inspector.cli.terminal.options import StationFile
from inspector.errors import InspectorError, JournalError
from inspector.logs.lines import escape
from inspector.types import Reason, Verdict

app = typer.Typer(help="Verdicts and events on record: verify, export, query, events, accept.", no_args_is_help=True)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMATS = ("csv", "jsonl", "parquet")


@app.callback()
def _group() -> None:
    """Verdicts and events on record: verify, export, query, events read beside a running daemon; accept does not."""


def _parse_time(text: str) -> int:
    """Nanoseconds UTC of an ISO 8601 time, as many as SQLite can hold."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"must be an ISO 8601 time such as 2026-11-24T06:00, got {text!r}") from error
    elapsed = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
    return max(-(2**63), min(elapsed // timedelta(microseconds=1) * 1000, 2**63 - 1))


def _parse_verdict(text: str) -> Verdict:
    try:
        return Verdict(text.upper())
    except ValueError as error:
        raise typer.BadParameter(f"must be one of {', '.join(Verdict)}, got {text!r}") from error


def _parse_reason(text: str) -> Reason:
    try:
        return Reason[text.upper()]
    except KeyError as error:
        raise typer.BadParameter(f"must be one of {', '.join(Reason.__members__)}, got {text!r}") from error


JournalFile = Annotated[
    Path, typer.Argument(metavar="JOURNAL", help="A journal, or a station file (*.yaml), whose journal is meant.")
]


@app.command()
def verify(journal: JournalFile) -> None:
    """Recompute the running hashes over all results and events and look for gaps; exits 1 when anything is wrong.

    A head's hash vouches for all rows up to it: kept elsewhere, it also shows a journal that was rewritten whole.
    """
    from inspector.journal.verification import verify as run_verification

    path = _locate(journal)
    found = run_verification(path)
    typer.echo(f"{path}: {found.rows} row(s), {found.amendments} of them amending, {found.open_frames} frame(s) open")
    for camera, seqs in found.cameras.items():
        typer.echo(f"camera {escape(camera)}: {seqs.lowest} to {seqs.highest}, {seqs.missing} missing")
    typer.echo(f"head: row {found.head_n}, sha256 {found.head_hash}")
    typer.echo(f"{found.events} event(s), head: event {found.events_head_n}, sha256 {found.events_head_hash}")
    if found.mark is not None:
        given = "".join(f", {escape(camera)} up to {seq}" for camera, seq in sorted(found.mark.seqs.items()))
        typer.echo(f"mark: row {found.mark.head_n}, sha256 {found.mark.head_hash.hex()}; numbers given{given}")
    for fault in found.faults:
        typer.echo(f"FAULT {escape(fault)}")
    if found.faults:
        raise typer.Exit(1)
    typer.echo("no fault found")


@app.command()
def accept(station: StationFile) -> None:
    """Let a stopped station go on with an older journal that was put back from a copy.

    It is refused at the start else, since results that were on record are missing from it. Numbers go on above those
    that were given before, and who accepted it is put on record.
    """
    from inspector.config import load_station
    from inspector.journal.checking import accept_journal
    from inspector.service.control.lock import find_daemon

    folder = load_station(station).folder
    if (process := find_daemon(folder)) is not None:
        raise InspectorError(f"{station}: its station must be stopped, but process {process} runs it")
    path = folder / "journal.sqlite"
    try:
        accepted = path.exists() and accept_journal(path, os.environ.get("SUDO_USER") or getpass.getuser())
    except (sqlite3.Error, OSError, JournalError) as error:
        raise InspectorError(f"journal {path}: cannot be accepted: {error}") from error
    if not accepted:
        typer.echo(f"{path}: nothing to accept: the next start takes it as it is")
    else:
        typer.echo(f"{path}: accepted up to row {accepted[0]}; {accepted[1]} were on record")


@app.command()
def export(
    journal: JournalFile,
    out: Annotated[Path, typer.Option(help="The file to write, replaced where it is there.")],
    file_format: Annotated[
        str | None, typer.Option("--format", metavar="csv|jsonl|parquet", help="By the file's suffix by default.")
    ] = None,
    with_amended: Annotated[
        bool, typer.Option("--all", help="Also results that something else was published for, and rows' numbers.")
    ] = False,
) -> None:
    """Write all results to a file, one a row; regions and latency_ms are JSON text in csv and parquet.

    Events are not in it: `events --json` gives those.

    In csv, text that starts with = + - @ gets an apostrophe before it, since a spreadsheet would run it as a formula;
    jsonl and parquet hold it as it is. Parquet needs the extra `parquet`.
    """
    from inspector.cli.journal.export import export_rows
    from inspector.journal.reader import select_rows

    path = _locate(journal)
    chosen = _choose_format(file_format, out)
    if out.is_dir() or not out.absolute().parent.is_dir() or out.resolve() == path.resolve():
        raise InspectorError(f"--out: must be a file in a folder that exists, and not the journal, got {out}")
    count = export_rows(select_rows(path, with_amended=with_amended), out, chosen, with_rows=with_amended)
    typer.echo(f"{out}: {count} result(s)", err=True)


def _choose_format(file_format: str | None, out: Path) -> str:
    chosen = out.suffix.removeprefix(".").lower() if file_format is None else file_format.lower()
    if chosen not in _FORMATS:
        hint, got = ("--out", out) if file_format is None else ("--format", file_format)
        rule = f"must end in one of .{', .'.join(_FORMATS)} where there is no --format"
        rule = rule if file_format is None else f"must be one of {', '.join(_FORMATS)}"
        raise typer.BadParameter(f"{rule}, got {str(got)!r}", param_hint=f"'{hint}'")
    return chosen


@app.command()
def query(
    journal: JournalFile,
    camera: Annotated[str | None, typer.Option(help="Of this camera.")] = None,
    verdict: Annotated[
        Verdict | None, typer.Option(parser=_parse_verdict, metavar="PASS|FAIL|ERROR", help="With this verdict.")
    ] = None,
    reason: Annotated[
        Reason | None, typer.Option(parser=_parse_reason, metavar="NAME", help="With this reason, e.g. DEADLINE.")
    ] = None,
    part_id: Annotated[str | None, typer.Option(help="On this part.")] = None,
    frame_id: Annotated[str | None, typer.Option(help="On this frame.")] = None,
    since: Annotated[
        int | None, typer.Option(parser=_parse_time, metavar="TIME", help="From then on: ISO 8601, UTC without zone.")
    ] = None,
    until: Annotated[
        int | None, typer.Option(parser=_parse_time, metavar="TIME", help="Before then: ISO 8601, UTC without zone.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show results as published, the newest first."""
    from inspector.journal.reader import Selection, select_rows

    code = None if reason is None else int(reason)
    selection = Selection(camera, verdict and verdict.value, code, part_id, frame_id, since, until)
    results = [row.wire for row in select_rows(_locate(journal), selection, newest_first=True, limit=limit)]
    if not results:
        typer.echo("no such result on record", err=as_json)
    elif as_json:
        for result in results:
            typer.echo(json.dumps(result))
    else:
        _print(results)


@app.command()
def events(
    journal: JournalFile,
    camera: Annotated[str | None, typer.Option(help="Of this camera, and of the whole station.")] = None,
    since: Annotated[
        int | None, typer.Option(parser=_parse_time, metavar="TIME", help="From then on: ISO 8601, UTC without zone.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show who switched a recipe, changed a threshold, reloaded, drained, started or stopped the station, and when.

    The oldest first, one a line. They stay when results are pruned.
    """
    from inspector.journal.events import select_events

    count = 0
    for count, event in enumerate(select_events(_locate(journal), camera=camera, since_utc_ns=since), 1):  # noqa: B007
        if as_json:
            typer.echo(json.dumps(event.to_json()))
        else:
            words = (event.camera or "station", event.kind, event.outcome, "by", event.who + _describe(event.details))
            typer.echo(escape(f"{_format_time(event.at_utc_ns)} {' '.join(words)}"))
    if not count:
        typer.echo("no such event on record", err=as_json)


def _describe(details: Mapping[str, Any]) -> str:
    """An event's details in words, as the end of its line."""
    if "new" in details:
        old, new = (_name_recipe(details.get(name)) for name in ("old", "new"))
        return f": {old} -> {new}"
    parts = [f"{change['field']} {change['old']!r} -> {change['new']!r}" for change in details.get("changes", ())]
    parts += [f"numbers {details['from_seq']} to {details['to_seq']}"] if "from_seq" in details else []
    parts += [str(details[name]) for name in ("version", "recipe", "reason") if details.get(name)]
    return f": {'; '.join(parts)}" if parts else ""


def _name_recipe(recipe: Mapping[str, Any] | None) -> str:
    if recipe is None:
        return "no recipe"
    return f"{recipe['recipe_id']} (threshold {recipe['threshold']:.6g}, sha256 {recipe['recipe_sha256'][:12]})"


def _format_time(utc_ns: int) -> str:
    return (_EPOCH + timedelta(microseconds=utc_ns // 1000)).replace(tzinfo=None).isoformat(" ", "milliseconds")


def _locate(journal: Path) -> Path:
    """The journal itself, or that of a station file."""
    if journal.suffix not in (".yaml", ".yml"):
        return journal
    from inspector.config import load_station

    station = load_station(journal)
    return station.folder / "journal.sqlite"


def _print(results: list[dict[str, Any]]) -> None:
    from rich import markup
    from rich.console import Console
    from rich.table import Column, Table

    # Whole on a narrow terminal, too: times and ids are copied from here.
    names = ("published (UTC)", "camera", "seq", "verdict", "reason", "score", "part_id", "frame_id")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for result in results:
        score = "" if result["score"] is None else f"{result['score']:.4g}"
        verdict = result["verdict"] + (" (simulated)" if result["simulated"] else "")
        texts = (result["camera"], result["seq"], verdict, result["reason"], score)
        ids = (result["part_id"] or "", result["frame_id"])
        cells = [markup.escape(escape(str(cell))) for cell in (*texts, *ids)]
        table.add_row(_format_time(result["published_utc_ns"]), *cells)
    Console().print(table)
