"""Where tables of measurements are found, and reading one by its header."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sim.core import InputError, did_you_mean
from sim.scenario import Scenario
from sim.validation.benchmarks import BENCHMARKS, BenchmarkFile, BenchmarkFormat, BenchmarkRun, measured_rows
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
        source: Where public tables of this kind come from; empty for files of the user's own.
    """

    name: str
    format: str
    assumptions: tuple[str, ...]
    sha256: str
    rows: tuple[MeasuredRow, ...]
    source: str = ""


def read_rows(path: Path, *, requests: Path | None = None, deployment: Scenario | None = None) -> Dataset:
    """The rows in a file: a CSV table, or the results of a benchmark tool.

    Args:
        path: A CSV or JSON file, plain or gzip.
        requests: File of the requests behind a table's rows; None looks for it beside the table.
        deployment: What a benchmark tool measured, which its files do not say; None for a table.

    Raises:
        InputError: if it cannot be read, is of no known format, or leaves something open.
    """
    results = BenchmarkFile(path)
    name, assumptions, rows = _results(results, deployment) if results.is_json else _table(path, requests, deployment)
    if not rows:
        raise InputError(
            "the table has no rows", file=str(path), hint="one measured configuration a line below the header"
        )
    ids = [row.id for row in rows]
    if twice := next((one for one, count in Counter(ids).items() if count > 1), None):
        raise InputError(f"two rows have the id {twice!r}", file=str(path), path="id")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = "" if results.is_json else MEASUREMENTS.get(name).source
    return Dataset(table_name(path), name, assumptions, digest, tuple(rows), source)


def _table(
    path: Path, requests: Path | None, deployment: Scenario | None
) -> tuple[str, tuple[str, ...], list[MeasuredRow]]:
    """Format, assumptions and rows of a CSV table."""
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
    if deployment is not None:
        raise InputError(
            f"a table of the kind {name} says itself what was measured", file=str(path), hint="no --scenario"
        )
    fmt = MEASUREMENTS.get(name)
    return name, fmt.assumptions, fmt.read(MeasurementFile(path, columns, lines, requests))


def _results(file: BenchmarkFile, deployment: Scenario | None) -> tuple[str, tuple[str, ...], list[MeasuredRow]]:
    """Format, assumptions and rows of the results of a benchmark tool."""
    first = file.records[0]
    formats: dict[str, type[BenchmarkFormat]] = {name: BENCHMARKS.get(name) for name in BENCHMARKS.names()}
    name = next((name for name, fmt in formats.items() if fmt.sniff(first)), None)
    if name is None:
        shown = ", ".join([*first.data][:12]) + (", ..." if len(first.data) > 12 else "")
        raise InputError(
            f"no known benchmark tool writes these keys: {shown}",
            file=str(file.path),
            line=first.line,
            allowed=BENCHMARKS.names(),
            hint="plansim list benchmarks",
        )
    runs = formats[name].read(file)
    if not runs:
        raise InputError("the file has no runs", file=str(file.path))
    rows = measured_rows(runs, deployment, dataset=table_name(file.path))
    refused = dict.fromkeys(f"not compared: {one}" for run in runs for one in run.refused)
    theirs = ("lengths are those of the scenario's workload",) if any(_open_lengths(run) for run in runs) else ()
    return name, (*formats[name].assumptions, *theirs, *refused), rows


def _open_lengths(run: BenchmarkRun) -> bool:
    return run.table is None and (run.input_law is None or run.output_law is None)


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
