"""What the framework reserves of a device's memory: the tensors of a rank's passes put through its caching allocator.

Start at `reserved_bytes`. Tensors are the classes of `sim.training.memory` cut into pieces of the sizes that they have;
what is reserved on top of what is allocated at once is then what rounding and fragmentation cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sim.models import Dense, LayerGroup
from sim.training.allocator import Block, CachingAllocator
from sim.training.attention import head_dims, heads_per_rank
from sim.training.blocks import blocks_of
from sim.training.memory import (
    available_bytes,
    kept_layer_bytes,
    layer_activation_bytes,
    layer_working_bytes,
    loss_bytes,
    score_bytes,
)
from sim.training.plan import layers_of_stage
from sim.training.schedules import Pass, PassKind
from sim.training.states import MOMENT_BYTES
from sim.training.step import TrainingStep

_BYTES = 2.0
_BACKWARD = (PassKind.BACKWARD, PassKind.BACKWARD_INPUT)


class Reserved(NamedTuple):
    """Memory of a rank at its peak, over two steps.

    Attributes:
        allocated_bytes: Of the tensors that are put through the allocator [B].
        reserved_bytes: Of the segments that it takes for them [B].
    """

    allocated_bytes: float
    reserved_bytes: float


def peak_reserved_bytes(step: TrainingStep) -> float:
    """What the framework's allocator has reserved at the peak on the fullest rank [B]; context and NCCL are beside it.

    The peak of what is allocated, and as much again as the replay of the rank's tensors takes on top of what they need.
    No more than the device has if what is allocated fits: PyTorch gives cached segments back before it fails.
    """
    found, allocated = replayed_memory(step), step.peak_memory.allocated_bytes
    available = available_bytes(step.device, step.engine)
    reserved = allocated + found.reserved_bytes - found.allocated_bytes
    return min(reserved, available) if allocated <= available else reserved


def replayed_memory(step: TrainingStep) -> Reserved:
    """Two steps of the fullest rank: states, then passes in order, and moments that the first update makes."""
    memory = step.memory
    device = max(range(len(memory)), key=lambda one: memory[one].allocated_bytes)
    return _Rank(step, device).run()


def cut(total_bytes: float, piece_bytes: float) -> list[float]:
    """Pieces of one size that add up to a total, and what is left of it [B]."""
    if piece_bytes <= 0.0 or total_bytes <= 0.0:
        return [total_bytes] if total_bytes > 0.0 else []
    whole = int(total_bytes // piece_bytes)
    rest = total_bytes - whole * piece_bytes
    return [piece_bytes] * whole + ([rest] if rest >= 1.0 else [])


class _Layer(NamedTuple):
    """Sizes of the tensors of a layer [B]."""

    kept: list[float]
    passing: list[float]
    again: list[float]
    gathered: list[float]


class _Rank:
    """The allocator of one rank, and what its micro-batches hold."""

    def __init__(self, step: TrainingStep, device: int) -> None:
        self.step, self.device = step, device
        self.allocator = CachingAllocator(
            capacity_bytes=available_bytes(step.device, step.engine), expandable=step.engine.expandable_segments
        )
        self.shape = step.plan.shape(step.workload.sequence_length)
        self._layers: dict[LayerGroup, _Layer] = {}
        self._held: dict[tuple[int, int], list[list[Block]]] = {}

    def run(self) -> Reserved:
        """Peaks over two steps."""
        one, moments = self.step.memory[self.device], MOMENT_BYTES[self.step.workload.optimizer]
        whole = moments + (self.step.engine.master_bytes if self.step.engine.param_master else 0.0)
        late = one.optimizer_bytes * (moments / whole if whole else 0.0)
        layers = max(1, sum(count for _, count in self._all_layers()))
        for each in (one.parameters_bytes, one.gradients_bytes, one.optimizer_bytes - late):
            self._allocate(cut(each, each / layers))
        if self.step.plan.zero < 3:
            self._allocate(cut(one.buffers_bytes, self.step.engine.bucket_bytes.value))
        passes = self._passes()
        for number in range(2):
            for one_pass in passes:
                self._run(one_pass)
            if number == 0:
                self._allocate(cut(late, late / layers))
        return Reserved(self.allocator.peak_allocated_bytes, self.allocator.peak_reserved_bytes)

    def _all_layers(self) -> Iterator[tuple[LayerGroup, int]]:
        for stage in self.step.held[self.device]:
            yield from layers_of_stage(self.step.model, self.step.plan.layers_per_stage, stage)

    def _passes(self) -> list[Pass]:
        """Passes of the rank, of as many micro-batches as its peak takes."""
        graph, own = self.step.graph, self.step.graph.of_device(self.device)
        columns = (graph.kind[own].tolist(), graph.stage[own].tolist(), graph.microbatch[own].tolist())
        return [Pass(PassKind(kind), stage, number) for kind, stage, number in zip(*columns, strict=True)]

    def _run(self, one: Pass) -> None:
        held = self._held.setdefault((one.stage, one.microbatch), [])
        groups = self._groups(one.stage) if one.kind <= PassKind.BACKWARD_WEIGHT else []
        if one.kind == PassKind.FORWARD:
            for layer in groups:
                with_it = self._allocate(layer.gathered)
                kept = self._allocate(layer.kept)
                self._free(self._allocate(layer.again))
                held.append(kept)
                self._free(with_it)
            if one.stage == self.step.plan.stages - 1 and not self.step.spreads_vocabulary:
                self._free(self._allocate([*self._gathered(), *self._loss()]))
        elif one.kind in _BACKWARD:
            for number, layer in reversed(list(enumerate(groups))):
                with_it = self._allocate([*layer.gathered, *layer.again, *layer.passing])
                if one.kind == PassKind.BACKWARD:
                    self._free(held[number])
                self._free(with_it)
        elif one.kind == PassKind.BACKWARD_WEIGHT:
            for blocks in reversed(held):
                self._free(blocks)
        if one.kind in (PassKind.BACKWARD, PassKind.BACKWARD_WEIGHT):
            del self._held[one.stage, one.microbatch]

    def _groups(self, stage: int) -> list[_Layer]:
        layers = layers_of_stage(self.step.model, self.step.plan.layers_per_stage, stage)
        return [self._layer(group) for group, count in layers for _ in range(count)]

    def _layer(self, group: LayerGroup) -> _Layer:
        """Tensors of a layer: what it keeps, what is computed again, gradients on their way, gathered parameters."""
        if group not in self._layers:
            step, shape = self.step, self.shape
            everything = layer_activation_bytes(step.model, group, shape)
            kept = kept_layer_bytes(step.model, group, shape, step.plan)
            working = layer_working_bytes(step.model, group, shape, step.plan, step.engine)
            pieces = self._pieces(group)
            again = max(0.0, everything - kept)
            self._layers[group] = _Layer(
                _spread(kept, pieces),
                cut(max(0.0, working - again), max(pieces)),
                _spread(again, pieces),
                self._gathered(),
            )
        return self._layers[group]

    def _gathered(self) -> list[float]:
        """What is gathered beside a layer, or beside the loss for the LM head, and the gradients of it (ZeRO-3) [B]."""
        buffers = self.step.memory[self.device].buffers_bytes
        return [buffers] if self.step.plan.zero == 3 and buffers else []

    def _pieces(self, group: LayerGroup) -> list[float]:
        """Sizes of the tensors that a layer has: the residual stream, heads, scores, and inside its block [B]."""
        shape, model, ffn = self.shape, self.step.model, group.ffn
        found = [_BYTES * shape.residual_tokens * model.hidden_size] * 4
        attention = blocks_of(group).attention
        if attention is not None:
            (heads, kv_heads), (width, v_width) = heads_per_rank(attention, shape.tp), head_dims(attention)
            found += [_BYTES * shape.tokens * heads * width, _BYTES * shape.tokens * heads * v_width]
            found += [_BYTES * shape.tokens * kv_heads * width, _BYTES * shape.tokens * kv_heads * v_width]
            if shape.attention == "plain":
                scores = score_bytes(attention, shape)
                found += [0.4 * scores, 0.2 * scores, 0.4 * scores] if shape.dropout else [scores]
        if ffn is not None:
            rows = shape.tokens * (1.0 if isinstance(ffn, Dense) else ffn.top_k)
            found += [_BYTES * rows * ffn.intermediate / shape.tp] * (3 if ffn.gated else 2)
            if not isinstance(ffn, Dense):
                found += [_BYTES * rows * model.hidden_size] * 2
        return found

    def _loss(self) -> list[float]:
        """16-bit logits, and what is alive beside them in 32 bits; what is alive per weight of the LM head."""
        engine, plan = self.step.engine, self.step.plan
        each = engine.peak_logit_bytes(plan.compiled)
        logits = loss_bytes(self.step.model, self.shape, logit_bytes=each)
        head = loss_bytes(self.step.model, self.shape, logit_bytes=0.0, weight_bytes=engine.peak_head_bytes)
        first = logits * min(1.0, _BYTES / each)
        return [first, *cut(logits - first, 2.0 * first), *cut(head, head / 2.0)]

    def _allocate(self, sizes: list[float]) -> list[Block]:
        return [self.allocator.allocate(size) for size in sizes]

    def _free(self, blocks: list[Block]) -> None:
        for block in reversed(blocks):
            self.allocator.free(block)


def _spread(total_bytes: float, pieces: list[float]) -> list[float]:
    """A total in tensors of these sizes, in turn, the last as large as is left [B]."""
    found, left, number = list[float](), total_bytes, 0
    while left >= 1.0:
        size = min(left, pieces[number % len(pieces)] or left)
        found.append(size)
        left -= size
        number += 1
    return found
