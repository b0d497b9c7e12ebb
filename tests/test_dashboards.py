"""Grafana's dashboards, without Grafana: what is committed is what is built, and all that can be read off it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from builder import build_dashboards
from builder.queries import STATES

from inspector.service.telemetry.health import State

GRAFANA = Path(__file__).resolve().parents[1] / "configs" / "grafana"
DASHBOARDS = build_dashboards()
VARIABLES = {"datasource", "station", "instance", "camera"}
GIVEN = {"__rate_interval", "__range"}
"""By Grafana itself."""


PANELS = {f"{name}: {panel['title']}": panel for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"]}


def test_dashboards_are_what_their_builder_builds() -> None:
    committed = {path.stem: json.loads(path.read_text("utf-8")) for path in (GRAFANA / "dashboards").glob("*.json")}
    assert committed == DASHBOARDS


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_own_ids_and_places_on_the_grid(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    cells = [
        (x, y)
        for panel in panels
        for g in [panel["gridPos"]]
        for x in range(g["x"], g["x"] + g["w"])
        for y in range(g["y"], g["y"] + g["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))
    assert len({panel["title"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("panel", list(PANELS.values()), ids=list(PANELS))
def test_panel_has_what_a_reader_and_grafana_need(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert len(set(references)) == len(references)
    for part in (panel, *panel["targets"]):
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        used = set(re.findall(r"\$\{?(\w+)", target["expr"]))
        assert used <= VARIABLES | GIVEN, target["expr"]
        assert "instance" in used, "it would show all stations"
    if panel["type"] == "state-timeline":
        assert panel["fieldConfig"]["defaults"]["mappings"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_have_all_variables_and_lead_to_each_other(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == VARIABLES
    (link,) = dashboard["links"]
    assert set(link["tags"]) <= set(dashboard["tags"])
    assert link["includeVars"]
    assert link["keepTime"]
    assert dashboard["uid"] == f"inspector-{name}"


def test_every_state_has_a_number_and_a_colour() -> None:
    assert {text for text, _ in STATES.values()} == {"DOWN", *State}
    assert len({colour for _, colour in STATES.values()}) == len(STATES)


def test_tables_title_every_column_and_hide_what_is_not_one() -> None:
    for panel in PANELS.values():
        if panel["type"] == "table":
            options = panel["transformations"][1]["options"]
            values = {f"Value #{target['refId']}" for target in panel["targets"]}
            assert values <= options["renameByName"].keys() | options["excludeByName"].keys()
            titles = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
            assert titles == set(options["renameByName"].values())


def test_provisioning_names_the_datasource_and_the_folder_of_the_dashboards() -> None:
    (datasource,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert datasource["type"] == "prometheus"
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/inspector.yaml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"]
