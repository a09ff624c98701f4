"""Estimates of every training plan as metrics by path, and the objectives that they can tell plans apart by."""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.core import Array, InputError
from sim.results import TRAINING_ONLY, Objective, resolve_metric
from sim.scenario import TrainingScenarioSpec, TrainingThings
from sim.training import Estimates, PlanTable, available_bytes

MEMORY_MARGIN: Final = 0.08
"""Share by which an estimate of memory must exceed what there is for a plan to be thrown out unsimulated: more than
estimates are ever off (chunks in flight of an uneven interleaved pipeline are rounded)."""

_ALSO: Final = {"peak_memory_bytes", "mfu_frac", "energy_j", "usd_per_hour", "n_gpus"}
"""Metrics of serving that a training run has as well."""
_OF_A_RUN: Final = "peak_reserved_bytes"
"""A metric that a search leaves out: it takes a replay of a rank's tensors."""
_STAND_IN: Final = "step_time_s"
"""What plans are ranked by for a metric that has no estimate, such as the bubble."""
_OF_THE_JOB: Final = ("training_cost_usd", "training_energy_j")
_OF_A_TOKEN: Final = ("cost_usd_per_million_tokens", "energy_j_per_token")
_IN_MONEY: Final = {"training_cost_usd", "cost_usd_per_million_tokens", "usd_per_hour"}


def training_objectives(spec: TrainingScenarioSpec, *, priced: bool) -> tuple[Objective, ...]:
    """The objectives of a scenario's search; money is left out where the device has no price.

    Raises:
        InputError: if a name is no metric of training, or is about a job whose tokens are not given.
    """
    names = spec.search.objectives
    if names is None:
        last = _OF_A_TOKEN if spec.workload.tokens is None else _OF_THE_JOB
        names = ("step_time_s", "tokens_per_s_per_gpu", "memory_headroom_bytes", *last)
    found = tuple(resolve_metric(name) for name in names)
    known = (TRAINING_ONLY | _ALSO) - {_OF_A_RUN}
    for each in found:
        if each.path == _OF_A_RUN:
            raise InputError(
                f"{each.path!r} is of the plan that `plansim run` simulates", allowed=["peak_memory_bytes"]
            )
        if each.path not in known:
            raise InputError(f"{each.path!r} is a metric of serving", allowed=sorted(known))
        if spec.workload.tokens is None and each.path in {*_OF_THE_JOB, "training_time_s"}:
            raise InputError(f"{each.path!r} needs the tokens of the job", hint="--set workload.tokens=1e12")
    kept = tuple(each for each in found if priced or each.path not in _IN_MONEY)
    return kept or (resolve_metric(_STAND_IN),)


def estimated_metrics(table: PlanTable, estimates: Estimates, things: TrainingThings) -> dict[str, Array]:
    """Metrics of all plans by path, as far as the screen estimates them; see `job_metrics`; without ramps."""
    spec, c = things.spec.workload, table.columns
    step_s, gpus = estimates.step_s, c.dp * c.tp * c.cp * table.pp
    tokens = float(spec.global_batch * spec.sequence_length)
    goodput = np.ones(len(table))
    if spec.checkpoint is not None:
        goodput = spec.checkpoint.every_steps * step_s / (spec.checkpoint.every_steps * step_s + spec.checkpoint.time)
    price = things.cluster.usd_per_device_hour
    usd_per_hour: Array = gpus * np.float64(np.nan if price is None else price)
    total_s = np.full(len(table), np.nan) if spec.tokens is None else spec.tokens / tokens * step_s / goodput
    return {
        "step_time_s": step_s,
        "tokens_per_s_per_gpu": tokens / step_s / gpus,
        "samples_per_s_per_gpu": spec.global_batch / step_s / gpus,
        "peak_memory_bytes": estimates.memory_bytes,
        "memory_headroom_bytes": available_bytes(things.cluster.device, things.engine) - estimates.memory_bytes,
        "energy_j": estimates.energy_j,
        "energy_j_per_token": estimates.energy_j / tokens,
        "n_gpus": gpus.astype(np.float64),
        "goodput_frac": goodput,
        "checkpoint_loss_frac": 1.0 - goodput,
        "cost_usd_per_million_tokens": usd_per_hour / 3600.0 * step_s / goodput / tokens * 1e6,
        "usd_per_hour": usd_per_hour,
        "training_time_s": total_s,
        "training_cost_usd": total_s / 3600.0 * usd_per_hour,
        "training_energy_j": estimates.energy_j / tokens * (np.nan if spec.tokens is None else spec.tokens),
    }


def ranking(path: str, metrics: dict[str, Array], *, maximise: bool) -> Array:
    """Values that rank plans in a metric, smaller is better; by step time where it has no estimate."""
    values = metrics.get(path)
    if values is None:
        return metrics[_STAND_IN]
    return -values if maximise else values
