"""What a format of measured tables must offer, the registry of them, and typed access to the cells of a CSV file."""

from __future__ import annotations

import csv
import gzip
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from sim.core import InputError, Registry
from sim.validation.rows import MeasuredRow


@dataclass(frozen=True)
class Line:
    """One data row of a file.

    Attributes:
        cells: Texts by column.
        file: Path, for messages.
        number: Line in the file, from 1.
    """

    cells: Mapping[str, str]
    file: str
    number: int

    def text(self, column: str) -> str:
        """The cell without blanks around it; empty if the column is absent."""
        return self.cells.get(column, "").strip()

    def number_of(self, column: str) -> float | None:
        """The cell as a finite number; None if it is empty.

        Raises:
            InputError: if it is something else.
        """
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error("expected a number", column)
        return value

    def whole(self, column: str) -> int | None:
        """The cell as a whole number; None if it is empty or no whole number."""
        try:
            value = float(self.text(column))
        except ValueError:
            return None
        return int(value) if value.is_integer() else None

    def measured(self, column: str, factor: float = 1.0) -> float | None:
        """A measured value times `factor`; None if the cell is empty.

        Raises:
            InputError: if it is no finite number above zero.
        """
        value = self.number_of(column)
        if value is not None and value <= 0.0:
            raise self.error("a measured value must be above zero", column)
        return None if value is None else value * factor

    def error(self, message: str, column: str) -> InputError:
        """An error about a cell of this row."""
        return InputError(message, file=self.file, line=self.number, path=column, value=self.text(column))


@dataclass(frozen=True)
class MeasurementFile:
    """A CSV table of measurements.

    Attributes:
        path: Where it is.
        columns: Names in its header.
        lines: Its data rows.
        requests: File of the requests behind the rows, if the user names one.
    """

    path: Path
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    requests: Path | None = None

    @property
    def name(self) -> str:
        """Name of the table: the file's, without its endings."""
        return table_name(self.path)


class MeasurementFormat(ABC):
    """A kind of table.

    Attributes:
        columns: Columns that tell a file of this kind.
        source: Where public tables of this kind come from.
        assumptions: What the rows do not record and is assumed, one sentence each.
    """

    columns: ClassVar[frozenset[str]]
    source: ClassVar[str] = ""
    assumptions: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def sniff(cls, columns: Sequence[str]) -> bool:
        """Whether a file with these columns is of this kind."""
        return cls.columns.issubset(columns)

    @staticmethod
    @abstractmethod
    def read(file: MeasurementFile) -> list[MeasuredRow]:
        """One measured row per row of the file.

        Raises:
            InputError: for a cell that cannot be read, with its line.
        """


MEASUREMENTS: Registry[type[MeasurementFormat]] = Registry("measurement", package="sim.validation.formats")

LOADS: Final = ((4, "c <= 4"), (16, "c <= 16"), (64, "c <= 64"))


def load_class(concurrency: int) -> str:
    """Class of a closed loop by its requests in flight."""
    return next((name for most, name in LOADS if concurrency <= most), "c > 64")


def table_name(path: Path) -> str:
    """File name without `.csv`, `.json` or `.jsonl`, and without `.gz` behind it."""
    name = path.name.removesuffix(".gz")
    return name.removesuffix(".csv").removesuffix(".jsonl").removesuffix(".json")


def read_csv(path: Path) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """Columns and data rows of a CSV file, plain or gzip.

    Raises:
        InputError: if it cannot be read or has no header.
    """
    opener: Any = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, restval="", strict=True)
            columns = tuple(name.strip() for name in reader.fieldnames or ())
            if not columns:
                raise InputError("the file is empty", file=str(path))
            reader.fieldnames = columns
            lines = tuple(Line(_named(row, path, reader.line_num), str(path), reader.line_num) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise InputError(f"cannot read the table: {error}", file=str(path)) from None
    return columns, lines


def _named(row: dict[Any, Any], path: Path, line: int) -> dict[str, str]:
    if None in row:
        raise InputError("a row has more cells than the header", file=str(path), line=line)
    return row


def closed_loop(
    *, concurrency: int, requests: int | None, input_tokens: Mapping[str, Any], output_tokens: Mapping[str, Any]
) -> dict[str, Any]:
    """The workload of a closed loop with lengths of these laws; 10 requests per slot unless `requests` says."""
    return {
        "traffic": _traffic(input_tokens, output_tokens),
        "concurrency": concurrency,
        "requests": requests or 10 * concurrency,
    }


def open_loop(
    *, rate: float, requests: int | None, input_tokens: Mapping[str, Any], output_tokens: Mapping[str, Any]
) -> dict[str, Any]:
    """The workload of Poisson arrivals at `rate` [requests/s] with lengths of these laws."""
    return {
        "traffic": _traffic(input_tokens, output_tokens),
        "rate": rate,
        **({} if requests is None else {"requests": requests}),
    }


def _traffic(input_tokens: Mapping[str, Any], output_tokens: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "measured",
        "arrivals": {"kind": "poisson", "rate": 1.0},
        "lengths": {"input": dict(input_tokens), "output": dict(output_tokens)},
    }


def exactly(tokens: float) -> dict[str, Any]:
    """The law of lengths that are all `tokens`."""
    return {"kind": "constant", "value": max(1, round(tokens))}


def at_least(tokens: int, share: float) -> dict[str, Any]:
    """The law of lengths spread evenly between `share` of `tokens` and `tokens`."""
    return {"kind": "uniform", "min": max(1, round(share * tokens)), "max": tokens}
