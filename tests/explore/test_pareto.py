"""Dominance, layers and the archive against the definition."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim.explore.pareto import ParetoArchive, front_mask, layers, oriented

_COSTS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.integers(1, 4)),
    elements=st.integers(0, 6).map(float),
)


def _dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(_COSTS)
def test_front_is_the_set_nobody_dominates(costs: np.ndarray) -> None:
    mask = front_mask(costs)
    brute = [not any(_dominates(other, point) for other in costs) for point in costs]
    assert mask.tolist() == brute


@given(_COSTS)
def test_layers_partition_and_each_is_the_front_of_the_rest(costs: np.ndarray) -> None:
    found = layers(costs, most=len(costs))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(costs)))
    for earlier, later in pairwise(found):
        for i in later:
            assert any(_dominates(costs[j], costs[i]) for j in earlier)


@given(_COSTS, st.lists(st.booleans(), min_size=4, max_size=4))
def test_archive_equals_the_front_in_any_orientation(values: np.ndarray, flags: list[bool]) -> None:
    maximise = flags[: values.shape[1]]
    archive: ParetoArchive[int] = ParetoArchive(maximise)
    for i, row in enumerate(values):
        archive.add(i, row.tolist())
    costs = oriented(values, maximise)
    front = np.flatnonzero(front_mask(costs))
    firsts = np.sort(front[np.unique(costs[front], axis=0, return_index=True)[1]])
    assert archive.items == firsts.tolist()


def test_undefined_values_are_worst() -> None:
    archive: ParetoArchive[str] = ParetoArchive([False, True])
    assert archive.add("unknown", [float("nan"), 1.0])
    assert archive.add("known", [5.0, 1.0])
    assert archive.items == ["known"]
    with pytest.raises(ValueError, match="2 objectives"):
        archive.add("short", [1.0])
