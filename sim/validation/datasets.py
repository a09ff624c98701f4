"""Where tables of measurements are found, and reading one by its header."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sim.core import InputError, did_you_mean
from sim.validation.formats import MEASUREMENTS, MeasurementFile, MeasurementFormat
from sim.validation.formats.base import read_csv, table_name
from sim.validation.rows import MeasuredRow

DATA_VARIABLE: Final = "PLANSIM_DATA"
_FOLDER: Final = "measured"


@dataclass(frozen=True)
class Dataset:
    """A table of measured rows.

    Attributes:
        name: Short name: the file's, without its endings.
        format: Name of its format.
        assumptions: What the format assumes.
        sha256: Hash of the file.
        rows: Its rows, in order.
    """

    name: str
    format: str
    assumptions: tuple[str, ...]
    sha256: str
    rows: tuple[MeasuredRow, ...]


def read_rows(path: Path, *, requests: Path | None = None) -> Dataset:
    """The table in a file.

    Args:
        path: A CSV file, plain or gzip.
        requests: File of the requests behind its rows; None looks for it beside the table.

    Raises:
        InputError: if it cannot be read, or its header is of no known format.
    """
    columns, lines = read_csv(path)
    name = _recognise(columns)
    if name is None:
        shown = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
        raise InputError(
            f"no known table of measurements has these columns: {shown}",
            file=str(path),
            line=1,
            allowed=MEASUREMENTS.names(),
            hint="docs/validation.md describes the columns of a table of your own",
        )
    fmt = MEASUREMENTS.get(name)
    rows = fmt.read(MeasurementFile(path, columns, lines, requests))
    ids = [row.id for row in rows]
    if twice := next((one for one, count in _counts(ids).items() if count > 1), None):
        raise InputError(f"two rows have the id {twice!r}", file=str(path), path="id")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Dataset(table_name(path), name, fmt.assumptions, digest, tuple(rows))


def _counts(ids: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in ids:
        counts[one] = counts.get(one, 0) + 1
    return counts


def _recognise(columns: tuple[str, ...]) -> str | None:
    formats: dict[str, type[MeasurementFormat]] = {name: MEASUREMENTS.get(name) for name in MEASUREMENTS.names()}
    return next((name for name, fmt in formats.items() if fmt.sniff(columns)), None)


def data_folder() -> Path:
    """The folder of measured tables.

    Raises:
        InputError: if the environment does not name one.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        raise InputError(
            f"measured tables are not part of plansim: the environment variable {DATA_VARIABLE} must name their folder",
            hint=f"{DATA_VARIABLE}=folder plansim validate, or plansim validate --rows FILE",
        )
    folder = Path(named) / _FOLDER
    if not folder.is_dir():
        raise InputError(f"there is no folder {_FOLDER!r} in the one that {DATA_VARIABLE} names", file=named)
    return folder


def dataset_files() -> dict[str, tuple[Path, str]]:
    """File and format of every known table in the data folder, by name.

    Raises:
        InputError: if there is no such folder.
    """
    found = {}
    for path in sorted(data_folder().glob("*.csv*")):
        if path.name.endswith((".csv", ".csv.gz")):
            name = _recognise(read_csv(path)[0])
            if name is not None:
                found[table_name(path)] = (path, name)
    return found


def find_dataset(name: str) -> Path:
    """The file of the table called `name`, or of the only one of the format called so.

    Raises:
        InputError: if there is none; suggests the nearest.
    """
    files = dataset_files()
    if name in files:
        return files[name][0]
    of_format = [path for path, fmt in files.values() if fmt == name]
    if len(of_format) == 1:
        return of_format[0]
    raise InputError(
        f"unknown dataset {name!r}{did_you_mean(name, files)}", allowed=[*files], hint="plansim list datasets"
    )
