"""What root sees and the service does not: files that the service's user cannot read, folders it cannot write."""

from __future__ import annotations

import itertools
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inspector.cli.check.finding import Finding
from inspector.config import Station

SERVICE_USER = "inspector"  # of systemd/inspector.sysusers
SERVICE_FOLDER = Path("/etc/inspector")  # where inspector@.service takes its station file from
SERVICE_STATE = Path("/var/lib/inspector")  # which systemd makes, and gives to the user
HIDDEN = frozenset(Path("/") / name for name in ("home", "root", "run/user", "tmp", "var/tmp"))
"""What the unit's ProtectHome= and PrivateTmp= show the service empty, whatever the modes."""
_PROBE = (sys.executable, "-S", "-c", "import os, sys; os.stat(sys.argv[1])")
_ANSWER_S = 5.0


def check_user(station: Station, path: Path) -> list[Finding]:
    """Whether the installed service may use what root may; nothing where another checks, or another's station."""
    folders = (path.parent.resolve(), path.resolve().parent)  # the file there may be a link
    if os.geteuid() != 0 or not any(folder.is_relative_to(SERVICE_FOLDER.resolve()) for folder in folders):
        return []
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return []
    station = _leave_out_silent(station)
    denied = list(_find_hidden(station))
    hidden = {what for what, *_ in denied}
    try:
        with _acting_as(user):
            found = [*_find_unreadable(station, path), *_find_unwritable(station)]
    except OSError as error:  # root in a container may not become another user
        problem = (
            f"cannot check what {SERVICE_USER}, the user of the service, may access: switching to it failed: {error}"
        )
        return [Finding("user", problem=problem, fix="run the check outside the container", fatal=False)]
    denied += [row for row in found if row[0] not in hidden]
    if not denied:
        return [Finding("user", f"{SERVICE_USER}, the user of the service, has all the access it needs")]
    return [
        Finding(what, problem=f"{SERVICE_USER}, the user of the service, cannot {verb} {at}", fix=fix)
        for what, verb, at, fix in denied
    ]


def _leave_out_silent(station: Station) -> Station:
    """The station without cameras whose folder is on a share that does not answer; the check of sources names those."""
    cameras = {
        name: camera
        for name, camera in station.cameras.items()
        if camera.source.folder is None or _answers(camera.source.folder)
    }
    return station.model_copy(update={"cameras": cameras})


def _answers(folder: Path) -> bool:
    """Asked by a process, which can be left behind; a thread that hangs would keep this one from acting as another."""
    probe = subprocess.Popen([*_PROBE, folder], stderr=subprocess.DEVNULL)
    try:
        probe.wait(_ANSWER_S)
    except subprocess.TimeoutExpired:
        probe.kill()
        with suppress(subprocess.TimeoutExpired):
            probe.wait(1.0)
        return False
    return True


@contextmanager
def _acting_as(user: pwd.struct_passwd) -> Iterator[None]:
    group, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
        os.setegid(user.pw_gid)
        os.seteuid(user.pw_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _find_hidden(station: Station) -> Iterator[tuple[str, str, Path, str]]:
    places = {"state_dir": station.state_dir}
    for name, camera in station.cameras.items():
        if camera.recipe is not None:
            places[f"cameras.{name}.recipe"] = camera.recipe
        if camera.source.folder is not None:
            places[f"cameras.{name}.source"] = camera.source.folder
    for what, place in places.items():
        if HIDDEN.intersection(place.resolve().parents):
            yield what, "see", place, "move it: the service cannot see home folders and temporary folders"


def _find_unreadable(station: Station, path: Path) -> Iterator[tuple[str, str, Path, str]]:
    """The first file of each field that cannot be read: (field, verb, file, what to do)."""
    http, security = station.http, station.security
    secrets = {"http.password": http.password}
    files = {"station file": path}
    if security is not None:
        secrets["security.key"] = security.key
        files["security.clients"] = security.clients
    if http.tls is not None:
        secrets["http.tls.key"] = http.tls.key
        files["http.tls.certificate"] = http.tls.certificate
    for what, reference in secrets.items():
        if reference is not None and not reference.startswith(("credential:", "env:")):
            fix = f"make it a credential (docs/line-engineer/install.md), or run chgrp {SERVICE_USER} and chmod 640"
            yield from ((what, "read", denied, fix) for denied in _first_denied(Path(reference)))
    files |= {f"cameras.{name}.recipe": camera.recipe for name, camera in station.cameras.items() if camera.recipe}
    for what, file in files.items():
        fix = f"chmod -R a+rX {file}, and make sure that the folders above it can be entered"
        yield from ((what, "read", denied, fix) for denied in _first_denied(file))
    for name, camera in station.cameras.items():
        # What is in it is judged, or answered BAD_FRAME, file by file.
        if (folder := camera.source.folder) is not None and _is_denied(folder):
            fix = (
                f"chmod a+rX {folder}, or let its group read it; and make sure that the folders above it can be entered"
            )
            yield f"cameras.{name}.source", "read", folder, fix


def _first_denied(path: Path) -> list[Path]:
    """The first file at or below `path` that is there, for root, and cannot be read; what is missing is for others.

    Nothing is opened, as a pipe would wait for its writer; links to folders below are not followed, round in a circle.
    """
    names = (Path(at, name) for at, folders, files in os.walk(path) for name in sorted(folders + files))
    return list(itertools.islice(filter(_is_denied, itertools.chain([path], names)), 1))


def _is_denied(path: Path) -> bool:
    try:
        mode = os.R_OK | os.X_OK if path.is_dir() else os.R_OK
        return path.exists() and not os.access(path, mode, effective_ids=True)
    except PermissionError:  # of a folder above it
        return True
    except OSError:
        return False


def _find_unwritable(station: Station) -> Iterator[tuple[str, str, Path, str]]:
    state_dir = station.state_dir
    fix = f"chown -R {SERVICE_USER}: {state_dir}, if it was left by a run as root"
    if state_dir != SERVICE_STATE:
        fix = f"mkdir -p {state_dir}; chown -R {SERVICE_USER}: {state_dir}; and install the drop-in state-dir.conf"
    denied = dict.fromkeys(filter(None, map(_first_unwritable, (station.folder, station.engine_cache))))
    yield from (("state_dir", "write", path, fix) for path in denied)


def _first_unwritable(folder: Path) -> Path | None:
    """The folder or what is in it; of a folder that is not there yet the one to make it in, if systemd does not."""
    try:
        if not folder.exists() and SERVICE_STATE not in folder.parents:
            folder = next(path for path in folder.parents if path.exists())
            return None if os.access(folder, os.W_OK | os.X_OK, effective_ids=True) else folder
        inside = [path for pattern in ("*", "evidence/*", "evidence/*/*") for path in sorted(folder.glob(pattern))]
        there = (path for path in (folder, *inside) if path.exists())
        return next((path for path in there if not os.access(path, os.W_OK, effective_ids=True)), None)
    except PermissionError:
        return folder
