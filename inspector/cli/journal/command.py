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

app = typer.Typer(
    help="The journal of verdicts and events: verify, export, query, events, accept.", no_args_is_help=True
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMATS = ("csv", "jsonl", "parquet")


@app.callback()
def _group() -> None:
    """The journal of verdicts and events. All commands but accept can be used while the daemon runs."""


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
    Path, typer.Argument(metavar="JOURNAL", help="A journal file, or a station file (*.yaml) to use its journal.")
]


@app.command()
def verify(journal: JournalFile) -> None:
    """Recompute the running hashes of all results and events and look for gaps. Exits 1 if anything is wrong.

    The hash of the head covers all rows up to it: a copy kept elsewhere also reveals a journal rewritten as a whole.
    """
    from inspector.journal.verification import verify as run_verification

    path = _locate(journal)
    found = run_verification(path)
    typer.echo(
        f"{path}: {found.rows} row(s), {found.amendments} of them corrections, {found.open_frames} frame(s) open"
    )
    for camera, seqs in found.cameras.items():
        typer.echo(f"camera {escape(camera)}: {seqs.lowest} to {seqs.highest}, {seqs.missing} missing")
    typer.echo(f"head: row {found.head_n}, sha256 {found.head_hash}")
    typer.echo(f"{found.events} event(s), head: event {found.events_head_n}, sha256 {found.events_head_hash}")
    if found.mark is not None:
        given = "".join(f", {escape(camera)} up to {seq}" for camera, seq in sorted(found.mark.seqs.items()))
        typer.echo(f"mark: row {found.mark.head_n}, sha256 {found.mark.head_hash.hex()}; numbers used{given}")
    for fault in found.faults:
        typer.echo(f"FAULT {escape(fault)}")
    if found.faults:
        raise typer.Exit(1)
    typer.echo("no faults found")


@app.command()
def accept(station: StationFile) -> None:
    """Let a stopped station continue with an older journal that was restored from a copy.

    Otherwise the start refuses it, since recorded results are missing from it. Numbers continue above the last ones
    used, and who accepted the journal is recorded.
    """
    from inspector.config import load_station
    from inspector.journal.checking import accept_journal
    from inspector.service.control.lock import find_daemon

    folder = load_station(station).folder
    if (process := find_daemon(folder)) is not None:
        raise InspectorError(f"{station}: the station must be stopped, but process {process} runs it")
    path = folder / "journal.sqlite"
    try:
        accepted = path.exists() and accept_journal(path, os.environ.get("SUDO_USER") or getpass.getuser())
    except (sqlite3.Error, OSError, JournalError) as error:
        raise InspectorError(f"journal {path}: cannot be accepted: {error}") from error
    if not accepted:
        typer.echo(f"{path}: nothing to accept: the next start will use it as it is")
    else:
        typer.echo(f"{path}: accepted up to row {accepted[0]}; {accepted[1]} had been recorded")


@app.command()
def export(
    journal: JournalFile,
    out: Annotated[Path, typer.Option(help="The file to write; an existing file is replaced.")],
    file_format: Annotated[
        str | None, typer.Option("--format", metavar="csv|jsonl|parquet", help="Default: from the file's suffix.")
    ] = None,
    with_amended: Annotated[
        bool,
        typer.Option(
            "--all", help="Also export amended rows, for which something else was published, and the row numbers."
        ),
    ] = False,
) -> None:
    """Write all results to a file, one per row; regions, latency_ms and web are JSON text in csv and parquet.

    Events are not included: use `events --json` for those.

    In csv, text that starts with = + - @ gets a leading apostrophe, since a spreadsheet would run it as a formula;
    jsonl and parquet keep it as it is. Parquet needs the extra `parquet`.
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
        rule = f"must end in one of .{', .'.join(_FORMATS)} if --format is not given"
        rule = rule if file_format is None else f"must be one of {', '.join(_FORMATS)}"
        raise typer.BadParameter(f"{rule}, got {str(got)!r}", param_hint=f"'{hint}'")
    return chosen


@app.command()
def query(
    journal: JournalFile,
    camera: Annotated[str | None, typer.Option(help="Only of this camera.")] = None,
    verdict: Annotated[
        Verdict | None, typer.Option(parser=_parse_verdict, metavar="PASS|FAIL|ERROR", help="Only with this verdict.")
    ] = None,
    reason: Annotated[
        Reason | None, typer.Option(parser=_parse_reason, metavar="NAME", help="Only with this reason, e.g. DEADLINE.")
    ] = None,
    part_id: Annotated[str | None, typer.Option(help="Only for this part.")] = None,
    frame_id: Annotated[str | None, typer.Option(help="Only for this frame.")] = None,
    since: Annotated[
        int | None,
        typer.Option(parser=_parse_time, metavar="TIME", help="From this time on: ISO 8601; UTC if no zone is given."),
    ] = None,
    until: Annotated[
        int | None,
        typer.Option(parser=_parse_time, metavar="TIME", help="Before this time: ISO 8601; UTC if no zone is given."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many, the newest ones.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Show results as they were published, newest first."""
    from inspector.journal.reader import Selection, select_rows

    code = None if reason is None else int(reason)
    selection = Selection(camera, verdict and verdict.value, code, part_id, frame_id, since, until)
    results = [row.wire for row in select_rows(_locate(journal), selection, newest_first=True, limit=limit)]
    if not results:
        typer.echo("no such result in the journal", err=as_json)
    elif as_json:
        for result in results:
            typer.echo(json.dumps(result))
    else:
        _print(results)


@app.command()
def events(
    journal: JournalFile,
    camera: Annotated[str | None, typer.Option(help="Only of this camera and of the whole station.")] = None,
    since: Annotated[
        int | None,
        typer.Option(parser=_parse_time, metavar="TIME", help="From this time on: ISO 8601; UTC if no zone is given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Show who switched a recipe, changed a threshold, reloaded, drained, started or stopped the station, and when.

    Oldest first, one per line. Events stay when results are pruned.
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
        typer.echo("no such event in the journal", err=as_json)


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
