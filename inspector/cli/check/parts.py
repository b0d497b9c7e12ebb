"""What `inspector check` looks at: recipes, ages, device, engines and sources. It disturbs no running daemon."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from inspector.cli.check.disk import check_disk
from inspector.cli.check.finding import Finding
from inspector.cli.check.sockets import check_sockets
from inspector.config import Camera, MissingDevice, Recipe, Station
from inspector.errors import ConfigError, DriverError, InspectorError
from inspector.sources.report import CameraReport
from inspector.types import Fallback

_FIX_RECIPE = "restore the folder as it was written, or make it again: inspector train, calibrate, golden"


def check_recipes(station: Station) -> list[Finding]:
    """Each camera's recipe: schema, checksums, weights that load, a threshold."""
    from inspector.engine.graphs import verify_files
    from inspector.recipe.golden import verify_golden
    from inspector.recipe.network import fill_model
    from inspector.recipe.opening import open_recipe

    findings = []
    for name, camera in station.cameras.items():
        what = f"cameras.{name}.recipe"
        if camera.recipe is None:
            findings.append(
                Finding(
                    what,
                    problem="none: every frame will be answered ERROR NO_RECIPE",
                    fix="enter the folder that inspector train wrote",
                )
            )
            continue
        try:
            opened = open_recipe(camera.recipe)
            recipe = opened.recipe
            verify_files(recipe, camera.recipe)
            verify_golden(recipe, camera.recipe)
            fill_model(recipe, opened.weights, camera.recipe)
        except ConfigError as error:
            findings.append(Finding(what, problem=str(error), fix=_FIX_RECIPE))
            continue
        threshold = recipe.threshold
        if threshold is None:
            problem = f"{camera.recipe}: threshold: required; run inspector calibrate"
            findings.append(Finding(what, problem=problem, fix=f"inspector calibrate {camera.recipe} GOOD_DIR"))
        else:
            findings.append(Finding(what, f"{recipe.recipe_id}, threshold {threshold.value:.4g} ({threshold.method})"))
            findings += _list_doubts(what, camera.recipe, recipe)
    return findings


def _list_doubts(what: str, folder: Path, recipe: Recipe) -> list[Finding]:
    """What is no fault, but leaves it unproved that a defective part fails."""
    from inspector.config import RECIPE_FILE, list_doubts, locate_field

    return [
        Finding(
            f"{what} {doubt.name}",
            problem=f"{locate_field(folder / RECIPE_FILE, doubt.field)}: {doubt.name}: {doubt.problem}",
            fix=doubt.advice,
            fatal=False,
        )
        for doubt in list_doubts(recipe)
    ]


def check_ages(station: Station) -> list[Finding]:
    """How old a frame of each camera may be when it comes, and whether its age can be known at all."""
    return [_check_age(f"cameras.{name}.max_age_ms", camera) for name, camera in station.cameras.items()]


def _check_age(what: str, camera: Camera) -> Finding:
    limit_ms, by_default = camera.age_limit_ms, camera.max_age_ms == "deadline"
    if limit_ms is None:
        problem = "null: a frame is judged no matter how long it was delayed on the way"
        return Finding(what, problem=problem, fix="remove this field: then deadline_ms is the limit", fatal=False)
    doubt = camera.source.age_doubt
    if doubt is not None and doubt.never_dated and not by_default:
        problem = f"{limit_ms}: every frame will be answered ERROR STALE: {doubt.never_dated}"
        return Finding(what, problem=problem, fix="remove this field")
    if doubt is not None and (by_default or not doubt.by_default_only):
        return Finding(what, problem=doubt.problem, fix=doubt.fix, fatal=False)
    undated = "judged" if by_default else "answered ERROR STALE"
    return Finding(what, f"{limit_ms} ms; a frame without a capture time is {undated}")


def check_views(station: Station) -> list[Finding]:
    """What each part needs for a PASS, and whether it can have one."""
    findings = []
    for name, part in station.parts.items():
        what = f"parts.{name}"
        simulated = [camera for camera in part.cameras if station.cameras[camera].simulated]
        if 0 < len(simulated) < len(part.cameras):
            problem = f"camera {', '.join(simulated)} is simulated, others are not: no part will pass at a client"
            fix = "set simulated alike for all of its cameras"
            findings.append(Finding(f"{what}.cameras", problem=problem, fix=fix, fatal=False))
        else:
            rule = f"PASS needs a PASS of {', '.join(part.cameras)} with one {part.by}"
            findings.append(Finding(what, f"{rule}, within {part.window_ms} ms of the first view"))
    return findings


def check_offline(station: Station) -> list[Finding]:
    """Cameras that stay offline over a restart, as somebody asked for."""
    from inspector.service.orders.offline import FILE, read_kept

    try:
        kept = read_kept(station.folder / FILE)
    except InspectorError as error:
        fix = "start the station, with all cameras offline, and run inspector online STATION.yaml"
        return [Finding("state_dir offline", problem=f"all cameras will be offline: {error}", fix=fix, fatal=False)]
    return [
        Finding(
            f"cameras.{name} offline",
            problem=f"{absence.who} asked for it: every frame is answered ERROR OFFLINE, over a restart too",
            fix=f"inspector online STATION.yaml --camera {name}, when nobody works there any more",
            fatal=False,
        )
        for name, absence in kept.items()
        if name in station.cameras
    ]


def check_environment(station: Station, *, engines: bool | None = None, refused: Collection[str] = ()) -> list[Finding]:
    """Device, engines, disk, ports and sources as they are now.

    Args:
        station: which one.
        engines: whether engines are built and golden frames judged; None: unless a daemon runs this station, which
            needs the device for its verdicts.
        refused: fields found wrong before: no engine is built of a recipe among them.
    """
    from inspector.service.control.lock import find_daemon

    daemon = find_daemon(station.folder)
    if daemon is not None:
        running = Finding("daemon", f"process {daemon} runs this station: whatever it uses is not tested")
    else:
        running = Finding("daemon", "not running for this station, or not visible to this user")
    devices = check_devices(station, in_use=daemon is not None)
    wanted = daemon is None if engines is None else engines
    missing = {name for name, finding in zip(station.devices, devices, strict=True) if not finding.fatal}
    return [
        running,
        *devices,
        *_check_engines(station.without(missing), wanted=wanted, refused=refused),
        *check_disk(station),
        *check_offline(station),
        *check_sockets(station, daemon),
        *_check_sources(station, daemon),
    ]


def check_devices(station: Station, *, in_use: bool) -> list[Finding]:
    """Whether each of the station's devices is there, and, unless they are in use, works; not fatal: it is left out."""
    findings = [_check_device(name, in_use=in_use) for name in station.devices]
    if station.missing_device is MissingDevice.REFUSE or all(finding.problem for finding in findings):
        return findings
    return [finding if finding.problem is None else _leave_out(finding) for finding in findings]


def _leave_out(finding: Finding) -> Finding:
    return replace(finding, fatal=False, fix=f"{finding.fix}; until then the station starts without it")


def _check_device(device: str, *, in_use: bool) -> Finding:
    import torch

    from inspector.device import choose_device

    try:
        chosen = choose_device(device)
        if not in_use:
            torch.zeros(1, device=chosen)  # takes some hundred MB of a GPU, which a daemon may need
    except DriverError as error:
        fix = (
            "install a newer driver, or the torch built for this one (docs/line-engineer/install.md, GPU), "
            "or write device: cpu"
        )
        return Finding("device", problem=str(error), fix=fix)
    except (ConfigError, RuntimeError, AssertionError) as error:
        fix = "check nvidia-smi and torch.cuda.is_available(), or set device: auto"
        return Finding("device", problem=f"{device}: cannot be used: {error}", fix=fix)
    return Finding("device", str(chosen))


def _check_engines(station: Station, *, wanted: bool, refused: Collection[str]) -> list[Finding]:
    """Each camera's recipe on the station's device: built, warmed up, proved on its frames, as the daemon will."""
    from inspector.engine.cache import find_user_cache
    from inspector.service.flow.judges import load_judges

    findings, several = [], len(station.devices) > 1
    for name, camera in station.cameras.items():
        if camera.recipe is None or f"cameras.{name}.recipe" in refused:
            continue
        what = f"cameras.{name} engine"
        if not wanted:
            findings.append(Finding(what, "not built, golden frames not judged; use --engines to do both"))
            continue
        print(f"camera {name}: building the engine and judging the golden frames", file=sys.stderr, flush=True)
        try:
            # On its device, whichever it would have without the others.
            device = station.devices[station.places[name]]
            alone = station.model_copy(update={"cameras": {name: camera}, "device": device})
            detector = load_judges(alone, find_user_cache())[name].detector
        except (InspectorError, RuntimeError) as error:
            fix = "set the threshold again on this machine with inspector calibrate, or see inspector golden RECIPE"
            findings.append(Finding(what, problem=str(error), fix=fix))
        else:
            engine, count = detector.engine, len(detector.recipe.golden)
            proved = f"{count} golden frame(s) judged as expected" if count else "no golden frames"
            found = f"{engine.precision}, {engine.name}, {proved}" + (f", on {device}" if several else "")
            if engine.fallback is Fallback.NONE:
                findings.append(Finding(what, found))
            else:
                problem = f"{found}: slower than this machine would allow"
                findings.append(Finding(what, problem=problem, fix=engine.fallback.explanation, fatal=False))
    return findings


def _check_sources(station: Station, daemon: int | None) -> list[Finding]:
    findings = []
    for name, camera in station.cameras.items():
        settings = camera.source
        what = f"cameras.{name}.source"
        if settings.is_exclusive and daemon is not None:
            findings.append(Finding(what, f"{settings.type}: not opened, it is in use by process {daemon}"))
            continue
        try:
            source = settings.build(name)
        except ConfigError as error:
            findings.append(Finding(what, problem=str(error), fix="install what is missing, for the service's Python"))
            continue
        if source is None:
            findings.append(Finding(what, f"{settings.type}: waits for frames from senders, nothing to test"))
            continue
        try:
            source.connect()
            findings.append(Finding(what, f"{settings.type}: available{_describe(source.report())}"))
        except InspectorError as error:
            fix = "check its power and network, its name, and that no other program has it open"
            findings.append(Finding(what, problem=str(error), fix=fix))
        finally:
            source.close()
    return findings


def _describe(report: CameraReport | None) -> str:
    """The settings that a camera has now, each as it was read back, and what was asked where it rounded."""
    if report is None or not report.settings:
        return ""
    shown = (
        f"{each.name} {each.found}" + (f" (asked for {each.asked})" if each.is_rounded else "")
        for each in report.settings
    )
    return "; " + ", ".join(shown)
