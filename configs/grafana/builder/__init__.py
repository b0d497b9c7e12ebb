"""The station's dashboards: one file each, of panels in the few kinds of `panels`, put together by `dashboard`."""

from __future__ import annotations

from typing import Any

from builder import device, fleet, line


def build_dashboards() -> dict[str, dict[str, Any]]:
    """Grafana's JSON models, by the names of their files."""
    return {"line": line.build(), "device": device.build(), "fleet": fleet.build()}
