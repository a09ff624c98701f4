"""The requests behind runs, from a second CSV file beside the table; not a format itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.core import InputError
from sim.validation.formats.base import Line, MeasurementFile, read_csv
from sim.workloads import RequestTable

Key = Callable[[Line], Hashable]
_ENDINGS: Final = (".csv", ".csv.gz")


def request_lines(file: MeasurementFile, *, needed: Sequence[str]) -> tuple[Line, ...]:
    """Rows of the file of requests: the one the user names, else `X_requests.csv[.gz]` beside `X_runs.csv`; or none.

    Raises:
        InputError: if the file cannot be read or lacks a column of `needed`.
    """
    path = file.requests or _beside(file)
    if path is None:
        return ()
    columns, lines = read_csv(path)
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(f"the requests of {file.name} need the columns {', '.join(missing)}", file=str(path), line=1)
    return lines


def _beside(file: MeasurementFile) -> Path | None:
    stem = file.name.removesuffix("_runs")
    candidates = (file.path.with_name(f"{stem}_requests{ending}") for ending in _ENDINGS)
    return next((path for path in candidates if path.is_file()), None)


def grouped(lines: Sequence[Line], key: Key) -> dict[Hashable, list[Line]]:
    """Lines by key, in order of first appearance."""
    groups: dict[Hashable, list[Line]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return groups


def table_of(lines: Sequence[Line], *, prompt: str, output: str, name: str) -> tuple[RequestTable, NDArray[np.int64]]:
    """The requests of some lines in order of arrival, the first at zero; and the order taken, as row numbers.

    Args:
        lines: At least one.
        prompt: Column of prompt tokens.
        output: Column of output tokens.
        name: What to call them.

    Raises:
        InputError: if a value is missing or no count.
    """
    arrivals = np.array([_required(line, "arrival_s") for line in lines])
    order = np.argsort(arrivals, kind="stable").astype(np.int64)
    tokens = {column: np.array([_required(line, column) for line in lines])[order] for column in (prompt, output)}
    table = RequestTable(
        arrival_s=arrivals[order] - arrivals.min(),
        input_tokens=tokens[prompt].astype(np.int64),
        output_tokens=tokens[output].astype(np.int64),
        name=name,
    )
    return table, order


def _required(line: Line, column: str) -> float:
    value = line.number_of(column)
    if value is None:
        raise line.error("expected a number", column)
    return value
