"""All metrics of a station: name, kind, labels and meaning of each in one row.

What is counted along the flow is made of its row in `metrics`, what is read off at a scrape in `collectors`. The
reference page is written from it (`inspector reference`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from inspector.security.settings import SOCKETS
from inspector.types import Fallback

Kind = Literal["counter", "gauge", "histogram", "summary", "info"]
Values = tuple[str, ...]
OPEN: Values = ()
"""Values that only the station file, a recipe or the machine knows: a series is there once its value is."""
CAMERAS: Values = ("the cameras of the station file",)
"""Each of them has its series from the start."""


@dataclass(frozen=True, slots=True)
class Row:
    """A metric.

    Attributes:
        name: as it is scraped, less `inspector_`.
        kind: of Prometheus' types.
        text: its HELP line.
        labels: the values of each: a closed set, seeded at 0 so that a rate does not miss the first; `CAMERAS`, or
            `OPEN`: with one of these nothing is seeded.
    """

    name: str
    kind: Kind
    text: str
    labels: Mapping[str, Values] = field(default_factory=dict)


_CAMERA = {"camera": CAMERAS}
_OF_CAMERA = {"camera": OPEN}
_GPU = {"gpu": OPEN}

ROWS = (
    Row("station_info", "info", "Which station this is.", {"station": OPEN}),
    Row("build_info", "info", "Versions.", {"version": OPEN, "python": OPEN}),
    Row(
        "starts_total", "counter",
        "Starts of the station, kept over restarts, by how the run before ended: fault is what the program saw itself, "
        "kill a signal, crash, watchdog or power cut.",
        {"after": ("first", "stop", "fault", "kill")},
    ),
    Row(
        "state", "gauge", "1 for the state the station is in.",
        {"inspector_state": ("STARTING", "READY", "RUNNING", "DEGRADED", "FAULT", "STOPPING")},
    ),
    Row("threads", "gauge", "Threads of the process."),
    Row("frames_received_total", "counter", "Frames accepted.", _CAMERA),
    Row(
        "results_total", "counter",
        "Verdicts published; received = results + in flight in each answer of /metrics.",
        {**_CAMERA, "verdict": ("PASS", "FAIL", "ERROR"), "reason": ("every reason that goes with the verdict",)},
    ),
    Row("frames_in_flight", "gauge", "Frames owed a verdict.", _CAMERA),
    Row(
        "frames_unidentified_total", "counter", "Messages refused that no camera of this station could be found for.",
        {"cause": ("parts", "header", "camera")},
    ),
    Row("frames_abandoned_total", "counter", "Frames given up while being judged: answered before.", _CAMERA),
    Row("results_late_total", "counter", "Judged after the frame had been answered: discarded.", _CAMERA),
    Row("results_lagging_total", "counter", "Times a subscriber lagged and began to lose messages."),
    Row("deadline_seconds", "gauge", "Time a frame has for its verdict.", _CAMERA),
    Row(
        "expected_frames_per_second", "gauge", "What the station file says the line sends (expected_fps).", _OF_CAMERA
    ),
    Row("last_frame_timestamp_seconds", "gauge", "Wall clock time the last frame was received.", _OF_CAMERA),
    Row("source_up", "gauge", "1 while the camera's source is connected.", _CAMERA),
    Row("source_reconnects_total", "counter", "Times the source was lost or not there.", _CAMERA),
    Row(
        "stage_duration_seconds", "histogram",
        "Time a frame spent in a stage. Bucket edges at the deadlines in force at the start.",
        {
            "camera": OPEN,
            "stage": ("capture", "queue", "preprocess", "infer", "decide", "journal", "publish", "total"),
        },
    ),
    Row("tiles_total", "counter", "Tiles judged."),
    Row("buffer_bytes", "gauge", "Bytes of frames waiting for the device."),
    Row("buffer_max_bytes", "gauge", "Bytes of frames that may wait."),
    Row("buffer_frames", "gauge", "Frames waiting for the device."),
    Row(
        "score", "histogram", "Frame scores, as a share of the recipe's threshold: above 1 is a reject.", _OF_CAMERA
    ),
    Row(
        "score_median", "gauge",
        "Median score of the last 200 frames judged with this recipe, as a share of the threshold; from 20 frames on.",
        _OF_CAMERA,
    ),
    Row(
        "calibration_score", "summary",
        "What the good frames scored that the threshold was set from, as a share of it.",
        {"camera": OPEN, "quantile": OPEN},
    ),
    Row("threshold", "gauge", "The recipe's threshold.", _OF_CAMERA),
    Row(
        "recipe_info", "info",
        "The recipe of a camera. Its threshold is set by calibration, by hand, or by unknown: an edit would not be "
        "noticed. `fallback`: why its engine is slower than the machine would allow.",
        {
            "camera": OPEN, "recipe_id": OPEN, "backbone": OPEN, "model_sha256": OPEN, "precision": OPEN,
            "engine": OPEN, "fallback": tuple(Fallback), "threshold_set_by": OPEN,
        },
    ),
    Row(
        "recipe_switches_total", "counter", "Recipes put in place at run time, or refused.",
        {**_CAMERA, "outcome": ("switched", "refused")},
    ),
    Row(
        "reloads_total", "counter", "Station files read again and applied, or refused.",
        {"outcome": ("applied", "refused")},
    ),
    Row("warnings_total", "counter", "Frames that passed with a score in the recipe's warn band.", _CAMERA),
    Row("consecutive_rejects", "gauge", "FAILs in a row: a PASS ends them, an ERROR does not.", _CAMERA),
    Row("overlays_dropped_total", "counter", "Overlays given up: the renderer was busy.", _CAMERA),
    Row("journal_commit_seconds", "histogram", "Time of a durable commit."),
    Row("journal_errors_total", "counter", "Failed writes to the journal."),
    Row("journal_backlog", "gauge", "Published results that wait to come on record."),
    Row(
        "journal_lost_total", "counter",
        "Published results that never came on record: the disk took none, or a start did not find them any more.",
    ),
    Row("evidence_bytes", "gauge", "Bytes of the images and results kept as evidence."),
    Row("evidence_max_bytes", "gauge", "Bytes of evidence that are kept at most."),
    Row("evidence_suspended", "gauge", "1 while less of the disk is free than evidence.min_free: none is kept."),
    Row("evidence_written_total", "counter", "Results kept as evidence.", _CAMERA),
    Row("evidence_dropped_total", "counter", "Results wanted as evidence, but given up.", _CAMERA),
    Row("disk_free_bytes", "gauge", "Room left on the disk of state_dir.", {"directory": ("state",)}),
    Row("disk_size_bytes", "gauge", "Size of the disk of state_dir.", {"directory": ("state",)}),
    Row("device_memory_bytes", "gauge", "Memory the network holds on the device."),
    Row("gpu_utilisation_ratio", "gauge", "Share of time the GPU was busy, with all programs.", _GPU),
    Row("gpu_memory_used_bytes", "gauge", "Memory in use, by all programs.", _GPU),
    Row("gpu_memory_total_bytes", "gauge", "Memory of the GPU.", _GPU),
    Row("gpu_temperature_celsius", "gauge", "Temperature of the GPU.", _GPU),
    Row("gpu_power_watts", "gauge", "Power the GPU draws.", _GPU),
    Row(
        "handshakes_refused_total", "counter", "Connections not let in: without a key that is on the list.",
        {
            "socket": SOCKETS,
            "cause": ("unknown", "revoked", "role", "mechanism", "cryptography", "protocol", "incomplete"),
        },
    ),
    Row(
        "messages_refused_total", "counter",
        "Messages of clients that were let in and not looked at: too many parts, too fast, key not for that.",
        {"socket": ("frames", "imagezmq", "requests"), "cause": ("parts", "rate", "permission")},
    ),
    Row("oldest_key_timestamp_seconds", "gauge", "When the oldest key let in was made; NaN: none."),
    Row(
        "http_requests_refused_total", "counter", "HTTP clients refused or given up.",
        {"cause": ("full", "timeout", "handshake", "size", "request", "method", "authentication", "throttled")},
    ),
    Row(
        "certificate_expiry_timestamp_seconds", "gauge", "When the first certificate of a TLS socket expires.",
        {"socket": OPEN},
    ),
    Row(
        "log_messages_total", "counter", "Lines logged; repeats held back are not counted.",
        {"level": ("warning", "error")},
    ),
    Row("clock_synchronised", "gauge", "1 while the clock follows a reference."),
    Row("clock_error_seconds", "gauge", "How far off the clock is at most, as the kernel has it."),
)  # fmt: skip

BY_NAME: Mapping[str, Row] = {row.name: row for row in ROWS}
PREFIX = "inspector_"
