"""wire.schema.json: JSON Schema of every JSON message that a station sends or takes."""

from __future__ import annotations

import json

from inspector.cli.reference.json_forms import refer
from inspector.cli.reference.markdown import NOTE
from inspector.cli.reference.wire_results import define_results
from inspector.cli.reference.wire_sent import define_answers, define_live, define_status, define_triggers
from inspector.cli.reference.wire_taken import define_frames, define_requests
from inspector.types import SCHEMA


def build_wire() -> str:
    """All messages, each under `$defs`; a document that is none of them is refused."""
    definitions = (
        define_results()
        | define_status()
        | define_triggers()
        | define_live()
        | define_frames()
        | define_requests()
        | define_answers()
    )
    messages = ("result", "status", "trigger", "live", "frame_header", "imagezmq_header", "request", "answer")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": NOTE,
        "title": f"Messages of an inspector station, schema {SCHEMA}",
        "description": "On sockets.results: result, status, trigger. On sockets.overlays, before the JPEG: result, or "
        "live. On sockets.frames and sockets.imagezmq, before the pixels: frame_header, imagezmq_header. On "
        "sockets.requests: request, and back: answer. Programs must ignore keys that they do not know: more may come.",
        "anyOf": [refer(name) for name in messages],
        "$defs": definitions,
    }
    return json.dumps(schema, indent=2) + "\n"
