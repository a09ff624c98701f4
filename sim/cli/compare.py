"""`plansim compare`: what-if variants of one scenario: served on the same traffic, or trained."""

from __future__ import annotations

from sim.cli.options import (
    JsonOption,
    OutOption,
    QuietOption,
    ReportOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
    WorkersOption,
)
from sim.cli.output import console, print_json, progress, result_folder, save_result, workers_or_cores


def compare(
    scenario: ScenarioArgument,
    set_: SetOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    out: OutOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Simulate SCENARIO and each of its variants, and print how they differ."""
    import sim

    loaded = sim.load(scenario, overrides=set_ or ())
    folder = result_folder(out, name=f"{loaded.root.name}-compare", wanted=bool(report))
    with progress(quiet=quiet) as advance:
        result = sim.compare(loaded, seed=seed, workers=workers_or_cores(workers), progress=advance)
    if folder is not None:
        save_result(result, folder, report=report is not False, quiet=quiet)
    if as_json:
        print_json(result.to_json())
    else:
        from sim.report import compare_tables

        console().print(*compare_tables(result), sep="\n")
    return 0
