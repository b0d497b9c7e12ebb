"""What becomes an event in the journal: who changed what a camera is judged with, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from inspector.journal.events import Event, Kind
from inspector.service.flow.judges import Judge

STATION_FILE = "station file"
"""Who made a change that came with a start or a reload: whoever may write that file, and the recipes it names."""


class Audit:
    """Makes events of one run of the station; any thread may use it, and none waits."""

    def __init__(self, boot_id: str, record: Callable[[Event], None]) -> None:
        """`record` takes an event and must not block."""
        self._boot_id = boot_id
        self._record = record

    def note(self, kind: Kind, outcome: str, who: str, camera: str | None = None, **details: Any) -> None:
        """Put on record what happened just now."""
        self._record(Event(time.time_ns(), self._boot_id, kind, camera, who, outcome, details))

    def note_switch(self, camera: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, who: str) -> None:
        """A camera is judged with something else from now on: recipes as `describe_judge` has them, None: no recipe.

        To be called before it is: it then comes on record before, or with, the first verdict it led to.
        """
        self.note(Kind.RECIPE, "switched", who, camera, old=old, new=new)

    def note_loaded(self, before: Mapping[str, Mapping[str, Any] | None], judges: Mapping[str, Judge]) -> None:
        """Compare what a start loaded with what was on record: a recipe may be edited while no station runs."""
        loaded = {camera: describe_judge(judge) for camera, judge in judges.items()}
        for camera in dict.fromkeys((*before, *loaded)):
            old, new = before.get(camera), loaded.get(camera)
            if _identify(old) != _identify(new):
                self.note_switch(camera, old, new, STATION_FILE)


def describe_judge(judge: Judge | None) -> dict[str, Any] | None:
    """A judge's recipe for the record; None where there is none."""
    if judge is None:
        return None
    return {"folder": str(judge.folder), **judge.identity, "threshold": judge.threshold}


def _identify(recipe: Mapping[str, Any] | None) -> str | None:
    """What makes a recipe another one: not its folder's name, and recipe.yaml holds the weights' checksum."""
    return None if recipe is None else str(recipe["recipe_sha256"])
