"""Loads the recipes of a station while its sockets answer already."""

from __future__ import annotations

import threading
from collections.abc import Callable

from inspector.config import Station
from inspector.service.flow.judges import Judge, load_judges


class Loader(threading.Thread):
    """Loads all recipes once; a stop need not wait for it."""

    def __init__(self, station: Station, progress: Callable[[int, int], None]) -> None:
        """`progress` is called with the number of recipes that are ready and the number of all recipes."""
        super().__init__(name="loader", daemon=True)
        self._station = station
        self._progress = progress
        self._judges: dict[str, Judge] = {}
        self.failure: Exception | None = None

    def run(self) -> None:
        """Load; `take` gives what came of it, unless `failure` says why nothing did."""
        try:
            self._judges = load_judges(self._station, self._station.engine_cache, self._progress)
        except Exception as error:  # noqa: BLE001 (raised again in the main thread)
            self.failure = error
        except BaseException as error:  # noqa: BLE001 (else the station would be ready, without a recipe)
            self.failure = RuntimeError(f"loader process died: {error!r}")

    def take(self) -> dict[str, Judge]:
        """The judge of each camera, once: kept here, a recipe that is replaced later would never free its memory."""
        judges, self._judges = self._judges, {}
        return judges
