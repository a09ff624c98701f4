"""The time of one training step on one device, from the operators of its forward pass. For the check of a profile.

Forward, backward and optimiser follow one another, as PyTorch runs them in eager mode without recomputation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from sim.costs import CostModel
from sim.models import (
    Elementwise,
    Embedding,
    Gemm,
    ModelSpec,
    Operator,
    activation_bytes,
    attention_classes,
    parameter_counts,
    prefill_operators,
    stages,
    token_operators,
)

ATTENTION_BACKWARD: Final = 2.5
"""FLOPs of attention's backward over its forward: five products for two (FlashAttention-2, arXiv 2307.08691)."""

ELEMENTWISE_BACKWARD: Final = 2.0
"""Bytes of an elementwise backward over its forward: it reads the gradient and what was kept, and writes as many
gradients as there were inputs (assumed)."""

ADAM_ACCESSES: Final = 7.0
"""Accesses of a fused AdamW per weight: weight, gradient and two moments read; weight and moments written."""

LOSS_PASSES: Final = 5.0
"""Passes over fp32 logits: log-softmax reads and writes them, the loss reads one of each row, the backward reads the
softmax and writes the gradient of log-softmax and of the cast."""


def training_step_s(model: ModelSpec, costs: CostModel, *, batch: int, tokens: int) -> float:
    """Time [s] of forward, backward and AdamW for `batch` sequences of `tokens` tokens each.

    The backward of every product is two products of the same FLOPs: `dX = dY W` and `dW = dY^T X`. Attention's costs
    `ATTENTION_BACKWARD` times its forward, elementwise kernels move `ELEMENTWISE_BACKWARD` times the bytes. AdamW
    moves `ADAM_ACCESSES` elements a weight at the memory bandwidth. States are in the model's own format.
    """
    forward = forward_operators(model, batch=batch, tokens=tokens)
    attention = prompt_attention(model, batch=batch, tokens=tokens)
    layers_s = costs.total_s([*forward, *backward_operators(model, forward)])
    attention_s = (1.0 + ATTENTION_BACKWARD) * costs.total_s(attention)
    states_bytes = ADAM_ACCESSES * activation_bytes(model.dtype) * parameter_counts(model).total
    return float(np.sum(layers_s + attention_s)) + states_bytes / costs.device.memory_bytes_per_s


def forward_operators(model: ModelSpec, *, batch: int, tokens: int) -> list[Operator]:
    """Operators of the forward pass but attention: those of inference without cache, LM head on all tokens, loss."""
    rows = np.array([float(batch * tokens)])
    (shard,) = stages(model, kv_dtype=model.dtype)
    head = Gemm(
        name="lm_head", cause="lm_head", m=rows, n=model.vocab_size, k=model.hidden_size, weights_dtype=model.dtype
    )
    logits_bytes = 4.0 * model.vocab_size * rows
    loss = Elementwise(name="loss", cause="loss", moved_bytes=LOSS_PASSES * logits_bytes, dtype="fp32")
    kept = [op for op in token_operators(model, shard, rows) if op.name != "cache_write"]
    return [*kept, head, loss]


def backward_operators(model: ModelSpec, forward: list[Operator]) -> list[Operator]:
    """Operators of the backward pass of `forward` (whose loss already counts both ways)."""
    operators: list[Operator] = []
    for op in forward:
        if isinstance(op, Gemm):
            operators.append(replace(op, name=f"{op.name}_dx", n=op.k, k=op.n))
            rows = float(np.max(op.m))
            operators.append(replace(op, name=f"{op.name}_dw", m=np.array([op.n]), n=op.k, k=rows))
        elif isinstance(op, Embedding):
            gradient = activation_bytes(model.dtype) * model.vocab_size * model.hidden_size
            moved = gradient + 1.5 * op.bytes()  # zeroed, then rows read, added to and written
            operators.append(Elementwise(name="embedding_dw", cause=op.cause, moved_bytes=moved, dtype=model.dtype))
        elif isinstance(op, Elementwise) and op.name != "loss":
            operators.append(replace(op, name=f"{op.name}_d", moved_bytes=ELEMENTWISE_BACKWARD * op.bytes()))
    return operators


def prompt_attention(model: ModelSpec, *, batch: int, tokens: int) -> list[Operator]:
    """Causal attention of `batch` sequences of `tokens` tokens, in as many launches."""
    (shard,) = stages(model, kv_dtype=model.dtype)
    chunk, prefix = np.array([float(tokens)]), np.zeros(1)
    return [
        replace(op, count=op.count * batch)
        for cls in attention_classes(model, shard)
        for op in prefill_operators(model, shard, chunk, prefix, cls)
    ]
