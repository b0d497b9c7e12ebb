"""The other messages that a station sends: status, triggers, live pictures, answers."""

from __future__ import annotations

from inspector.cli.reference.json_forms import TEXT, TIME, Schema, define, or_null, refer
from inspector.cli.reference.wire_results import CAMERA, RESULT
from inspector.types import SCHEMA, Fallback


def define_status() -> dict[str, Schema]:
    """The status and what is in it."""
    from inspector.service.telemetry.health import State

    by_camera: Schema = {"type": "object"}
    devices = by_camera | {
        "description": "The devices that judge, with the cameras of each.",
        "additionalProperties": {"type": "array", "items": TEXT},
    }
    parts = by_camera | {"description": "Parts that several cameras see.", "additionalProperties": refer("part")}
    properties = {
        "schema": {"description": RESULT["schema"], "const": SCHEMA},
        "station": {"description": RESULT["station"]} | TEXT,
        "boot_id": {"description": RESULT["boot_id"]} | TEXT,
        "state": {"description": "What the station is doing.", "enum": [state.value for state in State]},
        "lifebit": {
            "description": "Moves only while every thread makes progress or is idle.",
            "type": "integer",
            "minimum": 0,
        },
        "last_seq": by_camera
        | {
            "description": "Each camera's and part's last number; 0: none yet.",
            "additionalProperties": {"type": "integer", "minimum": 0},
        },
        "last_result": by_camera
        | {
            "description": "Each camera's and part's last result, marked `replay`, its regions left out.",
            "additionalProperties": refer("recorded_result"),
        },
        "queue_depth": {"description": "Frames that wait for the device.", "type": "integer", "minimum": 0},
        "last_error": {"description": "The last problem, and of what; null: none yet."} | or_null(TEXT),
        "published_utc_ns": {"description": "When it was sent, in nanoseconds since 1970."} | TIME,
    }
    return {
        "status": define(
            "Sent every 0.4 s.",
            properties | _list_changes() | _list_offline() | _list_sources() | {"parts": parts, "devices": devices},
        ),
        "recipe_in_use": define("A recipe that judges a camera.", {
            "recipe_id": {"description": RESULT["recipe_id"]} | TEXT,
            "recipe_sha256": {"description": RESULT["recipe_sha256"]} | TEXT,
            "model_sha256": {"description": RESULT["model_sha256"]} | TEXT,
            "folder": {"description": "Where it was loaded from."} | TEXT,
            "from_station_file": {"description": "The station file names it.", "type": "boolean"},
            "fallback": {
                "description": "Why its engine is slower than the machine would allow.",
                "enum": [fallback.value for fallback in Fallback],
            },
        }),
        "part": define("A kind of part that several cameras see.", {
            "cameras": {"description": "Those that see it.", "type": "array", "items": TEXT},
            "by": {"description": "The id that its views share.", "enum": ["part_id", "trigger_id"]},
            "window_ms": {"description": "From its first view to its verdict.", "type": "integer", "minimum": 1},
        }),
        "source": define("A GenICam camera as it was last found.", {
            "is_connected": {"description": "It is open now.", "type": "boolean"},
            "settings": {
                "description": "All that were written, in their order, when it was last found. What follows a "
                "`…Selector` holds for that selection.",
                "type": "array", "items": refer("read_back"),
            },
            "read_utc_ns": {"description": "When they were read back, in nanoseconds since 1970; 0: never."} | TIME,
            "triggers_missed": {
                "description": "Triggers that the camera missed, by its own count, while it was connected, since the "
                "start; null: it is not asked (missed_trigger_counter, or the chunk CounterValue).",
                "type": ["integer", "null"], "minimum": 0,
            },
            "ptp": {"description": "Its clock; null: it is not asked (ptp), or not connected."}
            | or_null(refer("ptp")),
            "is_dated_by_ptp": {
                "description": "The time of capture of its last frame is PTP's; else this machine mapped it.",
                "type": "boolean",
            },
        }),
        "read_back": define("A setting, in the camera's own words.", {
            "name": {"description": "The camera's, of the feature."} | TEXT,
            "asked": {"description": "What was written."} | TEXT,
            "found": {"description": "What was read afterwards."} | TEXT,
            "differs": {
                "description": "By more than a camera may round: then it is not used.", "type": "boolean",
            },
        }),
        "ptp": define("A camera's clock under IEEE 1588.", {
            "state": {"description": "As the camera calls it; Slave: it follows a master."} | TEXT,
            "offset_ns": {
                "description": "The camera's own measure of how far it is from its master; null: it does not say.",
                "type": ["integer", "null"],
            },
        }),
        "absence": define("A camera that is offline.", {
            "since_utc_ns": {"description": "Since when, in nanoseconds since 1970."} | TIME,
            "who": {"description": "Who asked: a key's name, or an address."} | TEXT,
            "keep": {"description": "It stays offline over a restart.", "type": "boolean"},
        }),
        "switch": define("A recipe that was asked for, and how far it has come.", {
            "camera": {"description": CAMERA} | TEXT,
            "id": {"description": "No other has it; a switch may name it."} | TEXT,
            "recipe": {"description": "Its folder."} | TEXT,
            "recipe_sha256": {"description": "Of the recipe.yaml that was loaded; null before."} | or_null(TEXT),
            "state": _state("preparing", "prepared", "switched", "refused"),
        } | _list_steps()),
        "reload": define("A reload of the station file, and how far it has come.", {
            "state": _state("preparing", "applied", "refused"),
        } | _list_steps()),
    }  # fmt: skip


def _list_changes() -> dict[str, Schema]:
    """What the status and the answer to a `recipe` request have in common."""
    return {
        "recipes": {
            "description": "The recipe of each camera that has one.",
            "type": "object",
            "additionalProperties": refer("recipe_in_use"),
        },
        "last_switch": {
            "description": "By camera, what was asked for last.",
            "type": "object",
            "additionalProperties": refer("switch"),
        },
        "last_reload": {"description": "The last reload; null: none."} | or_null(refer("reload")),
    }


def _list_offline() -> dict[str, Schema]:
    """What the status and the answers to `offline` and `online` have in common."""
    absent = {"description": "The cameras that are offline.", "type": "object"}
    return {"offline": absent | {"additionalProperties": refer("absence")}}


def _list_sources() -> dict[str, Schema]:
    known = {"description": "Cameras of the kinds gige, pylon and genicam.", "type": "object"}
    return {"sources": known | {"additionalProperties": refer("source")}}


def _list_steps() -> dict[str, Schema]:
    return {
        "error": {"description": "Why it was refused."} | or_null(TEXT),
        "who": {"description": "Who asked: a key's name, an address, or `station file`."} | TEXT,
        "asked_utc_ns": {"description": "When it was asked for, in nanoseconds since 1970."} | TIME,
        "ended_utc_ns": {"description": "When it came to its state; null while it is prepared."} | or_null(TIME),
    }


def _state(*states: str) -> Schema:
    return {"description": "How far it has come.", "enum": list(states)}


def define_triggers() -> dict[str, Schema]:
    """What camera programs are sent, and what a trigger is of."""
    group: Schema = {"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True}
    return {
        "camera_or_group": {"description": "A camera's name, or a list of them.", "anyOf": [TEXT, group]},
        "trigger": define("Sent under `trigger/CAMERA`: answer it with a frame that carries its trigger_id.", {
            "schema": {"description": RESULT["schema"], "const": SCHEMA},
            "station": {"description": RESULT["station"]} | TEXT,
            "camera": {"description": CAMERA} | TEXT,
            "trigger_id": {"description": "Of the frame that is asked for."} | TEXT,
            "part_id": {"description": "As the trigger's sender gave it."} | or_null(TEXT),
            "timeout_ms": {"description": "How long the frame may take to come.", "type": "integer", "minimum": 1},
            "told_utc_ns": {"description": "When the trigger was told, in nanoseconds since 1970."} | TIME,
        }),
    }  # fmt: skip


def define_live() -> dict[str, Schema]:
    """What comes with a live picture."""
    times = {name: {"description": RESULT[name]} | TIME for name in ("captured_utc_ns", "received_utc_ns")}
    return {
        "live": define("Sent under `live/CAMERA`, before the JPEG. It is no verdict.", {
            "schema": {"description": RESULT["schema"], "const": SCHEMA},
            "station": {"description": RESULT["station"]} | TEXT,
            "camera": {"description": RESULT["camera"]} | TEXT,
            "frame_id": {"description": RESULT["frame_id"]} | TEXT,
            **times,
            "left_s": {"description": "How long pictures still come, in seconds.", "type": "number", "minimum": 0},
        }),
    }  # fmt: skip


def define_answers() -> dict[str, Schema]:
    """The answers to requests."""
    results = {"description": "Marked `replay`.", "type": "array", "items": refer("recorded_result")}
    more = {"description": "There are more above the last one.", "type": "boolean"}
    error = {"description": "Why not."} | TEXT
    draining = {"description": "The station stops.", "const": True}
    ok = {"ok": {"description": "Whether it was done.", "const": True}}
    refused = {"ok": {"description": "Whether it was done.", "const": False}, "error": error}
    answers = {
        "status_answer": define("To `status`: with all of a status.", ok) | {"allOf": [refer("status")]},
        "replay_answer": define("To `replay`.", ok | {"results": results, "more": more}),
        "drain_answer": define("To `drain`.", ok | {"draining": draining}),
        "offline_answer": define("To `offline`.", ok | _list_offline()),
        "online_answer": define("To `online`.", ok | _list_offline()),
        "snapshot_answer": define("To `snapshot`.", ok | {
            "camera": {"description": CAMERA} | TEXT,
            "frame_id": {"description": RESULT["frame_id"]} | TEXT,
            **{name: {"description": RESULT[name]} | TIME for name in ("captured_utc_ns", "received_utc_ns")},
            "jpeg": {"description": "The frame as a JPEG, in base64.", "contentEncoding": "base64"} | TEXT,
        }),
        "live_answer": define("To `live`: what holds from now on.", ok | {
            "camera": {"description": RESULT["camera"]} | TEXT,
            "rate_hz": {"description": "Pictures a second at most.", "type": "number"},
            "seconds": {"description": "For how long.", "type": "number"},
            "width": {"description": "Of the pictures at most.", "type": "integer"},
        }),
        "trigger_answer": define("To `trigger` and `announce`: it is on record.", ok | {
            "camera": {"description": "As it was asked for."} | refer("camera_or_group"),
            "trigger_id": {"description": "As it was asked for."} | TEXT,
            "timeout_ms": {
                "description": "How long a frame may take to come; of a group, the longest.",
                "type": "integer", "minimum": 1,
            },
        }),
        "switch_answer": define("To `prepare` and `switch`.", ok) | {"allOf": [refer("switch")]},
        "recipe_status_answer": define("To `recipe` with the action `status`.", ok | _list_changes()),
        "refusal": define("To what cannot be done, or is no request.", refused),
    }  # fmt: skip
    return answers | {"answer": {"description": "Any of the answers.", "anyOf": [refer(name) for name in answers]}}
