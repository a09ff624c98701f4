"""Work of the attention core: scores, softmax and weighted values, forward and backward, flash or plain."""

from __future__ import annotations

from typing import Final

from sim.models import GQA, MLA, Elementwise, PrefillAttention
from sim.training.operators import BatchedGemm, FlashAttention, TrainingOperator
from sim.training.shape import WorkShape

FUSED_KEYS: Final = 4096
"""Keys up to which Megatron-LM's fused scale-mask-softmax is there (`is_kernel_available`); beyond, three kernels."""
SOFTMAX_BYTES: Final = (3.0, 4.0)
"""Bytes per score of the fused softmax in 16 bits: the causal half read and all written; backward half of the gradients
and of the probabilities read, and all gradients written (`scaled_upper_triang_masked_softmax`)."""
APART_BYTES: Final = (13.0, 15.0)
"""The same of three kernels: scaled (2 + 2), masked (2 + 2, a mask of one byte) and softmax (2 + 2); backward gradient
and probabilities read and gradient written (6), then the other two again."""
DROPOUT_BYTES = 5.0
"""Bytes per score of dropout: read and written once in 16 bits, a mask of one byte written."""


def head_dims(attention: GQA | MLA) -> tuple[int, int]:
    """Dimension of a query or key, and of a value."""
    if isinstance(attention, MLA):
        return attention.nope_dim + attention.rope_dim, attention.v_dim
    return attention.head_dim, attention.value_dim


def heads_per_rank(attention: GQA | MLA, tp: int) -> tuple[float, float]:
    """Query and key-value heads of a tensor-parallel rank; fewer KV heads than ranks are copied."""
    kv_heads = attention.heads if isinstance(attention, MLA) else attention.kv_heads
    return attention.heads / tp, max(kv_heads / tp, 1.0)


def core_forward(attention: GQA | MLA, shape: WorkShape) -> list[TrainingOperator]:
    """Operators of the attention core, one layer forward.

    Flash attention skips the masked half and keeps no scores. Plain attention computes the whole square and moves
    `s^2` scores per head through memory: scores written, softmax, dropout, and read again with the values.
    """
    if shape.attention == "flash":
        return [FlashAttention(name="flash", one=_one(attention, shape), batch=shape.micro_batch)]
    (heads, _), (width, v_width) = heads_per_rank(attention, shape.tp), head_dims(attention)
    batch, rows, keys = shape.micro_batch * heads, shape.sequence / shape.cp, float(shape.sequence)
    passes = _softmax_bytes(shape)[0] + (DROPOUT_BYTES if shape.dropout else 0.0)
    return [
        BatchedGemm(name="scores", batch=batch, m=rows, n=keys, k=width),
        Elementwise(name="softmax", cause="attention", moved_bytes=passes * batch * rows * keys),
        BatchedGemm(name="values", batch=batch, m=rows, n=v_width, k=keys),
    ]


def core_backward(attention: GQA | MLA, shape: WorkShape) -> list[TrainingOperator]:
    """Operators of the attention core, one layer backward: gradients of queries, keys and values."""
    if shape.attention == "flash":
        return [
            FlashAttention(name="flash_backward", one=_one(attention, shape), batch=shape.micro_batch, backward=True)
        ]
    (heads, _), (width, v_width) = heads_per_rank(attention, shape.tp), head_dims(attention)
    batch, rows, keys = shape.micro_batch * heads, shape.sequence / shape.cp, float(shape.sequence)
    passes = _softmax_bytes(shape)[1] + (DROPOUT_BYTES if shape.dropout else 0.0)
    return [
        BatchedGemm(name="probability_gradient", batch=batch, m=rows, n=keys, k=v_width),
        BatchedGemm(name="value_gradient", batch=batch, m=keys, n=v_width, k=rows),
        Elementwise(name="softmax_backward", cause="attention", moved_bytes=passes * batch * rows * keys),
        BatchedGemm(name="query_gradient", batch=batch, m=rows, n=width, k=keys),
        BatchedGemm(name="key_gradient", batch=batch, m=keys, n=width, k=rows),
    ]


def _softmax_bytes(shape: WorkShape) -> tuple[float, float]:
    """Bytes per score of softmax and its surroundings, forward and backward."""
    return SOFTMAX_BYTES if shape.sequence <= FUSED_KEYS else APART_BYTES


def _one(attention: GQA | MLA, shape: WorkShape) -> PrefillAttention:
    """Attention of one sequence on the context-parallel rank with the most work.

    A zigzag share sees half of all keys: as much work as a chunk of `s/cp` queries after `(s - s/cp)/2` keys. Without,
    the last rank's queries come after all others: `2 - 1/cp` times as much. Where ranks divide heads instead (Ulysses),
    each sees the whole sequence.
    """
    (heads, kv_heads), (width, v_width) = heads_per_rank(attention, shape.tp), head_dims(attention)
    chunk, before = shape.sequence / shape.cp, 0.5 if shape.cp_zigzag else 1.0
    if shape.divides_heads:
        heads, kv_heads, chunk, before = heads / shape.cp, max(kv_heads / shape.cp, 1.0), float(shape.sequence), 0.0
    # All keys of the sequence for each query are as much work as a triangle after half as many keys again.
    prefix = (shape.sequence - chunk) * before if shape.causal else (shape.sequence - 1.0) / 2.0
    return PrefillAttention(
        name="attention",
        cause="attention",
        chunk=chunk,
        prefix=prefix,
        q_heads=heads,
        kv_heads=kv_heads,
        head_dim=width,
        v_dim=v_width,
        window=attention.window,
        kv_dtype="bf16",
        kind="mla" if isinstance(attention, MLA) else "gqa",
    )
