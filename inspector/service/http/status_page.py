"""/status: what the station's status says, as a page for people with a browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import jinja2

from inspector.service.http.exposition import Headers, KeptText

HEADERS: Headers = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Cache-Control", "no-store"),
)
_VERDICT_FIELDS = ("verdict", "reason", "frame_id", "part_id", "score", "threshold", "simulated", "published_utc_ns")


class StatusPage:
    """Used by one thread. It shows nothing that the status socket does not say."""

    def __init__(self, describe: Callable[[], Mapping[str, Any]], explain: Callable[[], tuple[bool, str]]) -> None:
        """`describe` builds the status message; `explain` says whether the station is ready, and why not."""
        self._describe = describe
        self._explain = explain
        self._template = _build_template()
        self._text = KeptText(self._write)

    def answer(self) -> bytes:
        """The page, UTF-8."""
        return self._text.read()

    def _write(self) -> bytes:
        status = self._describe()
        is_ready, why = self._explain()
        cameras = {name: _describe_camera(status, name) for name in status["last_seq"]}
        return self._template.render(status=status, is_ready=is_ready, why=why, cameras=cameras).encode(
            "utf-8", "backslashreplace"
        )


def _describe_camera(status: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the status says of a camera or part, from its several places; None where it says nothing."""
    last = status["last_result"].get(name)
    return {
        "last": None if last is None else {field: last.get(field) for field in _VERDICT_FIELDS},
        "seq": status["last_seq"][name],
        "recipe": status["recipes"].get(name),
        "offline": status["offline"].get(name),
        "source": status["sources"].get(name),
    }


def format_time(utc_ns: int) -> str:
    """To the second, in UTC."""
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _build_template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["time"] = format_time
    return environment.from_string(
        resources.files("inspector.service.http").joinpath("status.html.j2").read_text(encoding="utf-8")
    )
