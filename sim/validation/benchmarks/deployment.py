"""Runs of a benchmark tool plus the deployment that the user names make measured rows.

The deployment is a scenario: its model, cluster, engine and plan are what was measured. Whatever the file says itself
(load, lengths, at times parallelism) holds, and must not contradict the scenario; lengths or a load that the file
leaves open are the scenario's workload. What neither says is named in one error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sim.core import InputError
from sim.hardware import load_cluster
from sim.models import load_model
from sim.plans import EngineSpec, load_engine
from sim.scenario import Scenario, ServingWorkload, cluster_spec, located
from sim.validation.benchmarks.base import BenchmarkRun
from sim.validation.formats.base import load_class
from sim.validation.rows import THROUGHPUT, MeasuredRow

_RANKS: Final = ("replicas", "dp", "tp", "pp", "cp", "ep", "moe_tp")
_OF_GPUS: Final = ("replicas", "dp", "tp", "pp", "cp")
_NEVER_SAID: Final = ("the model as plansim names it", "the engine profile", "the GPUs (cluster)")
_HINT: Final = "--scenario FILE: a scenario whose model, cluster, engine and plan are what was measured"


def measured_rows(runs: Sequence[BenchmarkRun], deployment: Scenario | None, *, dataset: str) -> list[MeasuredRow]:
    """One measured row per run.

    Args:
        runs: What the file says.
        deployment: What was measured; None if the user does not say.
        dataset: Name of the table.

    Raises:
        InputError: if something is missing, all of it in one message, or file and scenario contradict each other.
    """
    if deployment is None:
        missing = [*_NEVER_SAID, *_open_ends(runs, {}, None)]
        raise InputError(f"the file alone does not say {_listed(missing)}", file=runs[0].record.file, hint=_HINT)
    spec = deployment.spec
    given = {name: value for name in _RANKS if (value := getattr(spec.plan, name)) is not None}
    if missing := [*_open_ends(runs, given, spec.workload)]:
        raise InputError(
            f"neither the file nor the scenario says {_listed(missing)}", file=runs[0].record.file, hint=_HINT
        )
    engine = load_engine(located(spec.engine, deployment.base))
    for run in runs:
        _agree(run, deployment, given, engine)
    many = len(runs) > 1
    return [
        _row(run, deployment, {**given, **run.plan}, engine, dataset, f"{dataset} {i + 1}" if many else dataset)
        for i, run in enumerate(runs)
    ]


def _open_ends(
    runs: Sequence[BenchmarkRun], given: Mapping[str, int], workload: ServingWorkload | None
) -> Iterator[str]:
    """What the scenario would have to say of some run and does not; a scenario always has lengths."""
    runs = [run for run in runs if not run.reason]
    if any("tp" not in {**given, **run.plan} for run in runs):
        yield "the parallelism (plan.tp)"
    said = workload is not None and (workload.concurrency is not None or workload.rate is not None)
    if not said and any(run.concurrency is None and run.rate is None and not run.replayed for run in runs):
        yield "the load (workload.concurrency or workload.rate)"
    if workload is None and any(run.table is None and run.input_law is None for run in runs):
        yield "the lengths of prompts and outputs (workload.traffic)"


def _listed(things: Sequence[str]) -> str:
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


def _agree(run: BenchmarkRun, deployment: Scenario, given: dict[str, int], engine: EngineSpec) -> None:
    """Refuses a file that was measured on something else than the scenario says.

    Raises:
        InputError: naming both.
    """
    spec = deployment.spec
    if (
        run.model
        and (theirs := _model_name(run.model))
        and theirs != load_model(located(spec.model, deployment.base)).name
    ):
        raise run.record.error(f"the file is about {run.model}, the scenario about {spec.model}", "model")
    if run.engine_family and run.engine_family != engine.family:
        raise run.record.error(f"the file is about {run.engine_family}, the scenario about {engine.name}", "engine")
    device = load_cluster(cluster_spec(deployment)).device.name
    if run.device and run.device.lower() not in device:
        raise run.record.error(f"the file is about {run.device} GPUs, the scenario about {device}", "hw")
    for name, value in run.plan.items():
        if given.get(name, value) != value:
            raise run.record.error(f"the file says {name} {value}, the scenario {given[name]}", name)


def _model_name(name: str) -> str | None:
    """Short name of a model that plansim knows by this name; None for names it does not know, such as a folder."""
    try:
        return load_model(name).name
    except InputError:
        return None


def _row(
    run: BenchmarkRun, deployment: Scenario, ranks: dict[str, int], engine: EngineSpec, dataset: str, row_id: str
) -> MeasuredRow:
    spec = deployment.spec
    plan = {**spec.plan.model_dump(exclude_none=True), **ranks}
    gpus = 1
    for name in _OF_GPUS:
        gpus *= ranks.get(name, 1)
    measured: dict[str, float | None] = {**run.measured}
    if "output_tokens_per_s" in measured:
        measured[THROUGHPUT] = run.measured["output_tokens_per_s"] / gpus
    workload = _workload(run, deployment)
    concurrency, rate = workload.get("concurrency"), workload.get("rate")
    cluster = cluster_spec(deployment)
    return MeasuredRow(
        id=row_id,
        dataset=dataset,
        groups={
            "system": cluster.node,
            "model": spec.model,
            "engine": engine.name,
            "engine version": f"{engine.family} {run.engine_version or 'not recorded'}",
            "precision": run.precision or spec.plan.weights_dtype or "checkpoint's",
            "mode": "closed loop" if concurrency else "open loop",
            "load": load_class(concurrency) if concurrency else f"{rate:g}/s" if rate else "real arrivals",
            "lengths": run.lengths or "the scenario's",
        },
        scenario=None
        if run.reason
        else {
            "name": "measured",
            "model": located(spec.model, deployment.base),
            "cluster": cluster.model_dump(exclude_unset=True),
            "engine": located(spec.engine, deployment.base),
            "costs": _costs(deployment),
            "plan": plan,
            "workload": workload,
        },
        measured=measured,
        requests=() if run.table is None else (run.table,),
        e2e_s=() if run.e2e_s is None else (run.e2e_s,),
        reason=run.reason,
    )


def _workload(run: BenchmarkRun, deployment: Scenario) -> dict[str, Any]:
    """The load and lengths of the run; those of the scenario where the file leaves them open."""
    own = deployment.spec.workload
    found: dict[str, Any] = {}
    if run.input_law is not None and run.output_law is not None:
        lengths = {"input": dict(run.input_law), "output": dict(run.output_law)}
        found["traffic"] = {"name": "measured", "arrivals": {**run.arrivals, "rate": 1.0}, "lengths": lengths}
    else:
        given = own.model_dump(include={"traffic", "trace"}, exclude_none=True)
        found |= {
            key: located(value, deployment.base) if isinstance(value, str) else value for key, value in given.items()
        }
    if run.concurrency is not None:
        found["concurrency"] = run.concurrency
    elif run.rate is not None and not run.replayed:
        found["rate"] = run.rate
    elif own.concurrency is not None:
        found["concurrency"] = own.concurrency
    elif not run.replayed:
        found["rate"] = own.rate
    if (count := run.requests or own.requests) is not None:
        found["requests"] = count
    return found


def _costs(deployment: Scenario) -> str | dict[str, str]:
    """The scenario's sources of kernel times, files by their full path."""
    named = deployment.spec.costs
    if isinstance(named, str):
        return located(named, deployment.base)
    return {kind: located(source, deployment.base) for kind, source in named if source is not None}
