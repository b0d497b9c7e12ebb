"""JSON of the wire → dicts and verdicts that keep every rule, or `MalformedError`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import NoneType
from typing import Any

from inspector.client.events import Verdict

_SCHEMA = 1
Rules = Mapping[str, tuple[type, ...]]

_TEXT, _TEXT_OR_NONE, _NUMBER_OR_NONE = (str,), (str, NoneType), (float, int, NoneType)
_RESULT: Rules = {
    "camera": _TEXT, "seq": (int,), "boot_id": _TEXT, "frame_id": _TEXT, "part_id": _TEXT_OR_NONE,
    "trigger_id": _TEXT_OR_NONE, "verdict": _TEXT, "reason": _TEXT, "reason_code": (int,), "score": _NUMBER_OR_NONE,
    "threshold": _NUMBER_OR_NONE, "warn": (bool,), "simulated": (bool,), "replay": (bool,), "message": _TEXT_OR_NONE,
}  # fmt: skip
_STATUS: Rules = {"boot_id": _TEXT, "state": _TEXT, "lifebit": (int,), "last_seq": (dict,)}


class MalformedError(ValueError):
    """Raised for a message that breaks the protocol. The subscriber counts it and doubts; it never leaves it."""


def load(body: bytes) -> dict[str, Any]:
    """The message's JSON object.

    Raises:
        MalformedError: it is none.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"message: must be JSON: {error}") from error
    if type(message) is not dict:
        raise MalformedError(f"message: must be an object, got {type(message).__name__}")
    return message


def parse_verdict(raw: object, camera: str, *, replayed: bool = False) -> Verdict:
    """A result as an event.

    Args:
        raw: the result; more keys than those that are known do no harm.
        camera: the one it must be of.
        replayed: it came as the answer to a request, so it is a replay whatever it says.

    Raises:
        MalformedError: a key is missing, of the wrong type, or contradicts the verdict.
    """
    checked = check(raw, _RESULT, schema=True)
    if checked["camera"] != camera or checked["seq"] < 1 or checked["verdict"] not in {"PASS", "FAIL", "ERROR"}:
        raise MalformedError(f"result: camera, seq or verdict breaks its rule, got {checked!r:.200}")
    if checked["verdict"] == "PASS" and (checked["reason_code"] != 0 or checked["score"] is None):
        raise MalformedError(f"result: a PASS must have reason 0 and a score, got {checked!r:.200}")
    if replayed:
        checked = {**checked, "replay": True}
    return Verdict(**{key: checked[key] for key in _RESULT}, raw=checked)


def parse_status(body: bytes) -> dict[str, Any]:
    """A status message.

    Raises:
        MalformedError: a key is missing or of the wrong type.
    """
    status = check(load(body), _STATUS, schema=True)
    check(status["last_seq"], dict.fromkeys(status["last_seq"], (int,)))
    if min(status["last_seq"].values(), default=0) < 0:
        raise MalformedError(f"last_seq: must hold numbers from 0 on, got {status['last_seq']!r:.200}")
    check(status.get("last_result", {}), {})
    return status


def check(message: object, rules: Rules, *, schema: bool = False) -> dict[str, Any]:
    """The same message.

    Raises:
        MalformedError: it is no object, or a key is missing, of the wrong type, or not finite.
    """
    if type(message) is not dict:
        raise MalformedError(f"message: must be an object, got {type(message).__name__}")
    if schema and message.get("schema") != _SCHEMA:
        raise MalformedError(f"schema: must be {_SCHEMA}, got {message.get('schema')!r:.80}")
    for key, kinds in rules.items():
        value = message.get(key, ...)
        if type(value) not in kinds or (type(value) is float and not math.isfinite(value)):  # a bool is no int here
            raise MalformedError(f"{key}: must be {[kind.__name__ for kind in kinds]} and finite, got {value!r:.80}")
    return message
