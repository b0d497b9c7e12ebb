"""`make install` from a wheelhouse into a folder: what lies where, what stays, what goes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
Make = Callable[..., str]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Run one of the targets with the checkout's wheel, the destination `root`, and a person's strict umask."""
    if shutil.which("make") is None or importlib.util.find_spec("hatchling") is None:
        pytest.skip("make or hatchling is not installed")
    wheels = tmp_path_factory.mktemp("wheels")
    # Nothing is fetched: the wheel is built with the hatchling that is here, and what it needs is not installed.
    environment = os.environ | {"PIP_NO_BUILD_ISOLATION": "false", "PIP_NO_INDEX": "1"}
    given = [f"VENV={sys.prefix}", f"PYTHON={sys.executable}", f"WHEELHOUSE={wheels}", "PIP_OPTIONS=--no-deps"]

    def make(target: str, root: Path | None = None, **variables: str) -> str:
        named = [f"{name}={value}" for name, value in variables.items()]
        command = ["make", "-s", target, *given, f"DESTDIR={root or ''}", *named]
        ran = subprocess.run(
            command, cwd=REPOSITORY, env=environment, umask=0o077, check=False, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    make("wheelhouse")
    return make


def test_install_and_uninstall(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "opt" / "inspector"
    assert "systemctl enable --now inspector@STATION" in make("install", tmp_path)

    # The scripts name the folder it will be found in, so it is started by its interpreter here.
    assert (program / "bin" / "inspector").read_text().splitlines()[0].startswith("#!/opt/inspector/bin/python")
    (found,) = (program / "lib").glob("python*/site-packages")
    (found / "needs.pth").write_text(sysconfig.get_path("purelib"))
    ran = subprocess.run(
        [program / "bin" / "python", "-c", "import inspector; print(inspector.__file__)"],
        cwd=tmp_path,
        env={},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == str(found / "inspector" / "__init__.py")  # a copy, not this checkout
    assert str(tmp_path) not in "".join(
        path.read_text() for path in (program / "bin").iterdir() if path.is_file() and not path.is_symlink()
    )

    link = tmp_path / "usr/local/bin/inspector"
    assert link.readlink() == Path("/opt/inspector/bin/inspector")
    unit = tmp_path / "usr/local/lib/systemd/system/inspector@.service"
    assert unit.read_text() == (REPOSITORY / "systemd" / "inspector@.service").read_text()
    users = tmp_path / "usr/local/lib/sysusers.d/inspector.conf"
    assert users.read_text() == (REPOSITORY / "systemd" / "inspector.sysusers").read_text()
    assert {path.name for path in (program / "share/inspector").iterdir()} == {
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "configs",
        "docs",
        "drop-ins",
    }

    # What the service has to read it can, and what it must not it cannot.
    for path in (program, found / "inspector", unit, tmp_path / "etc/inspector", program / "share/inspector/README.md"):
        assert path.stat().st_mode & stat.S_IROTH, path
    assert (tmp_path / "etc/inspector/recipes").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/inspector/credentials").stat().st_mode & 0o777 == 0o700

    example = tmp_path / "etc/inspector/example.yaml"
    assert example.read_text() == (REPOSITORY / "configs" / "station.yaml").read_text()
    example.write_text("mine")
    make("install-files", tmp_path)
    assert example.read_text() == "mine"

    assert "Left where they are: /etc/inspector, /var/lib/inspector" in make("uninstall", tmp_path)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["etc/inspector/example.yaml"]
    assert not link.is_symlink()
    assert not program.exists()


def test_another_prefix_is_in_the_unit_and_a_folder_of_others_is_refused(make: Make, tmp_path: Path) -> None:
    make("install-files", tmp_path, PREFIX="/srv/inspector")
    unit = (tmp_path / "usr/local/lib/systemd/system/inspector@.service").read_text()
    assert "ExecStart=/srv/inspector/bin/inspector run /etc/inspector/%i.yaml" in unit
    (tmp_path / "usr/share").mkdir(parents=True)
    for target in ("install", "uninstall"):
        with pytest.raises(AssertionError, match="PREFIX: must be a folder of its own, got /usr"):
            make(target, tmp_path, PREFIX="/usr")
    assert (tmp_path / "usr/share").is_dir()
