"""Ratios of measured to analytic times on a grid, interpolated over logarithmic axes and held beyond its edges.

Interpolating the ratio instead of the time keeps what the analytic form knows between the grid points (2-4 % against
up to 30 % for times on logarithmic axes, on decode tables of NVIDIA AIConfigurator core 0.12.0), and makes
extrapolation follow the roofline: beyond the table the form goes on, scaled as at the nearest edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.core import Array
from sim.costs.numeric import Value

_SMALLEST = 1e-12

_SPIKE = 2.0
"""A point this many times above both neighbours along every axis is a disturbed measurement: what is real (steps of
tiles, ragged rows) shows in a whole row of points."""


class RatioAt(NamedTuple):
    """Ratios at some points, and which of them lie among measured ones; both in the broadcast shape of the points."""

    ratio: Array
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class RatioGrid:
    """Logarithms of ratios on a rectilinear grid.

    Attributes:
        axes: Logarithms of the grid's coordinates, ascending, one array per axis.
        log_ratio: Logarithms of the ratios; gaps hold the value of the nearest measured point.
        known: Which points were measured.
        spikes: How many disturbed points were replaced by the mean of their neighbours.
    """

    axes: tuple[Array, ...]
    log_ratio: Array
    known: NDArray[np.bool_]
    spikes: int = 0

    @classmethod
    def fit(cls, points: Sequence[Array], ratio: Array) -> RatioGrid:
        """The grid through scattered points: each distinct coordinate is a grid line, repeats count as their median.

        Args:
            points: Coordinates (positive), one array of shape `(rows,)` per axis.
            ratio: Ratios (positive), shape `(rows,)`.
        """
        logs = [np.log(np.maximum(axis, _SMALLEST)) for axis in points]
        axes = tuple(np.unique(log) for log in logs)
        places = tuple(np.searchsorted(axis, log) for axis, log in zip(axes, logs, strict=True))
        shape = tuple(len(axis) for axis in axes)
        cell = np.ravel_multi_index(places, shape)
        log_ratio = np.full(int(np.prod(shape)), np.nan)
        order = np.lexsort((ratio, cell))
        cells, starts, counts = np.unique(cell[order], return_index=True, return_counts=True)
        ranked = np.log(ratio[order])
        log_ratio[cells] = 0.5 * (ranked[starts + (counts - 1) // 2] + ranked[starts + counts // 2])
        grid = log_ratio.reshape(shape)
        level, spikes = _levelled(_filled(grid))
        return cls(axes, level, ~np.isnan(grid), spikes)

    def at(self, *where: Value) -> RatioAt:
        """Ratios at coordinates that broadcast: multilinear in the logarithms, the edge's value beyond the grid."""
        brackets = [_bracket(axis, np.log(np.maximum(x, _SMALLEST))) for axis, x in zip(self.axes, where, strict=True)]
        shape = np.broadcast_shapes(*(np.shape(x) for x in where))
        total, inside = np.zeros(shape), np.ones(shape, dtype=bool)
        for _, _, within in brackets:
            inside = inside & within
        for corner in product((0, 1), repeat=len(brackets)):
            index = tuple(
                np.minimum(low + side, len(axis) - 1) for (low, _, _), side, axis in self._zip(brackets, corner)
            )
            weight = np.ones(shape)
            for (_, share, _), side in zip(brackets, corner, strict=True):
                weight = weight * (share if side else 1.0 - share)
            total = total + weight * self.log_ratio[index]
            inside = inside & (self.known[index] | (weight == 0.0))
        return RatioAt(np.exp(total), inside)

    def _zip(
        self, brackets: Sequence[tuple[NDArray[np.intp], Array, NDArray[np.bool_]]], corner: Sequence[int]
    ) -> zip[tuple[tuple[NDArray[np.intp], Array, NDArray[np.bool_]], int, Array]]:
        return zip(brackets, corner, self.axes, strict=True)


def _bracket(axis: Array, x: Array) -> tuple[NDArray[np.intp], Array, NDArray[np.bool_]]:
    """Grid line at or below each point, the share of the way to the next, and whether the point is between lines."""
    tolerance = 1e-9
    within = (x >= axis[0] - tolerance) & (x <= axis[-1] + tolerance)
    if len(axis) == 1:
        return np.zeros(np.shape(x), dtype=np.intp), np.zeros(np.shape(x)), within
    low = np.clip(np.searchsorted(axis, x, side="right") - 1, 0, len(axis) - 2)
    share = np.clip((x - axis[low]) / (axis[low + 1] - axis[low]), 0.0, 1.0)
    return low, share, within


def _levelled(grid: Array) -> tuple[Array, int]:
    """The grid with isolated spikes levelled, and how many there were."""
    spike, level = np.full(grid.shape, True), np.zeros(grid.shape)
    axes = [axis for axis, size in enumerate(grid.shape) if size >= 3]
    for axis in axes:
        moved = np.moveaxis(grid, axis, -1)
        below, above = moved[..., :-2], moved[..., 2:]
        here = np.zeros(moved.shape, dtype=bool)
        here[..., 1:-1] = moved[..., 1:-1] > np.log(_SPIKE) + np.maximum(below, above)
        spike &= np.moveaxis(here, -1, axis)
        between = moved.copy()
        between[..., 1:-1] = 0.5 * (below + above)
        level += np.moveaxis(between, -1, axis) / len(axes)
    spike &= bool(axes)
    return np.where(spike, level, grid), int(np.count_nonzero(spike))


def _filled(grid: Array) -> Array:
    """The grid with gaps filled from the nearest measured point along the last axis that has one."""
    filled = grid
    for axis in reversed(range(grid.ndim)):
        filled = _filled_along(filled, axis)
    return filled


def _filled_along(grid: Array, axis: int) -> Array:
    moved = np.moveaxis(grid, axis, -1)
    lines = np.arange(moved.shape[-1])
    gap = np.where(np.isnan(moved)[..., None, :], np.inf, np.abs(lines[:, None] - lines[None, :]))
    nearest = np.argmin(gap, axis=-1)
    return np.moveaxis(np.take_along_axis(moved, nearest, axis=-1), -1, axis)
