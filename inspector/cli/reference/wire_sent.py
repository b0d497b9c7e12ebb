"""The messages that a station sends: results, status, answers."""

from __future__ import annotations

from inspector.cli.reference.json_forms import SEQ, TEXT, TIME, Schema, define, or_null, refer, say
from inspector.reasons import MEANINGS
from inspector.types import SCHEMA, Fallback, Reason, Result, Verdict

CAMERA = "The camera's name in the station file."
RESULT = {
    "schema": "Version of the protocol.",
    "station": "The station's name.",
    "boot_id": "Of the run of the station: another one after each start.",
    "seq": "Number of the verdict. It rises by one for each camera and part, over restarts too: a gap is a loss.",
    "camera": "The camera's name in the station file; `part/NAME` of a part.",
    "frame_id": "The sender's name for the frame; made by the station where it gave none, or where no frame came. Of a "
    "part its id.",
    "part_id": "As the sender gave it.",
    "trigger_id": "As the sender gave it, or the trigger's; null where the frame is of no open trigger.",
    "verdict": "Only PASS lets a part through, and only where `simulated` and `replay` are false.",
    "reason": "Why the verdict is what it is; see reasons.md.",
    "reason_code": "The reason as an integer, which never changes its meaning.",
    "score": "The frame's score; null where nothing was judged. Of a part that of the view nearest to a FAIL, as are "
    "threshold and recipe.",
    "threshold": "A higher score is FAIL; null where there is no recipe.",
    "margin": "`score` minus `threshold`.",
    "regions": "Connected areas above the threshold, the highest peak first.",
    "captured_utc_ns": "When it was captured, by the sender's clock, in nanoseconds since 1970; 0: unknown.",
    "received_utc_ns": "When it reached the station, in nanoseconds since 1970.",
    "published_utc_ns": "When the verdict was made, in nanoseconds since 1970.",
    "deadline_ms": "The camera's, from reception to the published verdict; the part's `window_ms`.",
    "latency_ms": "Time that each stage took; `total`: from reception on.",
    "recipe_id": "Name of the recipe that judges the camera; null: none.",
    "recipe_sha256": "Of its recipe.yaml.",
    "model_sha256": "Of its weights.",
    "simulated": "The frame shows no real part: let none through for it.",
    "replay": "It was published before: let no part through for it.",
    "message": "Why, in words.",
    "warn": "A PASS whose score lies in the recipe's warn band.",
    "pose": "Where the part lay, of a recipe with a fixture; null: there is none, or nothing was judged.",
    "recorded": "It was on record when it was published; only an ERROR may be false.",
    "views": "Of a part, what each of its cameras said; empty after a restart, and of frames.",
    "web": "Of a camera with `line_scan`: the lines of the web that it is about; else null.",
}
_VIEW = {
    "camera": CAMERA,
    "frame_id": "Its frame; null: none came.",
    "seq": "Number of the camera's result; null, as all after it: none left before the part was decided.",
    "verdict": "The camera's; a part is PASS only where all are.",
    "reason": "The camera's.",
    "score": "The frame's score; null where nothing was judged.",
    "threshold": "A higher score is FAIL.",
}
_POSE = {
    "dx_px": "How far the part lies to the right of the reference, in sensor pixels.",
    "dy_px": "How far below.",
    "angle_deg": "How far it is turned about the frame's middle, clockwise in the picture.",
    "scale": "Its size against the reference.",
    "score": "Correlation with the reference, at most 1.",
}
_REGION = {
    "xyxy": "Left, top, right, bottom in sensor pixels; right and bottom are exclusive.",
    "peak": "Highest value of the anomaly map inside.",
    "area": "Pixels above the threshold, in sensor pixels.",
    "web_y": "Top and bottom on the web, in lines; the bottom is exclusive. null: the frame is of none.",
    "web_mm": "The same in millimetres from line 0 on; null: the line pitch is not known.",
    "defect": "Number of the defect: another frame that shows it too gives the same one. null: the frame is of no web.",
}
_WEB = {
    "run": "Lines of one run follow each other without a gap; a gap and another part begin another, `boot_id` too.",
    "y": "The frame's lines, counted from 0, where the part or the station began; the second number is exclusive.",
    "owned": "Those of them that no frame before had: of all results together, each line once.",
    "encoder_value": "What the encoder counted at the frame's first line; null: it was not told.",
    "line_pitch_um": "From one line to the next, in micrometres; null: not known.",
}


def define_results() -> dict[str, Schema]:
    """Results, as the class says, with the verdict that goes with each reason."""
    from pydantic import TypeAdapter

    of_class = TypeAdapter(Result).json_schema()
    region, web, pose = (of_class["$defs"][name]["properties"] for name in ("Region", "Web", "Pose"))
    properties = of_class["properties"] | {
        "schema": {"const": SCHEMA},
        "seq": SEQ,
        "reason": {"enum": [reason.name for reason in Reason]},
        "verdict": {"enum": [verdict.value for verdict in Verdict]},
        "reason_code": {"enum": [reason.value for reason in Reason]},
        "margin": or_null({"type": "number"}),
        "regions": {"type": "array", "items": refer("region")},
        "views": {"type": "array", "items": refer("view")},
        "web": or_null(refer("web")),
        "pose": or_null(refer("pose")),
    }
    properties = say(RESULT, {name: _strip(value) for name, value in properties.items()})
    rules = [_pair(reason) for reason in Reason]
    recorded = {"if": {"properties": {"recorded": {"const": False}}, "required": ["recorded"]}}
    rules.append(recorded | {"then": {"properties": {"verdict": {"const": Verdict.ERROR.value}}}})
    return {
        "result": define("The one verdict on one frame, or part.", properties) | {"allOf": rules},
        "recorded_result": define(
            "A result from the journal; old ones lack `recorded`, `pose`, `views` and `web`.",
            properties,
            ("recorded", "pose", "views", "web"),
        ),
        "view": _define_view(of_class["$defs"]["View"]["properties"]),
        "region": define(
            "One connected area above the threshold; old ones, from the journal, lack the last three.",
            say(_REGION, {name: _strip(value) for name, value in region.items()}),
            ("web_y", "web_mm", "defect"),
        ),
        "pose": define("Where the part lay.", say(_POSE, {name: _strip(value) for name, value in pose.items()})),
        "web": define("Where on a web a frame lies.", say(_WEB, {name: _strip(value) for name, value in web.items()})),
    }


def _define_view(of_class: dict[str, Schema]) -> Schema:
    """A view, as the class says."""
    properties = {name: _strip(value) for name, value in of_class.items()} | {
        "seq": or_null(SEQ),
        "verdict": {"enum": [*(verdict.value for verdict in Verdict), None]},
        "reason": {"enum": [*(reason.name for reason in Reason), None]},
    }
    return define("What one camera of a part said.", say(_VIEW, properties))


def _pair(reason: Reason) -> Schema:
    """A reason goes with one code and one verdict."""
    fixed = {"reason_code": {"const": reason.value}, "verdict": {"const": MEANINGS[reason].verdict.value}}
    return {"if": {"properties": {"reason": {"const": reason.name}}}, "then": {"properties": fixed}}


def _strip(value: Schema) -> Schema:
    return {key: each for key, each in value.items() if key not in {"title", "default"}}


def define_status() -> dict[str, Schema]:
    """The status and what is in it."""
    from inspector.service.telemetry.health import State

    by_camera: Schema = {"type": "object"}
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
            properties | _list_changes() | _list_offline() | _list_sources() | {"parts": parts},
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
                "start; null: it is not asked (missed_trigger_counter).",
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
