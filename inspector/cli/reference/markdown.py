"""What all pages are put together from."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

NOTE = "Written by `inspector reference docs/reference`; a change here is lost."
HEAD = f"<!-- {NOTE} -->\n\n"


def build_page(title: str, *paragraphs: str) -> str:
    """The beginning of a page; the paragraphs are wrapped here."""
    return f"{HEAD}# {title}\n\n" + "".join(f"{_wrap(each)}\n\n" for each in paragraphs)


def build_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may hold any text of one paragraph."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_fit, cells))} |\n" for cells in lines)


def build_anchor(heading: str) -> str:
    """What a link to a heading names: as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def join_lines(text: str) -> str:
    """A docstring's paragraph in one line."""
    return " ".join(text.split())


def _wrap(paragraph: str) -> str:
    return textwrap.fill(paragraph, 118, break_long_words=False, break_on_hyphens=False)


def _fit(cell: str) -> str:
    return join_lines(cell).replace("|", "\\|")
