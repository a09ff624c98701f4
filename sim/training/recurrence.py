"""Work of a recurrent block (gated delta rule, Mamba-2) in training: convolution, scan, gated norm, both ways.

The scan is that of prompts in serving, over every sequence of the micro-batch. Backward it runs again, to have the
states of its chunks, which are not kept, and every product then has two gradients (chunk kernels of Mamba-2, arXiv
2405.21060, and of flash-linear-attention).

A state passes through the whole sequence, so context-parallel ranks exchange positions for heads before the
convolution and back after the scan, whatever attention does (`MambaContextParallel` of Megatron-LM): each then scans
all tokens with its share of the heads, and groups of heads that are fewer than ranks are copied.
"""

from __future__ import annotations

from sim.models import Collective, GatedDelta, Mamba2, state_scan
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
    inner = _BYTES * shape.tokens * inner_width(mixer, shape.tp)
    before, after = _scan_inputs_bytes(mixer, shape), inner
    scan = _between("scan", before, _scan(mixer, shape, backward=False), after, shape)
    return [*scan, stream("gated_norm", 3.0 * inner)]


def scan_backward(mixer: Recurrence, shape: WorkShape) -> list[TrainingOperator]:
    """Gradients of all inputs of the scan, and of the gated norm."""
    inner = _BYTES * shape.tokens * inner_width(mixer, shape.tp)
    before, after = inner, _scan_inputs_bytes(mixer, shape)
    scan = _between("scan_backward", before, _scan(mixer, shape, backward=True), after, shape)
    return [*scan, stream("gated_norm_backward", 5.0 * inner)]


def recurrence_bytes(mixer: Recurrence, shape: WorkShape) -> float:
    """What a recurrence keeps of a micro-batch for its backward pass on one rank [B].

    Inputs of the convolution and its results, the gate, the decays, the output of the state and the gated norm of it,
    which the last product needs. States are computed again.
    """
    inner = inner_width(mixer, shape.tp)
    elements = 2.0 * _channels(mixer, shape) + 2.0 * inner + _decays(mixer, shape.tp)
    last = shape.recipe.kept_bytes * inner if shape.keeps_input("o") else 0.0
    return shape.tokens * (_BYTES * elements + last)


def _scan(mixer: GatedDelta | Mamba2, shape: WorkShape, *, backward: bool) -> Scan:
    ranks = shape.tp * shape.cp
    one = state_scan(mixer, tp=ranks, chunk=float(shape.sequence), dtype="bf16", cause="attention")
    return Scan(name="scan_backward" if backward else "scan", one=one, batch=shape.micro_batch, backward=backward)


def _channels(mixer: Recurrence, shape: WorkShape) -> float:
    """Channels of the convolution per token of a context-parallel rank, with copies of groups for other ranks."""
    return shape.cp * conv_channels(mixer, shape.tp * shape.cp)


def _decays(mixer: Recurrence, tp: int) -> float:
    """Decays per token on one of `tp` ranks: one a head, or one a dimension of the keys."""
    if isinstance(mixer, GatedDelta) and mixer.decay_rank is not None:
        return mixer.key_heads * mixer.key_dim / tp
    return mixer.heads / tp


def _scan_inputs_bytes(mixer: Recurrence, shape: WorkShape) -> float:
    """What convolution and scan read of a micro-batch on one rank [B]; the gate stays where it is."""
    return _BYTES * shape.tokens * (_channels(mixer, shape) + _decays(mixer, shape.tp))


def _between(
    name: str, before_bytes: float, scan: Scan, after_bytes: float, shape: WorkShape
) -> list[TrainingOperator]:
    """A scan between exchanges of these buffers over context-parallel ranks, if there are any."""
    if shape.cp == 1:
        return [scan]
    into, out = (
        Collective(name=f"{name}_{way}", cause="cp_comm", kind="all_to_all", buffer_bytes=size, group="cp")
        for way, size in (("in", before_bytes), ("out", after_bytes))
    )
    return [into, scan, out]
