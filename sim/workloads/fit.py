"""Traffic specs from recorded requests: statistics that can be shared where the trace cannot.

Lengths become quantiles with a rank correlation. Arrivals become rates per window with gamma gaps inside, such that
generated traffic has both the trace's CV of gaps (bursts within seconds) and its dispersion of counts per window
(swings over minutes); a trace without such swings becomes one gamma or Poisson process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.core import Array, InputError
from sim.workloads.arrivals import ArrivalProcess
from sim.workloads.arrivals.gamma import Gamma
from sim.workloads.arrivals.piecewise import Piecewise, RateWindow
from sim.workloads.arrivals.poisson import Poisson
from sim.workloads.joint import JointLengths
from sim.workloads.lengths import Marginal
from sim.workloads.lengths.constant import Constant
from sim.workloads.lengths.quantiles import Quantiles
from sim.workloads.report import gap_cv, mean_rate
from sim.workloads.requests import RequestTable
from sim.workloads.traffic import TrafficSpec

LEVELS = (
    *(0.0, 0.002, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75),
    *(0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.998, 1.0),
)
_WINDOW_S = 60.0
_MIN_WINDOWS, _MAX_WINDOWS = 10, 120
_STEADY = 1.6  # dispersion of counts per window up to which the rate is taken as constant
_POISSON = 0.04  # a CV this close to 1 is Poisson
_STOP_AND_GO = 2.0  # CV of gaps within windows above which windows are made finer
_FINER = 6


def fit_traffic(
    table: RequestTable,
    name: str,
    *,
    description: str = "",
    ref: str = "",
    licence: str = "",
    notes: Sequence[str] = (),
    refs: Mapping[str, str] | None = None,
) -> TrafficSpec:
    """Traffic with the lengths, their rank correlation and the arrivals of `table`.

    A table whose requests all arrive at once gets Poisson arrivals at 1/s, and a note that says so.

    Raises:
        InputError: if there are fewer than 20 requests.
    """
    if len(table) < 20:
        raise InputError("a fit needs at least 20 requests", value=len(table))
    remarks = list(notes)
    arrivals = fit_arrivals(table.arrival_s) if table.span_s > 0 else Poisson(kind="poisson")
    if table.span_s == 0:
        remarks.append("no arrival times were recorded: Poisson at 1/s is assumed")
    if isinstance(arrivals, Piecewise):
        expected = arrivals.mean_rate * arrivals.period
        remarks.append(f"the rate swings: its mean is that of {expected:.0f} requests, fewer see only the beginning")
    return TrafficSpec(
        name=name,
        description=description,
        arrivals=arrivals,
        lengths=fit_lengths(table.input_tokens, table.output_tokens),
        source="fitted",
        ref=ref,
        licence=licence,
        notes=tuple(remarks),
        refs=dict(refs or {}),
    )


def fit_lengths(input_tokens: NDArray[np.int64], output_tokens: NDArray[np.int64]) -> JointLengths:
    """Quantiles of both lengths and their rank correlation."""
    ranks = [pd.Series(tokens).rank().to_numpy() for tokens in (input_tokens, output_tokens)]
    flat = any(np.ptp(rank) == 0 for rank in ranks)
    correlation = 0.0 if flat else float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return JointLengths(
        input=fit_marginal(input_tokens),
        output=fit_marginal(output_tokens),
        rank_correlation=round(float(np.clip(correlation, -0.99, 0.99)), 3),
    )


def fit_marginal(tokens: NDArray[np.int64]) -> Marginal:
    """The law of one length: a constant, or quantiles at `LEVELS`."""
    if np.ptp(tokens) == 0:
        return Constant(kind="constant", value=int(tokens[0]))
    values = np.rint(np.quantile(tokens, LEVELS))
    return Quantiles(kind="quantiles", levels=LEVELS, tokens_at=tuple(values.tolist()))


def window_counts(arrival_s: Array, width_s: float) -> NDArray[np.int64]:
    """Arrivals in each whole window of `width_s` [s] from time 0."""
    whole = int(arrival_s[-1] // width_s)
    return np.bincount((arrival_s // width_s).astype(np.int64), minlength=whole + 1)[:whole].astype(np.int64)


def dispersion(counts: NDArray[np.int64]) -> float:
    """Variance over mean of `counts`: 1 for Poisson arrivals."""
    return float(counts.var() / counts.mean())


def fit_arrivals(arrival_s: Array, *, width_s: float = _WINDOW_S) -> ArrivalProcess:
    """The arrival process of `arrival_s` [s]: rates per window of at least `width_s`, or one renewal process.

    Gaps in operational time (expected arrivals so far, given the rates) have the CV of the bursts within windows.
    Where that is large, the trace stops and starts within windows, and these are made shorter.
    """
    rate, cv = mean_rate(arrival_s), gap_cv(arrival_s)
    assert rate is not None
    assert cv is not None
    width = max(width_s, float(np.ceil(arrival_s[-1] / _MAX_WINDOWS)))
    counts = window_counts(arrival_s, width)
    if counts.size < _MIN_WINDOWS or dispersion(counts) <= _STEADY:
        return _renewal(rate, cv)
    inner = _inner_cv(arrival_s, counts, width)
    if inner <= _STOP_AND_GO:
        return _piecewise(_calmed(counts, inner) / width, width, inner)
    width /= _FINER
    counts = window_counts(arrival_s, width)
    return _piecewise(counts / width, width, _inner_cv(arrival_s, counts, width))


def _renewal(rate: float, cv: float) -> ArrivalProcess:
    if abs(cv - 1) < 2 * _POISSON:
        return Poisson(kind="poisson", rate=_short(rate))
    return Gamma(kind="gamma", rate=_short(rate), cv=_short(cv))


def _inner_cv(arrival_s: Array, counts: NDArray[np.int64], width: float) -> float:
    edges = np.arange(counts.size + 1) * width
    inside = arrival_s[arrival_s < edges[-1]]
    cv = gap_cv(np.interp(inside, edges, np.concatenate(([0], np.cumsum(counts)))))
    assert cv is not None
    return cv


def _calmed(counts: NDArray[np.int64], inner: float) -> Array:
    """Expected counts: `counts` drawn towards their mean by the variance that bursts of CV `inner` add anyway."""
    mean, variance = counts.mean(), counts.var()
    swing = np.sqrt(max(0.0, 1 - inner**2 * mean / variance))
    return np.asarray(np.maximum(mean + (counts - mean) * swing, 0.0), dtype=np.float64)


def _piecewise(rates: Array, width: float, inner: float) -> Piecewise:
    shown = [_short(rate) for rate in rates.tolist()]
    windows = tuple(
        RateWindow(start=at * width, rate=rate or 0)
        for at, rate in enumerate(shown)
        if at == 0 or rate != shown[at - 1]
    )
    poisson = abs(inner - 1) < _POISSON
    return Piecewise(
        kind="piecewise",
        period=len(shown) * width,
        windows=windows,
        process="poisson" if poisson else "gamma",
        cv=1.0 if poisson else _short(inner),
    )


def _short(value: float) -> float:
    """`value` to four digits, which is what a sample of some thousand supports."""
    return float(f"{value:.4g}")
