"""What root is told that the service's user may not do. As root alone: nobody else can act as another."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inspector.cli.check import user as module
from inspector.cli.check.finding import Finding
from inspector.cli.check.user import check_user
from inspector.config import Camera, Station
from inspector.sources.folder import FolderSettings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user")
THEIRS = pwd.getpwnam("nobody")


@pytest.fixture
def folder() -> Iterator[Path]:
    """All may enter it, which pytest's own folders allow to nobody."""
    path = Path(tempfile.mkdtemp(prefix="check-user-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def _service(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(module, "SERVICE_USER", "nobody")
    monkeypatch.setattr(module, "SERVICE_FOLDER", folder)
    monkeypatch.setattr(module, "SERVICE_STATE", folder / "state")
    monkeypatch.setattr(module, "HIDDEN", frozenset({folder / "home"}))


@pytest.fixture
def station(folder: Path) -> Station:
    recipe = folder / "recipe"
    recipe.mkdir()
    (folder / "station.yaml").touch(0o644)
    (folder / "clients.yaml").touch(0o644)
    (folder / "station.key").touch(0o640)
    os.chown(folder / "station.key", 0, THEIRS.pw_gid)
    for name in ("recipe.yaml", "weights.safetensors"):
        (recipe / name).touch(0o644)
    return Station(
        schema=1,
        station="press",
        state_dir=folder / "state",
        security={"key": str(folder / "station.key"), "clients": folder / "clients.yaml"},
        cameras={"top": {"recipe": recipe}},
    )


def find_problems(station: Station, folder: Path) -> list[Finding]:
    return [finding for finding in check_user(station, folder / "station.yaml") if finding.problem]


def test_nothing_is_wrong_when_the_user_may_read_all_and_root_is_root_again(station: Station, folder: Path) -> None:
    before = (os.geteuid(), os.getegid(), os.getgroups())
    (found,) = check_user(station, folder / "station.yaml")
    assert (found.what, found.result) == ("user", "ok")
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@pytest.mark.parametrize(
    ("closed", "what"),
    [
        ("station.yaml", "station file"),
        ("clients.yaml", "security.clients"),
        ("recipe/weights.safetensors", "cameras.top.recipe"),
        ("recipe", "cameras.top.recipe"),
    ],
)
def test_file_or_folder_that_only_root_may_read_is_named(
    station: Station, folder: Path, closed: str, what: str
) -> None:
    (folder / closed).chmod(0o700)
    (found,) = find_problems(station, folder)
    assert (found.what, found.result) == (what, "FAIL")
    assert str(folder / closed) in str(found.problem)
    assert "cannot read" in str(found.problem)
    assert "chmod -R a+rX" in found.fix


def test_folder_of_frames_that_only_root_may_list_is_named(station: Station, folder: Path) -> None:
    frames = folder / "frames"
    camera = {"recipe": folder / "recipe", "source": {"type": "folder", "path": frames}}
    station = Station.model_validate(station.model_dump(by_alias=True) | {"cameras": {"top": camera}})
    assert not find_problems(station, folder)  # it is not there: for others
    frames.mkdir()
    assert not find_problems(station, folder)
    frames.chmod(0o700)
    (found,) = find_problems(station, folder)
    assert (found.what, found.result) == ("cameras.top.source", "FAIL")
    assert f"cannot read {frames}" in str(found.problem)


def test_what_lies_in_a_home_is_named_once_whatever_its_modes(station: Station, folder: Path) -> None:
    home = folder / "home"
    shutil.copytree(folder / "recipe", home / "lens")
    moved = station.model_copy(
        update={"cameras": {"top": station.cameras["top"].model_copy(update={"recipe": home / "lens"})}}
    )
    for mode in (0o755, 0o700):
        home.chmod(mode)
        (found,) = find_problems(moved, folder)
        assert (found.what, found.result) == ("cameras.top.recipe", "FAIL")
        assert f"cannot see {home / 'lens'}" in str(found.problem)


def test_key_of_root_is_named_and_a_credential_is_not(station: Station, folder: Path) -> None:
    os.chown(folder / "station.key", 0, 0)
    (found,) = find_problems(station, folder)
    assert (found.what, found.result) == ("security.key", "FAIL")
    security = station.security
    assert security is not None
    hidden = station.model_copy(update={"security": security.model_copy(update={"key": "credential:station-key"})})
    assert not find_problems(hidden, folder)


def test_state_that_a_run_as_root_left_is_named(station: Station, folder: Path) -> None:
    station.folder.mkdir(parents=True)
    for path in (station.state_dir, station.folder):
        os.chown(path, THEIRS.pw_uid, THEIRS.pw_gid)
    assert not find_problems(station, folder)
    (station.folder / "journal.sqlite").touch(0o644)
    (found,) = find_problems(station, folder)
    assert (found.what, found.result) == ("state_dir", "FAIL")
    assert "journal.sqlite" in str(found.problem)
    assert "cannot write" in str(found.problem)
    station.state_dir.chmod(0o700)
    os.chown(station.state_dir, 0, 0)
    found, of_engines = find_problems(station, folder)
    assert "cannot write" in str(found.problem)
    assert "engines" in str(of_engines.problem)


def test_state_dir_elsewhere_must_be_one_that_the_user_may_make_folders_in(station: Station, folder: Path) -> None:
    (folder / "disk").mkdir()
    moved = station.model_copy(update={"state_dir": folder / "disk" / "state"})
    (found,) = find_problems(moved, folder)
    assert (found.what, found.result) == ("state_dir", "FAIL")
    assert f"cannot write {folder / 'disk'}" in str(found.problem)
    assert "state-dir.conf" in found.fix
    moved.state_dir.mkdir()
    os.chown(moved.state_dir, THEIRS.pw_uid, THEIRS.pw_gid)
    assert not find_problems(moved, folder)


def test_day_of_evidence_that_a_run_as_root_left_is_named(station: Station, folder: Path) -> None:
    day = station.folder / "evidence" / "top" / "2026-01-31"
    day.mkdir(parents=True)
    for path in (station.state_dir, station.folder, day.parents[1], day.parent):
        os.chown(path, THEIRS.pw_uid, THEIRS.pw_gid)
    (found,) = find_problems(station, folder)
    assert str(day) in str(found.problem)


@pytest.mark.timeout(20)
def test_pipes_and_links_in_a_circle_do_not_hold_up_the_check(station: Station, folder: Path) -> None:
    os.mkfifo(folder / "recipe" / "pipe", 0o644)
    for name in ("one", "other"):  # two of them lead to 2^40 paths
        (folder / "recipe" / name).symlink_to(".")
    (folder / "recipe" / "nowhere").symlink_to("nothing-here")
    assert not find_problems(station, folder)


def test_station_file_that_is_a_link_is_checked(station: Station, folder: Path) -> None:
    (folder / "recipe").chmod(0o700)
    with tempfile.TemporaryDirectory() as elsewhere:
        (folder / "station.yaml").rename(Path(elsewhere) / "press.yaml")
        (folder / "station.yaml").symlink_to(Path(elsewhere) / "press.yaml")
        assert "cameras.top.recipe" in {finding.what for finding in find_problems(station, folder)}


@pytest.mark.parametrize("refused", ["setgroups", "setegid", "seteuid"])
def test_root_that_may_not_act_as_another_is_told_so_and_stays_root(
    station: Station, folder: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    before, real = (os.geteuid(), os.getegid(), os.getgroups()), getattr(os, refused)

    def refuse(whom: object) -> None:
        if whom not in before:
            raise PermissionError("Operation not permitted")
        real(whom)

    monkeypatch.setattr(os, refused, refuse)
    (found,) = check_user(station, folder / "station.yaml")
    assert (found.what, found.result) == ("user", "WARN")
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


def test_what_is_missing_is_left_to_the_other_checks(station: Station, folder: Path) -> None:
    shutil.rmtree(folder / "recipe")
    (folder / "station.key").unlink()
    assert not find_problems(station, folder)


def test_nothing_is_said_of_stations_that_no_service_runs_and_to_others_than_root(
    station: Station, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "station.yaml").chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        assert check_user(station, folder / "station.yaml") == []
    with monkeypatch.context() as patch:
        patch.setattr(module, "SERVICE_USER", "no-such-user-here")
        assert check_user(station, folder / "station.yaml") == []
    with monkeypatch.context() as patch:
        patch.setattr(module, "SERVICE_FOLDER", folder / "elsewhere")
        assert check_user(station, folder / "station.yaml") == []


def test_check_tells_it_and_exits_78(folder: Path, run: Callable[..., tuple[int, str]]) -> None:
    text = "schema: 1\nstation: press\nstate_dir: state\ncameras: {top: {recipe: recipe}}\n"
    (folder / "station.yaml").write_text(text)
    (folder / "recipe").mkdir(mode=0o700)
    status, printed = run("check", folder / "station.yaml", "--no-environment", "--json")
    assert status == 78
    assert "nobody, the user of the service, cannot read" in printed


def test_check_tells_of_a_station_file_that_the_user_cannot_read(
    folder: Path, run: Callable[..., tuple[int, str]]
) -> None:
    path = folder / "station.yaml"
    path.write_text("schema: 1\nstation: press\nstate_dir: state\ncameras: {top: {}}\n")
    path.chmod(0o600)
    status, printed = run("check", path, "--no-environment")
    assert status == 78
    assert "nobody, the user of the service, cannot read" in " ".join(printed.replace("│", " ").split())


def test_share_that_does_not_answer_is_not_asked_again(
    station: Station, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PROBE", (*module._PROBE[:3], "import time; time.sleep(60)"))
    monkeypatch.setattr(module, "_ANSWER_S", 0.1)
    asked: list[Path] = []
    monkeypatch.setattr(module, "_is_denied", asked.append)
    share = Camera(source=FolderSettings(type="folder", path=folder / "share"))
    station = station.model_copy(update={"cameras": station.cameras | {"shelf": share}})
    assert find_problems(station, folder) == []
    assert folder / "recipe" in asked
    assert folder / "share" not in asked
