"""Builds dashboards/*.json, Grafana's JSON models. Run it after a change: python configs/grafana/build.py"""

from __future__ import annotations

import json
from pathlib import Path

from builder import build_dashboards

FOLDER = Path(__file__).with_name("dashboards")

if __name__ == "__main__":
    for name, dashboard in build_dashboards().items():
        text = json.dumps(dashboard, indent=2, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
