"""How fast one station is, what limits it, and what it uses."""

from __future__ import annotations

from typing import Any

from builder.dashboard import build_dashboard
from builder.panels import PER_SECOND, stat, time_series
from builder.queries import CAMERA, INSTANCE, RATE, quantile, rate, results

STAGES = "inspector_stage_duration_seconds"
TOTAL = f'{CAMERA},stage="total"'
PROCESS = f'job="inspector",{INSTANCE}'
COMMIT = "inspector_journal_commit_seconds"


def build() -> dict[str, Any]:
    """The dashboard."""
    rows = [
        (4, _now()), (8, _latency()), (8, _stages()), (8, _losses()), (7, _journal()), (7, _gpu()), (7, _process()),
        (7, _disk()),
    ]  # fmt: skip
    text = "Time from reception to verdict by stage; device, process and disks."
    return build_dashboard("inspector-device", "latency and device", text, rows, many=False)


def _now() -> list[dict[str, Any]]:
    late = f"{results(reason='DEADLINE', window='[5m]')} / ({results(window='[5m]')} > 0)"
    missed = ((None, "green"), (0.001, "orange"), (0.01, "red"))
    tiles = f"sum(rate(inspector_tiles_total{{{INSTANCE}}}[1m]))"
    return [
        stat("p50", "s", "Half of the frames were faster than this.", (quantile(0.5, STAGES, where=TOTAL), "")),
        stat("p99", "s", "One frame in 100 was slower than this.", (quantile(0.99, STAGES, where=TOTAL), "")),
        stat("p99.9", "s", "One frame in 1000 was slower than this.", (quantile(0.999, STAGES, where=TOTAL), "")),
        stat(
            "Deadline", "s", "The shortest deadline of the cameras shown.",
            (f"min(inspector_deadline_seconds{{{CAMERA}}})", ""),
        ),
        stat("Missed", "percentunit", "Share of ERROR DEADLINE in all verdicts, 5 minutes.", (late, ""), steps=missed),
        stat("Tiles now", PER_SECOND, "Tiles judged per second, on all devices.", (tiles, "")),
    ]  # fmt: skip


def _latency() -> list[dict[str, Any]]:
    levels = ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))
    deadline = (f"inspector_deadline_seconds{{{CAMERA}}}", "limit: deadline of {{camera}}")
    mean = f"{rate(f'{STAGES}_sum', 'stage', where=_JUDGING)} / {rate(f'{STAGES}_count', 'stage', where=_JUDGING)} >= 0"
    return [
        time_series(
            "From reception to verdict", "s", "All selected cameras together; dashed: the deadlines.",
            *((quantile(level, STAGES, where=TOTAL), name) for level, name in levels), deadline, log=True,
        ),
        time_series("Where the time goes", "s", "Mean time per frame, by stage.", (mean, "{{stage}}"), stacked=True),
    ]  # fmt: skip


_JUDGING = f'{CAMERA},stage!="total"'


def _stages() -> list[dict[str, Any]]:
    texts = {
        0.5: "Median frame",
        0.99: "Slowest 1 % of frames",
        0.999: "Slowest 0.1 % of frames",
    }
    return [
        time_series(
            f"Stages, p{level * 100:g}", "s", f"{text}, stage by stage.",
            (quantile(level, STAGES, "stage"), "{{stage}}"), log=True,
        )
        for level, text in texts.items()
    ]  # fmt: skip


def _losses() -> list[dict[str, Any]]:
    counters = (
        ("frames_abandoned", "abandoned while judged", CAMERA),
        ("results_late", "judged too late", CAMERA),
        ("overlays_dropped", "overlay", CAMERA),
        ("evidence_dropped", "evidence", CAMERA),
        ("results_lagging", "subscriber lags", INSTANCE),
    )
    reasons = "OVERLOAD|DEADLINE|STALE|NOT_READY"
    return [
        time_series(
            "Dropped, by cause", PER_SECOND, "Per second: frames answered ERROR without being "
                "judged, and other things dropped.",
            (results("reason", reason=reasons), "{{reason}}"),
            *((rate(f"inspector_{name}_total", where=where), text) for name, text, where in counters),
        ),
        time_series(
            "Frames waiting", "none", "Frames in the buffer that wait for the device.",
            (f"inspector_buffer_frames{{{INSTANCE}}}", "frames"),
        ),
        time_series(
            "Buffer", "bytes", "Bytes of pixels waiting; dashed: the limit.",
            (f"inspector_buffer_bytes{{{INSTANCE}}}", "waiting"),
            (f"inspector_buffer_max_bytes{{{INSTANCE}}}", "limit: buffer.max_bytes"),
        ),
    ]  # fmt: skip


def _journal() -> list[dict[str, Any]]:
    commits = [(quantile(q, COMMIT, where=INSTANCE), name) for q, name in ((0.5, "p50"), (0.99, "p99"))]
    messages = rate("inspector_log_messages_total", "level", where=f'{INSTANCE},level=~"warning|error|critical"')
    return [
        time_series("Journal: commit", "s", "Time until verdicts are on the disk.", *commits, log=True),
        time_series(
            "Journal: backlog", "none", "Published results that are not recorded yet, and failed writes.",
            (f"inspector_journal_backlog{{{INSTANCE}}}", "backlog"),
            (f"increase(inspector_journal_errors_total{{{INSTANCE}}}{RATE})", "errors"),
            (f"increase(inspector_journal_lost_total{{{INSTANCE}}}{RATE})", "lost"),
        ),
        time_series("Log", PER_SECOND, "Warnings and errors per second; texts: journalctl.", (messages, "{{level}}")),
    ]  # fmt: skip


def _gpu() -> list[dict[str, Any]]:
    def of_gpu(name: str) -> str:
        return f"inspector_gpu_{name}{{{INSTANCE}}}"

    return [
        time_series(
            "GPU in use", "percentunit", "Share of time in which the GPU is busy.",
            (of_gpu("utilisation_ratio"), "GPU {{gpu}}"), maximum=1,
        ),
        time_series(
            "GPU memory", "bytes", "Memory used by all programs, and by the networks; dashed: total memory.",
            (of_gpu("memory_used_bytes"), "GPU {{gpu}}"),
            (f"inspector_device_memory_bytes{{{INSTANCE}}}", "networks on {{device}}"),
            (of_gpu("memory_total_bytes"), "limit: GPU {{gpu}}"),
        ),
        time_series(
            "GPU temperature", "celsius", "Red: limit of the alert.",
            (of_gpu("temperature_celsius"), "GPU {{gpu}}"), limit=85,
        ),
        time_series("GPU power", "watt", "Power drawn by the GPU.", (of_gpu("power_watts"), "GPU {{gpu}}")),
    ]  # fmt: skip


def _process() -> list[dict[str, Any]]:
    return [
        time_series(
            "Memory", "bytes", "Resident memory of the process.",
            (f"process_resident_memory_bytes{{{PROCESS}}}", "resident"),
        ),
        time_series(
            "CPU", "none", "CPU cores in use.", (f"rate(process_cpu_seconds_total{{{PROCESS}}}{RATE})", "cores"),
        ),
        time_series(
            "Descriptors and threads", "none", "If one of them grows for days, there is a leak.",
            (f"process_open_fds{{{PROCESS}}}", "descriptors"), (f"inspector_threads{{{INSTANCE}}}", "threads"),
        ),
        time_series(
            "Tiles", PER_SECOND, "Judged per second.", (f"rate(inspector_tiles_total{{{INSTANCE}}}{RATE})", "tiles"),
        ),
    ]  # fmt: skip


def _disk() -> list[dict[str, Any]]:
    state = f'{{{INSTANCE},directory="state"}}'
    return [
        time_series(
            "State disk", "bytes", "Free space on the disk of the journal and evidence; dashed: its size.",
            (f"inspector_disk_free_bytes{state}", "free"), (f"inspector_disk_size_bytes{state}", "limit: size"),
        ),
        time_series(
            "Evidence", "bytes", "Images and results kept; dashed: the limit.",
            (f"inspector_evidence_bytes{{{INSTANCE}}}", "kept"),
            (f"inspector_evidence_max_bytes{{{INSTANCE}}}", "limit: evidence.max_bytes"),
        ),
        time_series(
            "Evidence written", PER_SECOND, "Results kept per second; suspended: 1 while the disk "
                "has too little free space.",
            (rate("inspector_evidence_written_total", "camera"), "{{camera}}"),
            (f"inspector_evidence_suspended{{{INSTANCE}}}", "suspended"),
        ),
        time_series(
            "Clock", "s", "Largest possible error of the clock; synchronised: 1.",
            (f"inspector_clock_error_seconds{{{INSTANCE}}}", "error"),
            (f"inspector_clock_synchronised{{{INSTANCE}}}", "synchronised"), minimum=None,
        ),
    ]  # fmt: skip
