"""Devices that cannot be used at a start, and a station that goes on without them where its file says so."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from inspector.config import MissingDevice, Station
from inspector.device import choose_device
from inspector.errors import ConfigError
from inspector.service.telemetry.health import Health

logger = logging.getLogger(__name__)


def find_missing(station: Station) -> dict[str, str]:
    """The devices to go on without, by the name in the file, and why; none where the file does not say so.

    A device is missing where it is not there or does not take a tensor. Where all are, none is: the start says why.
    """
    if station.missing_device is MissingDevice.REFUSE:
        return {}
    missing = {name: why for name in dict.fromkeys(station.devices) if (why := _try(name)) is not None}
    return {} if missing.keys() == set(station.devices) else missing


def _try(name: str) -> str | None:
    """Why a device cannot be used; None: it can."""
    try:
        torch.zeros(1, device=choose_device(name))
    except (ConfigError, RuntimeError) as error:
        return str(error)
    return None


def report_missing(missing: Mapping[str, str], health: Health) -> None:
    """Tell people: the station is DEGRADED until a restart finds the device, and judges all the same."""
    for name, why in missing.items():
        problem = f"left out until a restart, the other devices judge its cameras: {why}"
        health.report(f"device {name}", problem, blocks=False)
        logger.warning("device %s: %s", name, problem)
