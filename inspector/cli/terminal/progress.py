"""How long commands show where they stand."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

_LOG_EVERY_S = 10.0


@contextlib.contextmanager
def show_progress() -> Iterator[Callable[[str, float, str], None]]:
    """A bar a stage, with ETA; on stderr, so that stdout stays for results. Log lines where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _log_progress()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, share: float, note: str) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=1.0, note=note)
            bar.update(tasks[stage], completed=share, note=note)

        yield update


def _log_progress() -> Callable[[str, float, str], None]:
    """Progress for a log file: a line every `_LOG_EVERY_S`, and one at the end of each stage."""
    last = time.monotonic()

    def update(stage: str, share: float, note: str) -> None:
        nonlocal last
        if share >= 1 or time.monotonic() - last >= _LOG_EVERY_S:
            last = time.monotonic()
            logger.info("%s %.0f %% %s", stage, 100 * share, note)

    return update
