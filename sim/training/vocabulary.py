"""Work at the ends of the model: embedding, final norm, LM head and loss, with the vocabulary divided over `tp`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from sim.models import Collective, Elementwise, Embedding, Gemm, ModelSpec
from sim.training.encoder import encoder_work
from sim.training.layer import LayerWork, linear
from sim.training.operators import TrainingOperator, WeightGradient
from sim.training.shape import WorkShape

_BYTES = 2.0
PADDING = 128
"""Rows of the vocabulary per tensor-parallel rank are padded to a multiple of this (Megatron-LM, NVIDIA's guides)."""
LOSS_BYTES = 18.0
"""Bytes per logit of the loss forward: 16-bit logits widened to fp32, read for the maximum and the sum of exponents,
and the exponents written (Megatron-LM's vocab-parallel cross entropy)."""
LOSS_BACKWARD_BYTES = 10.0
"""Exponents read, gradients written, and narrowed to 16 bits."""


def padded_vocab(model: ModelSpec, tp: int) -> int:
    """Rows of the vocabulary, padded so that every rank has a multiple of `PADDING`."""
    multiple = PADDING * tp
    return -(-model.vocab_size // multiple) * multiple


def embedding_work(model: ModelSpec, shape: WorkShape) -> LayerWork:
    """Look-up forward, and the sum of gradients per row backward; an encoder before it, if there is one."""
    width = float(model.hidden_size)
    rows = shape.tokens * width
    forward: list[TrainingOperator] = [
        Embedding(name="embedding", cause="vocabulary", tokens=shape.tokens, width=width),
        Elementwise(name="positions", cause="vocabulary", moved_bytes=(5.0 if shape.dropout else 4.0) * rows),
    ]
    if shape.tp > 1:
        forward.append(_reduce(shape, _BYTES * rows))
    backward = Elementwise(name="embedding_backward", cause="vocabulary", moved_bytes=10.0 * rows)
    by_input: list[TrainingOperator] = [backward] if shape.adapters is None else []
    if shape.encoder is None:
        return LayerWork(forward, by_input, [], [])
    before = encoder_work(shape.encoder, model, shape)
    return LayerWork([*before.forward, *forward], [*before.backward_input, *by_input], before.backward_weight, [])


def head_work(model: ModelSpec, shape: WorkShape, *, slices: int = 1) -> LayerWork:
    """Final norm, logits and loss of all tokens, and their gradients.

    Args:
        model: The model.
        shape: What the rank works on.
        slices: Pipeline stages that the vocabulary is divided over as well (vocabulary parallelism).
    """
    columns = padded_vocab(model, shape.tp) / shape.tp / slices
    logits = shape.tokens * columns
    norm = shape.residual_tokens * model.hidden_size
    product = linear("lm_head", float(model.hidden_size), columns, shape, plain=True)
    forward, by_input, by_weight = (
        [replace(o, cause="vocabulary") if isinstance(o, (Gemm, WeightGradient)) else o for o in part]
        for part in product
    )
    forward += [
        Elementwise(name="final_norm", cause="vocabulary", moved_bytes=4.0 * norm),
        Elementwise(name="loss", cause="vocabulary", moved_bytes=LOSS_BYTES * logits),
    ]
    by_input += [
        Elementwise(name="loss_backward", cause="vocabulary", moved_bytes=LOSS_BACKWARD_BYTES * logits),
        Elementwise(name="final_norm_backward", cause="vocabulary", moved_bytes=6.0 * norm),
    ]
    if shape.tp > 1:
        size = _BYTES * shape.tokens * model.hidden_size
        by_input.append(_reduce(shape, size))
        # Maximum, target logit and sum of exponents of every token, in fp32.
        forward.append(
            Collective(
                name="loss_reduce",
                cause="tp_comm",
                kind="all_reduce",
                buffer_bytes=4.0 * shape.tokens,
                group="tp",
                count=3.0,
            )
        )
        if shape.sp:
            forward.append(
                Collective(name="head_gather", cause="tp_comm", kind="all_gather", buffer_bytes=size, group="tp")
            )
    return LayerWork(forward, by_input, by_weight, [])


def _reduce(shape: WorkShape, size_bytes: float) -> Collective:
    kind: Literal["reduce_scatter", "all_reduce"] = "reduce_scatter" if shape.sp else "all_reduce"
    return Collective(name="vocabulary_reduce", cause="tp_comm", kind=kind, buffer_bytes=size_bytes, group="tp")
