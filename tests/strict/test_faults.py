"""What YAML takes for something else than was meant: told at its own place, with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspector.config import Recipe, dump_recipe, load_recipe, load_station
from inspector.errors import ConfigError, RecipeError
from inspector.security.keys import load_clients

STATION = "schema: 1\nstation: press\nstate_dir: state\ncameras:\n  top:\n    source: {type: zmq}\n"
RECIPE = f"schema: 1\nrecipe_id: x\nbackbone: resnet18\nweights_sha256: {'ab' * 32}\n"


def read_faults(folder: Path, text: str) -> list[str]:
    """Faults of a station file, without its path."""
    path = folder / "station.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_station(path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("on", "true or false"), ("off", "true or false"), ("no", "true or false"), ("Yes", "true or false"),
        ("010", "a number"), ("3", "a number"), ("1.5", "a number"), ("12:30", "a number"), ("null", "nothing"),
        ("~", "nothing"), ("2026-01-31", "a date"), ("2026-13-31", "a date"),
    ],
)  # fmt: skip
def test_name_that_is_no_text_in_yaml_is_told_to_need_quotes_at_its_own_line(
    tmp_path: Path, name: str, kind: str
) -> None:
    faults = read_faults(tmp_path, f"{STATION}  {name}:\n    deadline_ms: 0\n")
    rule = f"must be text; write it in quotes: '{name}', got {name}, in YAML {kind}"
    assert faults[0] == f"7:3: cameras.{name}: {rule}"
    assert faults[-1].startswith(f"8:5: cameras.{name}.deadline_ms: ")  # what is below it is judged all the same


@pytest.mark.parametrize("name", ["'on'", '"no"', "'010'", "'3'", "'2026-01-31'", "089", "a1", "e3"])
def test_name_is_taken_as_it_stands_when_it_is_text(tmp_path: Path, name: str) -> None:
    (tmp_path / "station.yaml").write_text(f"{STATION}  {name}: {{}}\n", encoding="utf-8")
    assert list(load_station(tmp_path / "station.yaml").cameras) == ["top", name.strip("'\"")]


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("station", "off", "true or false"), ("station", "12", "a number"), ("station", "2026-01-31", "a date"),
        ("station", "null", "nothing"), ("state_dir", "5", "a number"), ("state_dir", "2026-01-31", "a date"),
    ],
)  # fmt: skip
def test_value_that_must_be_text_is_told_to_need_quotes(tmp_path: Path, key: str, value: str, kind: str) -> None:
    text = STATION.replace({"station": "station: press", "state_dir": "state_dir: state"}[key], f"{key}: {value}")
    line = 2 if key == "station" else 3
    rule = f"must be text; write it in quotes: '{value}', got {value}, in YAML {kind}"
    assert read_faults(tmp_path, text) == [f"{line}:1: {key}: {rule}"]


@pytest.mark.parametrize(
    ("line", "place", "meant", "base"),
    [
        ("stop_timeout_s: 0100", "7:1: stop_timeout_s", "100", 8),
        ("tile_batch: 0_10", "7:1: tile_batch", "10", 8),
        ("tile_batch: +010", "7:1: tile_batch", "10", 8),
        ("buffer: {max_bytes: 02000}", "7:10: buffer.max_bytes", "2000", 8),
        ("http: {port: 2:2:0}", "7:8: http.port", "7320", 60),
        ("stop_timeout_s: 1:30", "7:1: stop_timeout_s", "90", 60),
        ("stop_timeout_s: 1:30.5", "7:1: stop_timeout_s", "90.5", 60),
        ("    deadline_ms: 33:20", "7:5: cameras.top.deadline_ms", "2000", 60),
    ],
)
def test_number_is_refused_when_yaml_reads_another_than_people_do(
    tmp_path: Path, line: str, place: str, meant: str, base: int
) -> None:
    text = line.rpartition(" ")[2].rstrip("}")
    rule = f"must be a decimal number or text in quotes; write {meant} or '{text}'"
    assert read_faults(tmp_path, f"{STATION}{line}\n") == [
        f"{place}: {rule}, got {text}, in YAML a number in base {base}"
    ]


def test_number_is_taken_when_it_can_be_read_in_one_way_only(tmp_path: Path) -> None:
    more = "    deadline_ms: 007\n    expected_fps: 1e-3\nstop_timeout_s: 0010.5\ntile_batch: 0x10\n"
    more += "http: {port: 9_108}\nbuffer: {max_bytes: 0900}\nevidence: {max_bytes: 1GiB, quality: 0b101}\n"
    (tmp_path / "station.yaml").write_text(STATION + more, encoding="utf-8")
    station = load_station(tmp_path / "station.yaml")
    top = station.cameras["top"]
    assert (top.deadline_ms, top.expected_fps, station.stop_timeout_s, station.tile_batch) == (7, 0.001, 10.5, 16)
    assert (station.http.port, station.buffer.max_bytes) == (9108, 900)
    assert (station.evidence.max_bytes, station.evidence.quality) == (2**30, 5)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"{STATION}    deadline_ms: on\n", "7:5: cameras.top.deadline_ms: "),
        (f"{STATION}http: {{port: yes}}\n", "7:8: http.port: "),
        (f"{STATION}buffer: {{max_bytes: yes}}\n", "7:10: buffer.max_bytes: "),
        (STATION.replace("zmq", "opencv, device: on"), "6:28: cameras.top.source.device: "),
    ],
    ids=["whole number", "port", "bytes", "number or text"],
)
def test_true_is_never_taken_for_the_number_one(tmp_path: Path, text: str, fault: str) -> None:
    word = "yes" if "yes" in text else "on"
    assert read_faults(tmp_path, text) == [f"{fault}must be a number or text in quotes, got {word}"]


def test_true_is_taken_where_it_is_meant(tmp_path: Path) -> None:
    (tmp_path / "station.yaml").write_text(f"{STATION}    simulated: on\n", encoding="utf-8")
    assert load_station(tmp_path / "station.yaml").cameras["top"].simulated


def test_recipe_and_clients_are_read_by_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"{RECIPE}min_region_area: 010\npreprocessing: {{frame_hw: [064, yes]}}\nmetrics:\n  no: 1\n", encoding="utf-8"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path)
    fields = [
        line.removeprefix(str(tmp_path / "recipe.yaml:")).split(": ")[1] for line in str(caught.value).splitlines()
    ]
    assert fields == ["min_region_area", "preprocessing.frame_hw.0", "metrics.no", "preprocessing.frame_hw.1"]
    (tmp_path / "clients.yaml").write_text("schema: 1\nclients: []\nno: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"clients\.yaml:3:1: no: must be text; write it in quotes: 'no'"):
        load_clients(tmp_path / "clients.yaml")


def test_recipe_that_was_written_here_loads_whatever_its_names_look_like(tmp_path: Path) -> None:
    names = ["on", "010", "12:30", "2026-01-31", "~", "3", "089", "1_0:30", "0x10", "1e3", ""]
    written = Recipe.model_validate({
        "recipe_id": "010", "backbone": "on", "weights_sha256": "0" * 64,
        "sigma": 1e-5, "training": dict.fromkeys(names, 1e-9), "metrics": {"lots": names},
        "versions": {name: name for name in names},
    })  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(dump_recipe(written), encoding="utf-8")
    assert load_recipe(tmp_path) == written
