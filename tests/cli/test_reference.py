"""The reference pages are what the code says today."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspector.cli.reference import PAGES, reference

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    committed = (COMMITTED / name).read_text(encoding="utf-8")
    assert committed == PAGES[name](), "inspector reference docs/reference"


def test_pages_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    reference(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(PAGES)


def test_every_page_there_is_written_from_the_code() -> None:
    assert {path.name for path in COMMITTED.glob("*.md")} == set(PAGES)
