"""The results that a station sends, and the words for their fields."""

from __future__ import annotations

from inspector.cli.reference.json_forms import SEQ, Schema, define, or_null, refer, say
from inspector.reasons import MEANINGS
from inspector.types import SCHEMA, Reason, Result, Verdict

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
