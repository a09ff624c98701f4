"""What tensor-parallel collectives that run beside the products they feed or drain add to these.

Start at `beside_products_s`, which takes one block (mixer or feed-forward) in one pass. Two ways are known: in chunks,
one beside the next, and in bulk, whole beside a product that does not need them. Blocks of experts, encoders and the LM
head overlap nothing: their products are not cut (grouped products, layers outside of Transformer Engine or of the
compiled blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from sim.models import Collective, Gemm
from sim.training.operators import TrainingOperator, stream
from sim.training.overlap import COMPUTE, Operation, overlap
from sim.training.overlap_patterns import Load, chunked

_Time = Callable[[TrainingOperator], float]


FED: Final = ("qkv", "q", "in", "ffn_in")
"""Products that read what tensor-parallel ranks gather, and their gradients of it are reduced and scattered."""
DRAINED: Final = ("o", "ffn_out")
"""Products whose results are reduced and scattered, and the gradients of these gathered."""


def beside_products_s(
    operators: Sequence[TrainingOperator],
    time_s: _Time,
    *,
    weights: Sequence[TrainingOperator] = (),
    ranks: int,
    streams: int,
    taken: float,
) -> float:
    """Time [s] that the tensor-parallel collectives of a block in one pass add to the products beside them.

    A gather is cut into chunks beside the products that read what it brings, a reduce-scatter beside those whose result
    it takes. Where a backward pass gathers inputs again for the gradients of their weights, that gather runs whole
    behind the gradients of the inputs, and what these scatter behind the gradients of the same weights (`bulk` in the
    methods of Transformer Engine's userbuffers). So no product hides two collectives, nor more than it takes itself.

    Args:
        operators: Those of the block in the pass.
        time_s: What each takes with the device to itself [s].
        weights: Gradients of weights that run in the same pass; none where a schedule splits the backward pass, and
            then what bulk overlap would scatter behind them shows.
        ranks: Tensor-parallel ranks.
        streams: Streams that the pieces of a product run on in turn.
        taken: Share of the multiprocessors that a collective takes.
    """
    collectives = [one for one in operators if isinstance(one, Collective) and one.cause == "tp_comm"]
    gathers = [one for one in collectives if one.kind == "all_gather"]
    scatters = [one for one in collectives if one.kind == "reduce_scatter"]
    others = [one for one in collectives if one.kind not in ("all_gather", "reduce_scatter")]
    first, again = (gathers[: len(scatters)], gathers[len(scatters) :]) if scatters else (gathers, [])
    chunked_s = partial(_chunked_s, time_s=time_s, ranks=ranks, streams=streams, taken=taken)
    readers = _products(operators, (*FED, *(f"{name}_dgrad" for name in DRAINED)))
    makers = _products(operators, (*DRAINED, *(f"{name}_dgrad" for name in FED)))
    shown_s = sum(map(time_s, others)) + chunked_s(readers, first)
    if not again:
        return shown_s + chunked_s(makers, scatters)
    behind = [one for one in weights if one.name in {f"{name}_wgrad" for name in FED}]
    shown_s += _bulk_s(makers, again, time_s, taken=taken)
    return shown_s + _bulk_s(behind, scatters, time_s, taken=taken)


def _products(operators: Sequence[TrainingOperator], names: Sequence[str]) -> list[Gemm]:
    return [one for one in operators if isinstance(one, Gemm) and one.name in names]


def _bulk_s(
    products: Sequence[TrainingOperator], collectives: Sequence[Collective], time_s: _Time, *, taken: float
) -> float:
    """Time [s] that collectives beside products add, which slow by the multiprocessors that these take."""
    product_s, comm_s = sum(map(time_s, products)), sum(map(time_s, collectives))
    together = overlap(
        [
            Operation("products", COMPUTE, product_s, {"sm": 1.0}),
            Operation("collectives", "tp", comm_s, {"sm": taken}, dimension="tp"),
        ]
    )
    return max(together.end_s - product_s, 0.0)


def _chunked_s(
    products: Sequence[Gemm],
    collectives: Sequence[Collective],
    time_s: _Time,
    *,
    ranks: int,
    streams: int,
    taken: float,
) -> float:
    """Time [s] that collectives in chunks add to products, in the number of chunks that is best.

    Each product of `m` rows becomes `k` products of `m / k` rows, each beside the piece of the collective that the next
    one waits for, or that the one before made (Wang et al. 2023; asynchronous tensor parallelism of PyTorch,
    `ring_exchange` and `pipeline` of Transformer Engine's userbuffers). So the first piece gathered and the last one
    scattered are never hidden; pieces are less efficient than the whole, by what streams side by side do not fill; a
    product beside a piece slows by the multiprocessors that this takes; and partial results of the other ranks, which
    come in pieces, are added up by kernels of their own. Where no number of chunks up to the ranks gains, nothing is
    cut.
    """
    comm_s, sums_s = sum(map(time_s, collectives)), sum(map(time_s, _sums(collectives, ranks)))
    gathered = all(one.kind == "all_gather" for one in collectives)
    whole_s, best_s, chunks = sum(map(time_s, products)), comm_s, 2
    while products and chunks <= ranks:
        alone_s = sum(chunks * time_s(replace(one, m=one.m / chunks)) for one in products)
        pieces_s = whole_s + max(alone_s - whole_s, 0.0) / streams
        compute, pieces = Load(pieces_s + sums_s, {"sm": 1.0}), Load(comm_s, {"sm": taken})
        together = overlap(chunked(compute, pieces, chunks=chunks, collective_first=gathered))
        best_s = min(best_s, together.end_s - whole_s)
        chunks *= 2
    return max(best_s, 0.0)


def _sums(collectives: Sequence[Collective], ranks: int) -> Iterator[TrainingOperator]:
    """Kernels that add up partial results: those of all ranks read, a share of one of them written."""
    for one in collectives:
        if one.kind in ("reduce_scatter", "all_reduce"):
            yield stream("partial_sums", float(one.buffer_bytes) * (1.0 + 1.0 / ranks), one.count, cause="tp_comm")
