"""A contract suite for sources of measured kernel times, and a synthetic source whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np

from sim.core import Array
from sim.costs import CostModel
from sim.costs.tables import COLUMNS, KernelRows, TableSource
from sim.costs.tables.shapes import SHAPES
from sim.models import Operator

FORMATS = ("bf16", "fp8", "fp8_block", "nvfp4", "mxfp4", "int4", "int8")


def check_table_source(source: TableSource) -> int:
    """Checks that the source keeps its contract for every kernel and number format; returns how many it has.

    Raises:
        AssertionError: if it does not.
    """
    found = 0
    for kernel, dtype in product(COLUMNS, FORMATS):
        rows = source.rows(kernel, dtype)
        if isinstance(rows, str):
            assert rows, f"{kernel} {dtype}: no rows and no reason"
            continue
        found += 1
        assert set(COLUMNS[kernel]) <= rows.columns.keys(), f"{kernel} {dtype}: columns are missing"
        assert len(rows) > 0, f"{kernel} {dtype}: no rows should be a reason"
        assert rows.table, f"{kernel} {dtype}: rows do not say where they are from"
        assert np.all(rows.time_s > 0), f"{kernel} {dtype}: times must be positive"
        assert np.all(rows.time_s < 100.0), f"{kernel} {dtype}: a kernel of minutes: are its times in seconds?"
        for name in COLUMNS[kernel]:
            lowest = 0.0 if name == "window" else 1e-9
            assert np.all(rows.columns[name] >= lowest), f"{kernel} {dtype}: {name} must be positive"
    return found


class SyntheticTables:
    """Tables whose times are analytic ones times a factor of each point.

    Args:
        costs: The analytic costs.
        operator: An operator of the kernel; the shapes of the rows take the place of its own.
        kernel: The kernel.
        grid: Values of each column.
        factor: Measured over analytic time, shape `(rows,)` or a number.
        order: In which order rows come; None for the order of the grid.
    """

    def __init__(
        self,
        costs: CostModel,
        operator: Operator,
        kernel: str,
        grid: Mapping[str, tuple[float, ...]],
        factor: Array | float,
        *,
        order: Array | None = None,
    ) -> None:
        points = np.array(list(product(*grid.values())), dtype=np.float64)
        columns = dict(zip(grid, points.T, strict=True))
        shape = SHAPES[kernel]
        layout = tuple(float(columns[name][0]) for name in shape.layout)
        time_s = factor * costs.price(shape.at_rows(operator, columns, layout)).time_s
        chosen = np.arange(len(points)) if order is None else order
        self._kernel = kernel
        self._rows = KernelRows({n: c[chosen] for n, c in columns.items()}, time_s[chosen], "synthetic table")

    def rows(self, kernel: str, dtype: str) -> KernelRows | str:
        """The rows of its kernel, whatever the number format."""
        return self._rows if kernel == self._kernel else f"synthetic table has no {kernel}"
