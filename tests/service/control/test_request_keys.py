"""Every key of a request is read by somebody, and every request has its keys."""

from __future__ import annotations

import pytest

from inspector.cli.reference.wire_taken import define_requests
from inspector.service.control.request_keys import KEYS, check_keys


def test_keys_are_those_of_the_schema_for_every_request() -> None:
    taken: dict[str, set[str]] = {}
    for name, schema in define_requests().items():
        if name != "request":
            properties = schema["properties"]
            taken.setdefault(properties["request"]["const"], set()).update(properties)
    assert taken == {name: {"request", *keys.required, *keys.optional} for name, keys in KEYS.items()}


def test_trigger_is_refused_naming_the_key_that_is_missing_or_unknown() -> None:
    known = "['request', 'camera', 'trigger_id', 'part_id', 'timeout_ms']"
    asked = {"request": "trigger", "camera": "top"}
    with pytest.raises(ValueError, match="trigger_id: is missing") as missing:
        check_keys("trigger", asked)
    assert str(missing.value).endswith(known)
    with pytest.raises(ValueError, match="timeout: must be one of") as unknown:
        check_keys("trigger", asked | {"trigger_id": "t1", "timeout": 300})
    assert str(unknown.value) == f"timeout: must be one of {known}, the keys of trigger"
    check_keys("trigger", asked | {"trigger_id": "t1", "timeout_ms": 300})


def test_request_that_the_table_does_not_know_takes_no_keys() -> None:
    check_keys("new", {"request": "new"})
    with pytest.raises(ValueError, match="camera: must be one of"):
        check_keys("new", {"request": "new", "camera": "top"})
