"""Measured training runs, set up once and worked out many times with other numbers in their profiles.

Start at `training_cases`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from sim.plans import TrainingEngineSpec
from sim.scenario import TrainingThings, assemble_training, load
from sim.training import TrainingPlan, TrainingStep, resolve_training, sustained_of
from sim.training.operators import TrainingOperator
from sim.validation import MeasuredRow

Seconds: TypeAlias = Callable[[TrainingStep], float]
"""How long a step lasts [s]: as it is, or without an effect (`training_effects`)."""


def whole_step(step: TrainingStep) -> float:
    """Time [s] of a step with all that is modelled."""
    return step.step_s


class TrainingCase:
    """A measured row with what its prediction needs.

    Args:
        row: What was measured.
        things: Model, cluster and engine.
        plan: The plan, resolved.
        measured_s: Measured time of a step [s].
    """

    def __init__(self, row: MeasuredRow, things: TrainingThings, plan: TrainingPlan, measured_s: float) -> None:
        self.row, self.things, self.plan, self.measured_s = row, things, plan, measured_s
        self.sustained = sustained_of(things.cluster.device)
        self.owner = self.sustained.source.partition(",")[0].split()[0]
        self.engine_owner = things.engine.fitted_as or things.engine.name
        self._raw_s: dict[TrainingOperator, float] = {}
        self._known: dict[tuple[Any, ...], float] = {}

    @property
    def is_fitted(self) -> bool:
        """Whether the row is of the fitting half."""
        return self.row.groups.get("half") == "fit"

    @property
    def source(self) -> str:
        """Who measured it."""
        return self.row.groups.get("source", "")

    def error(self, values: Mapping[str, float], seconds: Seconds = whole_step) -> float:
        """Logarithm of predicted over measured step time; worked out once per set of the numbers that matter to it.

        Args:
            values: Numbers that take the place of the profiles', by `FreeNumber.name`.
            seconds: What of the step counts.
        """
        kept, own = _own(values, self.owner), _own(values, self.engine_owner)
        key = (seconds, *kept.items(), *own.items())
        if key not in self._known:
            self._known[key] = float(np.log(seconds(self._step(kept, own)) / self.measured_s))
        return self._known[key]

    def _step(self, kept: dict[str, Any], own: Mapping[str, float]) -> TrainingStep:
        return TrainingStep(
            self.things.model,
            self.plan,
            workload=self.things.spec.workload,
            engine=_engine_with(self.things.engine, own),
            cluster=self.things.cluster,
            sustained=replace(self.sustained, **kept),
            raw_s=self._raw_s,
        )


def training_cases(rows: Iterable[MeasuredRow]) -> list[TrainingCase]:
    """The rows that have a step time and can be set up."""
    return [case for row in rows if (case := _case(row)) is not None]


def _case(row: MeasuredRow) -> TrainingCase | None:
    """The row ready to be predicted; None if it has no step time or cannot be set up."""
    if row.scenario is None:
        return None
    things = assemble_training(load(row.scenario))
    plan = resolve_training(
        things.spec.plan,
        workload=things.spec.workload,
        model=things.model,
        engine=things.engine,
        cluster=things.cluster,
    )
    if isinstance(plan, tuple):
        return None
    measured_s = measured_step_s(row, plan)
    if measured_s is None:
        return None
    case = TrainingCase(row, things, plan, measured_s)
    step = TrainingStep(things.model, plan, workload=things.spec.workload, engine=things.engine, cluster=things.cluster)
    return None if step.schedule_reasons() else case


def measured_step_s(row: MeasuredRow, plan: TrainingPlan) -> float | None:
    """Step time [s] behind whatever rate the row measured; None if it has none."""
    if (step_s := row.measured.get("step_time_s")) is not None:
        return step_s
    assert row.scenario is not None
    workload = row.scenario["workload"]
    sequences = workload["global_batch"] / plan.n_gpus
    if (rate := row.measured.get("samples_per_s_per_gpu")) is not None:
        return float(sequences / rate)
    if (rate := row.measured.get("tokens_per_s_per_gpu")) is not None:
        return float(sequences * workload["sequence_length"] / rate)
    return None


def _own(values: Mapping[str, float], owner: str) -> dict[str, Any]:
    return {name.removeprefix(f"{owner}."): value for name, value in values.items() if name.startswith(f"{owner}.")}


def _engine_with(engine: TrainingEngineSpec, values: Mapping[str, float]) -> TrainingEngineSpec:
    update: dict[str, Any] = {
        name: getattr(engine, name).model_copy(update={"value": value}) for name, value in values.items()
    }
    return engine.model_copy(update=update) if update else engine
