"""A change somebody asked for, and how far it has come: of one camera's recipe, or of the whole station."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_NAMES = ("id", "recipe_sha256")
"""What a switch may name a preparation by: a folder's name alone does not say what was in it."""


@dataclass(frozen=True, slots=True)
class Change:
    """Camera None: the whole station's.

    Attributes:
        who: who asked for it.
        state: preparing, prepared, switched or refused; of the station preparing, applied or refused.
        ended_utc_ns: when it came to `state`; None while it is being prepared.
        recipe_sha256: of the recipe.yaml that was loaded; None before it is prepared.
        id: no other change has it, in this run or another.
    """

    camera: str | None
    recipe: Path | None
    asked_utc_ns: int
    who: str
    state: str = "preparing"
    ended_utc_ns: int | None = None
    error: str | None = None
    recipe_sha256: str | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def end(self, state: str, error: str | None = None) -> Change:
        """The same change in its final state, with the time it ended."""
        return replace(self, state=state, ended_utc_ns=time.time_ns(), error=error)

    def to_wire(self) -> dict[str, Any]:
        """The change as an object of the status message."""
        state = {"state": self.state, "error": self.error, "who": self.who}
        times = {"asked_utc_ns": self.asked_utc_ns, "ended_utc_ns": self.ended_utc_ns}
        if self.camera is None:
            return state | times
        recipe = {"recipe": str(self.recipe), "recipe_sha256": self.recipe_sha256}
        return {"camera": self.camera, "id": self.id} | recipe | state | times

    def __str__(self) -> str:
        """Which recipe, by whom, and what names it."""
        sha256 = f", recipe_sha256 {self.recipe_sha256}" if self.recipe_sha256 else ""
        return f"{self.recipe} by {self.who} (id {self.id}{sha256})"


def find_named(camera: str, last: Change | None, named: Mapping[str, Any]) -> Change:
    """What is prepared for a camera, where a request to switch names it.

    Args:
        camera: whose.
        last: what was asked for last.
        named: the request's `id`, `recipe_sha256` and `recipe`; None or absent where it gives none.

    Raises:
        ValueError: nothing is prepared, or the request names nothing, or something else.
    """
    if last is None:
        raise ValueError(f"camera: {camera} must have a prepared recipe, got none; send prepare first")
    if last.state != "prepared":
        found = f"the last one requested is {last.state}: {last}" + (f": {last.error}" if last.error else "")
        raise ValueError(f"camera: {camera} must have a prepared recipe, {found}")
    if all(named.get(key) is None for key in _NAMES):
        raise ValueError(f"id or recipe_sha256: required, to say which recipe is meant, got none; prepared is {last}")
    for key in (*_NAMES, "recipe"):
        value = named.get(key)
        if value is not None and value != getattr(last, key):
            raise ValueError(f"{key}: must be that of the prepared recipe, got {str(value)!r:.200}; prepared is {last}")
    return last
