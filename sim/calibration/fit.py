"""Fits named parameters of an engine or device profile to measured rows, through the whole simulation.

What is made smallest is in `sim.calibration.objective`: errors of rows that share those of their kernels, outliers
damped, every parameter held by its prior. So a handful of rows moves what they speak of and leaves the rest. The
posterior spread comes from the curvature at the optimum; where it is hardly narrower than the prior, the rows say
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from sim.calibration.objective import EXPECTED_SPREAD, damped, weights_of
from sim.calibration.parameters import Parameter
from sim.calibration.subjects import Subject, subject_of
from sim.core import WRONG_UNIT, Array, InputError, stream
from sim.results import SCHEMA_VERSION
from sim.validation import Compiled, MeasuredRow, predict

Progress = Callable[[int, int, str], None]
FEWEST_ROWS: Final = 5

_MOST_ROUNDS: Final = 8
_IDENTIFIED: Final = 0.8
_BOUND: Final = np.log(50.0)


@dataclass(frozen=True)
class Fitted:
    """A parameter after the fit.

    Attributes:
        name: Field of the engine profile, or factor of the device profile.
        before: The profile's value [SI].
        value: The fitted value [SI].
        low: 5 % quantile of its posterior [SI].
        high: 95 % quantile [SI].
        identified: Whether the rows narrowed it down; otherwise the value is mostly the prior's.
    """

    name: str
    before: float
    value: float
    low: float
    high: float
    identified: bool


@dataclass(frozen=True)
class Residual:
    """How far off one value is, predicted / measured - 1, with the profile as it was and with the fitted values."""

    id: str
    metric: str
    before_frac: float
    after_frac: float


@dataclass(frozen=True)
class Calibration:
    """The outcome of a fit.

    Attributes:
        subject: The profile that was fitted.
        parameters: Its parameters.
        rows: Ids of the rows used.
        before: Median |predicted / measured - 1| by metric, with the profile as it was.
        after: The same with the fitted values.
        left_out: The same for rows of a model, fitted without that model; empty if not asked for or one model only.
        residuals: Of every value used: row, metric, and predicted / measured - 1 before and after.
    """

    subject: Subject
    parameters: tuple[Fitted, ...]
    rows: tuple[str, ...]
    before: Mapping[str, float]
    after: Mapping[str, float]
    left_out: Mapping[str, float]
    residuals: tuple[Residual, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document that `plansim calibrate --json` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "calibrate",
            self.subject.kind: self.subject.name,
            "parameters": [vars(each) for each in self.parameters],
            "rows": list(self.rows),
            "median_abs_error_frac": {
                "before": dict(self.before),
                "after": dict(self.after),
                "left_out": dict(self.left_out),
            },
            "residuals": [vars(each) for each in self.residuals],
        }


def calibrate(
    rows: Sequence[MeasuredRow],
    *,
    profile: str,
    names: Sequence[str] | None = None,
    most: int = 60,
    leave_out: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Fits parameters of a profile to those of `rows` that ran on its engine or device.

    Args:
        rows: Measured rows.
        profile: Name of an engine or device profile, or the path of one.
        names: Parameters to fit; None for all that can be.
        most: Rows to use at most, spread over systems, models and loads.
        leave_out: Whether to fit again without each model and report the errors on it.
        seed: Seed of the choice of rows and of the simulations.
        progress: Called with (done, total, what).

    Raises:
        InputError: if there are fewer than `FEWEST_ROWS` rows that can be simulated, a parameter is unknown, or the
            measured values are in other units.
    """
    subject = subject_of(profile)
    parameters = subject.parameters(names)
    mine = [row for row in rows if row.scenario is not None and subject.ran(row) in (profile, subject.name)]
    problem = _Problem(subject, parameters, spread(mine, most, seed), seed)
    if len(problem.rows) < FEWEST_ROWS:
        raise _too_few(rows, subject, profile, len(problem.rows), seed)
    _check_units(problem.log_errors(np.zeros(len(parameters))))
    advance = progress or (lambda done, total, what: None)
    models = sorted({row.groups.get("model", "") for row in problem.rows})
    folds = models if leave_out and len(models) > 1 else []
    advance(0, 1 + len(folds), "fitting")
    best, fitted = problem.solve()
    errors: dict[str, list[float]] = {}
    for done, model in enumerate(folds, start=1):
        advance(done, 1 + len(folds), f"fitting without {model}")
        inside = [row.groups.get("model") == model for row in problem.rows]
        rest = problem.only([not one for one in inside])
        if len(rest.rows) < FEWEST_ROWS:
            continue
        values, _ = rest.solve()
        for metric, found in problem.only(inside).errors(values).items():
            errors.setdefault(metric, []).extend(found)
    advance(1 + len(folds), 1 + len(folds), "done")
    return Calibration(
        subject,
        fitted,
        tuple(row.id for row in problem.rows),
        _medians(problem.errors(np.zeros(len(parameters)))),
        _medians(problem.errors(best)),
        _medians(errors),
        problem.compared(best),
    )


def _too_few(rows: Sequence[MeasuredRow], subject: Subject, profile: str, found: int, seed: int) -> InputError:
    """What is missing of the rows that a fit needs: how many there are, of other profiles, and without an answer."""
    names = (profile, subject.name)
    ran = Counter(subject.ran(row) or "unknown" for row in rows if row.scenario is not None)
    others = [f"{count} are of {name}" for name, count in ran.most_common() if name not in names]
    mine = [row for row in rows if row.scenario is None or subject.ran(row) in names]
    reasons = Counter(reason for row in mine if (reason := predict(row, seed=seed).reason))
    silent = [f"{count} cannot be simulated ({reason})" for reason, count in reasons.most_common(3)]
    parts = "; ".join([f"of {len(rows)} in all", *others, *silent])
    return InputError(
        f"{found} measured rows of {profile} can be simulated; a fit needs {FEWEST_ROWS}: {parts}",
        hint=f"add rows, or calibrate the {subject.kind} that the rows ran on",
    )


def _check_units(errors: Sequence[_LogError]) -> None:
    """Refuses measured values that are off by what a wrong unit makes: no profile can be as wrong as that.

    Raises:
        InputError: if half of a metric's values are more than `WRONG_UNIT` times the predicted ones, or less.
    """
    by_metric: dict[str, list[float]] = {}
    for one in errors:
        by_metric.setdefault(one.metric, []).append(-one.error)
    for metric, ratios in by_metric.items():
        middle = float(np.median(ratios))
        if abs(middle) > np.log(WRONG_UNIT):
            times = np.exp(abs(middle))
            raise InputError(
                f"measured {metric} is {times:.3g} times {'above' if middle > 0 else 'below'} what is predicted",
                path=metric,
                allowed="seconds",
                hint="look at the unit and the meaning of the column",
            )


class _LogError(NamedTuple):
    """ln(predicted / measured) of a value."""

    id: str
    metric: str
    pair: tuple[str, str]
    error: float


class _Problem:
    """The rows of one fit; points are logarithms of factors on the parameters."""

    def __init__(
        self,
        subject: Subject,
        parameters: tuple[Parameter, ...],
        rows: Sequence[MeasuredRow],
        seed: int,
        compiled: dict[str, Compiled] | None = None,
    ) -> None:
        self.subject = subject
        self.parameters = parameters
        self.seed = seed
        self._compiled: dict[str, Compiled] = {} if compiled is None else compiled
        self.rows = [row for row in rows if compiled is not None or self._answers(row)]

    def only(self, kept: Sequence[bool]) -> _Problem:
        """The same fit with some of its rows."""
        rows = [row for row, keep in zip(self.rows, kept, strict=True) if keep]
        return _Problem(self.subject, self.parameters, rows, self.seed, self._compiled)

    def _answers(self, row: MeasuredRow) -> bool:
        return not self.subject.predict(row, None, seed=self.seed, compiled=self._compiled).reason

    def log_errors(self, point: Array) -> list[_LogError]:
        """ln(predicted / measured) of every measured value."""
        values = {each.name: each.value * float(np.exp(x)) for each, x in zip(self.parameters, point, strict=True)}
        compiled = self._compiled if self.subject.keeps_costs else {}
        found = []
        for row in self.rows:
            prediction = self.subject.predict(row, values, seed=self.seed, compiled=compiled)
            for metric in EXPECTED_SPREAD:
                measured, predicted = row.measured.get(metric), prediction.values.get(metric)
                if measured and predicted:
                    found.append(_LogError(row.id, metric, _pair(row), float(np.log(predicted / measured))))
        return found

    def residuals(self, point: Array) -> Array:
        """Errors of all values over their spread, then the distance of each parameter from its prior over its own."""
        data = [one.error / EXPECTED_SPREAD[one.metric] for one in self.log_errors(point)]
        priors = [x / each.log_sd for each, x in zip(self.parameters, point, strict=True)]
        return np.asarray([*data, *priors], dtype=np.float64)

    def errors(self, point: Array) -> dict[str, list[float]]:
        """|predicted / measured - 1| by metric."""
        found: dict[str, list[float]] = {}
        for one in self.log_errors(point):
            found.setdefault(one.metric, []).append(abs(float(np.expm1(one.error))))
        return found

    def compared(self, point: Array) -> tuple[Residual, ...]:
        """Every value with the profile as it is and at `point`, the largest remaining error first."""
        before = {(one.id, one.metric): one.error for one in self.log_errors(np.zeros_like(point))}
        after = sorted(self.log_errors(point), key=lambda one: -abs(one.error))
        return tuple(
            Residual(one.id, one.metric, float(np.expm1(before[one.id, one.metric])), float(np.expm1(one.error)))
            for one in after
        )

    def solve(self) -> tuple[Array, tuple[Fitted, ...]]:
        """The best point and the parameters there, with 90 % intervals from the curvature."""
        start = np.zeros(len(self.parameters))
        weights = weights_of([(*one.pair, one.metric) for one in self.log_errors(start)])
        answer = least_squares(
            self.residuals,
            start,
            jac=self._slopes,
            bounds=(start - _BOUND, start + _BOUND),
            loss=damped(weights, "soft_l1"),
            max_nfev=_MOST_ROUNDS,
        )
        slopes = answer.jac
        spread = np.sqrt(np.diag(np.linalg.inv(slopes.T @ slopes)))
        fitted = []
        for each, x, sd in zip(self.parameters, answer.x, spread, strict=True):
            ends = np.exp(x + np.array([-1.0, 0.0, 1.0]) * 1.645 * sd) * each.value
            known = bool(sd < _IDENTIFIED * each.log_sd)
            fitted.append(Fitted(each.name, each.value, float(ends[1]), float(ends[0]), float(ends[2]), known))
        return np.asarray(answer.x), tuple(fitted)

    def _slopes(self, point: Array) -> Array:
        """Central differences."""
        size = self.subject.step
        columns = []
        for i in range(len(point)):
            step = np.zeros(len(point))
            step[i] = size
            columns.append((self.residuals(point + step) - self.residuals(point - step)) / (2.0 * size))
        return np.column_stack(columns)


def _pair(row: MeasuredRow) -> tuple[str, str]:
    return row.groups.get("system", ""), row.groups.get("model", "")


def spread(rows: Sequence[MeasuredRow], most: int, seed: int) -> list[MeasuredRow]:
    """At most so many rows, drawn in turn from every group of system, model and load."""
    rng = stream(seed, "calibration rows")
    groups: dict[tuple[str, ...], list[int]] = {}
    for i in rng.permutation(len(rows)).tolist():
        groups.setdefault((*_pair(rows[i]), rows[i].groups.get("load", "")), []).append(i)
    chosen: list[int] = []
    while len(chosen) < most and any(groups.values()):
        for key in sorted(groups):
            if groups[key] and len(chosen) < most:
                chosen.append(groups[key].pop())
    return [rows[i] for i in sorted(chosen)]


def _medians(errors: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {metric: float(np.median(found)) for metric, found in errors.items()}
