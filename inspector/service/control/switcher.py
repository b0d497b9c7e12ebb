"""The switcher: changes recipes and settings of the running station. The flow never waits for it.

A recipe is loaded and proves itself beside the one that judges; only then do they change places, between two frames.
A switch names what it puts in force: somebody else may have prepared another. Whatever fails leaves what was there.

More than 300 lines: what may follow a change, and what an unfinished one leaves, is read in one piece.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from inspector.config import RECIPE_FILE, WEIGHTS_FILE, Station
from inspector.errors import ConfigError, DeviceFaultError, RecipeError
from inspector.files import compute_sha256
from inspector.journal.events import Kind
from inspector.secret import mask_secrets
from inspector.service.control.audit import STATION_FILE, Audit, describe_judge
from inspector.service.control.change import Change, find_named
from inspector.service.control.fields import list_changes, refuse_fixed_changes
from inspector.service.flow.judges import Judge, Judges
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part

logger = logging.getLogger(__name__)

_ACTIONS = ("prepare", "switch", "status")
_MAX_PATH = 4096
_DEVICE_FAULTS = (DeviceFaultError, getattr(torch, "AcceleratorError", DeviceFaultError))  # torch 2.8 has it
"""What says nothing about the recipe: the process is poisoned."""


class Switcher(Part):
    """Prepares one change after the other; of those that wait for the same camera the last counts."""

    def __init__(
        self,
        station: Station,
        judges: Judges,
        *,
        folder: Path,
        read: Callable[[], Station],
        load: Callable[[Path, int], Judge],
        apply: Callable[[Station], None],
        audit: Audit,
        health: Health,
        metrics: Metrics,
    ) -> None:
        """Set up the thread; `start` runs it.

        Args:
            station: as it runs now.
            judges: who judges; nobody else changes them once they are loaded.
            folder: what relative paths of recipes are relative to.
            read: reads the station file anew.
            load: makes a recipe's folder a judge on one of the station's devices, or raises.
            apply: puts into force what of a station is no recipe; must not fail.
            audit: what puts changes on record.
            health, metrics: who watches.
        """
        super().__init__("switcher", health=health)
        self._station = station
        self._named = _resolve_recipes(station)
        self._places = station.places
        self._judges = judges
        self._folder = folder
        self._read = read
        self._load = load
        self._apply = apply
        self._audit = audit
        self._metrics = metrics
        self._changed = threading.Condition()  # guards all below
        self._waiting: dict[str | None, Change] = {}  # by camera; None: the station
        self._last: dict[str | None, Change] = {}
        self._prepared: dict[str, Judge] = {}
        self._refused: dict[str, tuple[str, str]] = {}  # by camera: whose switch was refused last, and what there was
        self._switched: set[str] = set()  # cameras whose recipe was switched after the last reload was asked for

    # ------------------------------------------------------------ from other threads: none of it waits

    def answer(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Answer a `recipe` request of somebody.

        Raises:
            ValueError: a field that breaks its rule, or nothing to switch to.
        """
        action, camera = request.get("action"), request.get("camera")
        if action not in _ACTIONS:
            raise ValueError(f"action: must be one of {list(_ACTIONS)}, got {action!r:.80}")
        if action == "status":
            return self.describe()
        cameras = list(self._station.cameras)
        if camera not in cameras:
            raise ValueError(f"camera: must be one of {cameras}, got {camera!r:.80}")
        if action == "prepare":
            return self.prepare(str(camera), self._resolve(request.get("recipe")), who).to_wire()
        return self.switch(str(camera), request, who).to_wire()

    def prepare(self, camera: str, recipe: Path, who: str) -> Change:
        """Have a recipe loaded for a camera; it takes the place of one that is prepared or waits to be.

        Raises:
            ValueError: too early.
        """
        if not self._judges.are_loaded:
            raise ValueError("recipe: cannot be prepared yet, the station is starting")
        return self._enter(Change(camera, recipe, time.time_ns(), who))

    def switch(self, camera: str, named: Mapping[str, Any], who: str) -> Change:
        """Make the prepared recipe the camera's: frames whose work begins from now on are judged with it.

        Args:
            camera: whose.
            named: `id` or `recipe_sha256` of what is prepared, or both; `recipe` too where it is given.
            who: for the record.

        Raises:
            ValueError: none is prepared, or another one; that stays prepared.
        """
        recipe = None if named.get("recipe") is None else self._resolve(named["recipe"])
        with self._changed:
            last = self._last.get(camera)
            try:
                prepared = find_named(camera, last, {**named, "recipe": recipe})
            except ValueError as error:
                self._note_refused_switch(camera, last, who, str(error))
                raise
            self._put_in_place({camera: self._prepared.pop(camera)}, who)
            self._switched.add(camera)
            return self._end(prepared, "switched")

    def reload(self) -> None:
        """Request a reload of the station file."""
        with self._changed:
            self._switched.clear()
        self._enter(Change(None, None, time.time_ns(), STATION_FILE))

    def stop(self) -> None:
        """Ask it to end; what it is loading just now it cannot leave, and is not used."""
        with self._changed:
            super().stop()
            self._changed.notify_all()

    def describe(self) -> dict[str, Any]:
        """For the status: which recipes are in use and whether the station file names them, and the last changes."""
        with self._changed:
            named, last = self._named, dict(self._last)
        recipes = {}
        for name, judge in self._judges:
            of_file = named.get(name) == judge.folder
            recipes[name] = judge.identity | {
                "folder": str(judge.folder),
                "from_station_file": of_file,
                "fallback": judge.detector.engine.fallback.value,
            }
        reload = last.pop(None, None)
        return {
            "recipes": recipes,
            "last_switch": {camera: change.to_wire() for camera, change in last.items()},
            "last_reload": reload.to_wire() if reload else None,
        }

    def _resolve(self, recipe: object) -> Path:
        rule = "recipe: must be a recipe folder on the station's machine"
        if not isinstance(recipe, str) or not 0 < len(recipe) <= _MAX_PATH:
            raise ValueError(f"{rule}, got {recipe!r:.80}")
        try:
            folder = (self._folder / recipe).resolve()
            if folder.is_dir():
                return folder
        except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a circle, half a surrogate
            raise ValueError(f"{rule}, got {recipe!r:.200}: {error}") from error
        raise ValueError(f"{rule}, got {recipe!r:.200} ({folder})")

    def _enter(self, change: Change) -> Change:
        with self._changed:
            before = self._last.get(change.camera)
            self._waiting[change.camera] = self._last[change.camera] = change
            if change.camera is not None:
                self._prepared.pop(change.camera, None)
                if before is not None and before.state in ("preparing", "prepared"):
                    reason = f"was {before.state} for {before.who} (id {before.id}); now {change.recipe} is"
                    recipe = str(before.recipe)
                    self._audit.note(Kind.RECIPE, "replaced", change.who, change.camera, recipe=recipe, reason=reason)
            self._changed.notify_all()
        return change

    # ------------------------------------------------------------ its own thread

    def work(self) -> None:
        """Run prepare, switch and reload requests until asked to stop."""
        # torch notes a thread's number of threads at the first look: not while the other has it turned down.
        torch.get_num_threads()
        super().work()

    def beat(self) -> None:
        """None: a recipe may take minutes, and no verdict waits for it."""

    def step(self) -> None:
        """Wait for a change and carry it out."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_done or self._waiting)
            change = None if self.is_done else self._waiting.pop(next(iter(self._waiting)))
        if change is not None:
            self._carry_out(change)

    def die(self, error: BaseException) -> None:
        """See `Part`; a fault of the device is the device's."""
        self._health.fault("device" if isinstance(error, _DEVICE_FAULTS) else self.name, str(error))

    def _carry_out(self, change: Change) -> None:
        try:
            if change.camera is None:
                self._reload(change)
            else:
                self._prepare(change, change.camera)
        except _DEVICE_FAULTS:
            raise
        except Exception as error:  # noqa: BLE001 (whatever is wrong with it, the station goes on as it is)
            what = "the station file" if change.camera is None else f"camera {change.camera}: recipe {change.recipe}"
            why = "; ".join(str(error).splitlines())
            logger.warning(
                "%s was refused, the previous one stays in use: %s", what, why, extra={"camera": change.camera}
            )
            with self._changed:
                # The status and the journal show it to more people than may know what a stream's URL holds.
                self._end(change, "refused", mask_secrets(str(error)) or type(error).__name__)

    def _prepare(self, change: Change, camera: str) -> None:
        assert change.recipe is not None  # noqa: S101 (a camera's change has one)
        logger.info("camera %s: preparing recipe %s", camera, change.recipe, extra={"camera": camera})
        judge = self._load(change.recipe, self._places[camera])
        with self._changed:
            if self._last[camera] is change:  # else another was asked for meanwhile
                self._prepared[camera] = judge
                self._end(replace(change, recipe_sha256=judge.recipe_sha256), "prepared")

    def _reload(self, change: Change) -> None:
        station = self._read()
        refuse_fixed_changes(self._station, station)
        judges, named = self._load_judges(station), _resolve_recipes(station)
        with self._changed:
            if self.is_done:
                return
            changes = list_changes(self._station, station)
            self._audit.note(Kind.RELOAD, "applied", change.who, changes=changes)
            # What somebody was told is switched stays so: they asked later, while this one was loading.
            kept = {camera: judge for camera, judge in judges.items() if camera not in self._switched}
            self._put_in_place(kept, change.who)
            self._apply(station)
            self._station, self._named = station, named
            self._end(change, "applied")

    def _load_judges(self, station: Station) -> dict[str, Judge]:
        """Of all cameras of the file: the present ones where the recipe is the same to the byte."""
        loaded: dict[tuple[Path, int], Judge] = {}
        judges = {}
        for name, camera in station.cameras.items():
            if camera.recipe is None:
                continue
            folder, place = key = camera.recipe.resolve(), self._places[name]
            present = self._judges.get(name)
            try:
                if present is not None and _is_same(present, folder):
                    loaded.setdefault(key, present)
                elif key not in loaded:
                    loaded[key] = self._load(folder, place)
            except RecipeError as error:
                raise ConfigError(f"cameras.{name}.recipe: {error}", field=("cameras", name, "recipe")) from error
            judges[name] = loaded[key]
        return judges

    # ------------------------------------------------------------ both, with the lock

    def _put_in_place(self, judges: Mapping[str, Judge], who: str) -> None:
        new = {camera: judge for camera, judge in judges.items() if self._judges.get(camera) is not judge}
        for camera, judge in new.items():
            self._audit.note_switch(camera, describe_judge(self._judges.get(camera)), describe_judge(judge), who)
        self._judges.switch(new)
        for camera, judge in new.items():
            self._metrics.recipe_switches.labels(camera, "switched").inc()
            logger.info("camera %s: judged with recipe %s from now on", camera, judge.folder, extra={"camera": camera})

    def _note_refused_switch(self, camera: str, last: Change | None, who: str, why: str) -> None:
        """Once, however often it is tried again: events are kept by number."""
        refused = (who, last.id if last else "")
        if self._refused.get(camera) != refused:
            self._refused[camera] = refused
            self._audit.note(Kind.RECIPE, "refused", who, camera, reason=f"switch: {why}")

    def _end(self, change: Change, state: str, error: str | None = None) -> Change:
        ended = change.end(state, error)
        if self._last[change.camera].id == change.id:
            self._last[change.camera] = ended
        if state == "refused":
            kind, recipe = (Kind.RECIPE, {"recipe": str(change.recipe)}) if change.camera else (Kind.RELOAD, {})
            self._audit.note(kind, state, change.who, change.camera, **recipe, reason=error)
        if change.camera is None:
            self._metrics.reloads.labels(state).inc()
        elif state == "refused":
            self._metrics.recipe_switches.labels(change.camera, state).inc()
        return ended


def _resolve_recipes(station: Station) -> dict[str, Path]:
    """Once, not in the status: a folder on a network that is gone would hold up whoever asks for it."""
    return {name: camera.recipe.resolve() for name, camera in station.cameras.items() if camera.recipe is not None}


def _is_same(judge: Judge, folder: Path) -> bool:
    path, weights = folder / RECIPE_FILE, folder / WEIGHTS_FILE
    return (
        judge.folder == folder
        and path.is_file()
        and weights.is_file()
        and compute_sha256(path) == judge.recipe_sha256
        and compute_sha256(weights) == judge.detector.recipe.weights_sha256
    )
