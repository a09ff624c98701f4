"""Exact Pareto dominance for any number of objectives: archive and non-dominated layers.

A point dominates another if it is at least as good in every objective and better in one. Points equal in all
objectives do not dominate each other: layers keep them all, the archive keeps the first. Undefined values (NaN) are
treated as worst, and a point with one never dominates in that objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from sim.core import Array

T = TypeVar("T")


def oriented(values: Array, maximise: Sequence[bool] | npt.NDArray[np.bool_]) -> Array:
    """`values`, shape `(n, m)`, turned so that smaller is better in every column; NaN becomes infinity."""
    signed = np.where(np.asarray(maximise, dtype=bool), -values, values)
    return np.where(np.isnan(signed), np.inf, signed)


def front_mask(costs: Array) -> npt.NDArray[np.bool_]:
    """Which rows of `costs`, shape `(n, m)`, smaller is better, no other row dominates; boolean, shape `(n,)`.

    Rows are visited by their sum of ranks, so that most are thrown out by an early strong point; each visit is one
    vectorised comparison with those still standing (Kung-style filtering, worst case O(n^2 m)).
    """
    count = len(costs)
    if count == 0:
        return np.zeros(0, dtype=bool)
    ranks = np.argsort(np.argsort(costs, axis=0, kind="stable"), axis=0, kind="stable").sum(axis=1)
    standing = np.argsort(ranks, kind="stable")
    position = 0
    while position < len(standing):
        point = costs[standing[position]]
        others = costs[standing]
        dominated = (others >= point).all(axis=1) & (others > point).any(axis=1)
        position = int((~dominated[: position + 1]).sum())
        standing = standing[~dominated]
    mask = np.zeros(count, dtype=bool)
    mask[standing] = True
    return mask


def layers(costs: Array, *, most: int) -> list[npt.NDArray[np.int_]]:
    """Indices of the first `most` non-dominated layers: the front, the front of the rest, and so on."""
    left = np.arange(len(costs))
    found: list[npt.NDArray[np.int_]] = []
    while len(left) and len(found) < most:
        mask = front_mask(costs[left])
        found.append(left[mask])
        left = left[~mask]
    return found


class ParetoArchive(Generic[T]):
    """The non-dominated items seen so far, in order of arrival.

    Args:
        maximise: Per objective, whether larger is better.
    """

    def __init__(self, maximise: list[bool]) -> None:
        self._maximise = np.asarray(maximise, dtype=bool)
        self._costs = np.empty((0, len(maximise)))
        self._items: list[T] = []

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> list[T]:
        """Items on the front."""
        return list(self._items)

    def add(self, item: T, values: list[float]) -> bool:
        """Offers an item; True if it is on the front now: nothing dominates it or equals it in every objective.

        Items that it dominates leave.

        Raises:
            ValueError: if the number of values is not that of the objectives.
        """
        if len(values) != len(self._maximise):
            raise ValueError(f"{len(values)} values for {len(self._maximise)} objectives")
        cost = oriented(np.asarray([values], dtype=np.float64), self._maximise)
        known = self._costs
        if (known <= cost).all(axis=1).any():
            return False
        kept = np.flatnonzero(~(cost <= known).all(axis=1))
        self._costs = np.vstack([known[kept], cost])
        self._items = [*(self._items[i] for i in kept), item]
        return True
