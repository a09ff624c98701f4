"""What devices sustain and engines cost in training, fitted to measured runs: few numbers per device and engine.

Start at `fit_training`. Only rows of the fitting half are used (`sim.validation.formats.training_runs.half_of`), every
parameter has a prior that no row has moved, and none belongs to a source, a model or a row. The result is for the YAML
files; nothing here changes a prediction by itself. `training_study` says what the numbers are worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import least_squares

from sim.calibration.training_cases import Seconds, TrainingCase, training_cases, whole_step
from sim.core import Array, PlansimError
from sim.validation import MeasuredRow

NOISE_FRAC: Final = 0.05
"""Scatter of step times that no parameter explains; errors far beyond it count as their logarithm (Cauchy), since runs
with causes of their own (a congested fabric, a slow node, unstated options) are among the rows and must not rule."""
_TOP: Final = 1.0
_MOST_STEPS: Final = 20


@dataclass(frozen=True)
class FreeNumber:
    """A number to fit.

    Attributes:
        owner: Name of the sustained profile or of the training engine.
        field: Its field.
        prior: Where it would stand without rows: the curves as they are, or a published order of magnitude.
        width: Standard deviation of the prior, in the logarithm.
    """

    owner: str
    field: str
    prior: float = 1.0
    width: float = 0.3

    @property
    def name(self) -> str:
        """Such as `a100.linear`."""
        return f"{self.owner}.{self.field}"

    @property
    def is_share(self) -> bool:
        """Whether it can't exceed one."""
        return self.field in ("linear", "stream", "local_comm", "network", "attention_frac", "network_frac")


FREE_NUMBERS: Final = (
    *(FreeNumber("a100", field) for field in ("linear", "stream", "local_comm", "network")),
    *(FreeNumber("h100", field) for field in ("linear", "stream", "network")),
    FreeNumber("h100-96-500w", "linear"),
    # A kernel launched in eager mode, and data, logging and synchronisation of a step: orders of magnitude.
    FreeNumber("megatron-deepspeed", "launch_s", 8e-6, 1.0),
    FreeNumber("megatron-deepspeed", "step_s", 20e-3, 1.0),
    # The first FlashAttention is 1.5 to 2 times slower than the second (arXiv 2307.08691).
    FreeNumber("fsdp", "attention_frac", 0.57),
    FreeNumber("fsdp", "stream_passes"),
    # Eager RMS norm, rotary position and SwiGLU are 2 to 9 kernels each that read and write in up to 32 bits.
    FreeNumber("torchtitan", "stream_passes", 4.0, 0.5),
    FreeNumber("torchtitan", "compiled_stream_passes", 1.5, 0.5),
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


def fit_training(rows: Iterable[MeasuredRow], *, free: Sequence[FreeNumber] = FREE_NUMBERS) -> TrainingFit:
    """The numbers that fit the fitting half of `rows` best.

    Raises:
        PlansimError: if no row can be used.
    """
    return fit_cases(training_cases(row for row in rows if row.groups.get("half") == "fit"), free=free)


def fit_cases(
    cases: Iterable[TrainingCase], *, free: Sequence[FreeNumber] = FREE_NUMBERS, seconds: Seconds = whole_step
) -> TrainingFit:
    """The numbers that fit those of `cases` best that are in the fitting half.

    Minimises `sum w log(1 + (log(predicted/measured)/NOISE_FRAC)^2) + sum (log(x/prior)/width)^2`, over the logarithms
    of the numbers.

    Args:
        cases: Measured rows.
        free: What is fitted; all else stays as in the profiles.
        seconds: What of a step counts.

    Raises:
        PlansimError: if no row can be used.
    """
    used = [case for case in cases if case.is_fitted]
    if not used:
        raise PlansimError("no row of the fitting half has a step time")
    middle = np.log([number.prior for number in free])
    widths = np.array([number.width for number in free])
    weights = np.sqrt([case.row.weight for case in used])
    names = [number.name for number in free]

    def residuals(logs: Array) -> Array:
        values = dict(zip(names, np.exp(logs).tolist(), strict=True))
        errors = np.array([case.error(values, seconds) for case in used]) / NOISE_FRAC
        softened = np.sign(errors) * np.sqrt(np.log1p(errors**2))
        return np.concatenate([weights * softened, (logs - middle) / widths])

    upper = [np.log(_TOP) if number.is_share else np.inf for number in free]
    start = np.minimum(np.log([_shipped(number, used) for number in free]), np.asarray(upper) - 1e-6)
    found = least_squares(
        residuals, start, max_nfev=_MOST_STEPS, bounds=(-np.inf, upper), diff_step=1e-3, xtol=1e-3, ftol=1e-3
    )
    spread = np.sqrt(np.diag(np.linalg.pinv(found.jac.T @ found.jac)))
    return TrainingFit(
        dict(zip(names, np.exp(found.x).tolist(), strict=True)),
        dict(zip(names, spread.tolist(), strict=True)),
        len(used),
    )


def _shipped(number: FreeNumber, cases: Sequence[TrainingCase]) -> float:
    """The profile's own value, where the search starts; the prior for what no row has."""
    for case in cases:
        if case.owner == number.owner and hasattr(case.sustained, number.field):
            return float(getattr(case.sustained, number.field))
        if case.engine_owner == number.owner:
            return float(getattr(case.things.engine, number.field).value)
    return number.prior
