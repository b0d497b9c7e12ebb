"""What the line sees of one station: verdicts, rejects, scores."""

from __future__ import annotations

from typing import Any

from builder.dashboard import build_dashboard
from builder.panels import PER_SECOND, Column, heat_map, stat, state_timeline, table, time_series
from builder.queries import CAMERA, INSTANCE, RATE, STATE, STATES, age, quantile, rate, results, share

UP = {0: ("gone", "red"), 1: ("connected", "green")}
PTP = {0: ("no master", "orange"), 1: ("locked", "green")}
OFFLINE = {0: ("online", "green"), 1: ("offline", "purple")}
LAST_FRAME = age(f"inspector_last_frame_timestamp_seconds{{{CAMERA}}}", "camera")
SCORE = "inspector_score"
HAPPENED = f'sum by (reason) (increase(inspector_results_total{{{CAMERA},verdict!="PASS"}}[$__range])) > 0'


def build() -> dict[str, Any]:
    """The dashboard."""
    rows = [
        (4, _now()),
        (5, _states()),
        (8, _flow()),
        (6, _cameras()),
        (6, _parts()),
        (8, _rejects()),
        (8, _scores()),
        (7, _order()),
        (6, [_recipes()]),
    ]
    text = "Frames received, verdicts sent to the line, and drift."
    return build_dashboard("inspector-line", "line", text, rows, many=False)


def _now() -> list[dict[str, Any]]:
    low, high = ((None, "red"), (0.9, "orange"), (0.97, "green")), ((None, "green"), (0.05, "orange"), (0.1, "red"))
    errors = ((None, "green"), (0.001, "orange"), (0.01, "red"))
    row = ((None, "green"), (3, "orange"), (5, "red"))
    return [
        stat("State", "none", "Check the station if this is not READY or RUNNING.", (STATE, ""), values=STATES),
        stat(
            "Passed", "percentunit", "Share of PASS in all verdicts of the last 5 minutes.",
            (share("PASS", window="[5m]"), ""), steps=low,
        ),
        stat(
            "Rejected", "percentunit", "Share of FAIL in all verdicts of the last 5 minutes.",
            (share("FAIL", window="[5m]"), ""), steps=high,
        ),
        stat(
            "Errors", "percentunit", "Share of ERROR in all verdicts of the last 5 minutes; these "
                "parts are stopped without being judged.",
            (share("ERROR", window="[5m]"), ""), steps=errors,
        ),
        stat(
            "Rejects in a row", "none", "Longest current run of FAIL; an alert fires from 5.",
            (f"max(inspector_consecutive_rejects{{{CAMERA}}})", ""), steps=row,
        ),
        stat(
            "Last frame", "s", "Time since the last frame; a stopped trigger shows here first.",
            (LAST_FRAME, "{{camera}}"),
        ),
    ]  # fmt: skip


def _states() -> list[dict[str, Any]]:
    sources, offline = (f"inspector_{name}{{{CAMERA}}}" for name in ("source_up", "camera_offline"))
    return [
        state_timeline("State over time", "State of the station over time.", STATES, (STATE, "{{instance}}")),
        state_timeline("Sources", "Whether each camera's source is connected.", UP, (sources, "{{camera}}")),
        state_timeline("Offline", "When people took a camera offline.", OFFLINE, (offline, "{{camera}}")),
    ]


def _flow() -> list[dict[str, Any]]:
    warn = rate("inspector_warnings_total")
    return [
        time_series(
            "Frames", PER_SECOND, "Frames received per second; dashed: rate expected by the station file.",
            (rate("inspector_frames_received_total", "camera"), "{{camera}}"),
            (f"inspector_expected_frames_per_second{{{CAMERA}}}", "limit: expected of {{camera}}"),
        ),
        time_series(
            "Verdicts", PER_SECOND, "Verdicts per second. WARN: a PASS in the recipe's warn band, "
                "also counted as PASS.",
            (results("verdict"), "{{verdict}}"), (warn, "WARN"),
        ),
        time_series(
            "Triggers", PER_SECOND, "Triggers told per second, and those whose frame did not come.",
            (rate("inspector_triggers_total", "camera"), "{{camera}}"),
            (results("camera", reason="NO_FRAME"), "NO_FRAME of {{camera}}"),
        ),
    ]  # fmt: skip


def _cameras() -> list[dict[str, Any]]:
    locked = f"inspector_camera_ptp_locked{{{CAMERA}}}"
    return [
        time_series(
            "Missing frames", PER_SECOND, "Frames per second that never came whole, by cause, and triggers that "
                "cameras missed by their own count.",
            (rate("inspector_frames_missing_total", "camera", "cause"), "{{cause}} of {{camera}}"),
            (rate("inspector_triggers_missed_total", "camera"), "missed by {{camera}}"),
        ),
        state_timeline(
            "PTP", "Whether the clock of each camera with ptp: true follows a master.", PTP, (locked, "{{camera}}")
        ),
    ]  # fmt: skip


def _parts() -> list[dict[str, Any]]:
    of_part, errors = "inspector_part_results_total", f'{INSTANCE},verdict="ERROR"'
    p50, p99 = (quantile(level, "inspector_part_duration_seconds", "part", where=INSTANCE) for level in (0.5, 0.99))
    return [
        time_series(
            "Parts", PER_SECOND, "Verdicts per second on parts that several cameras see; none where the station has "
                "no such parts.",
            (rate(of_part, "part", "verdict", where=INSTANCE), "{{verdict}} of {{part}}"),
        ),
        time_series(
            "Part errors", PER_SECOND, "Parts per second that are answered ERROR, by reason: a view is missing, late, "
                "doubled, of another part, or an error itself.",
            (f"{rate(of_part, 'part', 'reason', where=errors)} > 0", "{{reason}} of {{part}}"), stacked=True,
        ),
        time_series(
            "Parts without a verdict yet", "none", "Parts of which a view came, and whose verdict is open.",
            (f"inspector_parts_open{{{INSTANCE}}}", "{{part}}"),
        ),
        time_series(
            "How long parts take", "s", "From a part's first view, or its trigger, to its verdict.",
            (p50, "p50 of {{part}}"), (p99, "p99 of {{part}}"), log=True,
        ),
    ]  # fmt: skip


def _rejects() -> list[dict[str, Any]]:
    judged = "PASS|FAIL"
    return [
        time_series(
            "Rejects and errors by reason", PER_SECOND, "Verdicts other than PASS, by reason, in the "
                "selected time range.",
            (f'{results("reason", verdict="FAIL|ERROR")} and on (reason) ({HAPPENED})', "{{reason}}"), stacked=True,
        ),
        time_series(
            "Reject rate", "percentunit", "Share of FAIL in judged frames, over 10 minutes; dashed: over the last day.",
            (share("FAIL", "camera", of=judged, window="[10m]"), "{{camera}}"),
            (share("FAIL", "camera", of=judged, window="[1d]"), "limit: day of {{camera}}"),
        ),
    ]  # fmt: skip


def _scores() -> list[dict[str, Any]]:
    calibrated = [
        (
            f'inspector_calibration_score{{{CAMERA},quantile="{level}"}}',
            f"limit: {name} of {{{{camera}}}} when calibrated",
        )
        for level, name in (("0.5", "median"), ("0.95", "95 %"))
    ]
    return [
        heat_map(
            "Scores", "percentunit", "Frames by score, as a share of the threshold; above 100 % is a reject.",
            f"sum by (le) (increase({SCORE}_bucket{{{CAMERA}}}{RATE}))",
        ),
        time_series(
            "Drift", "percentunit",
            "Scores as a share of the threshold (red): median of 200 frames, 95 % of an hour; dashed: calibration.",
            (f"{SCORE}_median{{{CAMERA}}}", "median of {{camera}}"),
            (quantile(0.95, SCORE, "camera", window="[1h]"), "95 % of {{camera}}"),
            *calibrated, limit=1,
        ),
    ]  # fmt: skip


def _order() -> list[dict[str, Any]]:
    refused = [
        (rate("inspector_frames_unidentified_total", "instance", where=INSTANCE), "messages without a camera"),
        (rate("inspector_messages_refused_total", "socket", where=INSTANCE), "messages, {{socket}}"),
        (rate("inspector_handshakes_refused_total", "socket", where=INSTANCE), "connections, {{socket}}"),
        (rate("inspector_http_requests_refused_total", "instance", where=INSTANCE), "HTTP"),
    ]
    return [
        time_series(
            "Runs of rejects", "none", "FAIL verdicts in a row; red: limit of the alert.",
            (f"inspector_consecutive_rejects{{{CAMERA}}}", "{{camera}}"), limit=5,
        ),
        time_series("Age of the last frame", "s", "Time since each camera's last frame.", (LAST_FRAME, "{{camera}}")),
        time_series(
            "Frames without a verdict yet", "none", "Frames accepted but not answered yet.",
            (f"inspector_frames_in_flight{{{CAMERA}}}", "{{camera}}"),
        ),
        time_series("Refused", PER_SECOND, "Messages and connections refused per second; see the log "
            "for the causes.", *refused),
    ]  # fmt: skip


def _recipes() -> dict[str, Any]:
    labels = "camera, recipe_id, precision, engine, backbone, model_sha256"
    return table(
        "Recipes", "The recipe that judges each camera's frames now.",
        [
            Column("Camera", label="camera"),
            Column("Recipe", label="recipe_id", query=f"max by ({labels}) (inspector_recipe_info{{{CAMERA}}})"),
            Column("Model", label="backbone"),
            Column("Weights", label="model_sha256"),
            Column("Engine", label="engine"),
            Column("Precision", label="precision"),
            Column("Threshold", query=f"max by (camera) (inspector_threshold{{{CAMERA}}})"),
            Column("Deadline", query=f"max by (camera) (inspector_deadline_seconds{{{CAMERA}}})", unit="s"),
            *(
                Column(f"{outcome.capitalize()} (1 d)", query=f"sum by (camera) ({switches})")
                for outcome in ("switched", "refused")
                for switches in [f'increase(inspector_recipe_switches_total{{{CAMERA},outcome="{outcome}"}}[1d])']
            ),
        ],
    )  # fmt: skip
