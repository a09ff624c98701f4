"""Measured over analytic time of an operator: finds its table, anchors it to the analytic form, and says what it used.

Start at `MeasuredKernels.ratio`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.core import Array, out_of_proportion
from sim.costs.numeric import Value
from sim.costs.tables.base import KernelRows, TableSource, padded_rows
from sim.costs.tables.ratios import RatioAt, RatioGrid
from sim.costs.tables.shapes import SHAPES, Layout, Shape, dtype_of, kernel_of, nearest_layout, why_unread
from sim.models import Operator

_FIXED_SHARE = 0.9
"""Most of the shortest measured prefill that counts as fixed latency, so that work is left on top of it."""


class Analytic(NamedTuple):
    """Analytic time of an operator with the shapes of table rows.

    Attributes:
        time_s: Time [s].
        floor_s: Least time by its FLOPs and bytes [s].
        fixed_s: Fixed latency that is kept apart from what the ratio scales [s]; 0 where the whole time is scaled.
        cold_read_s: Time [s] to read from memory the operands of rows whose benchmark found them in a cache; else 0.
        cold_fixed_s: Fixed latency [s] of the same rows; else 0.
    """

    time_s: Array
    floor_s: Array
    fixed_s: float = 0.0
    cold_read_s: Value = 0.0
    cold_fixed_s: Value = 0.0


@dataclass(frozen=True)
class Anchor:
    """A table anchored to the analytic form in one layout.

    Attributes:
        grid: Measured over analytic time, both without their fixed latency.
        fixed_s: Fixed latency of the measured kernel [s].
        table: Where the rows are from.
        note: What the table stands in for, and what was mended in it; empty if nothing.
        exact: Whether the layout is among the measured ones.
        doubt: That the rows are out of all proportion to the form; empty if they are not.
    """

    grid: RatioGrid
    fixed_s: float
    table: str
    note: str
    exact: bool
    doubt: str = ""


class Measured(NamedTuple):
    """What tables say about an operator.

    Attributes:
        anchor: The table used.
        at: Ratios to the analytic time, in the shape of the operator's fields.
    """

    anchor: Anchor
    at: RatioAt


Price = Callable[[Operator], Analytic]


class MeasuredKernels:
    """Measured tables of one device and engine, from one source or several.

    Args:
        sources: Source by kernel; kernels that are absent stay analytic.
        price: Analytic times on the device that was measured; collectives are priced by the caller.
    """

    def __init__(self, sources: Mapping[str, TableSource], price: Price) -> None:
        self._sources = dict(sources)
        self._price = price
        self._rows: dict[tuple[str, str], KernelRows | str] = {}
        self._anchors: dict[tuple[object, ...], Anchor | str] = {}

    def ratio(
        self, op: Operator, *, price: Price | None = None, group: tuple[object, ...] = ()
    ) -> Measured | str | None:
        """Measured over analytic time of the operator; the reason why there is no table; None where none is asked for.

        Args:
            op: The operator.
            price: Analytic times, for what depends on more than the device.
            group: For a collective: number of ranks, and whatever else tells one `price` from another.
        """
        kernel = kernel_of(op)
        if kernel is None or kernel not in self._sources:
            return None
        if unread := why_unread(op):
            return unread
        shape, dtype = SHAPES[kernel], dtype_of(op)
        key = (kernel, dtype, group, shape.layout_of(op))
        if key not in self._anchors:
            self._anchors[key] = self._anchor(op, kernel, shape, dtype, group, price or self._price)
        anchor = self._anchors[key]
        if isinstance(anchor, str):
            return anchor
        at = anchor.grid.at(*shape.where(op))
        return Measured(anchor, at if anchor.exact else RatioAt(at.ratio, np.zeros_like(at.inside)))

    def _anchor(
        self, op: Operator, kernel: str, shape: Shape, dtype: str, group: tuple[object, ...], price: Price
    ) -> Anchor | str:
        if (kernel, dtype) not in self._rows:
            self._rows[kernel, dtype] = self._sources[kernel].rows(kernel, dtype)
        rows = self._rows[kernel, dtype]
        if isinstance(rows, str):
            return rows
        if group:
            rows = rows.where(rows.columns["ranks"] == group[0])
        if not len(rows):
            return f"{kernel} is not measured" + (f" over {group[0]} ranks" if group else "")
        wanted = shape.layout_of(op)
        layout = nearest_layout(shape, rows.columns, wanted) if shape.layout else ()
        for name, value in zip(shape.layout, layout, strict=True):
            rows = rows.where(rows.columns[name] == value)
        notes = [] if layout == wanted else [f"{_named(shape, layout)} stands in for {_named(shape, wanted)}"]
        analytic = price(shape.at_rows(op, rows.columns, layout))
        grid, fixed_s, mended = _fit(rows, shape, analytic)
        note = "; ".join([*notes, *mended])
        return Anchor(grid, fixed_s, rows.table, note, layout == wanted, _doubt(rows.time_s, analytic.time_s))


def _doubt(measured_s: Array, form_s: Array) -> str:
    """That measured times are out of all proportion to the form, up or down; empty if they are not."""
    off = out_of_proportion(measured_s / form_s)
    if not off:
        return ""
    return f"measured times are {off} the analytic form in the median: are they in seconds, and of this device?"


def _fit(rows: KernelRows, shape: Shape, analytic: Analytic) -> tuple[RatioGrid, float, list[str]]:
    """The ratios of the rows to the form, the measured fixed latency [s], and what was mended."""
    rows, slow = padded_rows(rows, shape.padded) if shape.padded else (rows, 0)
    shortest_s, form_s = float(rows.time_s.min()), float(np.min(analytic.time_s))
    fixed_s = min(analytic.fixed_s, _FIXED_SHARE * shortest_s)
    cold_s = min(1.0, shortest_s / form_s) * np.asarray(analytic.cold_fixed_s) + analytic.cold_read_s
    lowest = np.maximum(analytic.floor_s, cold_s)
    too_fast = int(np.sum(rows.time_s < lowest))
    time_s = np.maximum(rows.time_s, lowest)
    ratio = (time_s - fixed_s) / (analytic.time_s - analytic.fixed_s)
    grid = RatioGrid.fit([rows.columns[name] for name in shape.axes], ratio)
    mended = (
        [f"{too_fast} of {len(rows)} rows beat the roofline or a cold memory and are raised to it"] if too_fast else []
    )
    if slow:
        mended.append(f"{slow} of {len(rows)} rows slower than larger batches are lowered to them")
    if grid.spikes:
        mended.append(f"{grid.spikes} isolated spikes are levelled")
    return grid, fixed_s, mended


def _named(shape: Shape, layout: Layout) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in zip(shape.layout, layout, strict=True))
