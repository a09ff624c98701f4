"""Reads CSV and JSON lines into columns of numbers, with the line of the first value that is none."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd

from sim.core import MISSING, Array
from sim.workloads.traces.base import Integers, TraceFile

_INT64 = 2.0**63


def read_csv(file: TraceFile, columns: Sequence[str]) -> tuple[pd.DataFrame, Integers]:
    """The named columns of a CSV file with a header as text, and the line of each row; empty lines are skipped.

    Raises:
        InputError: if a column is missing, a row has too many fields or there is no data row.
    """
    header = [name.strip() for name in next(csv.reader([file.text.partition("\n")[0]]))]
    for column in columns:
        if column not in header:
            raise file.error(f"column {column!r} is missing", line=1, allowed=header)
    try:
        frame = pd.read_csv(
            StringIO(file.text),
            dtype=str,
            names=header,
            header=0,
            index_col=False,
            usecols=list(columns),
            skip_blank_lines=False,
            keep_default_na=False,
            on_bad_lines="error",
        )
    except pd.errors.ParserError as error:
        found = re.search(r"line (\d+)", str(error))
        raise file.error(
            f"not a row of {len(header)} fields", line=int(found[1]) if found else None, hint=str(error).strip()
        ) from None
    lines = np.arange(2, len(frame) + 2, dtype=np.int64)
    text = frame.fillna("")
    filled = (text != "").any(axis=1).to_numpy(dtype=np.bool_)
    if not filled.any():
        raise file.error("the trace has a header but no requests")
    return text[filled], lines[filled]


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
