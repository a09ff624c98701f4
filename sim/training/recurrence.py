"""Work of a recurrent block (gated delta rule, Mamba-2) in training: convolution, scan, gated norm, both ways.

The scan is that of prompts in serving, over every sequence of the micro-batch. Backward it runs again, to have the
states of its chunks, which are not kept, and every product then has two gradients (chunk kernels of Mamba-2, arXiv
2405.21060, and of flash-linear-attention).
"""

from __future__ import annotations

from sim.models import GatedDelta, Mamba2, state_scan
from sim.models.matrices import conv_channels
from sim.training.blocks import Recurrence
from sim.training.operators import Scan, TrainingOperator, stream
from sim.training.shape import WorkShape

_BYTES = 2.0


def inner_width(mixer: Recurrence, tp: int) -> float:
    """Elements per token that come out of the state on one of `tp` ranks."""
    one = mixer.value_dim if isinstance(mixer, GatedDelta) else mixer.head_dim
    return mixer.heads * one / tp


def scan_forward(mixer: Recurrence, shape: WorkShape) -> list[TrainingOperator]:
    """Convolution and scan of a micro-batch, and the gated norm of what comes out."""
    gated = stream("gated_norm", 3.0 * _BYTES * shape.tokens * inner_width(mixer, shape.tp))
    return [_scan(mixer, shape, backward=False), gated]


def scan_backward(mixer: Recurrence, shape: WorkShape) -> list[TrainingOperator]:
    """Gradients of all inputs of the scan, and of the gated norm."""
    gated = stream("gated_norm_backward", 5.0 * _BYTES * shape.tokens * inner_width(mixer, shape.tp))
    return [_scan(mixer, shape, backward=True), gated]


def recurrence_bytes(mixer: Recurrence, shape: WorkShape) -> float:
    """What a recurrence keeps of a micro-batch for its backward pass on one rank [B].

    Inputs of the convolution and its results, the gate, the decays, the output of the state and the gated norm of it,
    which the last product needs. States are computed again.
    """
    inner, decays = inner_width(mixer, shape.tp), mixer.heads / shape.tp
    if isinstance(mixer, GatedDelta) and mixer.decay_rank is not None:
        decays = mixer.key_heads * mixer.key_dim / shape.tp
    elements = 2.0 * conv_channels(mixer, shape.tp) + 2.0 * inner + decays
    last = shape.recipe.kept_bytes * inner if shape.keeps_input("o") else 0.0
    return shape.tokens * (_BYTES * elements + last)


def _scan(mixer: GatedDelta | Mamba2, shape: WorkShape, *, backward: bool) -> Scan:
    one = state_scan(mixer, tp=shape.tp, chunk=float(shape.sequence), dtype="bf16", cause="attention")
    return Scan(name="scan_backward" if backward else "scan", one=one, batch=shape.micro_batch, backward=backward)
