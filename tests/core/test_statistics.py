"""Summaries equal numpy on the expanded sample."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import QUANTILES, summarise, weighted_quantile

finite = st.floats(-1e6, 1e6, allow_nan=False)


def test_empty_sample_has_no_figures() -> None:
    assert summarise([]) == {"mean": None, "p50": None, "p90": None, "p95": None, "p99": None}
    assert summarise([np.nan])["mean"] is None
    assert summarise([1.0], weights=[0.0])["p50"] is None


def test_undefined_samples_are_left_out() -> None:
    assert summarise([1.0, np.nan, 3.0])["mean"] == 2.0
    assert summarise([1.0, np.nan, 3.0], weights=[1, 5, 3])["mean"] == 2.5


@given(st.lists(st.tuples(finite, st.integers(0, 6)), min_size=1, max_size=30))
def test_weights_mean_repetition(runs: list[tuple[float, int]]) -> None:
    values, counts = np.array([r[0] for r in runs]), np.array([r[1] for r in runs])
    expanded = summarise(np.repeat(values, counts))
    weighted = summarise(values, weights=counts)
    for key, value in expanded.items():
        if value is None:
            assert weighted[key] is None
        else:
            assert weighted[key] == pytest.approx(value, rel=1e-9, abs=1e-6)


@given(st.lists(finite, min_size=1, max_size=40))
def test_unit_weights_change_nothing(values: list[float]) -> None:
    points = np.array(list(QUANTILES.values()))
    sample = np.array(values)
    assert weighted_quantile(sample, np.ones(sample.size), points) == pytest.approx(np.quantile(sample, points))


@given(st.lists(finite, min_size=1, max_size=40))
def test_quantiles_are_ordered_and_inside(values: list[float]) -> None:
    summary = summarise(values)
    points = [summary[name] for name in QUANTILES]
    assert points == sorted(points)  # type: ignore[type-var]
    assert min(values) <= points[0]  # type: ignore[operator]
    assert points[-1] <= max(values)  # type: ignore[operator]


def test_large_counts_need_no_expansion() -> None:
    summary = summarise([1.0, 2.0], weights=[10**12, 10**12])
    assert summary["mean"] == 1.5
    assert (summary["p50"], summary["p90"]) == (1.5, 2.0)
