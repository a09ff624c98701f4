"""Simulates the runs of a file of claims, each at most once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sim.core import InfeasibleError
from sim.models import parameter_counts
from sim.results import get_metric
from sim.scenario import Scenario, assemble_training, run, training_step
from sim.training import job_metrics
from sim.validation.claims.load import MEMORY, Claims
from sim.validation.flop_rates import Counted, flops_per_step

_TERA = 1e12


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        metrics: Metrics by name, bytes by memory class, and under `seconds` those of a training step by cause.
        counted: What the FLOPs of a step are counted from; None for a serving run.
        reason: Why there are none; empty where it ran.
        unfit: Why it is judged not to fit, though the published run did; empty where it fits.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    counted: Counted | None = None
    reason: str = ""
    unfit: str = ""

    def value(self, *, metric: str | None, flops: str | None) -> float | None:
        """The number at a metric path, or the FLOP rate per device [TFLOP/s] by a definition; None if undefined."""
        if metric is not None:
            return get_metric(self.metrics, metric.removeprefix(MEMORY))
        total = None if self.counted is None or flops is None else flops_per_step(flops, self.counted)
        step_s, gpus = get_metric(self.metrics, "step_time_s"), get_metric(self.metrics, "n_gpus")
        return None if total is None or not step_s or not gpus else total / step_s / gpus / _TERA


class Runs:
    """The runs of a file of claims.

    Args:
        claims: The file.
    """

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._done: dict[str, Outcome] = {}

    def outcome(self, name: str) -> Outcome:
        """The run with this name, simulated when it is first asked for.

        Raises:
            InputError: if its scenario is wrong.
        """
        if name not in self._done:
            with self._claims.errors_at(name):
                self._done[name] = _simulated(self._claims.scenario(name))
        return self._done[name]


def _simulated(scenario: Scenario) -> Outcome:
    """A run's metrics; a training plan is not refused for its memory, since the published run did fit."""
    if not scenario.is_training:
        try:
            return Outcome(run(scenario).metrics)
        except InfeasibleError as error:
            return Outcome(reason="; ".join(reason.message for reason in error.reasons) or error.message)
    things = assemble_training(scenario)
    step = training_step(things)
    if isinstance(step, tuple):
        return Outcome(reason="; ".join(reason.message for reason in step))
    workload = things.spec.workload
    counted = Counted(
        things.model, workload.global_batch, workload.sequence_length, parameter_counts(things.model).total
    )
    unfit = "; ".join(reason.message for reason in step.memory_reasons())
    found = {**job_metrics(step), **step.peak_memory.to_dict(), "seconds": dict(step.times.parts_s)}
    return Outcome(found, counted, unfit=unfit)
