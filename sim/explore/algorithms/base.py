"""The contract of a search algorithm."""

from __future__ import annotations

from typing import Protocol

from sim.core import Array, Registry


class Algorithm(Protocol):
    """Chooses plans to simulate from their analytic estimates."""

    def promote(self, costs: Array, *, layers: int, most: int) -> list[list[int]]:
        """Rows of `costs` to simulate, in groups by promise, best first.

        Args:
            costs: Estimates, shape `(plans, objectives)`, smaller is better, infinity where unknown.
            layers: How many groups at most.
            most: How many plans at most.
        """
        ...


ALGORITHMS: Registry[type[Algorithm]] = Registry("algorithm", package="sim.explore.algorithms")
