"""Every feasible plan is simulated."""

from __future__ import annotations

from sim.core import Array
from sim.explore.algorithms.base import ALGORITHMS


@ALGORITHMS.register("exhaustive")
class Exhaustive:
    """Simulates every feasible plan, whatever the limits of layers and number: exact, for small spaces."""

    def promote(self, costs: Array, *, layers: int, most: int) -> list[list[int]]:
        """All rows, as one group."""
        return [list(range(len(costs)))]
