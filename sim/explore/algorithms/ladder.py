"""Bounds, then analytic estimates, then simulation of the promising layers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.core import Array
from sim.explore.algorithms.base import ALGORITHMS
from sim.explore.pareto import layers as non_dominated_layers


@ALGORITHMS.register("ladder")
class Ladder:
    """Promotes the first non-dominated layers of the analytic ranking, thinned evenly where a layer is too large.

    Estimates err, so the front of the estimates alone would miss plans that simulation puts in front. Of plans with
    equal estimates, which differ in limits that they do not reach, the last is promoted: the one with the widest
    limits. Within a layer plans are thinned along the first objective, both ends kept, so that they span it.
    """

    def promote(self, costs: Array, *, layers: int, most: int) -> list[list[int]]:
        """See `Algorithm.promote`."""
        groups: list[list[int]] = []
        left = most
        for members in non_dominated_layers(costs, most=layers):
            if left <= 0:
                break
            layer = members[_distinct(costs[members])]
            ordered = layer[np.lexsort(costs[layer].T[::-1])]
            if len(ordered) > left:
                ordered = ordered[np.unique(np.round(np.linspace(0, len(ordered) - 1, left)).astype(int))]
            groups.append(ordered.tolist())
            left -= len(ordered)
        return groups


def _distinct(costs: Array) -> npt.NDArray[np.int_]:
    """The last of each set of equal rows."""
    return len(costs) - 1 - np.unique(costs[::-1], axis=0, return_index=True)[1]
