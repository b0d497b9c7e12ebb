"""The pages on cameras: each station file on them can be loaded, and each kind of source has its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inspector.config import load_station
from inspector.sources.registry import KINDS

PAGES = sorted((Path(__file__).resolve().parents[1] / "docs/line-engineer/cameras").glob("*.md"))
OF_ALL_KINDS = {"README", "line-scan"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_station_files_on_the_page_can_be_loaded(page: Path, tmp_path: Path) -> None:
    files = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    kinds = set()
    for text in files:
        (tmp_path / "station.yaml").write_text(text, encoding="utf-8")
        kinds |= {camera.source.type for camera in load_station(tmp_path / "station.yaml").cameras.values()}
    assert files or page.stem == "README"
    assert page.stem in OF_ALL_KINDS or kinds == {page.stem}


def test_each_kind_of_source_has_its_page_and_is_on_the_first() -> None:
    first = next(page for page in PAGES if page.stem == "README").read_text(encoding="utf-8")
    assert {page.stem for page in PAGES} == {*KINDS, *OF_ALL_KINDS}
    assert set(re.findall(r"\]\(([\w-]+)\.md\)", first)) == {*KINDS, *OF_ALL_KINDS} - {"README"}
