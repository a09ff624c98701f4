"""What tensor-parallel collectives that run beside the products they feed or drain add to these.

Start at `beside_products_s`. Two ways are known: in chunks, one beside the next, and in bulk, whole beside a product
that does not need them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sim.models import Collective, Gemm
from sim.training.operators import TrainingOperator, stream
from sim.training.overlap import COMPUTE, Operation, overlap
from sim.training.overlap_patterns import Load, chunked

_Time = Callable[[TrainingOperator], float]


def beside_products_s(
    operators: Sequence[TrainingOperator], time_s: _Time, *, ranks: int, streams: int, taken: float
) -> float:
    """Time [s] that the tensor-parallel collectives of a pass add to its products.

    Where a backward pass gathers inputs of products again for the gradients of their weights, that gather runs whole
    behind the gradients of inputs, and what these scatter behind the gradients of weights (`bulk` in the methods of
    Transformer Engine's userbuffers); everything else is cut into chunks.

    Args:
        operators: Those of the pass.
        time_s: What each takes with the device to itself [s].
        ranks: Tensor-parallel ranks.
        streams: Streams that the pieces of a product run on in turn.
        taken: Share of the multiprocessors that a collective takes.
    """
    collectives = [one for one in operators if isinstance(one, Collective) and one.cause == "tp_comm"]
    gathers = [one for one in collectives if one.kind == "all_gather"]
    others = [one for one in collectives if one.kind != "all_gather"]
    products = [one for one in operators if isinstance(one, Gemm)]
    if not others or len(gathers) <= len(others):
        return _chunked_s(products, collectives, time_s, ranks=ranks, streams=streams, taken=taken)
    first, again = gathers[: len(gathers) // 2], gathers[len(gathers) // 2 :]
    shown_s = _chunked_s(products, first, time_s, ranks=ranks, streams=streams, taken=taken)
    return shown_s + _bulk_s(products, [*others, *again], time_s, taken=taken)


def _bulk_s(products: Sequence[Gemm], collectives: Sequence[Collective], time_s: _Time, *, taken: float) -> float:
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
    one waits for (Wang et al. 2023; asynchronous tensor parallelism of PyTorch, `ring_exchange` and `pipeline` of
    Transformer Engine's userbuffers). So the first piece is never hidden; pieces are less efficient than the whole, by
    what streams side by side do not fill; a product beside a piece slows by the multiprocessors that this takes; and
    partial results of the other ranks, which come in pieces, are added up by kernels of their own. Where no number of
    chunks up to the ranks gains, nothing is cut.
    """
    comm_s, sums_s = sum(map(time_s, collectives)), sum(map(time_s, _sums(collectives, ranks)))
    whole_s, best_s, chunks = sum(map(time_s, products)), comm_s, 2
    while products and chunks <= ranks:
        alone_s = sum(chunks * time_s(replace(one, m=one.m / chunks)) for one in products)
        pieces_s = whole_s + max(alone_s - whole_s, 0.0) / streams
        compute, pieces = Load(pieces_s + sums_s, {"sm": 1.0}), Load(comm_s, {"sm": taken})
        together = overlap(chunked(compute, pieces, chunks=chunks, collective_first=True))
        best_s = min(best_s, together.end_s - whole_s)
        chunks *= 2
    return max(best_s, 0.0)


def _sums(collectives: Sequence[Collective], ranks: int) -> Iterator[TrainingOperator]:
    """Kernels that add up partial results: those of all ranks read, a share of one of them written."""
    for one in collectives:
        if one.kind in ("reduce_scatter", "all_reduce"):
            yield stream("partial_sums", float(one.buffer_bytes) * (1.0 + 1.0 / ranks), one.count, cause="tp_comm")
