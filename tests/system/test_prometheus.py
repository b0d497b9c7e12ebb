"""A real Prometheus reads a station under load: every panel has something to show, every alert something to look at."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from builder import build_dashboards

from inspector.testing.line import Line
from inspector.testing.station_process import RunningStation, bad_frame, base_config, build_message, good_frame
from tests.system.chaos import scaled
from tests.system.panel_charts import draw_dashboard
from tests.system.prometheus_proof import Prometheus, find_selectors, substitute

DRAW_TO = os.environ.get("INSPECTOR_PANELS", "")
"""A folder for a picture of each dashboard, for people to look at."""

ABSENT = {
    r"inspector_gpu_\w+": "no GPU here",
    r"inspector_device_memory_bytes": "no GPU here",
    r"inspector_clock_\w+": "a container may hide it",
    r"inspector_certificate_\w+": "no TLS here",
    r"inspector_calibration_score": "the test's recipe is calibrated with no frames",
    r'inspector_part_results_total\{[^}]*"ERROR"': "no part is answered ERROR",
    r"inspector_(triggers_missed_total|camera_ptp_locked)": "no industrial camera here",
    r"ALERTS": "nothing is wrong",
}
"""Metrics that may be absent here, and why."""

VIEWS = ("left", "right")
"""Cameras that see one part."""

QUERIES = {
    f"{name}: {panel['title']}, {target['refId']}": target["expr"]
    for name, dashboard in build_dashboards().items()
    for panel in dashboard["panels"]
    for target in panel["targets"]
}


@pytest.fixture(scope="module")
def config(recipe: Path) -> dict[str, Any]:
    camera = {"recipe": str(recipe), "deadline_ms": 20_000}
    cameras = {"top": camera | {"expected_fps": 3}} | dict.fromkeys(VIEWS, camera)
    part = {"cameras": list(VIEWS), "by": "part_id", "window_ms": 20_000}
    return base_config(recipe, **cameras) | {"parts": {"body": part}}


@contextmanager
def send_parts(station: RunningStation) -> Iterator[list[str]]:
    """A part each second, each fourth one bad; yields the cameras that see the next, which may be changed."""
    views, stop, peer = list(VIEWS), threading.Event(), station.open(zmq.PUSH, "frames")

    def send() -> None:
        for number in itertools.takewhile(lambda _: not stop.wait(1.0), itertools.count()):
            frame = good_frame() if number % 4 else bad_frame()
            for camera in views:
                peer.send_multipart(build_message(camera, f"p{number}", frame, part_id=f"p{number}"))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield views
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(serve: Any, whole_line: Line, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has watched good and bad frames for a while."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    station: RunningStation = serve()
    target = {"press-3": station.config["http"]["port"]}
    with Prometheus(tmp_path_factory.mktemp("prometheus"), target) as server, send_parts(station) as views:
        server.wait_for("up == 1")
        started = time.time()
        whole_line.flow(period_s=0.3)
        time.sleep(scaled(6, 110))
        server.wait_for('sum(inspector_results_total{camera="top",verdict=~"PASS|FAIL"}) >= 20')
        server.wait_for("sum(inspector_part_results_total) >= 2")
        yield server
        if DRAW_TO:
            whole_line.flow(period_s=0.3)
            lost = views.pop()
            time.sleep(10)
            views.append(lost)  # the parts meanwhile lacked a view: their window, and whole ones again
            time.sleep(25)
            ended = time.time()
            for name, dashboard in build_dashboards().items():
                draw_dashboard(dashboard, server, started, ended, Path(DRAW_TO) / f"{name}.png")


def find_reason(expression: str) -> str | None:
    """Why there may be no answer."""
    return next((reason for name, reason in ABSENT.items() if re.search(name, expression)), None)


def test_every_query_of_every_panel_has_an_answer(prometheus: Prometheus) -> None:
    silent = {title for title, expression in QUERIES.items() if not prometheus.query(substitute(expression))}
    assert {title: QUERIES[title] for title in silent if not find_reason(QUERIES[title])} == {}


def test_every_alert_looks_at_series_that_are_there(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert {rule["health"] for rule in rules} == {"ok"}
    selectors = {selector for rule in rules for selector in find_selectors(rule["query"])}
    silent = {selector for selector in selectors if not prometheus.query(selector)}
    assert {selector for selector in silent if not find_reason(selector)} == set()


def test_no_alert_fires_while_all_is_well(prometheus: Prometheus) -> None:
    firing = {rule["name"]: rule["alerts"] for rule in prometheus.rules() if rule.get("state") == "firing"}
    of_this_machine = {"InspectorStateDiskFull", "InspectorEvidenceSuspended", "InspectorEvidenceDropped"}
    assert {name: alerts for name, alerts in firing.items() if name not in of_this_machine} == {}


def test_account_is_what_the_line_has(prometheus: Prometheus, whole_line: Line) -> None:
    whole_line.pause()
    whole_line.wait_answered()
    sent = len(whole_line.sent)
    received, answered = (f'sum(inspector_{name}_total{{camera="top"}})' for name in ("frames_received", "results"))
    prometheus.wait_for(f"{received} == {sent} == {answered}")


def test_promtool_finds_nothing_wrong_with_the_metrics(serve: Any) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    text = serve().get("/metrics")[1]
    checked = subprocess.run(
        ["promtool", "check", "metrics"], check=False, input=text, capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
