"""`plansim calibrate`: fits an engine's overheads or a device's efficiencies to measured rows; writes a new profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.cli.deployment import deployment
from sim.cli.options import DeploymentOption, JsonOption, OutOption, QuietOption, SeedOption, SetOption
from sim.cli.output import console, print_json, progress, remark, writable_folder
from sim.core import InputError

if TYPE_CHECKING:
    from sim.calibration import Calibration


def calibrate(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="An engine or device profile (plansim list engines, list devices).")
    ],
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="A table in PLANSIM_DATA (plansim list datasets).")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", metavar="FILE", help="A table, or a benchmark tool's results.")
    ] = None,
    scenario: DeploymentOption = None,
    set_: SetOption = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", metavar="NAME", help="Fit only this one; repeatable.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=5, help="Use at most so many rows.")] = 60,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Also fit without each model, and report the errors on it.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the new profile; default: PROFILE-calibrated.")
    ] = None,
    seed: SeedOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Fit host and front-end times of an engine, or efficiencies of a device, to measured rows.

    With --out, writes a profile that extends PROFILE: use it as engine: PATH, or as the device: PATH of a node.
    """
    if (dataset is None) == (rows is None):
        raise InputError("give the measurements: --dataset NAME or --rows FILE, one of them")
    from sim.calibration import calibrate as fit
    from sim.calibration import profile_yaml
    from sim.validation import find_dataset, read_rows

    folder = None if out is None else writable_folder(out)
    measured = deployment(scenario, set_, rows=rows)
    table = read_rows(rows if rows is not None else find_dataset(str(dataset)), deployment=measured)
    with progress(quiet=quiet) as advance:
        found = fit(
            table.rows,
            profile=profile,
            names=parameter,
            most=most,
            leave_out=leave_out,
            seed=seed or 0,
            progress=advance,
        )
    if folder is not None:
        title = name or f"{found.subject.name}-calibrated"
        target = folder / f"{title}.yaml"
        base = str(Path(profile).resolve()) if profile.endswith((".yaml", ".yml")) else profile
        target.write_text(profile_yaml(found, name=title, sources=table.name, base=base), encoding="utf-8")
        remark(f"written to {target}", quiet=quiet)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    return 0


def _show(found: Calibration) -> None:
    from rich.table import Table

    from sim.core import format_quantity

    def shown(value: float) -> str:
        return format_quantity(value, found.subject.unit) if found.subject.unit else f"{value:.3f}"

    table = Table("parameter", title=f"{found.subject.name}: {len(found.rows)} rows", title_justify="left")
    for heading in ("before", "fitted", "5 %", "95 %"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for each in found.parameters:
        numbers = (shown(value) for value in (each.before, each.value, each.low, each.high))
        table.add_row(each.name, *numbers, "" if each.identified else "not identified by these rows")
    errors = Table("median |error|", "before", "after", "model left out")
    for metric, after in found.after.items():
        left = found.left_out.get(metric)
        errors.add_row(metric, f"{found.before[metric]:.1%}", f"{after:.1%}", "-" if left is None else f"{left:.1%}")
    console().print(table, errors)
