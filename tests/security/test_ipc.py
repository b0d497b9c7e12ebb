"""A path of an ipc endpoint belongs to one process, however it is spelled and whatever lies there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inspector.security import ipc

HAVE = """
import sys
from pathlib import Path
from inspector import locks
from inspector.security import ipc
path = Path(sys.argv[1])
ipc.listen(path) if sys.argv[2] == "listens" else locks.hold(ipc.find_lock(path))
print("there", flush=True)
sys.stdin.read()
"""
Have = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("i") / "s"


@pytest.fixture
def have() -> Iterator[Have]:
    """Another process that has a path: it listens there, or is about to and has the lock."""
    started: list[subprocess.Popen[str]] = []

    def run(path: Path, how: str = "listens") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HAVE, str(path), how]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("how", "words"), [("listens", "process {} is already listening there"), ("starts", "it is in use by process {}")]
)
def test_path_is_refused_while_another_process_has_it_and_free_once_it_is_killed(
    path: Path, have: Have, how: str, words: str
) -> None:
    other = have(path, how)
    with pytest.raises(OSError, match=f"{words.format(other.pid)}$"):
        ipc.listen(path)
    other.kill()
    other.wait()
    assert path.is_socket() == (how == "listens")  # what it left is no hindrance
    os.close(ipc.listen(path))


@pytest.mark.parametrize("spelled", ["relative", "through a link", "at a link", "at a hard link"])
def test_path_is_refused_however_it_is_spelled(
    path: Path, have: Have, spelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = have(path)
    before = ipc.identify(path)
    link = path.with_name("link")
    if spelled == "relative":
        monkeypatch.chdir(path.parent)
        link = Path(path.name)
    elif spelled == "through a link":
        link.symlink_to(path.parent)
        link = link / path.name
    elif spelled == "at a link":
        link.symlink_to(path)
    else:
        link.hardlink_to(path)
    with pytest.raises(OSError, match=f"process {other.pid} is already listening there"):
        ipc.listen(link)
    assert ipc.identify(path) == before


def test_path_is_refused_when_the_lock_of_who_listens_there_was_removed(path: Path, have: Have) -> None:
    other = have(path)
    ipc.find_lock(path).unlink()
    with pytest.raises(OSError, match=f"process {other.pid} is already listening there"):
        ipc.listen(path)


def test_path_is_refused_a_second_time_to_its_own_process(path: Path) -> None:
    descriptor = ipc.listen(path)
    with pytest.raises(OSError, match="another socket of this station is already listening there"):
        ipc.listen(path)
    os.close(descriptor)


def test_file_that_is_no_socket_is_kept(path: Path) -> None:
    path.write_text("a journal, say")
    with pytest.raises(OSError, match="a file that is not a socket is in the way"):
        ipc.listen(path)
    assert path.read_text() == "a journal, say"


def test_socket_of_another_kind_is_refused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(OSError, match="another process is already listening there"):
            ipc.listen(path)


def test_socket_whose_queue_is_full_is_refused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(str(path))
        other.listen(0)
        waiting.connect(str(path))
        with pytest.raises(OSError, match="another process is already listening there"):
            ipc.listen(path)


def test_folder_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/s\.lock"):
        ipc.listen(path.parent / "nowhere" / "s")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written_is_named(path: Path) -> None:
    path.parent.chmod(0o500)
    with pytest.raises(PermissionError, match=r"s\.lock"):
        ipc.listen(path)


def test_lock_of_a_path_survives_a_second_try_of_its_own_process(path: Path) -> None:
    """The kernel lets go of a lock when its process closes the file, by whichever descriptor."""
    descriptor = ipc.listen(path)
    with pytest.raises(OSError, match="another socket"):
        ipc.listen(path)
    code = "import sys; from pathlib import Path; from inspector.locks import hold; print(hold(Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(ipc.find_lock(path))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False\n"
    os.close(descriptor)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5555", "inproc://x", "ipc://@abstract"])
def test_endpoint_without_a_file_has_no_path(endpoint: str) -> None:
    assert ipc.find_path(endpoint) is None
