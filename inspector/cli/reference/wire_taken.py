"""The messages that a station takes: headers of frames, requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inspector.cli.reference.json_forms import SEQ, TEXT, TIME, Schema, define, or_null, refer
from inspector.cli.reference.wire_results import CAMERA, RESULT
from inspector.types import PixelFormat


def define_frames() -> dict[str, Schema]:
    """The header of a frame, ours and imagezmq's."""
    from inspector.sources.wire import MAX_TEXT

    name = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_TEXT}, {"type": "integer"}]}
    ids = {
        key: {"description": "Comes back in the result."} | or_null(refer("id")) for key in ("part_id", "trigger_id")
    }
    pixels: dict[str, Schema] = {
        "dtype": {"description": "Of raw pixels.", "enum": ["uint8", "uint16"]},
        "shape": {
            "description": "Of raw pixels: [H, W], [H, W, 1] or [H, W, 3].",
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 2,
            "maxItems": 3,
        },
    }
    more = ids | {
        "captured_utc_ns": {"description": RESULT["captured_utc_ns"]} | or_null(TIME),
        "simulated": {"description": "true: the frame shows no real part.", "type": "boolean"},
        "encoder_value": {"description": "What the encoder counted at the first line of a strip of a web."}
        | or_null({"type": "integer", "minimum": -(2**63), "exclusiveMaximum": 2**63}),
    }
    ours: dict[str, Schema] = {
        "camera": {"description": CAMERA} | TEXT,
        "frame_id": {"description": "The sender's name for the frame."} | refer("id"),
        "encoding": {"description": "What the second part holds.", "enum": ["raw", "jpeg", "png"]},
        "pixel_format": {
            "description": "Of raw pixels with three channels; by default the camera's.",
            "enum": [PixelFormat.RGB8.value, PixelFormat.BGR8.value],
        },
    }
    raw = {"if": {"properties": {"encoding": {"const": "raw"}}}, "then": {"required": list(pixels)}}
    header = define("Of a frame, in the first of two parts.", ours | pixels | more, ("pixel_format", *pixels, *more))
    text = {"msg": {"description": "The `sender` of a camera of type imagezmq."} | TEXT}
    imagezmq = define(
        "imagezmq's own; without dtype and shape the pixels are a JPEG.", text | pixels | more, (*pixels, *more)
    )
    return {
        "id": name | {"description": "Text, or a whole number."},
        "frame_header": header | raw,
        "imagezmq_header": imagezmq | {"not": {"required": ["camera"]}, "dependentRequired": {"dtype": ["shape"]}},
    }


def define_requests() -> dict[str, Schema]:
    """What a station can be asked."""
    camera = {"camera": {"description": CAMERA} | TEXT}
    of_any = {"camera": {"description": RESULT["camera"]} | TEXT}
    recipe = {"description": "A recipe's folder on the station's machine."} | TEXT
    named = {key: {"description": "Of what is prepared."} | TEXT for key in ("id", "recipe_sha256")}
    one_or_all = {"camera": {"description": "The camera's name; absent or null: all cameras."} | or_null(TEXT)}
    keep = {"keep": {"description": "true: over a restart too.", "type": "boolean"}}
    width = {"width": {"description": "Of the picture at most.", "type": "integer", "minimum": 16, "maximum": 8192}}
    told = {"camera": {"description": "The camera's name, or those of a group."} | refer("camera_or_group")} | {
        "trigger_id": {"description": "Its name; comes back in the result."} | refer("id"),
        "part_id": {"description": "Comes back in the result."} | or_null(refer("id")),
        "timeout_ms": {
            "description": "How long its frame may take to come; by default the camera's deadline_ms.",
            "type": "integer", "minimum": 1, "maximum": 600_000,
        },
    }  # fmt: skip
    given = {"given_utc_ns": {
        "description": "When the signal was given, in nanoseconds since 1970; absent: it is to come.",
        "type": "integer", "exclusiveMinimum": 0,
    }}  # fmt: skip
    optional = ("part_id", "timeout_ms")
    switch = camera | named | {"recipe": recipe}
    requests = {
        "status_request": _ask("The status, now.", "status"),
        "replay_request": _ask("Results again, from a number on.", "replay", of_any | {"from_seq": _say_seq()}),
        "drain_request": _ask("Judge what waits, and stop.", "drain"),
        "prepare_request": _ask(
            "Load a recipe beside the one that judges.", "recipe", camera | {"recipe": recipe}, "prepare"
        ),
        "switch_request": _ask(
            "Judge with the prepared recipe from now on.", "recipe", switch, "switch", (*named, "recipe")
        )
        | {"anyOf": [{"required": [key]} for key in named]},
        "offline_request": _ask(
            "Answer all frames ERROR OFFLINE from now on.", "offline", one_or_all | keep, None, ("camera", "keep")
        ),
        "online_request": _ask(
            "Judge frames captured and received from now on.", "online", one_or_all, None, ("camera",)
        ),
        "snapshot_request": _ask("The camera's last frame.", "snapshot", camera | width, None, ("width",)),
        "live_request": _ask(
            "Live pictures on the overlays socket, for a while.",
            "live",
            camera | width | _list_pace(),
            None,
            ("width", "rate_hz", "seconds"),
        ),
        "trigger_request": _ask(
            "Fire the cameras: all or none; each owes one verdict.", "trigger", told, None, optional
        ),
        "announce_request": _ask(
            "A hardware trigger comes, or came: each camera owes one verdict.",
            "announce",
            told | given,
            None,
            (*optional, "given_utc_ns"),
        ),
        "recipe_status_request": _ask("Recipes in use, and the last changes.", "recipe", {}, "status"),
    }
    return requests | {
        "request": {"description": "Any of the requests.", "oneOf": [refer(name) for name in requests]},
    }


def _list_pace() -> dict[str, Schema]:
    from inspector.service.orders.live import MAX_RATE_HZ, MAX_SECONDS

    return {
        "rate_hz": {"description": "Pictures a second at most.", "type": "number"}
        | {"exclusiveMinimum": 0, "maximum": MAX_RATE_HZ},
        "seconds": {"description": "For how long.", "type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
    }


def _ask(
    description: str,
    request: str,
    more: Mapping[str, Any] | None = None,
    action: str | None = None,
    optional: tuple[str, ...] = (),
) -> Schema:
    fixed: dict[str, Schema] = {"request": {"description": "What is asked for.", "const": request}}
    if action is not None:
        fixed["action"] = {"description": "What is to be done with recipes.", "const": action}
    return define(description, fixed | dict(more or {}), optional) | {"additionalProperties": False}


def _say_seq() -> Schema:
    return {"description": "The first number that is wanted."} | SEQ
