"""`inspector check`: the whole station, proved without starting it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from inspector.cli.check.finding import Finding
from inspector.cli.terminal.guide import BY_COMMAND, locate_page
from inspector.cli.terminal.options import StationFile
from inspector.errors import ConfigError
from inspector.logs.lines import escape

_COLOURS = {"ok": "green", "WARN": "yellow", "FAIL": "red"}


def check(
    station: StationFile,
    no_environment: Annotated[
        bool, typer.Option("--no-environment", help="Check the files only, not device, sockets, sources and disk.")
    ] = False,
    engines: Annotated[
        bool | None,
        typer.Option(
            "--engines/--no-engines",
            help="Build each recipe's engine and judge its golden frames. Default: only while this station's daemon "
            "does not run.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check configuration, recipes, device, sources, sockets, journal and disk without starting the station.

    Exits 78 if anything would keep the station from working. A running daemon is not disturbed: its sockets, cameras
    and device are not touched.
    """
    from inspector.config import load_station

    try:
        loaded = load_station(station)
    except ConfigError as error:
        if not as_json:
            raise
        faults = [Finding("station file", problem=line, fix="correct this line") for line in str(error).splitlines()]
        _end(None, station, faults, as_json=True)
    else:
        from inspector.cli.check.line_scan import check_line_scans
        from inspector.cli.check.parts import check_ages, check_environment, check_recipes, check_views
        from inspector.cli.check.security import check_security
        from inspector.cli.check.user import check_user

        findings = check_user(loaded, station) + check_security(loaded) + check_recipes(loaded) + check_ages(loaded)
        findings += check_views(loaded)
        findings += check_line_scans(loaded)
        if not no_environment:
            refused = {finding.what for finding in findings if finding.result == "FAIL"}
            findings += check_environment(loaded, engines=engines, refused=refused)
        _end(loaded.station, station, findings, as_json=as_json)


def _end(name: str | None, path: Path, findings: Sequence[Finding], *, as_json: bool) -> None:
    failed = sum(finding.result == "FAIL" for finding in findings)
    rows = [_describe(path, finding) for finding in findings]
    if as_json:
        typer.echo(json.dumps({"station": name, "ok": not failed, "findings": rows}, indent=2))
    else:
        _print(f"station {name}", rows)
        page = locate_page(BY_COMMAND["check"])
        typer.echo(f"{failed} of {len(rows)} failed; see {page}" if failed else "nothing failed")
    if failed:
        raise typer.Exit(78)


def _describe(path: Path, finding: Finding) -> dict[str, Any]:
    from inspector.config import locate_field

    row = {"what": finding.what, "result": finding.result}
    if finding.problem is None:
        return row | {"detail": finding.detail}
    known = "station file" not in finding.what
    at = {"at": locate_field(path, tuple(finding.what.partition(" ")[0].split(".")))} if known else {}
    return (
        row | at | {"problem": finding.problem, "fix": finding.fix, "mend": finding.fix}
    )  # mend: its name before, for one version


def _print(title: str, rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # A path that is too long for a narrow terminal goes on in the next line; it must not end in an ellipsis.
    table = Table("", "what", Column("found", overflow="fold"), title=title)
    for row in rows:
        result = row["result"]
        place = f"{row['at']}: " if "at" in row else ""
        found = row.get("detail") or f"{place}{row['problem']}\nto do: {row['fix']}"
        # Text, not markup: a file's name may hold brackets, and what moves a terminal's cursor.
        found = "\n".join(map(escape, found.split("\n")))
        table.add_row(Text(result, style=_COLOURS[result]), Text(row["what"]), Text(found))
    Console().print(table)
