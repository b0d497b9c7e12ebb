"""Runs that take hours, kept in a JSON file after each: a call that is killed loses the run it was in, no more."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import inspector
from inspector.files import write_whole

Run = dict[str, Any]


def measure_each(
    cases: Sequence[Run], measure: Callable[[Run], Run], path: Path | None, settings: Mapping[str, Any]
) -> list[Run]:
    """Measure each case that the file does not hold yet.

    Args:
        cases: what tells one run from another, such as method and seed.
        measure: what is found, for a case.
        path: the file; None: nothing is kept.
        settings: what must be the same in all runs of a file.

    Returns:
        Each case with what was found, in the order of `cases`.

    Raises:
        ValueError: the file is of other settings.
    """
    settings = json.loads(json.dumps(settings, default=str))
    runs = _load(path, settings) if path is not None else []
    for number, case in enumerate(cases, start=1):
        name = f"{number}/{len(cases)} " + ", ".join(f"{key} {value}" for key, value in case.items())
        if _find(runs, case) is not None:
            print(f"{name}: measured before", file=sys.stderr, flush=True)
            continue
        print(name, file=sys.stderr, flush=True)
        runs.append(case | measure(case) | {"code": digest_code(), "torch": torch.__version__})
        if path is not None:
            content = json.dumps({"settings": settings, "runs": runs}, indent=1, default=str)
            write_whole(path, content.encode())
    found = [run for case in cases if (run := _find(runs, case)) is not None]
    if len({run["code"] for run in found}) > 1:
        print(f"{path}: its runs are not all of the same code, see 'code' in each", file=sys.stderr)
    return found


def digest_code() -> str:
    """Tells one state of the package's and the benchmarks' source from another."""
    digest = hashlib.sha256()
    for folder in (Path(inspector.__file__).parent, Path(__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _load(path: Path, settings: Run) -> list[Run]:
    if not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    before = content.get("settings", {})
    changed = sorted(key for key in settings.keys() | before.keys() if settings.get(key) != before.get(key))
    if changed:
        values = ", ".join(f"{key} {before.get(key)} there, {settings.get(key)} now" for key in changed)
        raise ValueError(f"--json: must be a new file or one of the same settings, got {path}: {values}")
    runs: list[Run] = content["runs"]
    return runs


def _find(runs: Sequence[Run], case: Run) -> Run | None:
    return next((run for run in runs if case.items() <= run.items()), None)
