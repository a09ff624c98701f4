"""Summaries of samples: mean and the quantiles that serving reports use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Summary = dict[str, float | None]
QUANTILES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
WRONG_UNIT: Final = 50.0
"""By how many times values are off in the median, up or down, where a unit or the meaning of a column is wrong."""


def summarise(values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Summary:
    """Mean, p50, p90, p95 and p99 of `values`, in their unit; all None for an empty sample or without weight.

    Args:
        values: Samples, shape `(n,)`; NaN marks "undefined for this one" and is left out.
        weights: How often each sample counts, shape `(n,)`; None counts each once.
    """
    sample = np.asarray(values, dtype=np.float64)
    counts = None if weights is None else np.asarray(weights, dtype=np.float64)
    keep = ~np.isnan(sample) if counts is None else ~np.isnan(sample) & (counts > 0)
    sample = sample[keep]
    if sample.size == 0:
        return dict.fromkeys(("mean", *QUANTILES), None)
    if counts is None:
        points = np.quantile(sample, list(QUANTILES.values()))
        mean = sample.mean()
    else:
        counts = counts[keep]
        points = weighted_quantile(sample, counts, np.array(list(QUANTILES.values())))
        mean = np.average(sample, weights=counts)
    return {"mean": float(mean), **dict(zip(QUANTILES, map(float, points), strict=True))}


def weighted_quantile(values: Array, weights: Array, quantiles: Array) -> Array:
    """Quantiles of a sample in which `values[i]` occurs `weights[i]` times, shape of `quantiles`.

    Uses numpy's default (linear) definition on the expanded sample without expanding it: the quantile q of n
    samples lies at position q(n-1) between two neighbours of the sorted sample.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    ends = np.cumsum(weights[order])
    position = quantiles * max(ends[-1] - 1.0, 0.0)
    lower = ordered[np.minimum(np.searchsorted(ends, np.floor(position), side="right"), ordered.size - 1)]
    upper = ordered[np.minimum(np.searchsorted(ends, np.ceil(position), side="right"), ordered.size - 1)]
    return np.asarray(lower + (upper - lower) * (position - np.floor(position)), dtype=np.float64)


def out_of_proportion(ratios: Sequence[float] | Array) -> str:
    """By how many times ratios to what was expected are off in the median, if `WRONG_UNIT` or more; else empty."""
    middle = float(np.median(ratios))
    times = max(middle, 1.0 / middle)
    return f"{times:.3g} times {'above' if middle > 1.0 else 'below'}" if times >= WRONG_UNIT else ""
