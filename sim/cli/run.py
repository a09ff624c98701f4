"""`plansim run`: simulates the plan of one scenario."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from sim.cli.options import (
    CheckOption,
    JsonOption,
    OutOption,
    QuietOption,
    ReportOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
    TraceOption,
)
from sim.cli.output import console, print_json, progress, remark, result_folder, save_result
from sim.core import InputError

if TYPE_CHECKING:
    from sim.results import RunResult
    from sim.scenario import Scenario


def run(
    scenario: ScenarioArgument,
    set_: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    report: ReportOption = None,
    trace: TraceOption = False,
    check: CheckOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Simulate the plan of SCENARIO and print what it delivers."""
    import sim
    from sim.cli.slo import missed_slo, require_slo

    loaded = sim.load(scenario, overrides=set_ or ())
    if loaded.is_training:
        for option, given in (("--trace", trace), ("--check", check)):
            if given:
                raise InputError(f"{option} is for serving scenarios", hint="leave it out")
        return _train(loaded, out=out, report=report, as_json=as_json, quiet=quiet)
    if check:
        require_slo(loaded)
    folder = result_folder(out, name=f"{loaded.spec.name}-run", wanted=bool(report) or trace)
    with progress(quiet=quiet) as advance:
        result = cast("RunResult", sim.run(loaded, seed=seed, progress=advance))
    if folder is not None:
        save_result(result, folder, report=report is not False, quiet=quiet)
        if trace:
            from sim.report import save_timeline

            remark(f"timeline for ui.perfetto.dev: {save_timeline(result, folder / 'trace.json.gz')}", quiet=quiet)
    if as_json:
        print_json(result.to_json())
    else:
        from sim.report import run_tables

        console().print(*run_tables(result), sep="\n")
    if check and (missed := missed_slo(result.metrics, loaded)):
        remark(f"error: {missed}")
        return 4
    return 0


def _train(scenario: Scenario, *, out: Path | None, report: bool | None, as_json: bool, quiet: bool) -> int:
    """A training scenario: its step, printed and saved."""
    from sim.scenario import run_training

    folder = result_folder(out, name=f"{scenario.root.name}-run", wanted=bool(report))
    result = run_training(scenario)
    if folder is not None:
        save_result(result, folder, report=report is not False, quiet=quiet)
    if as_json:
        print_json(result.to_json())
    else:
        from sim.report import training_tables

        console().print(*training_tables(result), sep="\n")
    return 0
