"""Image files of a folder, in the order of their names; once, or watching for new ones. Recordings: see `replay`."""

from __future__ import annotations

import dataclasses
import errno
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from inspector.codec import IMAGE_SUFFIXES, Pixels, decode_image
from inspector.errors import BadFrameError, NotConnectedError, SourceExhaustedError, UnsettledFileError
from inspector.files import Stamp, read_stamp, read_whole
from inspector.sources.base import Source, Unanswering, build_frame
from inspector.sources.detached import DetachedSource
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.sources.replay import ReplaySource
from inspector.sources.settings import AgeDoubt, SourceSettings
from inspector.strict.claims import Claim
from inspector.types import FileVersion, Frame, PixelFormat, TakenFile

_TICK_S = 0.01
_PAUSE_S = 1.0
"""Of the clock that stamps files: two changes within one may bear the same time."""
_DOUBT_S = 5.0
"""How long a file that looks unfinished must stay as it is before it is taken as it is."""
_UNFILLED = bytes(65_536)
"""How a file ends that was made in zeros, at its full size, and is still being filled."""
_OF_THE_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}
"""Faults of one link: gone, in a circle, or to where we may not look. Reading it will tell; the folder is there."""


_AGE_DOUBT = AgeDoubt(
    "files have no capture time: a file that is hours old is judged as a new one",
    "remove judged files, and do not put old files there",
    never_dated="files have no capture time",
)


class FolderSettings(SourceSettings):
    """Image files of a folder, by name; with `watch` also those that come later."""

    type: Literal["folder"]
    """Image files."""
    path: Annotated[Path, Field(examples=["frames/incoming"])]
    """The folder."""
    watch: Annotated[bool, Field(examples=[True])] = False
    """true: files that come later are judged too. false: those that are there, once."""
    poll_s: Annotated[float, Field(gt=0)] = 0.5
    """Time between two looks at the folder, where it is watched."""
    judge_again: bool = False
    """true: files that were judged before a restart are judged again. false: each file once; it is known by its name,
    its size and the time of its last change."""
    recorded: bool = False
    """true: the folder is one that `inspector record` wrote. Its frames come at the pace at which they were recorded,
    with their ids, as old as they were, and are marked simulated. false: image files, as fast as they are read."""

    @field_validator("recorded")
    @classmethod
    def _not_watched(cls, recorded: bool, info: ValidationInfo) -> bool:
        if recorded and info.data.get("watch"):
            raise ValueError("must be false where watch is true: a recording gets no more frames")
        return recorded

    @property
    def age_doubt(self) -> AgeDoubt | None:
        """See `SourceSettings`; a recording says how old each frame was."""
        return None if self.recorded else _AGE_DOUBT

    @property
    def folder(self) -> Path:
        return self.path

    @property
    def carries_ids(self) -> bool:
        return self.recorded

    def anchor(self, folder: Path) -> Self:
        return self.model_copy(update={"path": folder / self.path})

    def list_claims(self, camera: str, folder: Path) -> Iterator[Claim]:
        """See `SourceSettings`; by name alone: a share that is away must not hold up who asks."""
        path = os.path.normpath(folder / self.path)
        yield Claim((camera, "source", "path"), "folder", repr(str(self.path)), ("folder", path))

    def build(self, camera: str, *, simulated: bool = False, memory: FileMemory = NO_MEMORY) -> Source:
        kept = NO_MEMORY if self.judge_again else memory
        if self.recorded:
            return DetachedSource(ReplaySource(camera, self.path, memory=kept))
        options: dict[str, Any] = {"watch": self.watch, "poll_s": self.poll_s, "simulated": simulated}
        return DetachedSource(FolderSource(camera, self.path, **options, memory=kept))


@dataclasses.dataclass(frozen=True, slots=True)
class _Sight:
    """How a file looks (None: cannot be asked), since when, and whether what was read of it seemed unfinished."""

    stamp: Stamp | None
    since_s: float
    is_doubted: bool = False

    @property
    def version(self) -> FileVersion | None:
        """What tells a file written anew from the one before: not a change of its mode, nor a share mounted again."""
        return None if self.stamp is None else FileVersion(self.stamp.size, self.stamp.modified_ns)

    def is_old(self) -> bool:
        return time.monotonic() >= self.since_s + _DOUBT_S


class FolderSource(Unanswering):
    """One camera fed from files. A file that cannot be decoded is answered ERROR BAD_FRAME.

    A call takes as long as the disk or the share does, which may be for ever: see `DetachedSource`.
    """

    can_wait = True
    connect_s = 5.0

    def __init__(
        self,
        camera: str,
        path: Path,
        *,
        watch: bool,
        poll_s: float = 0.5,
        simulated: bool = False,
        memory: FileMemory = NO_MEMORY,
    ) -> None:
        self.name = camera
        self.cameras: tuple[str, ...] = (camera,)
        self._path = path
        self._watch = watch
        self._poll_s = max(poll_s, _TICK_S)
        self._next_look = 0.0
        self._simulated = simulated
        self._waiting: deque[Path] = deque()
        self._memory = memory
        self._taken: dict[str, FileVersion | None] = dict(memory.find_versions(camera))
        self._sights: dict[Path, _Sight] = {}

    def connect(self) -> None:
        """List the folder.

        Raises:
            NotConnectedError: it is not there (a network drive away).
        """
        if not os.path.isdir(self._path):  # noqa: PTH112 (raises nothing, whatever a network drive answers)
            raise NotConnectedError(f"folder {self._path} does not exist")
        if not self._waiting:
            self._list()

    def read(self, timeout_s: float) -> Frame | None:
        if not self._waiting:
            self._wait(timeout_s)
            return None
        path = self._waiting.popleft()
        name = _name(path)
        started = time.monotonic_ns()
        received_utc_ns = time.time_ns()
        pixels, pixel_format, error = None, PixelFormat.RGB8, None
        try:
            pixels, pixel_format = self._decode(path)
        except UnsettledFileError:
            self._put_off(path)
            return None
        except (OSError, MemoryError, BadFrameError) as fault:
            error = f"{name}: {fault}"
        version = self._taken[name] = self._sights[path].version
        return build_frame(
            self.name,
            name,
            pixels,
            pixel_format,
            simulated=self._simulated,
            error=error,
            files=self._note(name, version),
            received_utc_ns=received_utc_ns,
            received_monotonic_ns=started,
            decode_ms=(time.monotonic_ns() - started) / 1e6,
        )

    def close(self) -> None:
        """Do nothing: no file is held open."""

    # ------------------------------------------------------------ a file

    def _decode(self, path: Path) -> tuple[Pixels, PixelFormat]:
        """A file's pixels.

        Raises:
            OSError, BadFrameError: it has none.
            UnsettledFileError: it is being written, or may be.
        """
        sight = self._sights[path]
        may_be_unfinished = self._watch and not sight.is_old()
        try:
            content = read_whole(path, sight.stamp, may_have_holes=False)
            if may_be_unfinished and content.endswith(_UNFILLED):
                raise BadFrameError("file: ends in zeros")
            return decode_image(content)
        except UnsettledFileError:
            raise
        except BadFrameError as error:
            if not may_be_unfinished:
                raise
            raise UnsettledFileError(str(error)) from error

    def _note(self, name: str, version: FileVersion | None) -> tuple[TakenFile, ...]:
        """What the station is to remember of a file."""
        return () if version is None or self._memory is NO_MEMORY else (TakenFile(self.name, name, version),)

    def _put_off(self, path: Path) -> None:
        """Read it once it has changed, or has stayed as it is for long; one that is not watched, after the others."""
        self._sights[path] = dataclasses.replace(self._sights[path], is_doubted=True)
        if not self._watch:
            time.sleep(min(self._poll_s, _PAUSE_S))  # within one call, which must not look like a share that hangs
            self._sights[path] = _Sight(_read_stamp(path), time.monotonic())
            self._waiting.append(path)

    # ------------------------------------------------------------ the folder

    def _wait(self, timeout_s: float) -> None:
        """Look again, if it is time to within `timeout_s`."""
        if not self._watch:
            raise SourceExhaustedError(f"folder {self._path}: all {len(self._taken)} files read")
        wait_s = max(0.0, self._next_look - time.monotonic())
        time.sleep(min(wait_s, timeout_s))
        if wait_s <= timeout_s:
            self.connect()

    def _list(self) -> None:
        self._next_look = time.monotonic() + self._poll_s
        before = self._sights
        try:
            stamps = {path: _read_stamp(path) for path in sorted(self._path.iterdir()) if _is_image(path)}
        except OSError as error:
            raise NotConnectedError(f"folder {self._path}: {error}") from error
        self._sights = {path: _see(stamp, before.get(path)) for path, stamp in stamps.items()}
        self._forget({_name(path) for path in stamps})
        self._waiting.extend(path for path in stamps if self._is_ready(path, before.get(path)))

    def _forget(self, names: set[str]) -> None:
        """Forget files that are gone. Not where nothing is left: a share that is away often looks like an empty folder.

        A file written anew under its old name is another frame.
        """
        if names and (gone := self._taken.keys() - names):
            self._taken = {name: version for name, version in self._taken.items() if name in names}
            self._memory.forget(self.name, gone)

    def _is_ready(self, path: Path, before: _Sight | None) -> bool:
        """Whether it was not taken yet and, where it is watched, has settled: two looks agree."""
        sight = self._sights[path]
        name = _name(path)
        if name in self._taken and self._taken[name] == sight.version:
            return False
        return not self._watch or (sight is before and (not sight.is_doubted or sight.is_old()))


def _see(stamp: Stamp | None, before: _Sight | None) -> _Sight:
    """A file still being written changes its size or, made full-size at once, its times."""
    return before if before is not None and before.stamp == stamp else _Sight(stamp, time.monotonic())


def _read_stamp(path: Path) -> Stamp | None:
    try:
        return read_stamp(path)
    except OSError as error:
        if error.errno not in _OF_THE_FILE:
            raise
        return None


def _name(path: Path) -> str:
    """The file's name as UTF-8 text; a byte that is none is written \\xNN, since journal and wire need text."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
