"""Runs the plan of a training scenario: names become things, the step is worked out, metrics and sources come back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import pandas as pd

from sim.core import InfeasibleError, Reason, load_data
from sim.hardware import Cluster, ClusterSpec, load_cluster
from sim.models import GatedDelta, Mamba2, ModelSpec, load_model
from sim.plans import TrainingEngineSpec, load_training_engine
from sim.results import Band, TrainingResult, training_intervals
from sim.scenario.load import Scenario, located
from sim.scenario.training_spec import TrainingScenarioSpec
from sim.training import (
    Sustained,
    TrainingPlan,
    TrainingStep,
    available_bytes,
    job_metrics,
    megatron_command,
    memory_by_stage,
    memory_over_time,
    peak_reserved_bytes,
    replayed_or_none,
    resolve_training,
)
from sim.training.schedules import SCHEDULES

_CONTEXT: Final = {
    "all_gather": "keys and values are gathered over context-parallel ranks before attention, not beside it",
    "ring": "keys and values pass around context-parallel ranks beside attention",
    "token_ring": "queries and partial results pass around context-parallel ranks beside attention",
    "ulysses": "context-parallel ranks exchange heads for positions before and after attention, not beside it",
}
_PACKAGES: Final = ("plansim", "numpy", "scipy", "pandas", "networkx", "pydantic")


@dataclass(frozen=True)
class TrainingThings:
    """Everything a training simulation needs but the plan.

    Attributes:
        spec: The scenario's data.
        model: The model.
        cluster: The cluster, all of it.
        engine: The engine's profile.
    """

    spec: TrainingScenarioSpec
    model: ModelSpec
    cluster: Cluster
    engine: TrainingEngineSpec


def assemble_training(scenario: Scenario) -> TrainingThings:
    """The things that a training scenario names.

    Raises:
        InputError: if a name is unknown.
    """
    spec, base = scenario.training, scenario.base
    with scenario.errors_at("model"):
        model = load_model(located(spec.model, base)) if isinstance(spec.model, str) else spec.model
    with scenario.errors_at("cluster"):
        cluster = load_cluster(_cluster_spec(spec, scenario))
    with scenario.errors_at("engine"):
        engine = load_training_engine(located(spec.engine, base))
    if spec.plan.schedule is not None:
        with scenario.errors_at("plan.schedule"):
            SCHEDULES.get(spec.plan.schedule)
    return TrainingThings(spec, model, cluster, engine)


def _cluster_spec(spec: TrainingScenarioSpec, scenario: Scenario) -> ClusterSpec:
    cluster = spec.cluster
    if isinstance(cluster, str):
        cluster = load_data("hardware_profiles/clusters", located(cluster, scenario.base), ClusterSpec, kind="cluster")
    return cluster.model_copy(update={"node": located(cluster.node, scenario.base)})


def training_step(things: TrainingThings, *, sustained: Sustained | None = None) -> TrainingStep | tuple[Reason, ...]:
    """The step of the scenario's plan, or why the layout is impossible; memory is not judged.

    Args:
        things: The assembled scenario.
        sustained: Takes the place of what the device's file says it sustains.
    """
    spec = things.spec
    plan = resolve_training(
        spec.plan, workload=spec.workload, model=things.model, engine=things.engine, cluster=things.cluster
    )
    if isinstance(plan, tuple):
        return plan
    step = step_of(things, plan, sustained=sustained)
    return tuple(step.schedule_reasons()) or step


def run_training(scenario: Scenario) -> TrainingResult:
    """Simulates the plan of a training scenario.

    Raises:
        InputError: if a name is unknown.
        InfeasibleError: if the plan cannot run or does not fit, with reasons and numbers.
    """
    things = assemble_training(scenario)
    step = training_step(things)
    if isinstance(step, tuple):
        raise InfeasibleError(f"the plan of {things.spec.name} cannot run", step)
    if reasons := step.memory_reasons():
        raise InfeasibleError(f"the plan {step.plan.label} does not fit", reasons)
    return training_result(things, step, scenario.resolved())


def step_of(things: TrainingThings, plan: TrainingPlan, *, sustained: Sustained | None = None) -> TrainingStep:
    """The step of a plan."""
    return TrainingStep(
        things.model,
        plan,
        workload=things.spec.workload,
        engine=things.engine,
        cluster=things.cluster,
        sustained=sustained,
    )


def training_result(things: TrainingThings, step: TrainingStep, resolved: dict[str, Any]) -> TrainingResult:
    """What a step delivers, where its time and memory go, and what that rests on."""
    metrics = {**job_metrics(step), "peak_reserved_bytes": peak_reserved_bytes(step) + step.engine.context_bytes.value}
    times, memory, run = step.times, step.peak_memory, replayed_or_none(step)
    return TrainingResult(
        metrics=metrics,
        intervals=training_intervals(metrics, step_band(step)),
        breakdown={"explains_s": times.step_s, "parts": dict(times.parts_s), "hidden": dict(times.hidden_s)},
        provenance=training_provenance(things, step, resolved),
        plan=step.plan.to_dict(),
        memory={
            **memory.to_dict(),
            "runtime_bytes": step.engine.context_bytes.value,
            "free_bytes": available_bytes(step.device, step.engine) - memory.allocated_bytes,
        },
        stages=_stage_table(step),
        stage_memory=memory_by_stage(step),
        passes=pd.DataFrame() if run is None else run.frame(),
        memory_over_time=pd.DataFrame() if run is None else memory_over_time(step, run),
        launch=launch_of(things, step.plan),
        scenario=resolved,
        label=step.plan.label,
    )


def launch_of(things: TrainingThings, plan: TrainingPlan) -> str:
    """Shell text that starts a plan."""
    return megatron_command(
        plan, model=things.model, workload=things.spec.workload, cluster=things.cluster, engine=things.engine.name
    )


def step_band(step: TrainingStep) -> Band:
    """How far off predictions of step times are on the device."""
    return Band(step.costs.sustained.error_low, step.costs.sustained.error_high)


def _stage_table(step: TrainingStep) -> pd.DataFrame:
    """One row per virtual stage."""
    device = {stage: device for device, held in enumerate(step.held) for stage in held}
    return pd.DataFrame(
        [
            {
                "stage": number,
                "device": device[number],
                "layers": step.plan.layers_per_stage[number],
                "forward_s": passes.forward.total_s,
                "backward_input_s": passes.backward_input.total_s,
                "backward_weight_s": passes.backward_weight.total_s,
            }
            for number, passes in enumerate(step.stages)
        ]
    )


def training_provenance(things: TrainingThings, step: TrainingStep | None, resolved: dict[str, Any]) -> dict[str, Any]:
    """Versions, hashes of inputs, sources and assumptions; no clock time, no machine. Without a step, of no plan."""
    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "seed": things.spec.seed,
        "inputs": {"scenario_sha256": hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()},
        "device": {"name": things.cluster.device.name, "sources": list(things.cluster.device.sources)},
        "price": {"usd_per_gpu_hour": things.cluster.usd_per_device_hour, "source": things.cluster.price_source},
        "engine": {"name": things.engine.name, "version": things.engine.version},
        "costs": {} if step is None else _merged(step.costs.sources),
        "assumptions": list(_assumptions(things, step)),
        "intervals": "measured over predicted step times of the runs that the device's factors were fitted to, 5 % to "
        "95 %; on held-out runs of A100 and H100 they hold 87 to 93 % of the time; assumed for other devices",
    }


def _merged(sources: Mapping[str, str]) -> dict[str, str]:
    """Sources by name, sorted; those of transfers over all boundaries of stages once if they are alike."""
    between = {name: source for name, source in sources.items() if re.search(r" over pp\d+$", name)}
    if len({*between.values()}) != 1:
        return dict(sorted(sources.items()))
    kept = {name: source for name, source in sources.items() if name not in between}
    return dict(sorted({**kept, "p2p between stages": next(iter(between.values()))}.items()))


def _assumptions(things: TrainingThings, step: TrainingStep | None) -> list[str]:
    notes = [
        "kernel costs are curves of serving kernels (cuBLAS products, forward flash attention) with what the device "
        "sustains over a step",
        "ranks of a stage are alike: no stragglers, no failures, no other jobs on the network",
        "all sequences have the full length",
    ]
    if things.model.is_moe:
        notes.append("tokens choose experts uniformly and independently")
    if things.spec.workload.checkpoint is None:
        notes.append("no checkpoints are counted")
    if things.spec.plan.power_cap is not None or things.spec.search.space.power_cap is not None:
        notes.append("a power cap sets the clock of products at full rate; memory keeps its speed and may draw more")
    if step is not None and step.plan.cp > 1:
        notes.append(_CONTEXT[step.plan.cp_kind])
        if any(isinstance(group.attention, GatedDelta | Mamba2) for group in things.model.layers):
            notes.append("around a recurrence they exchange positions for heads, and each scans the whole sequence")
    return notes
