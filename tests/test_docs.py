"""The documentation holds: links lead somewhere, pages are short, and what they print exists in the code."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from inspector.cli.app import EX_CONFIG, app
from inspector.cli.terminal.guide import BY_COMMAND, BY_ERROR
from inspector.config import load_station
from inspector.service.telemetry.catalogue import PREFIX, ROWS
from inspector.types import Reason, Result

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GENERATED = DOCS / "reference"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))}
WRITTEN = {name: path for name, path in PAGES.items() if GENERATED not in path.parents}

MOST_LINES, MOST_COLUMNS = 150, 120
NO_REASONS = {"NO_ANSWER", "GOOD_DIR", "DATASET_DIR", "STATE_DIR", "NAME_OF_THE_KEY"}
"""Words in capitals that are none of the station's: the client's own answer, and placeholders of commands."""
FOREIGN_PREFIXES = ("ZMQ_", "INSPECTOR_", "JOURNAL_", "CREDENTIALS_", "OPENCV_", "CAP_", "ERROR_", "ST_", "ONEDNN_")
HARD_WORDS = re.compile(r"\b(anew|mend(s|ed|ing)?|whoever|hears?|heed(s|ed)?)\b", re.IGNORECASE)

FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


@functools.cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def read_prose(path: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", read(path))


def list_blocks(*languages: str) -> Iterator[tuple[str, int, str]]:
    """Code blocks of all pages: page, line of the block, content."""
    for name, path in PAGES.items():
        for block in FENCE.finditer(read(path)):
            if block[1] in languages:
                yield name, read(path).count("\n", 0, block.start()) + 2, block[2]


@functools.cache
def list_anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as the usual viewers of Markdown make them."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", read_prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        numbered = (slug if number == 0 else f"{slug}-{number}" for number in range(100))
        anchors.add(next(name for name in numbered if name not in anchors))
    return anchors


def find_broken_links(path: Path) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", read_prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        if not found.exists() or (anchor and anchor not in list_anchors(found)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("name", PAGES)
def test_links_and_anchors_of_a_page_lead_somewhere(name: str) -> None:
    assert find_broken_links(PAGES[name]) == []


def test_every_command_and_error_names_a_page_that_exists() -> None:
    root: Any = typer.main.get_command(app)
    assert set(BY_COMMAND) == set(root.commands)
    for page in (*BY_COMMAND.values(), *BY_ERROR.values()):
        file, _, anchor = page.partition("#")
        assert (DOCS / file).is_file(), page
        assert not anchor or anchor in list_anchors(DOCS / file), page


def test_every_page_can_be_reached_from_the_contents() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        targets = re.findall(r"\]\(([^)\s#]+\.md)[^)\s]*\)", read_prose(path))
        waiting += [found for target in targets if (found := (path.parent / target).resolve()).is_file()]
    assert set(PAGES.values()) - seen == set()


def test_every_picture_is_shown_by_a_page() -> None:
    pictures = {path.name for path in (DOCS / "images").iterdir()}
    shown = {
        Path(target).name for path in PAGES.values() for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", read(path))
    }
    assert pictures == shown
    assert sum(path.stat().st_size for path in (DOCS / "images").iterdir()) < 3_000_000


@pytest.mark.parametrize("name", WRITTEN)
def test_page_is_short(name: str) -> None:
    assert len(read(WRITTEN[name]).splitlines()) <= MOST_LINES


def test_lines_of_the_readme_are_short() -> None:
    assert [line for line in read(ROOT / "README.md").splitlines() if len(line) > MOST_COLUMNS] == []


@pytest.mark.parametrize("name", WRITTEN)
def test_page_has_one_title_and_plain_words(name: str) -> None:
    prose = read_prose(WRITTEN[name])
    assert len(re.findall(r"^# ", prose, re.MULTILINE)) == 1
    assert [word[0] for word in HARD_WORDS.finditer(prose)] == []


# ------------------------------------------------------------ code blocks


STATIONS = [
    (f"{name}:{line}", text) for name, line, text in list_blocks("yaml") if not text.startswith("# recipe.yaml")
]


@pytest.mark.parametrize(("where", "text"), STATIONS, ids=[where for where, _ in STATIONS])
def test_station_file_or_part_of_one_is_loaded(where: str, text: str, tmp_path: Path) -> None:
    whole = {"schema": 1, "station": "press-3", "cameras": {"top": {}}} | yaml.safe_load(text)
    path = tmp_path / "station.yaml"
    path.write_text(text if "schema:" in text else yaml.safe_dump(whole), encoding="utf-8")
    assert load_station(path).cameras, where


def test_some_station_files_are_whole() -> None:
    assert sum("schema: 1" in text for _, text in STATIONS) >= 2


COMMANDS = [(name, line, text) for name, line, text in list_blocks("sh")]


def list_calls(text: str) -> Iterator[list[str]]:
    """The arguments of each call of `inspector` in a block of shell commands."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for at, word in enumerate(words):
            before = words[at - 1] if at else ";"
            if Path(word).name == "inspector" and (before in {";", "|", "&&", "inspector"} or "=" in before):
                yield words[at + 1 :]


def check_call(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words, "a command is missing"
        assert words[0] in command.commands, f"no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    known = {"--help"} | {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert used <= known, f"{command.name}: no option {used - known}"


def test_commands_and_options_in_shell_blocks_exist() -> None:
    faults, count = [], 0
    for name, line, text in COMMANDS:
        for words in list_calls(text):
            count += 1
            try:
                check_call(words)
            except AssertionError as error:
                faults.append(f"{name}:{line}: {' '.join(words)}: {error}")
    assert faults == []
    assert count > 40


def test_commands_named_in_the_text_exist() -> None:
    root: Any = typer.main.get_command(app)
    named = {word for path in PAGES.values() for word in re.findall(r"`inspector ([a-z]+)[ `]", read_prose(path))}
    assert len(named) > 10
    assert named <= set(root.commands)


def test_scripts_and_targets_named_in_shell_blocks_exist() -> None:
    text = "\n".join(text for _, _, text in COMMANDS)
    for script in set(re.findall(r"benchmarks/\w+\.py|configs/grafana/build\.py", text)):
        assert (ROOT / script).is_file(), script
    rules = "\n".join(read(ROOT / name) for name in ("Makefile", "systemd/install.mk"))
    for target in set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)):
        assert re.search(rf"^{target}:", rules, re.MULTILINE), target


PYTHON = [(f"{name}:{line}", text) for name, line, text in list_blocks("python")]


@pytest.mark.parametrize(("where", "text"), PYTHON, ids=[where for where, _ in PYTHON])
def test_python_compiles_and_what_it_imports_exists(where: str, text: str) -> None:
    compile(text, where, "exec")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("inspector"):
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_messages_shown_are_json_and_a_result_has_all_its_fields() -> None:
    messages = [json.loads(text) for _, _, text in list_blocks("json")]
    (result,) = [message for message in messages if "verdict" in message]
    fields = {field.name for field in dataclasses.fields(Result)}
    assert set(result) == {"schema", "reason_code", "margin"} | fields
    assert Reason[result["reason"]] == result["reason_code"]


# ------------------------------------------------------------ names


def test_exit_statuses_are_those_of_the_program() -> None:
    pattern = re.compile(r"\bexit(?:s|ed)?(?: with)?(?: status)?(?: code)?:? `?(\d+)\b", re.IGNORECASE)
    for name, path in PAGES.items():
        said = {int(number) for number in pattern.findall(read(path))}
        assert said <= {0, 1, 2, EX_CONFIG}, name


def test_metrics_named_exist() -> None:
    names = {PREFIX + row.name for row in ROWS} | {"inspector_"}
    parts = {name + suffix for name in names for suffix in ("_bucket", "_count", "_sum")}
    for name, path in PAGES.items():
        named = set(re.findall(rf"\b{PREFIX}[a-z_]*", read(path)))
        assert named <= names | parts, name


def test_reasons_named_exist() -> None:
    reasons = {reason.name for reason in Reason}
    for name, path in PAGES.items():
        text = read(path)
        after = set(re.findall(r"\b(?:ERROR|FAIL) `?([A-Z]{3}[A-Z_]*)\b", text)) - {"ERROR", "PASS", "FAIL"}
        words = re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", read_prose(path))
        joined = {word for word in words if not word.startswith(FOREIGN_PREFIXES)}
        assert (after | joined) - reasons - NO_REASONS == set(), name


def test_every_reason_is_explained_to_the_operator() -> None:
    text = read(DOCS / "operator" / "when-it-stops.md")
    for reason in Reason:
        assert re.search(rf"^\| {int(reason)} \| {reason.name} \|", text, re.MULTILINE), reason.name
