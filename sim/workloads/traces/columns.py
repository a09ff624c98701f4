"""Reads CSV and JSON lines into columns of numbers, with the line of the first value that is none."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sim.core import MISSING, Array
from sim.workloads.traces.base import Integers, TraceFile

_INT64 = 2.0**63


def read_csv(file: TraceFile, columns: Sequence[str]) -> tuple[pd.DataFrame, Integers]:
    """The named columns of a CSV file with a header as text, and the line of each row; empty lines are skipped.

    Raises:
        InputError: if a column is missing, a row has another number of fields or there is no data row.
    """
    reader = csv.reader(file.text.replace("\r\n", "\n").split("\n"), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise file.error(f"not valid CSV: {error}", line=reader.line_num) from None
    header = [name.strip() for name in rows[0]]
    for name in columns:
        if name not in header:
            raise file.error(f"column {name!r} is missing", line=1, allowed=header)
    width = len(header)
    lines = [number for number, row in enumerate(rows[1:], start=2) if row]
    filled = [row for row in rows[1:] if row]
    if not filled:
        raise file.error("the trace has a header but no requests")
    for line, row in zip(lines, filled, strict=True):
        if len(row) != width and (len(row) < width or any(row[width:])):
            raise file.error(f"the row has {len(row)} fields, the header {width}", line=line)
    at = [header.index(name) for name in columns]
    table = {name: [row[place] for row in filled] for name, place in zip(columns, at, strict=True)}
    return pd.DataFrame(table, dtype=object), np.array(lines, dtype=np.int64)


def floats(file: TraceFile, values: Any, lines: Integers, name: str) -> Array:
    """`values` (text or numbers) as floats.

    Raises:
        InputError: for the first that is no finite number, with its line.
    """
    numbers = np.asarray(pd.to_numeric(pd.Series(values), errors="coerce"), dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        value = list(values)[bad[0]]
        what = "is missing" if value is MISSING or value in ("", None) else "is not a number"
        shown = MISSING if what == "is missing" else value
        raise file.error(f"{name} {what}", line=int(lines[bad[0]]), value=shown, allowed="a number")
    return numbers


def integers(file: TraceFile, values: Any, lines: Integers, name: str) -> Integers:
    """`values` (text or numbers) as whole numbers.

    Raises:
        InputError: for the first that is none, with its line.
    """
    numbers = floats(file, values, lines, name)
    bad = np.flatnonzero((numbers != np.floor(numbers)) | (np.abs(numbers) >= _INT64))
    if bad.size:
        raise file.error(
            f"{name} is not a whole number",
            line=int(lines[bad[0]]),
            value=list(values)[bad[0]],
            allowed="a whole number",
        )
    return numbers.astype(np.int64)


def read_jsonl(file: TraceFile) -> tuple[list[dict[str, Any]], Integers]:
    """The objects of a file of JSON lines, and the line of each; empty lines are skipped.

    Raises:
        InputError: for the first line that is no JSON object.
    """
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(file.text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise file.error(f"not valid JSON: {error}", line=number, hint="is the last line cut off?") from None
        if not isinstance(row, dict):
            raise file.error("expected a JSON object", line=number, value=str(row)[:40])
        rows.append(row)
        lines.append(number)
    return rows, np.array(lines, dtype=np.int64)


def column(rows: Sequence[dict[str, Any]], key: str) -> list[Any]:
    """The values of `key`; whatever is no number becomes text that `floats` refuses, absent becomes `MISSING`."""
    values = [row.get(key, MISSING) for row in rows]
    if all(type(value) in (int, float) for value in values):
        return values
    return [v if v is MISSING or type(v) in (int, float) else f"{v!r}" for v in values]


def id_lists(file: TraceFile, rows: Sequence[dict[str, Any]], lines: Integers, key: str) -> list[list[int]]:
    """The lists of whole numbers under `key`; an absent one is empty.

    Raises:
        InputError: for the first that is something else, with its line.
    """
    lists = [row.get(key, []) for row in rows]
    for line, ids in zip(lines.tolist(), lists, strict=True):
        if not isinstance(ids, list) or not all(type(block) is int and abs(block) < _INT64 for block in ids):
            raise file.error(f"{key} is not a list of whole numbers", line=line, value=str(ids)[:60])
    return lists
