"""Prometheus' rules: promtool's own tests, and that each alert says where and has its section in the runbook."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from builder import build_dashboards

REPOSITORY = Path(__file__).resolve().parents[1]
PROMETHEUS = REPOSITORY / "configs" / "prometheus"
RUNBOOK = "docs/operator/alerts-{group}.md"
GROUPS = ("station", "line", "access")
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
PAGES = {
    rule["alert"]: RUNBOOK.format(group=group["name"].removeprefix("inspector-"))
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def run_promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True, cwd=PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def read_fired() -> dict[str, set[str]]:
    """Alerts that promtool's tests saw firing, with the labels these had."""
    fired: dict[str, set[str]] = {"InspectorStationDown": {"instance"}}
    for test in yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text("utf-8"))["tests"]:
        for query in test["promql_expr_test"]:
            for sample in query["exp_samples"]:
                labels = dict(re.findall(r'(\w+)="(.*?)"', sample.get("labels", "")))
                if name := labels.pop("alertname", None):
                    fired.setdefault(name, set()).update(labels)
    return fired


def read_sections() -> dict[str, str]:
    """The runbook's sections of alerts, by their titles."""
    text = "\n".join((REPOSITORY / RUNBOOK.format(group=group)).read_text("utf-8") for group in GROUPS)
    parts = re.split(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {title: body for title, body in zip(parts[1::2], parts[2::2], strict=True) if title.startswith("Inspector")}


def test_configuration_and_rules_are_accepted_by_promtool() -> None:
    run_promtool("check", "config", "prometheus.yml")


def test_alerts_fire_when_they_must_and_not_just_below() -> None:
    run_promtool("test", "rules", "rules_test.yml")


def test_every_alert_is_seen_firing_by_promtools_tests() -> None:
    assert set(read_fired()) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_how_bad_it_is_and_where(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    texts = alert["annotations"]
    assert set(texts) == {"summary", "description", "runbook_url"}
    used = set(re.findall(r"\$labels\.(\w+)", texts["summary"] + texts["description"]))
    assert "instance" in used
    assert used <= read_fired()[name], "a label that the alert has not would be left blank"
    if "camera" in read_fired()[name]:
        assert "camera" in used
    assert texts["runbook_url"] == f"{PAGES[name]}#{name.lower()}"
    assert f"## {name}\n" in (REPOSITORY / PAGES[name]).read_text("utf-8")


def test_runbook_has_a_section_for_each_alert_and_none_for_others() -> None:
    assert list(read_sections()) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_section_says_what_it_means_and_what_to_do(name: str) -> None:
    asked = re.findall(r"^- \*\*(.*?):\*\*", read_sections()[name], re.MULTILINE)
    assert asked == ["Means", "Look", "Do", "Stop the line"]


def test_runbook_quotes_only_titles_of_panels() -> None:
    titles = {panel["title"] for dashboard in build_dashboards().values() for panel in dashboard["panels"]}
    for body in read_sections().values():
        assert set(re.findall(r'"([^"]+)"', body)) <= titles
