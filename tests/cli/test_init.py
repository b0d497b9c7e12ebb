"""A new station: what is written can be loaded, for each kind of source, and nothing is overwritten."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from yaml import safe_load

from inspector.config import load_station
from inspector.config.json_schema import build_schema
from inspector.sources.registry import KINDS

Run = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("kind", KINDS)
def test_station_of_each_kind_of_source_can_be_loaded(run: Run, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "line"
    status, _ = run("init", folder, "--source", kind, "--camera", "side", "--station", "press-3")
    assert status == 0
    station = load_station(folder / "station.yaml")
    assert station.station == "press-3"
    assert station.state_dir == folder / "state"
    (camera,) = station.cameras.items()
    assert (camera[0], camera[1].source.type, camera[1].recipe) == ("side", kind, folder / "recipes" / "side")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir()} >= {
        "recipes", "frames/good", "frames/bad",
    }  # fmt: skip
    if camera[1].source.folder is not None:
        assert camera[1].source.folder.is_dir()


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_kind_stands_in_the_file_and_holds_when_it_is_no_comment_any_more(
    run: Run, tmp_path: Path, kind: str
) -> None:
    run("init", tmp_path / "line", "--source", kind)
    path = tmp_path / "line" / "station.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# A station")
    head, source = text.split("    source:\n")
    path.write_text(
        head + "    source:\n" + re.sub(r"^      # ", "      ", source, flags=re.MULTILINE), encoding="utf-8"
    )
    loaded = load_station(path)
    assert set(safe_load(path.read_text())["cameras"]["top"]["source"]) == set(KINDS[kind].model_fields)
    assert all(re.search(r"# \S", line) for line in source.splitlines())
    assert loaded.cameras["top"].source.type == kind
    Draft202012Validator(build_schema("station")).validate(safe_load(text))


@pytest.mark.parametrize("kind", KINDS)
def test_next_steps_are_told_with_the_paths_that_were_written(run: Run, tmp_path: Path, kind: str) -> None:
    _, printed = run("init", tmp_path / "a b", "--source", kind, "--camera", "side", "--station", "press")
    folder = f"'{tmp_path / 'a b'}'"
    assert f"inspector train {folder}/frames/good --out {folder}/recipes/side" in printed
    assert f"inspector inspect {folder}/recipes/side {folder}/frames/bad --overlays {folder}/looks" in printed
    assert f"inspector check {folder}/station.yaml" in printed
    assert printed.endswith("docs/quickstart.md")
    is_sent = kind in {"zmq", "imagezmq"}
    assert ("--camera side" in printed, "cameras.side.source" in printed) == (is_sent, not is_sent)


def test_station_has_the_folders_name_when_none_is_given(run: Run, tmp_path: Path) -> None:
    assert run("init", tmp_path / "press-4")[0] == 0
    assert load_station(tmp_path / "press-4" / "station.yaml").station == "press-4"


def test_name_that_yaml_takes_for_something_else_is_written_in_quotes(run: Run, tmp_path: Path) -> None:
    assert run("init", tmp_path / "line", "--station", "010", "--camera", "on")[0] == 0
    station = load_station(tmp_path / "line" / "station.yaml")
    assert (station.station, list(station.cameras)) == ("010", ["on"])


@pytest.mark.parametrize("name", ["station.yaml", "press-3.yml"])
def test_folder_with_a_station_file_is_refused_and_left_as_it_is(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("schema: 1\ncameras:\n  top: {}\n", encoding="utf-8")
    status, printed = run("init", tmp_path, "--station", "press-3")
    assert status == 1
    assert f"must be a folder without a station file, has {name}" in printed
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert "press-3" not in (tmp_path / name).read_text(encoding="utf-8")


def test_folder_with_other_files_is_taken(run: Run, tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text("scrape_configs: []\n", encoding="utf-8")
    assert run("init", tmp_path, "--station", "press-3")[0] == 0


def test_folder_that_cannot_be_written_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    status, printed = run("init", tmp_path / "file", "--station", "press-3")
    assert status == 1
    assert "cannot be written" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--source", "usb"),
            "'--source': must be one of zmq, imagezmq, folder, opencv, pylon, gige, genicam, got 'usb'",
        ),
        (("--camera", "a b"), "'--camera': must be 1 to 64 of A-Z a-z 0-9 _ . -, "),
        (("--station", "-x"), "'--station': must be 1 to 64 of "),
        ((), "'--station': required here: must be 1 to 64 of "),
    ],
)
def test_option_that_breaks_its_rule_is_usage_and_writes_nothing(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    status, printed = run("init", tmp_path / "a b", *arguments)
    assert status == 2
    assert message in printed
    assert list(tmp_path.iterdir()) == []


def test_help_of_train_begins_with_three_examples(run: Run) -> None:
    status, printed = run("train", "--help")
    assert status == 0
    assert printed.count("inspector train good/ --out recipes/lens") == 3
    assert printed.index("inspector train good/") < printed.index("Folder of good frames")
