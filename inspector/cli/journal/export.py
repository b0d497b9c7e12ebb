"""Results of a journal as a table in a file: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, get_type_hints

from inspector.errors import InspectorError
from inspector.journal.reader import Row
from inspector.types import Result

WIRE_KEYS = ("schema", *(field.name for field in fields(Result)), "reason_code", "margin")
"""Columns of a table, in the order in which they are on the wire."""

_ROW_KEYS = ("n", "amends")
_KINDS: dict[str, Any] = get_type_hints(Result) | dict.fromkeys((*_ROW_KEYS, "schema", "reason_code"), int)
_KINDS["margin"] = float | None
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_ROW_GROUP = 10_000


def export_rows(rows: Iterable[Row], out: Path, file_format: str, *, with_rows: bool) -> int:
    """Write the results, whole or not at all; how many.

    Args:
        rows: read one by one.
        out: the file, replaced where it is there.
        file_format: one of `FORMATS`.
        with_rows: also each row's number in the journal and that of the row it amends, if any.

    Raises:
        InspectorError: it cannot be written.
    """
    columns = (*_ROW_KEYS, *WIRE_KEYS) if with_rows else WIRE_KEYS
    count = 0

    def counted() -> Iterator[Row]:
        nonlocal count
        for count, row in enumerate(rows, 1):  # noqa: B007
            yield row

    with _replace(out) as temporary:
        FORMATS[file_format](counted(), temporary, columns)
    return count


def _write_csv(rows: Iterator[Row], path: Path, columns: tuple[str, ...]) -> None:
    """UTF-8, RFC 4180. A spreadsheet takes text that starts with = + - @ for a formula: it gets an apostrophe first."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            cells = _flatten(row, columns)
            writer.writerow(
                f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell for cell in cells
            )


def _write_jsonl(rows: Iterator[Row], path: Path, columns: tuple[str, ...]) -> None:
    """Each line as on the wire, with row numbers before it where they are wanted."""
    with path.open("w", encoding="ascii") as file:
        for row in rows:
            numbers = {name: getattr(row, name) for name in _ROW_KEYS if name in columns}
            file.write(json.dumps(numbers | row.wire) + "\n")


def _write_parquet(rows: Iterator[Row], path: Path, columns: tuple[str, ...]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InspectorError(f"--format parquet: needs pyarrow, from the extra inspector[parquet]: {error}") from error
    types = {int: pa.int64(), float | None: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, types.get(_KINDS[name], pa.string())) for name in columns])
    try:
        with pq.ParquetWriter(path, schema) as writer:
            while batch := [_flatten(row, columns) for row in islice(rows, _ROW_GROUP)]:
                arrays = [
                    pa.array(cells, field.type) for cells, field in zip(zip(*batch, strict=True), schema, strict=True)
                ]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
    except pa.ArrowException as error:
        raise InspectorError(f"--format parquet: a result does not fit its column: {error}") from error


FORMATS: dict[str, Callable[[Iterator[Row], Path, tuple[str, ...]], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}


def _flatten(row: Row, columns: tuple[str, ...]) -> list[Any]:
    """The row's cells; objects and lists as JSON text, None where a result has no such key."""
    values = {"n": row.n, "amends": row.amends, **row.wire}
    return [_clean(values.get(name)) for name in columns]


def _clean(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value)
    # JSON can carry lone surrogates, which no file of UTF-8 holds.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@contextmanager
def _replace(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place once it is whole and on the disk."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InspectorError(f"--out: {path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
