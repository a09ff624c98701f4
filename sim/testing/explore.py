"""Contract suite for search algorithms: which plans they may promote, and in what order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.core import Array
from sim.explore import ALGORITHMS

_MOST = (1, 2, 7, 1000)


def random_estimates(seed: int, *, plans: int, objectives: int) -> Array:
    """Estimates like a screen's, smaller is better: ties, equal plans and unknown values (infinity) among them."""
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, 9, (plans, objectives)).astype(np.float64)
    costs[rng.random(costs.shape) < 0.05] = np.inf
    return costs[rng.integers(0, plans, plans)]


def check_algorithm(name: str, *, seeds: Sequence[int] = range(8), exhaustive: bool = False) -> None:
    """Asserts that the search algorithm `name` promotes plans as `Algorithm.promote` says.

    Rows exist and come once; groups are not empty and, like plans, no more than allowed; nothing promoted later
    dominates what was promoted in an earlier group; of equal estimates one is enough; the best of a single objective
    is promoted first; the estimates stay as they are, and the same ones give the same answer.

    Args:
        name: A registered algorithm.
        seeds: Of the estimates tried.
        exhaustive: Whether it promotes every plan, whatever the limits.

    Raises:
        AssertionError: if it does not.
    """
    for seed in seeds:
        for plans, objectives in ((1, 1), (3, 2), (40, 1), (60, 3)):
            costs = random_estimates(seed, plans=plans, objectives=objectives)
            for layers in (1, 3):
                for most in _MOST:
                    groups = _promoted(name, costs, layers=layers, most=most)
                    if exhaustive:
                        assert sorted(row for group in groups for row in group) == list(range(plans)), (
                            "every plan is promoted"
                        )
                        continue
                    _check_limits(groups, costs, layers=layers, most=most)
            unknown = np.full_like(costs, np.inf)
            assert _promoted(name, unknown, layers=3, most=5), "unknown estimates leave something to simulate"


def _promoted(name: str, costs: Array, *, layers: int, most: int) -> list[list[int]]:
    given = costs.copy()
    groups = ALGORITHMS.get(name)().promote(given, layers=layers, most=most)
    again = ALGORITHMS.get(name)().promote(costs.copy(), layers=layers, most=most)
    assert groups == again, "the same estimates give the same plans"
    assert np.array_equal(given, costs), "the estimates stay as they are"
    rows = [row for group in groups for row in group]
    assert rows, "something is promoted"
    assert all(groups), "no group is empty"
    assert len(rows) == len(set(rows)), "no plan is promoted twice"
    assert all(isinstance(row, int) and 0 <= row < len(costs) for row in rows), "rows of the estimates"
    _check_order(groups, costs)
    return groups


def _check_order(groups: list[list[int]], costs: Array) -> None:
    for position, group in enumerate(groups):
        for later in groups[position + 1 :]:
            for row in later:
                better = (costs[row] <= costs[group]).all(axis=1) & (costs[row] < costs[group]).any(axis=1)
                assert not better.any(), "a later group dominates an earlier one"
    if costs.shape[1] == 1:
        assert costs[groups[0]].min() == costs.min(), "the best of a single objective comes first"


def _check_limits(groups: list[list[int]], costs: Array, *, layers: int, most: int) -> None:
    rows = [row for group in groups for row in group]
    assert len(groups) <= layers, "no more groups than layers"
    assert len(rows) <= most, "no more plans than allowed"
    assert len(np.unique(costs[rows], axis=0)) == len(rows), "equal estimates are promoted once"
