"""`plansim validate`: predictions beside measurements, and the errors in between."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.cli.deployment import deployment
from sim.cli.digests import judged, read_digest, save_digest
from sim.cli.options import DeploymentOption, JsonOption, OutOption, QuietOption, SeedOption, SetOption, WorkersOption
from sim.cli.output import console, print_json, progress, remark, workers_or_cores, writable_folder
from sim.core import InputError

if TYPE_CHECKING:
    from sim.scenario import Scenario
    from sim.validation import Dataset

DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", metavar="NAME", help="One table of the folder that PLANSIM_DATA names; default: all."),
]
RowsOption = Annotated[
    Path | None,
    typer.Option("--rows", metavar="FILE", help="A table, or a benchmark tool's results (docs/validation.md)."),
]
RequestsOption = Annotated[
    Path | None,
    typer.Option("--requests", metavar="FILE", help="The requests behind the rows; default: X_requests beside X_runs."),
]


CrossOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cross-validate",
        metavar="GROUP",
        help="Also fit the engines' times without each model or system and predict it: model, system; repeatable.",
    ),
]
CostsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--costs",
        metavar="SOURCE",
        help="Also predict with kernel times of this source: measured, or a CSV of your own; repeatable.",
    ),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option("--against", metavar="FILE", help="Exit with 5 if errors are larger than in this scoreboard.json."),
]
BandsOption = Annotated[
    Path | None,
    typer.Option("--bands", metavar="DIR", help="Write the error bands of the rows into the engine profiles there."),
]


def validate(
    dataset: DatasetOption = None,
    rows: RowsOption = None,
    requests: RequestsOption = None,
    scenario: DeploymentOption = None,
    set_: SetOption = None,
    cross: CrossOption = None,
    costs: CostsOption = None,
    against: AgainstOption = None,
    bands: BandsOption = None,
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
    if bands is not None and dataset is None and rows is None:
        raise InputError("--bands needs the rows to fit to", hint="add --dataset NAME or --rows FILE")
    if set_ and scenario is None:
        if dataset is None and rows is None:
            raise InputError(
                "--set changes every row's scenario, or the deployment", hint="add --dataset, --rows or --scenario"
            )
        if cross or bands is not None:
            raise InputError("--set excludes --cross-validate and --bands: profiles stand for the rows as they are")
    from sim.validation import score, with_other_costs, write_bands

    before = None if against is None else read_digest(against)
    folder = None if out is None else writable_folder(out)
    with progress(quiet=quiet) as advance:
        deployed = deployment(scenario, set_ if scenario is not None else None, rows=rows)
        tables = _tables(dataset, rows, requests, deployed)
        processes = workers_or_cores(workers)
        overrides = () if scenario is not None else set_ or ()
        board = score(tables, seed=seed or 0, workers=processes, overrides=overrides, progress=advance)
        if costs:
            board = with_other_costs(board, costs, workers=processes, progress=advance)
        if cross:
            from sim.calibration import cross_validate_all

            board = cross_validate_all(board, by=cross, workers=processes, progress=advance)
    if folder is not None:
        board.save(folder)
        save_digest(board, folder)
        remark(f"saved in {folder}", quiet=quiet)
    if bands is not None:
        (table,) = board.datasets
        for path in write_bands(board.bands(table.name), bands, ref=table.format.replace("_", "-")):
            remark(f"bands written to {path}", quiet=quiet)
    if as_json:
        print_json(board.to_json())
    else:
        from sim.report import scoreboard_tables

        console().print(*scoreboard_tables(board.summary), sep="\n")
    return 0 if before is None else judged(board, before)


def _tables(
    dataset: str | None, rows: Path | None, requests: Path | None, deployment: Scenario | None
) -> list[Dataset]:
    """The tables to score: the one that is named, or all of the data folder."""
    from sim.validation import dataset_files, find_dataset, read_rows

    if dataset is None and rows is None:
        return [read_rows(path) for path, _ in dataset_files().values()]
    path = rows if rows is not None else find_dataset(str(dataset))
    return [read_rows(path, requests=requests, deployment=deployment)]
