"""The files around the daemon: examples, unit."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from inspector.config import Station, WhenFull, load_station
from inspector.config.json_schema import build_schema

REPOSITORY = Path(__file__).resolve().parents[1]
UNIT = REPOSITORY / "systemd" / "inspector@.service"
DROP_INS = sorted((REPOSITORY / "systemd" / "drop-ins").iterdir())


def test_commented_station_file_states_the_defaults() -> None:
    station = load_station(REPOSITORY / "configs" / "station.yaml")
    minimal = type(station).model_validate(
        {"schema": 1, "station": "press-3", "cameras": {"top": {"recipe": station.cameras["top"].recipe}}}
    )
    assert station == minimal
    assert station.buffer.when_full is WhenFull.DROP_OLDEST


def test_json_schema_of_station_files_is_what_the_program_prints() -> None:
    committed = json.loads((REPOSITORY / "configs" / "station.schema.json").read_text())
    assert committed == build_schema("station"), "inspector schema station > configs/station.schema.json"


@pytest.mark.parametrize("name", ["station.yaml", "demo.yaml"])
def test_station_files_hold_by_the_json_schema(name: str) -> None:
    text = (REPOSITORY / "configs" / name).read_text()
    Draft202012Validator(build_schema("station")).validate(yaml.safe_load(text))
    if name == "station.yaml":
        assert text.startswith("# yaml-language-server: $schema=station.schema.json\n")


def test_demo_station_file_points_at_what_the_demo_keeps() -> None:
    station = load_station(REPOSITORY / "configs" / "demo.yaml")
    assert station.cameras["top"].recipe.resolve() == REPOSITORY / "demo-output" / "recipe"


@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.stem if path else "unit alone")
def test_unit_is_accepted_by_systemd(drop_in: Path | None, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / "inspector@test.service"
    copy.write_text(UNIT.read_text().replace("/opt/inspector/bin/inspector", "/bin/true"))
    if drop_in:
        (tmp_path / "inspector@.service.d").mkdir()
        shutil.copy(drop_in, tmp_path / "inspector@.service.d")
    verified = subprocess.run(["systemd-analyze", "verify", copy], check=False, capture_output=True, text=True)
    # It returns 0 on unknown keys, so what it prints is what counts.
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.stem)
def test_drop_in_is_named_on_the_install_page(drop_in: Path) -> None:
    page = (REPOSITORY / "docs" / "line-engineer" / "install.md").read_text(encoding="utf-8")
    assert f"| `{drop_in.name}` |" in page


@pytest.mark.parametrize("device", ["/dev/nvmap", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu/igpu0/channel", "char-nvgpu*"])
def test_service_may_open_the_gpu_of_a_jetson_with_its_drop_in(device: str) -> None:
    lines = (REPOSITORY / "systemd" / "drop-ins" / "jetson.conf").read_text(encoding="utf-8").splitlines()
    assert f"DeviceAllow={device} rw" in lines


def test_unit_is_sandboxed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(UNIT)]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout[-2000:] + checked.stderr


def test_unit_keeps_the_state_where_the_station_file_looks_by_default() -> None:
    default = Station.model_fields["state_dir"].default
    assert f"StateDirectory={default.relative_to('/var/lib')}" in UNIT.read_text().splitlines()


def test_scrape_configuration_of_a_station_with_tls_and_login_is_accepted_once_it_is_no_comment(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    text = (REPOSITORY / "configs" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    lines = text.splitlines()
    first = lines.index("#  - job_name: inspector-press-4")
    path = tmp_path / "prometheus.yml"
    path.write_text("\n".join(["scrape_configs:", *(line[1:] for line in lines[first : first + 8])]), encoding="utf-8")
    command = ["promtool", "check", "config", "--syntax-only", path]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "basic_auth" in path.read_text()
