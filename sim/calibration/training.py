"""What devices sustain and engines cost in training, fitted to measured runs: few numbers per device and engine.

Start at `fit_training`. Only rows of the fitting half are used (`sim.validation.formats.training_runs.half_of`), every
parameter has a prior at its profile's value, and none belongs to a source, a model or a row. The result is for the YAML
files; nothing here changes a prediction by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from scipy.optimize import least_squares

from sim.core import Array, PlansimError
from sim.plans import TrainingEngineSpec
from sim.scenario import TrainingThings, assemble_training, load
from sim.training import TrainingPlan, TrainingStep, resolve_training, sustained_of
from sim.training.operators import TrainingOperator
from sim.validation import MeasuredRow

NOISE_FRAC: Final = 0.05
"""Scatter of step times that no parameter explains; errors far beyond it count as their logarithm (Cauchy), since runs
with causes of their own (a congested fabric, a slow node, unstated options) are among the rows and must not rule."""
_TOP: Final = 1.0
_MOST_STEPS: Final = 10


@dataclass(frozen=True)
class FreeNumber:
    """A number to fit.

    Attributes:
        owner: Name of the sustained profile or of the training engine.
        field: Its field.
        width: Standard deviation of the prior, in the logarithm.
    """

    owner: str
    field: str
    width: float = 0.3

    @property
    def name(self) -> str:
        """Such as `a100.linear`."""
        return f"{self.owner}.{self.field}"


FREE_NUMBERS: Final = (
    *(FreeNumber("a100", field) for field in ("linear", "stream", "local_comm", "network")),
    *(FreeNumber("h100", field) for field in ("linear", "stream", "network")),
    FreeNumber("h100-96-500w", "linear"),
    FreeNumber("megatron-deepspeed", "launch_s", 1.0),
    FreeNumber("megatron-deepspeed", "step_s", 1.0),
    FreeNumber("fsdp", "attention_frac"),
    FreeNumber("fsdp", "stream_passes"),
    FreeNumber("torchtitan", "stream_passes"),
    FreeNumber("torchtitan", "compiled_stream_passes"),
)
"""All numbers that are fitted: a few per device with enough rows, and what tells the engines apart."""


@dataclass(frozen=True)
class TrainingFit:
    """Fitted numbers.

    Attributes:
        values: Value by name.
        deviations: Standard deviation of its logarithm by name.
        rows: Rows used.
    """

    values: Mapping[str, float]
    deviations: Mapping[str, float]
    rows: int


class _Case:
    """A measured row with what its prediction needs, ready to be worked out many times."""

    def __init__(self, row: MeasuredRow, things: TrainingThings, plan: TrainingPlan, measured_s: float) -> None:
        self.things, self.plan, self.weight, self.measured_s = things, plan, row.weight, measured_s
        self.sustained = sustained_of(things.cluster.device)
        self.owner = self.sustained.source.partition(",")[0].split()[0]
        self._raw_s: dict[TrainingOperator, float] = {}
        self._known: dict[tuple[float, ...], float] = {}

    def error(self, values: Mapping[str, float]) -> float:
        """Logarithm of predicted over measured step time; worked out once per set of the numbers that matter to it."""
        kept, own = _own(values, self.owner), _own(values, self.things.engine.name)
        key = (*kept.values(), *own.values())
        if key not in self._known:
            self._known[key] = self._error(kept, own)
        return self._known[key]

    def _error(self, kept: dict[str, Any], own: Mapping[str, float]) -> float:
        step = TrainingStep(
            self.things.model,
            self.plan,
            workload=self.things.spec.workload,
            engine=_engine_with(self.things.engine, own),
            cluster=self.things.cluster,
            sustained=replace(self.sustained, **kept),
            raw_s=self._raw_s,
        )
        return float(np.log(step.step_s / self.measured_s))


def fit_training(rows: Iterable[MeasuredRow], *, free: Sequence[FreeNumber] = FREE_NUMBERS) -> TrainingFit:
    """The numbers that fit the fitting half of `rows` best.

    Minimises `sum w log(1 + (log(predicted/measured)/NOISE_FRAC)^2) + sum (log(x/x0)/width)^2`, over the logarithms of
    the numbers.

    Raises:
        PlansimError: if no row can be used.
    """
    cases = [case for row in rows if row.groups.get("half") == "fit" and (case := _case(row)) is not None]
    if not cases:
        raise PlansimError("no row of the fitting half has a step time")
    start = np.log([_prior(number, cases) for number in free])
    widths = np.array([number.width for number in free])
    weights = np.sqrt([case.weight for case in cases])

    def residuals(logs: Array) -> Array:
        values = {number.name: float(value) for number, value in zip(free, np.exp(logs), strict=True)}
        errors = np.array([case.error(values) for case in cases]) / NOISE_FRAC
        softened = np.sign(errors) * np.sqrt(np.log1p(errors**2))
        return np.concatenate([weights * softened, (logs - start) / widths])

    upper = [np.log(_TOP) if _is_share(number) else np.inf for number in free]
    inside = np.minimum(start, np.asarray(upper) - 1e-6)
    found = least_squares(
        residuals, inside, max_nfev=_MOST_STEPS, bounds=(-np.inf, upper), diff_step=1e-3, xtol=1e-3, ftol=1e-3
    )
    spread = np.sqrt(np.diag(np.linalg.pinv(found.jac.T @ found.jac)))
    names = [number.name for number in free]
    return TrainingFit(
        dict(zip(names, np.exp(found.x).tolist(), strict=True)),
        dict(zip(names, spread.tolist(), strict=True)),
        len(cases),
    )


def _is_share(number: FreeNumber) -> bool:
    return number.field in ("linear", "stream", "local_comm", "network", "attention_frac", "network_frac")


def _prior(number: FreeNumber, cases: Sequence[_Case]) -> float:
    """The profile's own value; 1 for what no row has."""
    for case in cases:
        if case.owner == number.owner and hasattr(case.sustained, number.field):
            return float(getattr(case.sustained, number.field))
        if case.things.engine.name == number.owner:
            return float(getattr(case.things.engine, number.field).value)
    return 1.0


def _case(row: MeasuredRow) -> _Case | None:
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
    case = _Case(row, things, plan, measured_s)
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
