"""Which files became frames in earlier runs. Who keeps it is no source's concern."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from inspector.types import FileVersion


class FileMemory(Protocol):
    """What is on record. A file comes there with its frame (`Frame.files`), in one write."""

    def find_versions(self, camera: str) -> Mapping[str, FileVersion]:
        """Of each file that was on record when the station started, by name."""

    def forget(self, camera: str, names: Iterable[str]) -> None:
        """These files are gone: one that comes under such a name is another. Called from the source's thread."""


class NoMemory:
    """For commands, which put nothing on record."""

    def find_versions(self, camera: str) -> Mapping[str, FileVersion]:
        """See `FileMemory`."""
        return {}

    def forget(self, camera: str, names: Iterable[str]) -> None:
        """See `FileMemory`."""


NO_MEMORY = NoMemory()
