"""What `inspector check` looks at."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from inspector.config import FolderSource, Http, OpencvSource, Station
from inspector.errors import ConfigError, InspectorError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing checked; `problem` is None where it is well."""

    what: str
    detail: str = "ok"
    problem: str | None = None


def check_security(station: Station) -> list[Finding]:
    """Secret key and list of clients: there, valid, and open to nobody else."""
    from inspector.keys import load_clients, read_station_key

    if station.security is None:
        return []
    findings = []
    try:
        findings.append(Finding("security.key", f"public key {read_station_key(station.security.key)[0].decode()}"))
    except ConfigError as error:
        findings.append(Finding("security.key", problem=str(error)))
    try:
        clients = load_clients(station.security.clients)
        let_in = sum(not client.is_revoked for client in clients)
        findings.append(Finding("security.clients", f"{let_in} let in, {len(clients) - let_in} revoked"))
    except ConfigError as error:
        findings.append(Finding("security.clients", problem=str(error)))
    return findings


def check_recipes(station: Station) -> list[Finding]:
    """Each camera's recipe: schema, checksums, weights that load, a threshold."""
    from inspector.config import WEIGHTS_FILE, load_recipe
    from inspector.detector import load_model
    from inspector.engine.build import verify_files
    from inspector.golden import verify_golden
    from inspector.masks import load_roi, load_zones
    from inspector.model.checkpoint import verify_sha256

    findings = []
    for name, camera in station.cameras.items():
        what = f"cameras.{name}.recipe"
        if camera.recipe is None:
            findings.append(Finding(what, problem="none: every frame will be answered ERROR NO_RECIPE"))
            continue
        try:
            recipe = load_recipe(camera.recipe)
            verify_sha256(camera.recipe / WEIGHTS_FILE, recipe.weights_sha256)
            verify_files(recipe, camera.recipe)
            verify_golden(recipe, camera.recipe)
            load_model(camera.recipe, recipe)
            load_roi(camera.recipe, recipe)
            load_zones(camera.recipe, recipe)
        except ConfigError as error:
            findings.append(Finding(what, problem=str(error)))
            continue
        threshold = recipe.threshold
        problem = None if threshold else f"{camera.recipe}: threshold: required; run inspector calibrate"
        findings.append(
            Finding(what, f"{recipe.recipe_id}, threshold {threshold.value:.4g}" if threshold else "", problem)
        )
    return findings


def check_environment(station: Station) -> list[Finding]:
    """Device, disk, ports and sources as they are now."""
    return [
        _check_device(station.device),
        *_check_engines(station),
        _check_disk(station.state_dir),
        *(
            _check_port(name, getattr(station.sockets, name))
            for name in ("frames", "results", "overlays", "requests", "imagezmq")
        ),
        _check_port("http", f"tcp://{station.http.host}:{station.http.port}"),
        _check_http_access(station.http),
        *_check_sources(station),
    ]


def _check_device(device: str) -> Finding:
    import torch

    from inspector.detector import choose_device

    try:
        torch.zeros(1, device=choose_device(device))
    except (ConfigError, RuntimeError, AssertionError) as error:
        return Finding("device", problem=f"{device}: cannot be used: {error}")
    return Finding("device", str(choose_device(device)))


def _check_engines(station: Station) -> list[Finding]:
    """Each camera's recipe on the station's device: built, warmed up, proved on its frames, as the daemon will."""
    from inspector.engine.cache import find_user_cache
    from inspector.service.judges import load_judges

    findings = []
    for name, camera in station.cameras.items():
        if camera.recipe is None:
            continue
        what = f"cameras.{name} engine"
        try:
            alone = station.model_copy(update={"cameras": {name: camera}})
            detector = load_judges(alone, find_user_cache())[name].detector
        except (InspectorError, RuntimeError) as error:
            findings.append(Finding(what, problem=str(error)))
        else:
            engine, count = detector.engine, len(detector.recipe.golden)
            proved = f"{count} golden frame(s) as expected" if count else "no golden frames"
            findings.append(Finding(what, f"{engine.precision}, {engine.name}, {proved}"))
    return findings


def _check_disk(state_dir: Path) -> Finding:
    existing = next(folder for folder in (state_dir, *state_dir.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        return Finding("state_dir", problem=f"{existing}: cannot be written")
    free = shutil.disk_usage(existing).free
    problem = None if free > 1 << 30 else f"{existing}: must have 1 GiB free, has {free / 2**30:.2f}"
    return Finding("state_dir", f"{free / 2**30:.0f} GiB free", problem)


def _check_port(name: str, endpoint: str) -> Finding:
    what = name if name == "http" else f"sockets.{name}"
    if not endpoint.startswith("tcp://"):
        return Finding(what, endpoint)
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            return Finding(what, problem=f"{endpoint}: cannot be bound: {error}")
    return Finding(what, endpoint)


def _check_http_access(http: Http) -> Finding:
    from inspector.service.http_access import load_http_access

    try:
        access = load_http_access(http)
    except ConfigError as error:
        return Finding("http access", problem=str(error))
    login = f"login {http.username}" if access.login else "no login"
    if access.expires_utc_s is None:
        return Finding("http access", f"no TLS, {login}")
    until = datetime.fromtimestamp(access.expires_utc_s, UTC)
    expired = until < datetime.now(UTC)
    problem = f"{http.tls and http.tls.certificate}: must not have expired, but has: {until}" if expired else None
    return Finding("http access", f"TLS until {until:%Y-%m-%d}, {login}", problem)


def _check_sources(station: Station) -> list[Finding]:
    from inspector.sources.folder import FolderSource as Folder
    from inspector.sources.opencv import OpencvSource as Opencv

    findings = []
    for name, camera in station.cameras.items():
        source = camera.source
        what = f"cameras.{name}.source"
        opened: Folder | Opencv
        if isinstance(source, FolderSource):
            opened = Folder(name, source.path, watch=False)
        elif isinstance(source, OpencvSource):
            opened = Opencv(
                name, source.device, open_timeout_s=source.open_timeout_s, read_timeout_s=source.read_timeout_s
            )
        else:
            findings.append(Finding(what, f"{source.type}: frames come when they come"))
            continue
        try:
            opened.connect()
            findings.append(Finding(what, f"{source.type}: there"))
        except InspectorError as error:
            findings.append(Finding(what, problem=str(error)))
        finally:
            opened.close()
    return findings
