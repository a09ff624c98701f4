"""What context-parallel ranks exchange around attention, forward and backward, and how much of it hides.

With `t` tokens on each of `n` ranks, and `q`, `k`, `v` and `o` elements per token of all heads of a tensor-parallel
rank, each of two bytes, a rank sends in a layer's forward pass:

- `all_gather` (as Llama 3, arXiv 2407.21783): `(n-1) t (k+v)`, before attention; backward as much again, and the
  gradients of keys and values summed up: twice;
- `ring` (Ring Attention, arXiv 2310.01889): the same in `n-1` hops, each beside the attention to the block that came
  before; backward keys and values with their gradients: twice;
- `token_ring` (arXiv 2412.20501): `n-1` hops of queries one way around, of partial results and their logsumexp the
  other way at the same time, beside attention; backward queries, results' gradients and two numbers per head one way,
  gradients of queries the other;
- `ulysses` (DeepSpeed-Ulysses, arXiv 2309.14509): all-to-all of queries, keys and values before attention and of its
  results after it, `(n-1)/n t (q+k+v+o)`, which falls with `n` where `n t` is given; backward the same.

For a sequence of given length a ring so moves `(n-1)/n` of all its keys and values through every rank, however many
there are, and Ulysses ever less.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.models import GQA, MLA, Collective
from sim.training.attention import head_dims, heads_per_rank
from sim.training.operators import TrainingOperator
from sim.training.shape import WorkShape

RINGS = ("ring", "token_ring")
"""Kinds whose hops run beside attention."""
_BYTES = 2.0
_LOGSUMEXP_BYTES = 4.0


class Widths(NamedTuple):
    """Bytes per token of a tensor-parallel rank [B].

    Attributes:
        queries: Of all its query heads.
        keys_values: Keys and values of all its KV heads.
        results: Of all its query heads.
        logsumexp: Of all its query heads, in fp32.
    """

    queries: float
    keys_values: float
    results: float
    logsumexp: float


def exchanges(attention: GQA | MLA, shape: WorkShape) -> tuple[list[TrainingOperator], list[TrainingOperator]]:
    """Collectives of one layer, forward and backward."""
    if shape.cp == 1:
        return [], []
    (heads, kv_heads), (width, v_width) = heads_per_rank(attention, shape.tp), head_dims(attention)
    one = Widths(
        queries=_BYTES * heads * width,
        keys_values=_BYTES * kv_heads * (width + v_width),
        results=_BYTES * heads * v_width,
        logsumexp=_LOGSUMEXP_BYTES * heads,
    )
    if shape.cp_kind == "ulysses":
        return _ulysses(one, shape, kv_heads)
    if shape.cp_kind == "all_gather":
        whole = one.keys_values * shape.tokens * shape.cp
        return [_gather("context", whole)], [_gather("context_backward", 2.0 * whole)]
    if shape.cp_kind == "ring":
        hop = one.keys_values * shape.tokens
        return [_hops("context", hop, shape)], [_hops("context_backward", 2.0 * hop, shape)]
    there, back = one.queries, one.results + one.logsumexp
    there_backward, back_backward = one.queries + one.results + 2.0 * one.logsumexp, one.queries
    return (
        [_hops("context", max(there, back) * shape.tokens, shape)],
        [_hops("context_backward", max(there_backward, back_backward) * shape.tokens, shape)],
    )


def _ulysses(one: Widths, shape: WorkShape, kv_heads: float) -> tuple[list[TrainingOperator], list[TrainingOperator]]:
    """Fewer KV heads than ranks are copied, so that each rank gets one."""
    copied = max(shape.cp / kv_heads, 1.0)
    before = (one.queries + copied * one.keys_values) * shape.tokens
    after = one.results * shape.tokens
    return (
        [_all_to_all("context", before), _all_to_all("context_result", after)],
        [_all_to_all("context_result_backward", after), _all_to_all("context_backward", before)],
    )


def _gather(name: str, whole_bytes: float) -> Collective:
    return Collective(name=name, cause="cp_comm", kind="all_gather", buffer_bytes=whole_bytes, group="cp")


def _hops(name: str, hop_bytes: float, shape: WorkShape) -> Collective:
    """As many hops as there are other ranks; the longest link of the ring sets their pace."""
    return Collective(
        name=name, cause="cp_comm", kind="p2p", buffer_bytes=hop_bytes, group="cp_hop", count=shape.cp - 1.0
    )


def _all_to_all(name: str, size_bytes: float) -> Collective:
    return Collective(name=name, cause="cp_comm", kind="all_to_all", buffer_bytes=size_bytes, group="cp")


def shown_s(comm_s: float, *, attention_s: float, ranks: int, taken: float) -> float:
    """Time [s] that hops of a ring add to the attention that they run beside.

    Attention to a rank's own block has no hop before it; the others hide one each. A hop takes its share of the
    multiprocessors: `taken` of its time where it hides, and what sticks out where it does not.
    """
    return max(taken * comm_s, comm_s - attention_s * (ranks - 1) / ranks)
