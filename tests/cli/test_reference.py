"""The reference pages are what the code says today, and leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from inspector.cli.app import app
from inspector.cli.reference.pages import list_pages, write_pages
from inspector.config.json_schema import MODELS, build_schema
from inspector.journal.events import OUTCOMES, Kind
from inspector.reasons import MEANINGS, Reason, Verdict
from inspector.sources.registry import KINDS

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "docs" / "reference"
PAGES = list_pages(app)


def read(name: str) -> str:
    return (COMMITTED / name).read_text(encoding="utf-8")


def list_parts(name: str) -> dict[str, Any]:
    """Properties of each part of a file, by the part's name in the schema."""
    schema = build_schema(name)
    parts = {name: schema} | schema["$defs"]
    return {part: found["properties"] for part, found in parts.items() if "properties" in found}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    assert read(name) == PAGES[name](), "inspector reference docs/reference"


def test_pages_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    write_pages(app, tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(PAGES)


def test_every_page_there_is_written_from_the_code() -> None:
    assert {path.name for path in COMMITTED.iterdir()} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_page_names_no_place_of_a_machine(name: str) -> None:
    assert not re.search(r"/home/|/tmp/|/work/|/root/", read(name))


# ---------------------------------------------------------------- station.md and recipe.md


@pytest.mark.parametrize("name", MODELS)
def test_every_field_has_a_meaning(name: str) -> None:
    parts = list_parts(name)
    without = [f"{part}.{field}" for part, fields in parts.items() for field, value in fields.items()
               if not value.get("description")]  # fmt: skip
    assert without == [], "write a docstring below the field"
    assert len(parts) > 5


@pytest.mark.parametrize("name", MODELS)
def test_every_field_stands_on_its_page_as_often_as_there_are_parts_that_have_it(name: str) -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", read(f"{name}.md"), re.MULTILINE)
    assert sorted(rows) == sorted(field for fields in list_parts(name).values() for field in fields)


@pytest.mark.parametrize("name", MODELS)
def test_links_between_the_parts_lead_somewhere(name: str) -> None:
    text = read(f"{name}.md")
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
               for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)}  # fmt: skip
    links = set(re.findall(r"\]\(#([^)]*)\)", text))
    assert links
    assert links <= anchors
    assert anchors - links == {"the-file"}


def test_station_page_has_a_part_for_each_kind_of_source() -> None:
    found = re.findall(r"^## cameras\.NAME\.source: (.*)$", read("station.md"), re.MULTILINE)
    assert sorted(found) == sorted(KINDS)


@pytest.mark.parametrize(
    "row",
    [
        "| `schema` | `1` | *required* | ",
        "| `deadline_ms` | whole number (ms), at least 1 | `2000` | ",
        "| `max_age_ms` | whole number (ms), at least 1, or `deadline`, or null | `deadline` | ",
        "| `max_bytes` | size in bytes, or with a unit | `20GiB` | ",
        "| `when_full` | `block`, `drop_oldest`, `drop_newest` | `drop_oldest` | ",
        "| `tile_batch` | whole number, 1 to 1,024, or null | `null` | ",
        "| `tls` | [http.tls](#httptls), or null | `null` | ",
        "| `buffer` | [buffer](#buffer) | its defaults | ",
        "| `device` | whole number, or text | *required* | ",
    ],
)
def test_field_of_a_station_is_told_with_value_rule_unit_and_default(row: str) -> None:
    assert f"\n{row}" in read("station.md")


# ---------------------------------------------------------------- reasons.md and events.md


def test_every_reason_has_a_meaning_and_every_error_says_what_to_do() -> None:
    assert list(MEANINGS) == list(Reason)
    assert all(meaning.text for meaning in MEANINGS.values())
    assert {reason for reason, meaning in MEANINGS.items() if not meaning.fix} == {Reason.OK, Reason.DEFECT}
    by_verdict = {verdict: [r for r in Reason if MEANINGS[r].verdict is verdict] for verdict in Verdict}
    assert by_verdict[Verdict.PASS] == [Reason.OK]
    assert by_verdict[Verdict.FAIL] == [Reason.DEFECT]


def test_every_reason_stands_on_its_page_with_its_integer() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", read("reasons.md"), re.MULTILINE)
    assert rows == [(str(reason.value), reason.name) for reason in Reason]


def test_every_event_that_the_code_makes_stands_on_its_page() -> None:
    assert set(OUTCOMES) == set(Kind)
    made = {("recipe", "refused"), ("reload", "refused")}  # one call makes both
    for path in (ROOT / "inspector").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        made |= {(kind.lower(), outcome) for kind, outcome in re.findall(r'note\(Kind\.(\w+), "(\w+)"', text)}
        made |= {(kind.lower(), outcome)
                 for kind, outcome in re.findall(r'Event\(.*?Kind\.(\w+), [^,]+, [^,]+, "(\w+)"', text)}  # fmt: skip
    assert made == {(kind.value, outcome) for kind, outcomes in OUTCOMES.items() for outcome in outcomes}
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", read("events.md"), re.MULTILINE)
    assert set(rows) == made


# ---------------------------------------------------------------- cli.md


def test_every_command_stands_on_its_page_as_the_program_knows_it() -> None:
    listed = re.findall(r"^## inspector (.*)$", read("cli.md"), re.MULTILINE)
    for command in ("init", "train", "run", "import", "keys new", "keys list", "journal events", "encoder fetch"):
        assert command in listed
    assert "reference" not in listed
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize(
    "row",
    [
        "| `GOOD_DIR` | path | *required* | Folder of good frames. |",
        "| `--tile-size` | whole number, 32 to 4,096 | `256` | ",
        "| `--schedule` | `onecycle`, `constant` |  | ",
        "| `--json` | flag |  | ",
        "| `--engines/--no-engines` | flag |  | ",
        "| `--since` | `TIME` |  | ",
        "| `PATH...` | path, repeatable | *required* | ",
        "| `--verbose, -v` | flag |  | ",
    ],
)
def test_option_of_a_command_is_told_as_it_is_typed(row: str) -> None:
    assert f"\n{row}" in read("cli.md")


def test_exit_statuses_are_told() -> None:
    assert "Exit status: 0 success, 2 usage, 78 bad configuration, 130 interrupted, 1 anything else." in read("cli.md")
