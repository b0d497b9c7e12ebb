"""Devices that cannot be used at a start, and a station that goes on without them where its file says so."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping

from inspector.config import MissingDevice, Station
from inspector.service.telemetry.health import Health

logger = logging.getLogger(__name__)

_TRY = """
import sys
import torch
from inspector.device import choose_device
try:
    torch.zeros(1, device=choose_device(sys.argv[1])).item()
except Exception as error:
    sys.exit(str(error))
"""
_TRY_S = 60.0


def find_missing(station: Station) -> dict[str, str]:
    """The devices to go on without, by the name in the file, and why; none where the file does not say so.

    A device is missing where it is not there or does not take a tensor. Where all are, none is: the start says why.
    """
    if station.missing_device is MissingDevice.REFUSE:
        return {}
    missing = {name: why for name in dict.fromkeys(station.devices) if (why := _try(name)) is not None}
    return {} if missing.keys() == set(station.devices) else missing


def _try(name: str) -> str | None:
    """Why a device cannot be used; None: it can. Tried in a process of its own: after a fault no device works there."""
    command = [sys.executable, "-c", _TRY, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRY_S, check=False)  # noqa: S603 (ours)
    except subprocess.TimeoutExpired:
        return f"it does not answer within {_TRY_S:g} s"
    return (done.stderr.strip() or f"its process ended with {done.returncode}") if done.returncode else None


def report_missing(missing: Mapping[str, str], health: Health) -> None:
    """Tell people: the station is DEGRADED until a restart finds the device, and judges all the same."""
    for name, why in missing.items():
        problem = f"left out until a restart, the other devices judge its cameras: {why}"
        health.report(f"device {name}", problem, blocks=False)
        logger.warning("device %s: %s", name, problem)
