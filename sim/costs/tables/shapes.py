"""How operators and rows of measured tables correspond: which kernel, where on its grid, in which layout.

A grid is interpolated; a layout (head counts, widths of experts) is looked up, by the nearest one that was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from sim.core import Array
from sim.costs.curves import DECODE_KERNELS, PREFILL_KERNELS
from sim.costs.numeric import Value
from sim.models import (
    Collective,
    DecodeAttention,
    Gemm,
    GroupedGemm,
    Operator,
    PrefillAttention,
    StateScan,
    StateUpdate,
    canonical_dtype,
)

Columns = Mapping[str, Array]
Layout = tuple[float, ...]


@dataclass(frozen=True)
class Shape:
    """Correspondence for one kernel.

    Attributes:
        axes: Columns of the grid.
        layout: Columns of the layout, the most telling first.
        weight: What a factor of two in each layout column counts for when the nearest layout is sought.
        where: Coordinates of an operator on the grid.
        layout_of: An operator's layout.
        at_rows: The operator with the shapes of table rows of one layout.
        padded: Axis along which a smaller problem can be padded to a larger one, so that it never need take longer.
    """

    axes: tuple[str, ...]
    layout: tuple[str, ...]
    weight: tuple[float, ...]
    where: Callable[[Any], tuple[Value, ...]]
    layout_of: Callable[[Any], Layout]
    at_rows: Callable[[Any, Columns, Layout], Operator]
    padded: str = ""


def kernel_of(op: Operator) -> str | None:
    """Kernel that executes the operator, as curves name it; None for those that no source can be chosen for."""
    match op:
        case Gemm():
            return "gemm"
        case GroupedGemm():
            return "moe"
        case DecodeAttention():
            return DECODE_KERNELS[op.kind]
        case PrefillAttention():
            return PREFILL_KERNELS[op.kind]
        case StateUpdate():
            return "state_update"
        case StateScan():
            return "state_scan"
        case Collective():
            return op.kind if op.kind in SHAPES else None
        case _:
            return None


def why_unread(op: Operator) -> str | None:
    """Why tables are not asked for an operator, which stays analytic; None if they are."""
    if isinstance(op, StateUpdate | StateScan):
        return "tables of recurrent states are not read"
    if isinstance(op, DecodeAttention | PrefillAttention):
        if op.kind == "indexer":
            return "tables of indexers are not read"
        if op.own_keys or op.kind == "sparse":
            return "tables of attention over picked or merged keys are not read"
    return None


def dtype_of(op: Operator) -> str:
    """Number format in which tables tell kernels of the operator apart: of its weights, of its KV cache, or none."""
    if isinstance(op, Gemm | GroupedGemm):
        return table_format(op.weights_dtype)
    return table_format(op.kv_dtype) if isinstance(op, DecodeAttention | PrefillAttention) else ""


def table_format(dtype: str) -> str:
    """Name of a number format in tables: its own, where the two of 16 bit are one.

    Raises:
        InputError: if it is unknown.
    """
    stored = canonical_dtype(dtype)
    return "bf16" if stored == "fp16" else stored


def _mean_context(op: DecodeAttention) -> Array:
    return np.divide(op.context, np.maximum(op.sequences, 1e-9))


def _heads_of(op: DecodeAttention | PrefillAttention) -> Layout:
    """Layout of grouped queries; where keys and values differ in width their mean counts, since tables have one."""
    return (op.head_dim + op.v_dim) / 2.0, op.window or 0.0, op.kv_heads, op.q_heads


def _heads(layout: Layout) -> dict[str, Any]:
    head_dim, window, kv_heads, q_heads = layout
    return {
        "head_dim": head_dim,
        "v_dim": head_dim,
        "kv_heads": kv_heads,
        "q_heads": q_heads,
        "window": int(window) or None,
    }


def _decode_rows(op: DecodeAttention, rows: Columns, layout: Layout) -> Operator:
    heads = {"q_heads": layout[0]} if op.kind == "mla" else _heads(layout)
    return replace(op, count=1.0, sequences=rows["sequences"], context=rows["sequences"] * rows["context"], **heads)


def _prefill_rows(op: PrefillAttention, rows: Columns, layout: Layout) -> Operator:
    heads = {"q_heads": layout[0], "kv_heads": layout[0]} if op.kind == "mla" else _heads(layout)
    return replace(op, count=1.0, chunk=rows["chunk"], prefix=0.0, **heads)


def _expert_rows(op: GroupedGemm, rows: Columns, layout: Layout) -> Operator:
    hidden, intermediate, experts, top_k = layout
    return replace(
        op,
        count=1.0,
        tokens=rows["tokens"],
        experts=experts,
        total_experts=experts,
        top_k=top_k,
        hidden=hidden,
        intermediate=intermediate,
        popularity=_TABLE_POPULARITY,
        spread=0.0,
    )


_TABLE_POPULARITY: Final = 3.0
"""Shape of the gamma law behind rows whose experts are drawn by a power law of 1.01 (fitted: 2 to 4)."""

_COLLECTIVE = Shape(
    axes=("buffer_bytes",),
    layout=(),
    weight=(),
    where=lambda op: (op.buffer_bytes,),
    layout_of=lambda op: (),
    at_rows=lambda op, rows, _: replace(op, count=1.0, buffer_bytes=rows["buffer_bytes"]),
)

SHAPES: Final[Mapping[str, Shape]] = {
    "gemm": Shape(
        axes=("m", "n", "k"),
        layout=(),
        weight=(),
        where=lambda op: (op.m, op.n, op.k),
        layout_of=lambda op: (),
        at_rows=lambda op, rows, _: replace(op, count=1.0, m=rows["m"], n=rows["n"], k=rows["k"]),
        padded="m",
    ),
    "moe": Shape(
        axes=("tokens",),
        layout=("hidden", "intermediate", "experts", "top_k"),
        weight=(1.0, 1.0, 1.0, 1.0),
        where=lambda op: (op.tokens,),
        layout_of=lambda op: (op.hidden, op.intermediate, op.total_experts, op.top_k),
        at_rows=_expert_rows,
    ),
    "decode_attention": Shape(
        axes=("sequences", "context"),
        layout=("head_dim", "window", "kv_heads", "q_heads"),
        weight=(8.0, 4.0, 1.0, 1.0),
        where=lambda op: (op.sequences, _mean_context(op)),
        layout_of=_heads_of,
        at_rows=_decode_rows,
    ),
    "prefill_attention": Shape(
        axes=("chunk",),
        layout=("head_dim", "window", "kv_heads", "q_heads"),
        weight=(8.0, 4.0, 1.0, 1.0),
        where=lambda op: (op.chunk,),
        layout_of=_heads_of,
        at_rows=_prefill_rows,
    ),
    "mla_decode": Shape(
        axes=("sequences", "context"),
        layout=("q_heads",),
        weight=(1.0,),
        where=lambda op: (op.sequences, _mean_context(op)),
        layout_of=lambda op: (op.q_heads,),
        at_rows=_decode_rows,
    ),
    "mla_prefill": Shape(
        axes=("chunk",),
        layout=("q_heads",),
        weight=(1.0,),
        where=lambda op: (op.chunk,),
        layout_of=lambda op: (op.q_heads,),
        at_rows=_prefill_rows,
    ),
    "all_reduce": _COLLECTIVE,
    "all_gather": _COLLECTIVE,
    "reduce_scatter": _COLLECTIVE,
    "all_to_all": replace(
        _COLLECTIVE, layout=("way",), weight=(1.0,), layout_of=lambda op: (2.0 if op.returns else 1.0,)
    ),
}


def nearest_layout(shape: Shape, rows: Columns, wanted: Layout) -> Layout:
    """The layout among the rows that is nearest to the one wanted; equally near ones go by their numbers."""
    layouts = np.unique(np.stack([rows[name] for name in shape.layout], axis=-1), axis=0)
    distance = np.abs(np.log2(layouts + 1.0) - np.log2(np.asarray(wanted) + 1.0)) @ np.asarray(shape.weight)
    return tuple(layouts[int(np.argmin(distance))].tolist())
