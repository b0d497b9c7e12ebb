"""JSON of the wire → dicts and verdicts that keep every rule, or `MalformedError`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import NoneType
from typing import Any

from inspector.client.events import Verdict

PART = "part/"
"""With it begins what stands for a part where a frame has its camera's name, and the topic of its verdicts."""
_SCHEMA = 1
_INT_LIMIT = 1 << 63
Rules = Mapping[str, tuple[type, ...]]

_TEXT, _TEXT_OR_NONE, _NUMBER_OR_NONE = (str,), (str, NoneType), (float, int, NoneType)
_SPEAKER: dict[str, tuple[type, ...]] = {"station": _TEXT, "boot_id": _TEXT}
_RESULT: Rules = _SPEAKER | {
    "camera": _TEXT, "seq": (int,), "frame_id": _TEXT, "part_id": _TEXT_OR_NONE, "trigger_id": _TEXT_OR_NONE,
    "verdict": _TEXT, "reason": _TEXT, "reason_code": (int,), "score": _NUMBER_OR_NONE, "threshold": _NUMBER_OR_NONE,
    "warn": (bool,), "simulated": (bool,), "replay": (bool,), "message": _TEXT_OR_NONE, "recorded": (bool,),
    "published_utc_ns": (int,),
}  # fmt: skip
_STATUS: Rules = _SPEAKER | {"state": _TEXT, "lifebit": (int,), "last_seq": (dict,), "published_utc_ns": (int,)}
_FIELDS = [field.name for field in fields(Verdict) if field.name in _RESULT]


class MalformedError(ValueError):
    """Raised for a message that breaks the protocol. The subscriber counts it and doubts; it never leaves it."""


def load(body: bytes) -> dict[str, Any]:
    """The message's JSON object.

    Raises:
        MalformedError: it is none, or an object in it has a key twice.
    """
    try:
        message = json.loads(body, object_pairs_hook=_refuse_twins)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"message: must be JSON: {error}") from error
    if type(message) is not dict:
        raise MalformedError(f"message: must be an object, got {type(message).__name__}")
    return message


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    message = dict(pairs)
    if len(message) != len(pairs):
        raise MalformedError(f"each key must occur only once, got {[key for key, _ in pairs]!r:.200}")
    return message


def read_speaker(message: Mapping[str, Any]) -> tuple[str, str]:
    """Whose message it is: station and boot_id.

    Raises:
        MalformedError: it does not say so.
    """
    checked = check(message, _SPEAKER, schema=True)
    return checked["station"], checked["boot_id"]


def name_topic(camera: str) -> str:
    """Where the verdicts of a camera, or of a part `part/NAME`, are published."""
    return camera if camera.startswith(PART) else f"result/{camera}"


def read_camera(topic: str) -> str | None:
    """The camera or part whose verdicts a topic has; None: it has none."""
    camera = topic.removeprefix("result/")
    return camera if name_topic(camera) == topic else None


def parse_verdict(raw: object, camera: str, station: str | None, *, replayed: bool = False) -> Verdict:
    """A result as an event.

    Args:
        raw: the result; more keys than those that are known do no harm.
        camera, station: those it must be of; station None: any.
        replayed: it came as the answer to a request, so it is a replay whatever it says.

    Raises:
        MalformedError: a key is missing, of the wrong type, or contradicts the verdict.
    """
    if replayed and type(raw) is dict:
        raw = {"recorded": True, **raw, "replay": True}  # journals of early versions do not say `recorded`
    checked = check(raw, _RESULT, schema=True)
    if checked["camera"] != camera or checked["seq"] < 1 or checked["verdict"] not in {"PASS", "FAIL", "ERROR"}:
        raise MalformedError(f"result: must have a valid camera, seq and verdict, got {checked!r:.200}")
    if station not in {None, checked["station"]}:
        raise MalformedError(f"station: must be {station!r:.80}, got {checked['station']!r:.80}")
    _refuse_contradictions(checked)
    return Verdict(**{key: checked[key] for key in _FIELDS}, raw=checked)


def _is_number(value: object) -> bool:
    return type(value) in {int, float} and _is_bounded(value)


def _fits_margin(result: Mapping[str, Any]) -> bool:
    margin: Any = result.get("margin")
    expected = result["score"] - result["threshold"]
    return _is_number(margin) and math.isclose(margin, expected, rel_tol=1e-6, abs_tol=1e-9)


_VIEW: Rules = {"camera": _TEXT, "seq": (int,), "verdict": _TEXT, "reason": _TEXT}


def _has_passed_views(result: Mapping[str, Any]) -> bool:
    """Whether a PASS has the views that it must have: a part those of two cameras or more, a frame none."""
    views = result.get("views", [])
    if not result["camera"].startswith(PART) or type(views) is not list:
        return bool(views == [])
    try:
        checked = [check(view, _VIEW) for view in views]
    except MalformedError:
        return False
    are_good = all((view["verdict"], view["reason"]) == ("PASS", "OK") and view["seq"] >= 1 for view in checked)
    return are_good and len(checked) == len({view["camera"] for view in checked}) >= 2


Contradiction = tuple[str, str, Callable[[Mapping[str, Any]], bool]]
"""Key, its rule in words, whether a result keeps it."""

_ANY_RULES: tuple[Contradiction, ...] = (
    ("reason", "must be OK for a PASS and only for a PASS",
     lambda r: (r["verdict"] == "PASS") == (r["reason"] == "OK")),
    ("reason_code", "must be 0 for a PASS and only for a PASS",
     lambda r: (r["verdict"] == "PASS") == (r["reason_code"] == 0)),
    ("recorded", "must be true: only an ERROR may be sent before it is recorded",
     lambda r: r["recorded"] or r["verdict"] == "ERROR"),
)  # fmt: skip
_PASS_RULES: tuple[Contradiction, ...] = (
    ("threshold", "must be a number for a PASS", lambda r: _is_number(r["threshold"])),
    ("score", "must be a number not above the threshold for a PASS",
     lambda r: _is_number(r["score"]) and r["score"] <= r["threshold"]),
    ("margin", "must be score minus threshold", _fits_margin),
    ("regions", "must be an empty list for a PASS", lambda r: r.get("regions") == []),
    ("views", "must be PASS of two or more cameras for a PASS of a part, and none for one of a frame",
     _has_passed_views),
    *((key, "must be text for a PASS (a recipe judged it)", lambda r, key=key: type(r.get(key)) is str and r[key] != "")
      for key in ("recipe_id", "recipe_sha256", "model_sha256")),
)  # fmt: skip


def _refuse_contradictions(result: Mapping[str, Any]) -> None:
    for key, rule, keeps in (*_ANY_RULES, *(_PASS_RULES if result["verdict"] == "PASS" else ())):
        if not keeps(result):
            raise MalformedError(f"{key}: {rule}, got {result.get(key)!r:.80} with {result['verdict']}")


def parse_status(status: dict[str, Any]) -> dict[str, Any]:
    """A status message.

    Raises:
        MalformedError: a key is missing or of the wrong type.
    """
    check(status, _STATUS, schema=True)
    check(status["last_seq"], dict.fromkeys(status["last_seq"], (int,)))
    if min(status["last_seq"].values(), default=0) < 0:
        raise MalformedError(f"last_seq: must hold numbers of at least 0, got {status['last_seq']!r:.200}")
    check(status.get("last_result", {}), {})
    read_parts(status)
    return status


def read_parts(status: Mapping[str, Any]) -> dict[str, list[str]]:
    """The cameras of each part; a station without parts need not say so.

    Raises:
        MalformedError: they are no lists of names.
    """
    parts = check(status.get("parts", {}), {})
    found = {name: check(part, {"cameras": (list,)})["cameras"] for name, part in parts.items()}
    if not all(type(camera) is str for cameras in found.values() for camera in cameras):
        raise MalformedError(f"parts: must hold names of cameras, got {parts!r:.200}")
    return found


def check(message: object, rules: Rules, *, schema: bool = False) -> dict[str, Any]:
    """The same message.

    Raises:
        MalformedError: it is no object, or a key is missing, of the wrong type, or not finite.
    """
    if type(message) is not dict:
        raise MalformedError(f"message: must be an object, got {type(message).__name__}")
    if schema and (type(message.get("schema")) is not int or message["schema"] != _SCHEMA):
        raise MalformedError(f"schema: must be {_SCHEMA}, got {message.get('schema')!r:.80}")
    for key, kinds in rules.items():
        if key not in message:
            raise MalformedError(f"{key}: must be present, but is missing")
        value = message[key]
        if type(value) not in kinds or not _is_bounded(value):  # a bool is no int here
            raise MalformedError(f"{key}: must be {[kind.__name__ for kind in kinds]} and finite, got {value!r:.80}")
    return message


def _is_bounded(value: object) -> bool:
    """Numbers are finite, whole ones have 64 bits: Python's own have no end."""
    if type(value) is int:
        return -_INT_LIMIT <= value < _INT_LIMIT
    return type(value) is not float or math.isfinite(value)
