"""What a source of measured kernel times offers: rows of shapes and seconds, or the reason why it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.core import Array, PlansimError, Registry
from sim.hardware import Device

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "gemm": ("m", "n", "k"),
    "headwise_gemm": ("m", "heads", "n", "k"),
    "moe": ("tokens", "hidden", "intermediate", "experts", "top_k"),
    "decode_attention": ("sequences", "context", "q_heads", "kv_heads", "head_dim", "window"),
    "prefill_attention": ("chunk", "q_heads", "kv_heads", "head_dim", "window"),
    "mla_decode": ("sequences", "context", "q_heads"),
    "mla_prefill": ("chunk", "q_heads"),
    "all_reduce": ("buffer_bytes", "ranks"),
    "all_gather": ("buffer_bytes", "ranks"),
    "reduce_scatter": ("buffer_bytes", "ranks"),
    "all_to_all": ("buffer_bytes", "ranks", "way"),
}
"""Shape of a row by kernel, as one device sees it.

`context` is the mean number of keys of a sequence, `window` 0 where there is none, `chunk` the tokens of one prompt
without prefix, `intermediate` the width of an expert on the device; all `experts` are on it, under slightly skewed
routing. `buffer_bytes` is the whole buffer of the collective [B], of an exchange between experts what a rank sends if a
token goes once to each rank that needs it; `way` is 1 to the experts and 2 for results back.
"""


@dataclass(frozen=True)
class KernelRows:
    """Measured times of one kernel.

    Attributes:
        columns: Shapes: the columns of `COLUMNS`, each of shape `(rows,)`.
        time_s: Time of one call [s], shape `(rows,)`.
        table: Which table of which version they are from.
    """

    columns: Mapping[str, Array]
    time_s: Array
    table: str

    def __post_init__(self) -> None:
        if any(column.shape != self.time_s.shape for column in self.columns.values()):
            raise PlansimError(f"{self.table}: columns differ in length")

    def __len__(self) -> int:
        return len(self.time_s)

    def where(self, kept: NDArray[np.bool_]) -> KernelRows:
        """The rows for which `kept` is true."""
        return KernelRows({name: column[kept] for name, column in self.columns.items()}, self.time_s[kept], self.table)


def clean_rows(columns: Mapping[str, Array], time_s: Array, table: str) -> KernelRows:
    """Rows with a positive, finite time."""
    times = np.asarray(time_s, dtype=np.float64)
    shapes = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    return KernelRows(shapes, times, table).where(np.isfinite(times) & (times > 0.0))


_SLOWER: Final = 1.25
"""A row this many times slower than a padded one is disturbed; below it is the noise of timing and library choice."""


def padded_rows(rows: KernelRows, axis: str) -> tuple[KernelRows, int]:
    """The rows, none much slower than one that is equal but larger along `axis`, and how many were lowered to that.

    A batch can always be padded to a larger one, as CUDA graphs do, so `t(m) <= t(m')` for `m < m'`. Rows that break
    this by more than `_SLOWER` are of kernels that a tuner picked badly for just that batch (vLLM's FP8 rows on B200:
    every tenth takes twice the time of its neighbours).
    """
    others = [column for name, column in rows.columns.items() if name != axis]
    order = np.lexsort((rows.columns[axis], *others))
    same = np.ones(len(order), dtype=bool)
    for column in others:
        same[1:] &= column[order][1:] == column[order][:-1]
    time_s = rows.time_s[order]
    least_s = time_s.tolist()
    for at in np.flatnonzero(same[1:])[::-1].tolist():
        least_s[at] = min(least_s[at], least_s[at + 1])
    slow = time_s > _SLOWER * np.asarray(least_s)
    lowered = rows.time_s.copy()
    lowered[order] = np.where(slow, least_s, time_s)
    return KernelRows(rows.columns, lowered, rows.table), int(np.count_nonzero(slow))


class TableSource(Protocol):
    """Measured tables for one device and engine; made by calling the class with what `TABLES` says."""

    def __init__(self, *, device: Device, engine: str, path: str, version: str = "") -> None:
        """Tables of a device and family of engines; `path` names the user's file, for sources that read one.

        `version` of the engine, where known, for sources that have kernels by version.

        Raises:
            InputError: if the tables cannot be had at all.
        """

    def rows(self, kernel: str, dtype: str) -> KernelRows | str:
        """Rows of a kernel of `COLUMNS` in a number format (of weights, or of the KV cache), or why there are none."""
        ...


TABLES: Registry[type[TableSource]] = Registry("cost-source", package="sim.costs.tables")
