"""`plansim validate`: predictions beside measurements, and the errors in between."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.cli.options import JsonOption, OutOption, QuietOption, SeedOption, SetOption, WorkersOption
from sim.cli.output import console, print_json, progress, remark, workers_or_cores, writable_folder
from sim.core import InputError

if TYPE_CHECKING:
    from sim.validation import Dataset

DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", metavar="NAME", help="One table of the folder that PLANSIM_DATA names; default: all."),
]
RowsOption = Annotated[
    Path | None, typer.Option("--rows", metavar="FILE", help="A table of measurements; see docs/validation.md.")
]
RequestsOption = Annotated[
    Path | None,
    typer.Option("--requests", metavar="FILE", help="The requests behind the rows; default: X_requests beside X_runs."),
]


def validate(
    dataset: DatasetOption = None,
    rows: RowsOption = None,
    requests: RequestsOption = None,
    set_: SetOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Predict measured runs and print how far off the predictions are."""
    if dataset is not None and rows is not None:
        raise InputError("--dataset and --rows exclude each other", hint="leave one of them out")
    if requests is not None and dataset is None and rows is None:
        raise InputError("--requests needs the table it belongs to", hint="add --dataset NAME or --rows FILE")
    from sim.validation import score

    folder = None if out is None else writable_folder(out)
    with progress(quiet=quiet) as advance:
        tables = _tables(dataset, rows, requests)
        board = score(
            tables,
            seed=seed or 0,
            workers=workers_or_cores(workers),
            overrides=set_ or (),
            progress=advance,
        )
    if folder is not None:
        board.save(folder)
        remark(f"saved in {folder}", quiet=quiet)
    if as_json:
        print_json(board.to_json())
    else:
        from sim.report import scoreboard_tables

        console().print(*scoreboard_tables(board.summary), sep="\n")
    return 0


def _tables(dataset: str | None, rows: Path | None, requests: Path | None) -> list[Dataset]:
    """The tables to score: the one that is named, or all of the data folder."""
    from sim.validation import dataset_files, find_dataset, read_rows

    if dataset is None and rows is None:
        return [read_rows(path) for path, _ in dataset_files().values()]
    return [read_rows(rows if rows is not None else find_dataset(str(dataset)), requests=requests)]
