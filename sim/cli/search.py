"""`plansim search`: finds the plans worth running and recommends one."""

from __future__ import annotations

from sim.cli.options import (
    CheckOption,
    JsonOption,
    OutOption,
    QuietOption,
    ReportOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
    WorkersOption,
)
from sim.cli.output import console, print_json, progress, remark, result_folder, save_result, workers_or_cores
from sim.core import InputError


def search(
    scenario: ScenarioArgument,
    set_: SetOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    out: OutOption = None,
    report: ReportOption = None,
    check: CheckOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Search the execution plans for SCENARIO: the Pareto front, and one recommended.

    Ctrl-C stops early and keeps what was done.
    Results and report.html go to out/NAME-search, or to the folder of --out;
    with --no-report, and with --json, nothing is written without --out.
    """
    import sim
    from sim.cli.slo import missed_slo, require_slo

    loaded = sim.load(scenario, overrides=set_ or ())
    if check and loaded.is_training:
        raise InputError("--check is for serving scenarios", hint="leave it out")
    if check:
        require_slo(loaded)
    wanted = not as_json if report is None else report
    folder = result_folder(out, name=f"{loaded.root.name}-search", wanted=wanted)
    with progress(quiet=quiet) as advance:
        result = sim.search(loaded, seed=seed, workers=workers_or_cores(workers), progress=advance)
    if result.interrupted and result.recommended is None:
        raise KeyboardInterrupt  # nothing was done yet: earlier results stay
    if folder is not None:
        save_result(result, folder, report=report is not False, quiet=quiet)
    if as_json:
        print_json(result.to_json())
    else:
        from sim.report import search_tables

        console().print(*search_tables(result), sep="\n")
    if result.interrupted:
        remark("error: interrupted; the results are of the plans simulated so far")
        return 130
    if result.recommended is None:
        remark("error: no feasible plan; the reasons are counted above")
        return 3
    if check and (missed := missed_slo(result.recommended.metrics, loaded)):
        remark(f"error: {missed} by the recommended plan")
        return 4
    return 0
