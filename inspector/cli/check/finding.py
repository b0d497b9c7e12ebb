"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing checked.

    Attributes:
        what: the station file's field where there is one, such as `sockets.frames`.
        detail: what was found where it is well.
        problem: None where it is well.
        fix: what to do about the problem.
        fatal: False where the station works all the same, for now.
    """

    what: str
    detail: str = "ok"
    problem: str | None = None
    fix: str = ""
    fatal: bool = True

    @property
    def result(self) -> str:
        """`ok`, `WARN` or `FAIL`."""
        if self.problem is None:
            return "ok"
        return "FAIL" if self.fatal else "WARN"
