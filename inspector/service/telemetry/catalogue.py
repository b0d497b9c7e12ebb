"""All metrics of a station: name, kind, labels and meaning of each in one row.

What is counted along the flow is made of its row in `metrics`, what is read off at a scrape in `collectors`. The
reference page is written from it (`inspector reference`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from inspector.security.settings import SOCKETS
from inspector.sources.base import LOSSES
from inspector.types import Fallback

Kind = Literal["counter", "gauge", "histogram", "summary", "info"]
Values = tuple[str, ...]
OPEN: Values = ()
"""Values that only the station file, a recipe or the machine knows: a series is there once its value is."""
CAMERAS: Values = ("the cameras of the station file",)
"""Each of them has its series from the start."""
PARTS: Values = ("the parts of the station file",)
"""The same."""


@dataclass(frozen=True, slots=True)
class Row:
    """A metric.

    Attributes:
        name: as it is scraped, less `inspector_`.
        kind: of Prometheus' types.
        text: its HELP line.
        labels: the values of each: a closed set, seeded at 0 so that a rate does not miss the first; `CAMERAS` or
            `PARTS`, or `OPEN`: with one of these nothing is seeded.
    """

    name: str
    kind: Kind
    text: str
    labels: Mapping[str, Values] = field(default_factory=dict)


_CAMERA = {"camera": CAMERAS}
_OF_CAMERA = {"camera": OPEN}
_PART = {"part": PARTS}
_GPU = {"gpu": OPEN}
_DEVICE = {"device": OPEN}

ROWS = (
    Row("station_info", "info", "Name of the station.", {"station": OPEN}),
    Row("build_info", "info", "Versions.", {"version": OPEN, "python": OPEN}),
    Row(
        "starts_total", "counter",
        "Starts of the station, kept across restarts, by how the previous run ended: fault is one that the program "
        "detected itself; kill is a signal, crash, watchdog or power cut.",
        {"after": ("first", "stop", "fault", "kill")},
    ),
    Row(
        "state", "gauge", "1 for the current state of the station, 0 for the others.",
        {"inspector_state": ("STARTING", "READY", "RUNNING", "DEGRADED", "FAULT", "STOPPING")},
    ),
    Row("threads", "gauge", "Number of threads of the process."),
    Row("frames_received_total", "counter", "Frames accepted, and triggers announced.", _CAMERA),
    Row(
        "results_total", "counter",
        "Verdicts published. In each answer of /metrics, received = results + in flight.",
        {**_CAMERA, "verdict": ("PASS", "FAIL", "ERROR"), "reason": ("every reason possible for the verdict",)},
    ),
    Row("frames_in_flight", "gauge", "Frames, and triggers without a frame, that have no verdict yet.", _CAMERA),
    Row(
        "triggers_total", "counter",
        "Triggers announced by `trigger` and `announce`; triggers = results + open at every scrape.", _CAMERA,
    ),
    Row(
        "trigger_results_total", "counter", "Verdicts on triggers, which are in results_total too.",
        {**_CAMERA, "verdict": ("PASS", "FAIL", "ERROR")},
    ),
    Row("triggers_open", "gauge", "Triggers that have no verdict yet.", _CAMERA),
    Row("parts_total", "counter", "Parts begun by a first view; parts = results + open at every scrape.", _PART),
    Row(
        "part_results_total", "counter", "Verdicts on parts, which are not in results_total.",
        {**_PART, "verdict": ("PASS", "FAIL", "ERROR"), "reason": ("every reason possible for the verdict",)},
    ),
    Row("parts_open", "gauge", "Parts that have no verdict yet.", _PART),
    Row(
        "part_duration_seconds", "histogram",
        "Time from the arrival of a part's first view, or of its trigger where that was first, to its verdict. There "
        "is a bucket edge at each window configured at the start.", _PART,
    ),
    Row(
        "frames_unidentified_total", "counter", "Messages refused because they belong to no camera of this station.",
        {"cause": ("parts", "header", "camera")},
    ),
    Row("frames_abandoned_total", "counter", "Frames whose judging was abandoned because they had "
        "already been answered.", _CAMERA),
    Row("results_late_total", "counter", "Results discarded because the frame had already been answered.", _CAMERA),
    Row("results_lagging_total", "counter", "How often a subscriber fell behind and began to lose messages."),
    Row("deadline_seconds", "gauge", "Deadline of a frame, from reception to verdict.", _CAMERA),
    Row(
        "expected_frames_per_second", "gauge", "Frame rate expected by the station file (expected_fps).", _OF_CAMERA
    ),
    Row("last_frame_timestamp_seconds", "gauge", "Wall clock time at which the last frame was received.", _OF_CAMERA),
    Row("source_up", "gauge", "1 while the camera's source is connected.", _CAMERA),
    Row("camera_offline", "gauge", "1 while the camera is offline: its frames are answered ERROR OFFLINE.", _CAMERA),
    Row(
        "frames_missing_total", "counter",
        "Frames of a camera that never came whole: gap, its numbers skip them; damaged, they lack a part; trigger, "
        "none came after one.",
        {**_CAMERA, "cause": LOSSES},
    ),
    Row(
        "triggers_missed_total", "counter",
        "Triggers that a camera missed, by its own count (missed_trigger_counter, or the chunk CounterValue).",
        _OF_CAMERA,
    ),
    Row(
        "camera_ptp_locked", "gauge", "1 while the clock of a connected camera with `ptp: true` follows a master.",
        _OF_CAMERA,
    ),
    Row("source_reconnects_total", "counter", "How often the source was lost or not available.", _CAMERA),
    Row(
        "stage_duration_seconds", "histogram",
        "Time a frame spent in a stage. There is a bucket edge at each deadline configured at the start.",
        {
            "camera": OPEN,
            "stage": ("capture", "queue", "preprocess", "infer", "decide", "journal", "publish", "total"),
        },
    ),
    Row("tiles_total", "counter", "Tiles judged, by device.", _DEVICE),
    Row("camera_device", "gauge", "1 for the device that judges the camera.", {**_OF_CAMERA, **_DEVICE}),
    Row("buffer_bytes", "gauge", "Bytes of frames waiting for their device."),
    Row("buffer_max_bytes", "gauge", "Largest number of bytes of frames that may wait for their device."),
    Row("buffer_frames", "gauge", "Frames waiting for their device."),
    Row(
        "score", "histogram", "Frame scores, as a share of the recipe's threshold; above 1 is a reject.", _OF_CAMERA
    ),
    Row(
        "score_median", "gauge",
        "Median score of the last 200 frames judged with this recipe, as a share of the threshold; from 20 frames on.",
        _OF_CAMERA,
    ),
    Row(
        "calibration_score", "summary",
        "Scores of the good frames that the threshold was set from, as a share of the threshold.",
        {"camera": OPEN, "quantile": OPEN},
    ),
    Row("threshold", "gauge", "The recipe's threshold.", _OF_CAMERA),
    Row(
        "recipe_info", "info",
        "The recipe of a camera. Its threshold was set by calibration, by hand, or unknown: then a manual edit would "
        "not be noticed. `fallback`: why its engine is slower than the machine would allow.",
        {
            "camera": OPEN, "recipe_id": OPEN, "backbone": OPEN, "model_sha256": OPEN, "precision": OPEN,
            "engine": OPEN, "fallback": tuple(Fallback), "threshold_set_by": OPEN,
        },
    ),
    Row(
        "recipe_switches_total", "counter", "Recipe changes at run time, switched or refused.",
        {**_CAMERA, "outcome": ("switched", "refused")},
    ),
    Row(
        "reloads_total", "counter", "Reloads of the station file, applied or refused.",
        {"outcome": ("applied", "refused")},
    ),
    Row("warnings_total", "counter", "Frames that passed with a score in the recipe's warn band.", _CAMERA),
    Row("consecutive_rejects", "gauge", "FAIL verdicts in a row: a PASS resets the count, an ERROR does not.", _CAMERA),
    Row("overlays_dropped_total", "counter", "Overlays dropped because the renderer was busy.", _CAMERA),
    Row("journal_commit_seconds", "histogram", "Duration of a durable commit to the journal."),
    Row("journal_errors_total", "counter", "Failed writes to the journal."),
    Row("journal_backlog", "gauge", "Published results that are not recorded yet."),
    Row(
        "journal_lost_total", "counter",
        "Published results that were never recorded: the disk could not be written, or they were missing at a start.",
    ),
    Row("evidence_bytes", "gauge", "Bytes of the images and results kept as evidence."),
    Row("evidence_max_bytes", "gauge", "Largest number of bytes of evidence that are kept."),
    Row("evidence_suspended", "gauge", "1 while the disk has less free space than evidence.min_free, "
        "so that no evidence is kept."),
    Row("evidence_written_total", "counter", "Results kept as evidence.", _CAMERA),
    Row("evidence_dropped_total", "counter", "Results that should have been kept as evidence but "
        "were dropped.", _CAMERA),
    Row("disk_free_bytes", "gauge", "Free space on the disk of state_dir.", {"directory": ("state",)}),
    Row("disk_size_bytes", "gauge", "Size of the disk of state_dir.", {"directory": ("state",)}),
    Row("device_memory_bytes", "gauge", "Memory used by the networks on the device.", _DEVICE),
    Row("gpu_utilisation_ratio", "gauge", "Share of time the GPU was busy, for all programs.", _GPU),
    Row("gpu_memory_used_bytes", "gauge", "GPU memory in use, by all programs.", _GPU),
    Row("gpu_memory_total_bytes", "gauge", "Total memory of the GPU.", _GPU),
    Row("gpu_temperature_celsius", "gauge", "Temperature of the GPU.", _GPU),
    Row("gpu_power_watts", "gauge", "Power the GPU draws.", _GPU),
    Row(
        "handshakes_refused_total", "counter", "Connections refused because they have no key on the list of clients.",
        {
            "socket": SOCKETS,
            "cause": ("unknown", "revoked", "role", "mechanism", "cryptography", "protocol", "incomplete"),
        },
    ),
    Row(
        "messages_refused_total", "counter",
        "Messages refused from connected clients: too many parts, too fast, or not permitted for the key.",
        {"socket": ("frames", "imagezmq", "requests"), "cause": ("parts", "rate", "permission")},
    ),
    Row("oldest_key_timestamp_seconds", "gauge", "When the oldest accepted key was created; NaN if there is none."),
    Row(
        "http_requests_refused_total", "counter", "HTTP requests refused or abandoned.",
        {"cause": ("full", "timeout", "handshake", "size", "request", "method", "authentication", "throttled")},
    ),
    Row(
        "certificate_expiry_timestamp_seconds", "gauge", "When the first certificate in the chain of "
            "a TLS socket expires.",
        {"socket": OPEN},
    ),
    Row(
        "log_messages_total", "counter", "Log lines written; suppressed repeats are not counted.",
        {"level": ("warning", "error")},
    ),
    Row("clock_synchronised", "gauge", "1 while the clock is synchronised to a reference."),
    Row("clock_error_seconds", "gauge", "Largest possible error of the clock, as estimated by the kernel."),
)  # fmt: skip

BY_NAME: Mapping[str, Row] = {row.name: row for row in ROWS}
PREFIX = "inspector_"
