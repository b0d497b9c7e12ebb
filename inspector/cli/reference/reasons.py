"""reasons.md."""

from __future__ import annotations

from inspector.cli.reference.markdown import build_page, build_table
from inspector.reasons import MEANINGS, Reason

_HEADINGS = ("code", "reason", "verdict", "meaning", "what to do")


def build_reasons() -> str:
    """All reasons: integer, name, verdict, what it means, what to do."""
    rows = []
    for reason in Reason:
        verdict, text, fix = MEANINGS[reason]
        rows.append((str(reason.value), f"`{reason.name}`", verdict.value, text, fix))
    return build_page(
        "Reasons",
        "Why a verdict is what it is: `reason` and `reason_code` of each result. The integers go to PLCs and never "
        "change their meaning; new ones may be added. Only PASS lets a part through. The `message` of an ERROR says "
        "more, and `inspector_results_total` counts verdicts by reason.",
        "These are the station's. Where it does not answer in time, `Subscriber.wait_for` of `inspector.client` makes "
        "an ERROR of its own: `NO_ANSWER`, with code -1.",
    ) + build_table(_HEADINGS, rows)
