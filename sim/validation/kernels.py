"""Errors of kernel costs against measured kernel tables: the curves as shipped, refitted, carried over; the tables.

Start at `kernel_errors`. Four questions, each answered by the median and 90th percentile of |predicted / measured - 1|:

- curve: the shipped curve on all rows of the table it was fitted to;
- shapes out: the same form, refitted to half of the shapes (pairs of n and k, layouts of heads), on the other half;
- device out: the curve of another device, as fractions of this device's rates, in the median over the other devices;
- table: the table itself without every other interior line of its grid, interpolated, on the rows left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sim.core import Array
from sim.costs import TABLES, CostModel, MeasuredKernels
from sim.costs.tables import KernelRows, TableSource
from sim.costs.tables.shapes import SHAPES, Layout
from sim.hardware import Device, KernelCurves, load_device
from sim.models import DecodeAttention, Gemm, Operator, PrefillAttention

DEVICES: Final = ("a100-80-sxm", "h100-sxm", "h200-sxm", "b200-sxm", "gb200", "l40s")
ENGINES: Final = ("vllm", "sglang", "trtllm")
KERNELS: Final = (
    ("gemm", "bf16"),
    ("gemm", "fp8"),
    ("gemm", "fp8_block"),
    ("gemm", "nvfp4"),
    ("decode_attention", "bf16"),
    ("decode_attention", "fp8"),
    ("prefill_attention", "bf16"),
)
_FITTED_ROWS: Final = 3000
_SOFT: Final = 0.08
"""Scale of the robust loss, in the logarithm of the error."""


class Error(NamedTuple):
    """Median and 90th percentile of the absolute relative error."""

    median: float
    p90: float


@dataclass(frozen=True)
class KernelErrors:
    """Errors of one kernel in one number format, on a device with an engine; None where it cannot be known.

    Attributes:
        device: The device.
        engine: Family of the engine.
        kernel: Kernel and number format.
        rows: Rows of its table.
        curve: The shipped curve.
        shapes_out: The form refitted without the shapes it is tested on.
        device_out: Curves of other devices.
        table: The table without every other line, interpolated.
    """

    device: str
    engine: str
    kernel: str
    rows: int
    curve: Error
    shapes_out: Error
    device_out: Error
    table: Error


@dataclass(frozen=True)
class Refitted(KernelCurves):
    """Curves of a family with some parameters replaced."""

    params: Mapping[str, float] | None = None

    def get(self, kernel: str, dtype: str, engine: str, library: str = "") -> Mapping[str, float]:
        """The parameters, replaced where they are."""
        return {**super().get(kernel, dtype, engine, library), **(self.params or {})}


def kernel_errors(
    devices: Iterable[str] = DEVICES,
    engines: Iterable[str] = ENGINES,
    kernels: Iterable[tuple[str, str]] = KERNELS,
    *,
    source: str = "measured",
) -> list[KernelErrors]:
    """Errors for every device, engine, kernel and number format that the tables of `source` hold.

    Raises:
        InputError: if the package with the tables is not installed.
    """
    found = []
    engines, kernels = tuple(engines), tuple(kernels)
    for name in devices:
        device = load_device(name)
        for engine in engines:
            tables = TABLES.get(source)(device=device, engine=engine, path="")
            for kernel, dtype in kernels:
                rows = tables.rows(kernel, dtype)
                if isinstance(rows, KernelRows):
                    found.append(_errors(device, engine, kernel, dtype, _without_window(rows)))
    return found


def _errors(device: Device, engine: str, kernel: str, dtype: str, rows: KernelRows) -> KernelErrors:
    sample = _Sample(kernel, dtype, engine, rows)
    others = [load_device(name).kernels for name in DEVICES if load_device(name).kernels != device.kernels]
    carried = [_error(sample.times_s(replace(device, kernels=curves)), rows.time_s) for curves in others]
    return KernelErrors(
        device.name,
        engine,
        f"{kernel} {dtype}",
        len(rows),
        _error(sample.times_s(device), rows.time_s),
        _shapes_out(device, sample),
        Error(*np.median(np.array(carried), axis=0).tolist()),
        _table_error(device, sample),
    )


def _without_window(rows: KernelRows) -> KernelRows:
    return rows.where(rows.columns["window"] == 0) if "window" in rows.columns else rows


def _error(predicted_s: Array, measured_s: Array) -> Error:
    return Error(*np.percentile(np.abs(predicted_s / measured_s - 1.0), (50, 90)).tolist())


class _Sample:
    """Rows of one kernel, and what a device's curves say about them."""

    def __init__(self, kernel: str, dtype: str, engine: str, rows: KernelRows) -> None:
        self.kernel, self.dtype, self.engine, self.rows = kernel, dtype, engine, rows
        self._operator = _operator(kernel, dtype)
        self._shape = SHAPES[kernel]
        names = self._shape.layout or ("n", "k")
        keys = np.stack([rows.columns[name] for name in names], axis=-1)
        self.layouts, self.layout_of_row = np.unique(keys, axis=0, return_inverse=True)

    def part(self, kept: NDArray[np.bool_]) -> _Sample:
        """Some of the rows."""
        return _Sample(self.kernel, self.dtype, self.engine, self.rows.where(kept))

    def times_s(self, device: Device) -> Array:
        """Analytic time of each row [s]."""
        costs = CostModel(device, engine=self.engine)
        if not self._shape.layout:
            return costs.price(self._shape.at_rows(self._operator, self.rows.columns, ())).time_s
        times_s = np.empty(len(self.rows))
        for index, layout in enumerate(self.layouts):
            here = self.layout_of_row == index
            columns = {name: column[here] for name, column in self.rows.columns.items()}
            times_s[here] = costs.price(self.operator(columns, tuple(layout.tolist()))).time_s
        return times_s

    def operator(self, columns: Mapping[str, Array], layout: Layout) -> Operator:
        """The operator at these shapes."""
        return self._shape.at_rows(self._operator, columns, layout)


def _operator(kernel: str, dtype: str) -> Operator:
    """An operator of the kernel; rows bring their own shapes."""
    if kernel == "gemm":
        return Gemm(name=kernel, cause=kernel, m=1.0, n=1.0, k=1.0, weights_dtype=dtype)
    decode = DecodeAttention(
        name=kernel,
        cause=kernel,
        sequences=1.0,
        context=1.0,
        q_heads=1.0,
        kv_heads=1.0,
        head_dim=1.0,
        v_dim=1.0,
        kv_dtype=dtype,
    )
    if kernel == "decode_attention":
        return decode
    return PrefillAttention(
        name=kernel,
        cause=kernel,
        chunk=1.0,
        prefix=0.0,
        q_heads=1.0,
        kv_heads=1.0,
        head_dim=1.0,
        v_dim=1.0,
        kv_dtype=dtype,
    )


def _shapes_out(device: Device, sample: _Sample) -> Error:
    """The form refitted to every other shape, on the shapes between."""
    fitted_on = sample.layout_of_row % 2 == 0
    if not fitted_on.any() or fitted_on.all():
        return Error(float("nan"), float("nan"))
    rows = np.flatnonzero(fitted_on)
    thin = np.zeros(len(fitted_on), dtype=bool)
    thin[rows[:: max(1, len(rows) // _FITTED_ROWS)]] = True
    refitted = _refitted(device, sample.part(thin))
    rest = sample.part(~fitted_on)
    return _error(rest.times_s(refitted), rest.rows.time_s)


def _refitted(device: Device, sample: _Sample) -> Device:
    """The device with the parameters of the kernel's curve fitted to the rows, robustly, in their logarithms."""
    dtype = "bf16" if sample.kernel == "prefill_attention" else sample.dtype
    shipped = device.kernels.get(sample.kernel, dtype, sample.engine)
    names = [name for name, value in shipped.items() if 0.0 < value < float("inf")]
    start = np.log([shipped[name] for name in names])

    def at(logs: Array) -> Device:
        params = dict(zip(names, np.exp(logs).tolist(), strict=True))
        return replace(device, kernels=Refitted(device.kernels.name, params))

    def residuals(logs: Array) -> Array:
        return np.log(sample.times_s(at(logs)) / sample.rows.time_s)

    found = least_squares(
        residuals, start, bounds=(start - 3.0, start + 3.0), loss="soft_l1", f_scale=_SOFT, max_nfev=60
    )
    return at(found.x)


class _Rows:
    """A source of the rows it is given."""

    def __init__(self, rows: KernelRows) -> None:
        self._rows = rows

    def rows(self, kernel: str, dtype: str) -> KernelRows | str:
        """The rows."""
        return self._rows


def _table_error(device: Device, sample: _Sample) -> Error:
    """Rows on every other interior line of the first axis of the grid, from the table without them."""
    axis = sample.rows.columns[SHAPES[sample.kernel].axes[0]]
    left_out = np.isin(axis, np.unique(axis)[1:-1:2])
    if not left_out.any():
        return Error(float("nan"), float("nan"))
    source: TableSource = _Rows(sample.rows.where(~left_out))
    tables = MeasuredKernels({sample.kernel: source}, CostModel(device, engine=sample.engine).price)
    costs = CostModel(device, engine=sample.engine, measured=tables)
    rest = sample.part(left_out)
    predicted_s = np.empty(len(rest.rows))
    for index, layout in enumerate(rest.layouts):
        here = rest.layout_of_row == index
        columns = {name: column[here] for name, column in rest.rows.columns.items()}
        predicted_s[here] = costs.cost(rest.operator(columns, tuple(layout.tolist()))).time_s
    return _error(predicted_s, rest.rows.time_s)


_COLUMNS: Final[Sequence[tuple[str, Callable[[KernelErrors], Error]]]] = (
    ("curve", lambda found: found.curve),
    ("shapes out", lambda found: found.shapes_out),
    ("device out", lambda found: found.device_out),
    ("table", lambda found: found.table),
)


def kernel_errors_markdown(errors: Sequence[KernelErrors]) -> str:
    """A Markdown table, median / 90th percentile in percent."""
    heads = ["device", "engine", "kernel", "rows", *(name for name, _ in _COLUMNS)]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for one in errors:
        shown = [_percent(error(one)) for _, error in _COLUMNS]
        lines.append(f"| {' | '.join([one.device, one.engine, one.kernel, f'{one.rows:,}', *shown])} |")
    return "\n".join(lines) + "\n"


def _percent(error: Error) -> str:
    return "-" if np.isnan(error.median) else f"{100 * error.median:.1f} / {100 * error.p90:.0f}"
