"""What predictions of training steps are worth: errors by half, sources left out, order of layouts, effects taken away.

Start at `study_training`; `print(study)` is Markdown. Everything is worked out anew from the rows and profiles at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from scipy.stats import t

from sim.calibration.training import FREE_NUMBERS, FreeNumber, fit_cases
from sim.calibration.training_cases import Seconds, TrainingCase, training_cases, whole_step
from sim.calibration.training_effects import EFFECTS
from sim.core import Array
from sim.validation import MeasuredRow, weighted_errors

FEWEST_ROWS: Final = 5
"""Rows from which a source counts in a mean over sources."""
DIFFERENCES: Final = (0.05, 0.10)
"""How much longer the slower of two layouts takes at least, for their order to count."""
EXTRAPOLATED: Final = "single-node"
"""Part of the name of the source whose rows follow from profiled layers; left out where sources are left out."""

_REACHES_ENDS: Final = 19
"""Rows from which the first and the last lie beyond the 5 % and 95 % quantiles."""

_Errors = Callable[[TrainingCase], float]


class Spread(NamedTuple):
    """|predicted / measured - 1| of some rows, by their weights; NaN without any."""

    rows: int
    median: float
    mean: float
    p90: float


class Ordering(NamedTuple):
    """Layouts of one job in their predicted and in their measured order.

    Attributes:
        pairs: Pairs of layouts that differ enough, by how much.
        right_frac: Share of them in the right order, likewise.
        jobs: Jobs with several layouts.
        regret_frac: How much longer than the best layout the one predicted to be best takes, mean of the jobs.
    """

    pairs: Mapping[float, int]
    right_frac: Mapping[float, float]
    jobs: int
    regret_frac: float

    def shares(self) -> list[str]:
        """Pairs in the right order, as text."""
        return [f"{self.right_frac[least]:.1%} of {count}" for least, count in self.pairs.items()]


class LeftOut(NamedTuple):
    """Mean |error| of a source's rows with numbers fitted to all sources, and with those fitted to the others."""

    rows: int
    inside: float
    outside: float


class Factors(NamedTuple):
    """Factors on a predicted step time between which nine in ten measured ones fall: `errors` of sustained profiles.

    Attributes:
        rows: Rows of the fitting half behind them.
        low: Lower end.
        high: Upper end.
        inside_frac: Share of the weight of the held-out rows between them; NaN without any.
    """

    rows: int
    low: float
    high: float
    inside_frac: float


class Without(NamedTuple):
    """Mean |error| of the held-out rows without an effect: with the numbers as they are, and fitted again."""

    as_is: float
    fitted: float


@dataclass(frozen=True)
class TrainingStudy:
    """What predictions of training steps are worth.

    Attributes:
        spreads: Errors by half and device.
        sources: Errors by half and source.
        left_out: Errors with and without each source in the fit.
        orderings: Order of layouts, held out and in all.
        whole: Mean |error| of the held-out rows, as it is and fitted again.
        effects: The same without each effect.
        factors: Bands by sustained profile, of those with enough rows.
    """

    spreads: Mapping[str, Mapping[str, Spread]]
    sources: Mapping[str, Mapping[str, Spread]]
    left_out: Mapping[str, LeftOut]
    orderings: Mapping[str, Ordering]
    whole: Without
    effects: Mapping[str, Without]
    factors: Mapping[str, Factors]

    def macro_mean(self, half: str) -> float:
        """Mean over sources with enough rows of their mean |error|."""
        return _mean(found.mean for found in self.sources[half].values() if found.rows >= FEWEST_ROWS)

    @property
    def left_out_ratio(self) -> float:
        """Mean over sources of their error left out of the fit, over that inside it."""
        found = self.left_out.values()
        return _mean(each.outside for each in found) / _mean(each.inside for each in found)

    def __str__(self) -> str:
        """Tables in Markdown."""
        rows = [
            [half, device, found.rows, *_percent(found.median, found.mean, found.p90)]
            for half, devices in self.spreads.items()
            for device, found in devices.items()
        ]
        parts = [_table(("half", "device", "rows", "median", "mean", "P90"), rows)]
        rows = [
            [half, source, found.rows, *_percent(found.median, found.mean, found.p90)]
            for half, sources in self.sources.items()
            for source, found in sources.items()
            if found.rows >= FEWEST_ROWS
        ]
        rows += [
            [half, "mean over these sources", "", "", *_percent(self.macro_mean(half)), ""] for half in self.sources
        ]
        parts.append(_table(("half", "source", "rows", "median", "mean", "P90"), rows))
        rows = [
            [name, found.rows, f"{found.low:.3f}", f"{found.high:.3f}", *_percent(found.inside_frac)]
            for name, found in self.factors.items()
        ]
        parts.append(_table(("profile", "rows fitted", "low", "high", "held-out weight inside"), rows))
        rows = [[name, found.rows, *_percent(found.inside, found.outside)] for name, found in self.left_out.items()]
        rows.append([f"ratio of means {self.left_out_ratio:.2f}", "", "", ""])
        parts.append(_table(("source", "rows", "in the fit", "left out"), rows))
        rows = [
            [name, *found.shares(), found.jobs, *_percent(found.regret_frac)] for name, found in self.orderings.items()
        ]
        heads = ("layouts", *(f"in order above {d:.0%}" for d in DIFFERENCES), "jobs", "regret")
        parts.append(_table(heads, rows))
        rows = [["(all of them)", *_percent(*self.whole)]]
        rows += [[name, *_percent(*found)] for name, found in self.effects.items()]
        parts.append(_table(("without", "numbers as they are", "fitted again"), rows))
        return "\n\n".join(parts)


def study_training(rows: Iterable[MeasuredRow], *, free: Sequence[FreeNumber] = FREE_NUMBERS) -> TrainingStudy:
    """What predictions for these rows are worth.

    Errors are weighted by `weight`. Leaving out fits `free` once per source with enough rows, and taking an effect away
    fits them once per effect, each time to the fitting half alone.
    """
    cases = training_cases(rows)
    halves = list(dict.fromkeys(case.row.groups["half"] for case in cases))
    return TrainingStudy(
        spreads={half: _by(cases, half, "device") for half in halves},
        sources={half: _by(cases, half, "source") for half in halves},
        left_out=leave_sources_out(cases, free),
        orderings={
            "both held out": ordering([case for case in cases if not case.is_fitted]),
            "all": ordering(cases),
        },
        whole=_without(cases, free, whole_step),
        effects={name: _without(cases, free, seconds) for name, seconds in EFFECTS.items()},
        factors=error_factors(cases, free),
    )


def shipped_error(case: TrainingCase) -> float:
    """Logarithm of predicted over measured step time, with the profiles as they are."""
    return case.error({})


def spread(cases: Sequence[TrainingCase], error: _Errors = shipped_error) -> Spread:
    """Errors of some rows, weighted."""
    if not cases:
        return Spread(0, float("nan"), float("nan"), float("nan"))
    errors, weights = np.array([error(case) for case in cases]), np.array([case.row.weight for case in cases])
    found = weighted_errors(np.abs(np.expm1(errors)), weights)
    return Spread(len(cases), *(found[f"{name}_abs_error_frac"] for name in ("median", "mean", "p90")))


def error_factors(cases: Sequence[TrainingCase], free: Sequence[FreeNumber] = FREE_NUMBERS) -> dict[str, Factors]:
    """Bands of sustained profiles from the fitting half, and how they hold for the other.

    The ends are the 5 % and 95 % quantiles of measured over predicted time, the `i`-th of `n` rows at `i / (n + 1)`, in
    weights. Fewer than 19 rows do not reach so far, and numbers fitted to them follow them: then errors are those with
    each row's source left out of the fit, and the ends Student's for one row more, in the logarithm, where wider.
    """
    found = {}
    for owner in dict.fromkeys(case.owner for case in cases):
        own = [case for case in cases if case.owner == owner]
        fitted, held_out = [case for case in own if case.is_fitted], [case for case in own if not case.is_fitted]
        if len(fitted) >= FEWEST_ROWS:
            few = len(fitted) < _REACHES_ENDS
            logs = -(_left_out_errors(fitted, cases, free) if few else _errors(fitted))
            low, high = _ends(logs, _weights(fitted), few=few)
            inside = (-_errors(held_out) >= low) & (-_errors(held_out) <= high)
            share = float(np.average(inside, weights=_weights(held_out))) if held_out else float("nan")
            found[owner] = Factors(len(fitted), float(np.exp(low)), float(np.exp(high)), share)
    return found


def _errors(cases: Sequence[TrainingCase]) -> Array:
    return np.array([shipped_error(case) for case in cases])


def _weights(cases: Sequence[TrainingCase]) -> Array:
    return np.array([case.row.weight for case in cases])


def _left_out_errors(own: Sequence[TrainingCase], cases: Sequence[TrainingCase], free: Sequence[FreeNumber]) -> Array:
    """Errors of `own` with numbers fitted to all `cases` but those of the same source."""
    values = {source: _without_source(source, cases, free) for source in {case.source for case in own}}
    return np.array([case.error(values[case.source]) for case in own])


def _without_source(source: str, cases: Sequence[TrainingCase], free: Sequence[FreeNumber]) -> Mapping[str, float]:
    return fit_cases([case for case in cases if case.source != source], free=free).values


def _ends(logs: Array, weights: Array, *, few: bool) -> tuple[float, float]:
    order, count = np.argsort(logs), len(logs)
    ranks = np.cumsum(weights[order]) / (weights.sum() + weights.mean())
    low, high = np.interp((0.05, 0.95), ranks, logs[order]).tolist()
    if few:
        reach = float(t.ppf(0.95, count - 1)) * float(logs.std(ddof=1)) * np.sqrt(1.0 + 1.0 / count)
        low, high = min(low, float(logs.mean() - reach)), max(high, float(logs.mean() + reach))
    return low, high


def _by(cases: Sequence[TrainingCase], half: str, group: str) -> dict[str, Spread]:
    parts: dict[str, list[TrainingCase]] = {}
    for case in cases:
        if case.row.groups["half"] == half:
            parts.setdefault(case.row.groups[group], []).append(case)
    return {name: spread(part) for name, part in sorted(parts.items(), key=lambda one: -len(one[1]))}


def leave_sources_out(cases: Sequence[TrainingCase], free: Sequence[FreeNumber] = FREE_NUMBERS) -> dict[str, LeftOut]:
    """Errors of each source's rows with numbers fitted to all sources, and with those fitted without it.

    Sources with `FEWEST_ROWS` rows count that have one in the fitting half; all their rows are compared.
    """
    everyone = fit_cases(cases, free=free).values
    by_source: dict[str, list[TrainingCase]] = {}
    for case in cases:
        by_source.setdefault(case.source, []).append(case)
    found = {}
    for source, own in by_source.items():
        if len(own) < FEWEST_ROWS or EXTRAPOLATED in source or not any(case.is_fitted for case in own):
            continue
        others = _without_source(source, cases, free)
        inside = spread(own, lambda case: case.error(everyone)).mean
        found[source] = LeftOut(len(own), inside, _outside(own, others))
    return found


def _outside(own: Sequence[TrainingCase], values: Mapping[str, float]) -> float:
    return spread(own, lambda case: case.error(values)).mean


def _without(cases: Sequence[TrainingCase], free: Sequence[FreeNumber], seconds: Seconds) -> Without:
    held_out = [case for case in cases if not case.is_fitted]
    again = fit_cases(cases, free=free, seconds=seconds).values
    return Without(
        spread(held_out, lambda case: case.error({}, seconds)).mean,
        spread(held_out, lambda case: case.error(again, seconds)).mean,
    )


# ---- order of layouts ----


def ordering(cases: Sequence[TrainingCase], error: _Errors = shipped_error) -> Ordering:
    """How well predictions order the layouts of a job: same source, model, devices, batch and precision."""
    jobs: dict[object, list[tuple[float, float]]] = {}
    for case in cases:
        predicted_s = case.measured_s * float(np.exp(error(case)))
        jobs.setdefault(_job(case), []).append((case.measured_s, predicted_s))
    several = [np.array(each) for each in jobs.values() if len(each) > 1]
    pairs = np.array([pair for each in several for pair in _pairs(each)]).reshape(-1, 2)
    wide = {least: pairs[np.abs(pairs[:, 0]) > np.log1p(least)] for least in DIFFERENCES}
    regrets = [each[np.argmin(each[:, 1]), 0] / each[:, 0].min() - 1.0 for each in several]
    return Ordering(
        {least: len(found) for least, found in wide.items()},
        {least: _mean((found[:, 0] * found[:, 1] > 0.0).tolist()) for least, found in wide.items()},
        len(several),
        _mean(regrets),
    )


def _job(case: TrainingCase) -> object:
    row = case.row
    return (
        *(row.groups[name] for name in ("source", "system", "model", "precision", "load")),
        case.things.spec.workload,
        case.things.model.n_layers,
        case.things.model.hidden_size,
    )


def _pairs(times_s: Array) -> list[tuple[float, float]]:
    """Logarithms of one layout's time over another's, measured and predicted, for every pair."""
    logs = np.log(times_s)
    return [(a[0] - b[0], a[1] - b[1]) for a, b in combinations(logs, 2)]


# ---- text ----


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else float("nan")


def _percent(*values: float) -> list[str]:
    return [f"{value:.1%}" for value in values]


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
