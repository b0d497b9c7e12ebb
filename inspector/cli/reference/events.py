"""events.md."""

from __future__ import annotations

from inspector.cli.reference.markdown import build_page, build_table


def build_events() -> str:
    """All events of the journal: kind, outcome, meaning with the details."""
    from inspector.journal.events import MAX_EVENTS, OUTCOMES

    rows = [
        (f"`{kind}`", f"`{outcome}`", text) for kind, outcomes in OUTCOMES.items() for outcome, text in outcomes.items()
    ]
    return build_page(
        "Events of the journal",
        "Who changed what a camera is judged with, and when; starts and stops of the station. `inspector journal "
        "events STATION.yaml` shows them, with `--json` one object a line: `at_utc_ns`, `boot_id`, `kind`, `camera` "
        "(null: of the whole station), `who`, `outcome`, and the details named below.",
        "`who` is the name of the key that asked (`unauthenticated ADDRESS` without keys), `station file` for what "
        "came with a start or a reload, the signal, `station`, or the user a process runs as.",
        f"They stay when results are pruned; the newest {MAX_EVENTS:,} are kept.",
    ) + build_table(("kind", "outcome", "meaning and details"), rows)
