"""The status as a page: what each camera was asked for, and what it has, stand beside its verdict."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from inspector.service.flow.status import describe_sources
from inspector.service.http.status_page import StatusPage
from inspector.sources.report import CameraReport, Ptp, ReadBack

NOW_NS = 1_795_943_160_415_629_113
LAST = {"verdict": "FAIL", "reason": "DEFECT", "frame_id": "f9", "score": 41.05, "threshold": 19.83,
        "simulated": False, "published_utc_ns": NOW_NS}  # fmt: skip
TAKEN = ReadBack("ExposureTimeAbs", "800.0", "800", differs=False)
REFUSED = ReadBack("Width", "4000", "2048", differs=True)


def build(**changes: Any) -> str:
    """The page of a station with two cameras, of which `top` is a GenICam one."""
    top = CameraReport(is_connected=True, settings=(TAKEN,), read_utc_ns=NOW_NS)
    status: dict[str, Any] = {
        "station": "press-3", "state": "RUNNING", "published_utc_ns": NOW_NS, "queue_depth": 0, "last_error": None,
        "last_seq": {"side": 9, "top": 0}, "last_result": {"side": LAST}, "recipes": {}, "offline": {},
        **describe_sources({"top": top}),
    }  # fmt: skip
    return StatusPage(lambda: status | changes, lambda: (True, "RUNNING")).answer().decode()


def read_sections(page: str) -> dict[str, list[str]]:
    """The words that stand in each camera's section, by its heading."""
    sections = re.findall(r"<section>(.*?)</section>", page, re.DOTALL)
    words = [[unescape(w).strip() for w in re.split(r"<[^>]+>", s) if w.strip()] for s in sections]
    return {each[0]: each[1:] for each in words}


def test_settings_stand_with_the_camera_they_belong_to() -> None:
    sections = read_sections(build())
    assert sections["top"][-6:] == ["Feature", "Asked for", "The camera has", "ExposureTimeAbs", "800.0", "800"]
    assert sections["side"] == [
        "Last verdict", "FAIL DEFECT", ", number 9, frame f9, score 41.05 of 19.83, 2026-11-29 09:06:00 UTC",
    ]  # fmt: skip


def test_setting_that_differs_is_marked_and_counted_and_no_other() -> None:
    top = CameraReport(is_connected=False, settings=(TAKEN, REFUSED), read_utc_ns=NOW_NS)
    page = build(**describe_sources({"top": top}))
    assert re.findall(r'<tr class="differs"><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>', page) == [
        ("Width", "4000", "2048")
    ]
    assert {"not connected", "1 differs, so the camera is not used"} <= set(read_sections(page)["top"])
    assert "differs," not in build()


def test_camera_says_its_missed_triggers_and_ptp_only_where_it_is_asked() -> None:
    top = CameraReport(is_connected=True, triggers_missed=2, ptp=Ptp("Slave", -120), is_dated_by_ptp=True)
    assert read_sections(build(**describe_sources({"top": top})))["top"] == [
        "Last verdict", "none", "Camera", "connected", "Triggers missed", "2, by its own count",
        "PTP", "Slave, -120 ns from its master; frames are dated by PTP",
    ]  # fmt: skip
    assert not {"Triggers missed", "PTP"} & set(read_sections(build())["top"])


def test_camera_that_is_offline_and_frames_that_are_simulated_say_so() -> None:
    offline = {"top": {"since_utc_ns": NOW_NS, "who": "anna", "keep": False}}
    page = build(offline=offline, last_result={"side": LAST | {"simulated": True}})
    assert "since 2026-11-29 09:06:00 UTC, by anna" in read_sections(page)["top"]
    assert "simulated" in page
    assert "simulated" not in build()


@pytest.mark.parametrize("field", ["frame_id", "part_id"])
def test_text_that_others_chose_is_shown_and_not_run(field: str) -> None:
    page = build(last_result={"side": LAST | {field: "<script>alert(1)</script>"}})
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
