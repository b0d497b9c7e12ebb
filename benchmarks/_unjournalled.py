"""The real program without its journal, to measure what that costs: `python benchmarks/_unjournalled.py run STATION`.

Records still go from thread to thread; only nothing is written. There is no such setting: what is not on record must
not be published.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's own package

from inspector.cli.app import main
from inspector.journal.writer import Closing, Journal, OpenFrame


def write_nothing(_: Journal, opened: Sequence[OpenFrame], closings: Sequence[Closing]) -> None:
    """Instead of `Journal.write`."""


if __name__ == "__main__":
    Journal.write = write_nothing  # type: ignore[method-assign]
    main()
