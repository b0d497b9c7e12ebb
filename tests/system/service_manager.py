"""A real systemd, process 1 of namespaces of its own, that runs the unit as shipped.

The program is in /opt/inspector there, as the unit names it; /etc is a copy, and /opt, /run, /var/lib and /var/log are
empty but for the folder that is /var/lib/inspector. All of it goes when systemd ends. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_TARGETS = ("basic", "multi-user", "network-online", "shutdown", "sockets", "sysinit", "time-sync")
_JOURNAL = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")
"""All the units there are, beside the station's: those it refers to, and the journal."""

_INIT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$SCRATCH"
cp -a /etc "$SCRATCH/etc"
mount --bind "$SCRATCH/etc" /etc
for folder in /opt /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs $folder; done
mkdir /var/lib/inspector
mount --bind "$STATE" /var/lib/inspector
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup

mkdir -p /opt/inspector/bin /opt/inspector/python /opt/inspector/packages /opt/inspector/repository
mount --bind "$PYTHON" /opt/inspector/python
mount --bind "$PACKAGES" /opt/inspector/packages
mount --bind "$REPOSITORY" /opt/inspector/repository
cat > /opt/inspector/bin/python <<END
#!/bin/sh
export LD_LIBRARY_PATH=/opt/inspector/python/lib PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=/opt/inspector/repository:/opt/inspector/packages
exec /opt/inspector/python/bin/python$VERSION "\$@"
END
cat > /opt/inspector/bin/inspector <<'END'
#!/bin/sh
exec /opt/inspector/bin/python /opt/inspector/repository/tests/system/faulty_daemon.py "$@"
END
chmod 755 /opt/inspector/bin/*

rm -rf /etc/systemd/system /etc/inspector
mkdir -p /etc/systemd/system /etc/inspector /run/units
for unit in $UNITS; do ln -s /lib/systemd/system/$unit /run/units/; done
printf '[Unit]\nDescription=nothing but the journal\nWants=systemd-journald.service\n' > /run/units/nothing.target
printf '[Journal]\nStorage=volatile\nReadKMsg=no\n' > /etc/systemd/journald.conf
cp "$REPOSITORY/systemd/inspector@.service" /etc/systemd/system/
systemd-sysusers "$REPOSITORY/systemd/inspector.sysusers" >&2

mount --make-rshared /  # else a service's credentials are mounted where it cannot see them
export container=test SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/units SYSTEMD_LOG_TARGET=journal
exec /lib/systemd/systemd --system --unit=nothing.target --show-status=no
"""


class ServiceManager:
    """From `start` to `close`; its files are reached by `path`, its commands by `run`."""

    def __init__(self, folder: Path) -> None:
        """Make it; in `folder` it keeps what is /var/lib/inspector, and its own messages."""
        self.state = folder / "state"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def start(self, *, at_most_s: float = 300.0) -> None:
        """Start it, to be killed after so long whatever happens to us.

        Raises:
            OSError: it cannot run here, and why.
        """
        if os.geteuid() != 0:
            raise OSError("only root can start a systemd")
        for program in ("/lib/systemd/systemd", "systemd-sysusers", "unshare", "nsenter"):
            if shutil.which(program) is None:
                raise OSError(f"{program} is not installed")
        (self._folder / "scratch").mkdir()
        self.state.mkdir()
        environment = {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
            "STATE": str(self.state),
            "SCRATCH": str(self._folder / "scratch"),
            "REPOSITORY": str(REPOSITORY),
            "PYTHON": sys.base_prefix,
            "VERSION": "{}.{}".format(*sys.version_info),
            "PACKAGES": sysconfig.get_path("purelib"),
            "UNITS": " ".join((*(f"{name}.target" for name in _TARGETS), *_JOURNAL)),
        }
        unshare = ["unshare", "--cgroup", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        with (self._folder / "systemd.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["timeout", "-s", "KILL", str(at_most_s), *unshare, "sh", "-c", _INIT],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        self._wait_started()

    def _wait_started(self) -> None:
        limit = time.monotonic() + 20
        while time.monotonic() < limit:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(IndexError, OSError, ValueError):
                self._pid = _only_child(_only_child(self._process.pid))
                if self.run("systemctl", "is-system-running", check=False).strip() == "running":
                    return
            time.sleep(0.05)
        log = (self._folder / "systemd.log").read_text(errors="replace").strip()
        self.close()
        raise OSError(f"systemd does not run in namespaces here: {log[-500:] or 'no reason given'}")

    def close(self) -> None:
        """End it and all it started."""
        if self._process is not None:
            with contextlib.suppress(IndexError, OSError, ValueError):
                os.kill(_only_child(self._process.pid), signal.SIGKILL)  # unshare: its child goes with it
            self._process.kill()
            self._process.wait()

    def path(self, inside: str) -> Path:
        """Where a file of its world is in ours."""
        return Path(f"/proc/{self._pid}/root{inside}")

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in its world; what it prints.

        Raises:
            AssertionError: it failed, and `check` does not allow for that.
        """
        entered = ["nsenter", f"--target={self._pid}", "--cgroup", "--mount", "--uts", "--ipc", "--pid", *command]
        ran = subprocess.run(entered, check=False, capture_output=True, text=True, timeout=150)
        assert ran.returncode == 0 or not check, (command, ran.returncode, ran.stdout, ran.stderr)
        return ran.stdout + ran.stderr

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def wait_for(self, unit: str, name: str, value: str, timeout_s: float = 60.0) -> None:
        """Until a property has this value."""
        limit = time.monotonic() + timeout_s
        while (now := self.show(unit, name)) != value:
            assert time.monotonic() < limit, f"{unit}: {name} is {now}, not {value}: {self.log(unit)[-3000:]}"
            time.sleep(0.05)

    def log(self, unit: str) -> str:
        """What the unit and systemd say of it in the journal."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")


def _only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
