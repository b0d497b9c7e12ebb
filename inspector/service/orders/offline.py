"""Cameras that people took offline: each frame is answered ERROR OFFLINE, and nothing of the camera passes.

The publisher looks and sends in one: once a request has had the same lock, no verdict made before it is on its way.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inspector.config import Camera, Station
from inspector.errors import InspectorError
from inspector.files import write_whole
from inspector.journal.events import Kind
from inspector.service.telemetry.metrics import Metrics
from inspector.types import Frame

logger = logging.getLogger(__name__)

FILE = "offline.json"
"""In the station's folder: the cameras that stay offline over a restart."""


@dataclass(frozen=True, slots=True)
class Absence:
    """Since when a camera is offline (wall clock, for people), and who asked for it."""

    since_utc_ns: int
    who: str


@dataclass(frozen=True, slots=True)
class _Return:
    """When a camera came back online, by both clocks."""

    monotonic_ns: int
    utc_ns: int


class Offline:
    """Which cameras are offline. Any thread may look; those that change it, by requests and signals, take turns.

    Attributes:
        publishing: held while a PASS or FAIL is looked at and sent.
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        path: Path,
        *,
        note: Callable[..., None],
        metrics: Metrics,
    ) -> None:
        """Take those offline that were to stay so; all of them where the file cannot be read.

        Args:
            cameras: of the station file.
            path: the file of those that stay offline over a restart.
            note: puts an event on record, as `Audit.note`.
            metrics: told which are offline.
        """
        self.publishing = threading.Lock()
        self._changing = threading.Lock()
        self._cameras = cameras
        self._path = path
        self._note = note
        self._metrics = metrics
        self._kept = _read(path, cameras)  # as in the file
        self._absent = {name: absence for name, absence in self._kept.items() if name in cameras}
        self._returns: dict[str, _Return] = {}
        for name, absence in self._absent.items():
            note(Kind.CAMERA, "kept", absence.who, name)
            logger.warning("camera %s: still offline, as %s asked for", name, absence.who, extra={"camera": name})
        self._show()

    def reconfigure(self, station: Station) -> None:
        """Put a changed station file into force."""
        self._cameras = station.cameras

    def is_offline(self, camera: str) -> bool:
        """Whether it is offline now."""
        return camera in self._absent

    def refuse(self, frame: Frame) -> str | None:
        """Why a frame may not pass: its camera is offline, or was when it was captured or received. None: it may."""
        absence = self._absent.get(frame.camera)
        if absence is not None:
            return f"camera {frame.camera} is offline: {absence.who} asked for it"
        back = self._returns.get(frame.camera)
        if back is not None and self._is_older(frame, back):
            return f"captured or received before camera {frame.camera} was back online"
        return None

    def _is_older(self, frame: Frame, back: _Return) -> bool:
        """Received before; or, as long as it may have been held on the way, captured before."""
        if (frame.began_monotonic_ns or frame.received_monotonic_ns) <= back.monotonic_ns:
            return True
        limit_ms = self._cameras[frame.camera].age_limit_ms if frame.camera in self._cameras else None
        if limit_ms is None or not frame.captured_utc_ns:
            return False
        held_ns = frame.received_monotonic_ns - back.monotonic_ns
        return held_ns <= limit_ms * 1_000_000 and frame.captured_utc_ns < back.utc_ns

    def describe(self) -> dict[str, Any]:
        """For the status: cameras that are offline, since when, who asked, and whether it is kept over a restart."""
        absent = dict(self._absent)
        return {"offline": {name: asdict(each) | {"keep": name in self._kept} for name, each in absent.items()}}

    # ------------------------------------------------------------ requests

    def answer_offline(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Take a camera, or all, offline. When this returns, no PASS or FAIL of it leaves any more.

        `keep` adds that a restart does not bring it back. Only `online` undoes it: who adjusts the lamp and asks for
        `offline` once more does not say that another's order is over.

        Raises:
            ValueError: a field that breaks its rule; or it is offline, but not kept so: the file cannot be written.
        """
        cameras, keep = self._read_cameras(request), request.get("keep", False)
        if type(keep) is not bool:
            raise ValueError(f"keep: must be true or false, got {keep!r:.80}")
        with self._changing:
            self._take_offline(cameras, who, keep=keep)
        return self.describe()

    def _take_offline(self, cameras: list[str], who: str, *, keep: bool) -> None:
        absence = Absence(time.time_ns(), who)
        with self.publishing:
            new = [name for name in cameras if name not in self._absent]
            self._absent = self._absent | dict.fromkeys(new, absence)
        self._show()
        for name in cameras:
            if name in new or (keep and name not in self._kept):
                self._note(Kind.CAMERA, "offline", who, name, keep=keep)
                logger.warning("camera %s: offline, as %s asked for", name, who, extra={"camera": name})
        try:
            self._keep(self._kept | {name: self._absent[name] for name in cameras if keep})
        except InspectorError as error:
            raise ValueError(f"offline now, but a restart may not know of it: {error}") from error

    def answer_online(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Bring a camera, or all, back online: frames captured and received from now on are judged.

        Raises:
            ValueError: a field that breaks its rule; or it stays offline: the file cannot be written.
        """
        with self._changing:
            self._bring_online(self._read_cameras(request), who)
        return self.describe()

    def _bring_online(self, cameras: list[str], who: str) -> None:
        try:
            self._keep({name: each for name, each in self._kept.items() if name not in cameras})
        except InspectorError as error:
            raise ValueError(f"still offline: a restart would bring it back offline: {error}") from error
        back = _Return(time.monotonic_ns(), time.time_ns())
        returned = [name for name in cameras if name in self._absent]
        for name in returned:
            self._note(Kind.CAMERA, "online", who, name)
            logger.warning("camera %s: back online, as %s asked for", name, who, extra={"camera": name})
        with self.publishing:
            self._returns = self._returns | dict.fromkeys(returned, back)  # before it is looked for
            self._absent = {name: each for name, each in self._absent.items() if name not in returned}
        self._show()

    def _read_cameras(self, request: Mapping[str, Any]) -> list[str]:
        names, camera = list(self._cameras), request.get("camera")
        if camera is None:
            return names
        if camera not in names:
            raise ValueError(f"camera: must be one of {names}, or left out for all, got {camera!r:.80}")
        return [str(camera)]

    def _keep(self, kept: dict[str, Absence]) -> None:
        if kept != self._kept:
            content = {"cameras": {name: asdict(absence) for name, absence in kept.items()}}
            write_whole(self._path, json.dumps(content).encode())
            _sync_folder(self._path.parent)
            self._kept = kept

    def _show(self) -> None:
        for name in self._cameras:
            self._metrics.camera_offline.labels(name).set(name in self._absent)


def _sync_folder(folder: Path) -> None:
    """Make the file's new name durable too."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InspectorError(f"{folder}: cannot be written: {error}") from error


def _read(path: Path, cameras: Mapping[str, Camera]) -> dict[str, Absence]:
    """The cameras that stay offline: all where the file is damaged, since nobody knows then which ones people meant."""
    try:
        return read_kept(path)
    except InspectorError as error:
        logger.error("all cameras are offline until somebody asks for online: %s", error)
        return dict.fromkeys(cameras, Absence(time.time_ns(), "station"))


def read_kept(path: Path) -> dict[str, Absence]:
    """The cameras that stay offline over a restart; none where there is no file.

    Raises:
        InspectorError: the file cannot be read, or is not what the station writes.
    """
    try:
        found = json.loads(path.read_bytes())
        return {
            str(name): Absence(int(each["since_utc_ns"]), str(each["who"])) for name, each in found["cameras"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InspectorError(f"{path}: cannot be read: {error!r:.200}") from error
