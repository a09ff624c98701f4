"""The contract of search algorithms, for every registered one, and what the shipped ones promise beyond it."""

from typing import Any

import numpy as np
import pytest

from sim.core import Array
from sim.explore import ALGORITHMS, layers
from sim.testing.explore import check_algorithm, random_estimates


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_algorithm_keeps_the_contract(name: str) -> None:
    check_algorithm(name, exhaustive=name == "exhaustive")


def ladder(costs: Array, *, layers: int = 3, most: int = 100) -> list[list[int]]:
    return ALGORITHMS.get("ladder")().promote(costs, layers=layers, most=most)


def test_ladder_promotes_whole_layers_where_there_is_room() -> None:
    for seed in range(10):
        costs = np.unique(random_estimates(seed, plans=50, objectives=2), axis=0)
        expected = [sorted(layer.tolist()) for layer in layers(costs, most=3)]
        assert [sorted(group) for group in ladder(costs)] == expected


def test_ladder_takes_the_last_of_equal_estimates() -> None:
    """Plans are enumerated with limits that widen: the last has the widest."""
    costs = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
    assert [sorted(group) for group in ladder(costs)] == [[3, 4]]


def test_ladder_thins_a_large_layer_evenly_with_both_ends() -> None:
    costs = np.column_stack([np.arange(101.0), np.arange(101.0)[::-1]])
    (group,) = ladder(costs, most=5)
    assert group == [0, 25, 50, 75, 100]
    assert ladder(costs, most=1) == [[0]], "the best of the first objective"


class _Broken:
    """Answers what it is told to."""

    answer: Any = None

    def promote(self, costs: Array, *, layers: int, most: int) -> list[list[int]]:
        found: list[list[int]] = self.answer(costs, most)
        return found


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda costs, most: [], "something is promoted"),
        (lambda costs, most: [[0], []], "no group is empty"),
        (lambda costs, most: [[0, 0]], "promoted twice"),
        (lambda costs, most: [[len(costs)]], "rows of the estimates"),
        (lambda costs, most: [list(range(len(costs)))], "than allowed"),
        (lambda costs, most: [[int(costs.sum(axis=1).argmax())]], "comes first"),
        (lambda costs, most: [[row] for row in range(len(costs))][::-1], "dominates an earlier one"),
    ],
)
def test_the_suite_finds_broken_algorithms(monkeypatch: pytest.MonkeyPatch, answer: Any, complaint: str) -> None:
    monkeypatch.setattr(_Broken, "answer", staticmethod(answer))
    monkeypatch.setattr(ALGORITHMS, "get", lambda name: _Broken)
    with pytest.raises(AssertionError, match=complaint):
        check_algorithm("broken")
