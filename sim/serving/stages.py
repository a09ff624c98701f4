"""The pipeline stages of one replica as costs see them: operators of a stage, attention classes, the slowest stage.

Both the exact compiled cost (`compiled`) and the steady-state estimate (`steady`) are built on this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from sim.core import Array
from sim.costs import CostModel
from sim.models import (
    AttentionClass,
    Collective,
    DecodeAttention,
    GroupedGemm,
    Mixer,
    ModelSpec,
    Operator,
    Shard,
    View,
    attention_classes,
    decode_operators,
    prefill_operators,
    sequence_operators,
    token_operators,
)

_TYPICAL_TOKENS = 64.0
Value = TypeVar("Value", float, Array)


def is_joint(operator: Operator) -> bool:
    """Whether an operator works on the tokens of all data-parallel ranks together: the experts, and the way to them."""
    return isinstance(operator, GroupedGemm) or (isinstance(operator, Collective) and operator.group == "dp")


def beside_prompts(operators: Sequence[Operator]) -> list[Operator]:
    """The operators of a decode as they are in an iteration that has prompts too."""
    return [replace(op, beside_prompts=True) if isinstance(op, DecodeAttention) else op for op in operators]


@dataclass(frozen=True)
class StageCosts:
    """One pipeline stage: its rank's shard and the costs of its operators on its device and links."""

    shard: Shard
    costs: CostModel


@dataclass(frozen=True)
class EngineTiming:
    """Host-side times and graph sizes of an engine profile.

    Attributes:
        host_step_s: Host time per iteration [s].
        host_per_sequence_s: Host time per sequence of an iteration [s].
        host_verify_s: Further host time per sequence that decodes, whose drafts are verified [s].
        overlapped: Whether host work runs during the device's previous iteration.
        step_gap_s: Time per iteration in which the device waits although host work is overlapped [s].
        kernel_gap_s: Time from one kernel to the next beyond that of kernels repeated by themselves [s].
        host_call_s: Host time per call of a forward pass that is not one CUDA graph, as those with prompts are [s].
        prompt_graphs: Whether CUDA graphs hold such a pass but for attention.
        graph_sizes: Token counts for which CUDA graphs exist; smaller batches are padded up to the next one.
        graphs_hold_prompts: Whether iterations with prompts run from these graphs too.
    """

    host_step_s: float
    host_per_sequence_s: float
    overlapped: bool
    graph_sizes: tuple[int, ...] = ()
    graphs_hold_prompts: bool = False
    step_gap_s: float = 0.0
    kernel_gap_s: float = 0.0
    host_call_s: float = 0.0
    prompt_graphs: bool = False
    host_verify_s: float = 0.0

    def host(
        self, rows: Value, *, prompts: float = 0.0, lanes: int = 1, calls: float = 0.0, kernels: float = 0.0
    ) -> tuple[Value, Value]:
        """Time that launches and the host add to a cycle, and the least that the host lets a cycle take [s].

        One scheduler serves the `lanes` of a rank in turn, each with `rows` sequences, `prompts` of which do not decode
        yet. `calls` are those that launch a cycle without CUDA graphs: the device works while they are made, but is not
        done before them. `kernels` follow each other on the device.
        """
        host_s = lanes * (self.host_step_s + self.host_per_sequence_s * rows + self.host_verify_s * (rows - prompts))
        least_s = host_s + self.host_call_s * calls
        if self.overlapped:
            return 0.0 * host_s + (lanes * self.step_gap_s + self.kernel_gap_s * kernels), least_s
        return host_s + self.kernel_gap_s * kernels, least_s

    def padded(self, counts: Array) -> Array:
        """Token counts as the device computes them: padded to the next captured graph where there is one."""
        if not self.graph_sizes:
            return counts
        captured = np.asarray(sorted(self.graph_sizes), dtype=np.float64)
        index = np.searchsorted(captured, counts)
        return np.where(counts <= captured[-1], captured[np.minimum(index, len(captured) - 1)], counts)


class Stages:
    """The stages of one replica, first to last, for one rank each.

    Attributes:
        model: The model.
        items: The stages.
        classes: Attention classes of the whole model: layers that look back alike, added up over stages.
    """

    def __init__(self, model: ModelSpec, items: Sequence[StageCosts]) -> None:
        self.model = model
        self.items = tuple(items)
        self.classes = self._attention_classes()
        self._bottleneck = self._slowest()

    def __len__(self) -> int:
        return len(self.items)

    def weighted(self, full: bool) -> list[tuple[float, StageCosts]]:
        """Stages and how often each counts in a cycle: all once, or the slowest for all when every lane is full."""
        if full and len(self.items) > 1:
            return [(float(len(self.items)), self.items[self._bottleneck])]
        return [(1.0, stage) for stage in self.items]

    def layer_factor(self, attention_class: int, full: bool) -> float:
        """How many layers of the class a cycle counts, over the class's layers in the whole model."""
        cls = self.classes[attention_class]
        layers = 0.0
        for weight, stage in self.weighted(full):
            layers += weight * sum(c.layers for c in attention_classes(self.model, stage.shard) if c.key == cls.key)
        return layers / cls.layers

    def prompt_calls(self, *, from_graphs: bool) -> tuple[float, float]:
        """Calls that the host of the busiest stage makes for an iteration of prompts, and of prompts beside decodes.

        See `CostModel.host_calls`.
        """
        one, none = np.array([1.0]), np.array([0.0])
        alone, beside = [], []
        for stage in self.items:
            prompts = [*self.token_operators(stage, one), *self.row_operators(stage, one)]
            for cls in attention_classes(self.model, stage.shard):
                prompts += prefill_operators(self.model, stage.shard, one, none, cls)
            calls, further = (
                stage.costs.host_calls(operators, from_graphs=from_graphs)
                for operators in (prompts, self._decodes(stage))
            )
            alone.append(calls)
            beside.append(calls + further)
        return max(alone), max(beside)

    def kernels(self) -> tuple[float, float]:
        """Kernels of a cycle of decoding sequences, one after the other: while a lane is empty, and when all are full.

        See `weighted`.
        """
        one = np.array([1.0])
        launches = {
            id(stage): stage.costs.launches(
                [*self.token_operators(stage, one), *self.row_operators(stage, one), *self._decodes(stage)]
            )
            for stage in self.items
        }
        empty, full = (sum(n * launches[id(stage)] for n, stage in self.weighted(lanes)) for lanes in (False, True))
        return empty, full

    def _decodes(self, stage: StageCosts) -> list[Operator]:
        """Attention of one sequence that decodes, over all classes of the stage."""
        one, found = np.array([1.0]), list[Operator]()
        for cls in attention_classes(self.model, stage.shard):
            found += decode_operators(self.model, stage.shard, one, one, cls)
        return found

    def token_operators(self, stage: StageCosts, tokens: Array) -> list[Operator]:
        """Operators of a stage that depend on the tokens of an iteration."""
        return token_operators(self.model, stage.shard, tokens)

    def row_operators(self, stage: StageCosts, rows: Array) -> list[Operator]:
        """Operators of a stage that depend on the rows of logits."""
        return sequence_operators(self.model, stage.shard, rows)

    def _attention_classes(self) -> list[AttentionClass]:
        merged: dict[tuple[Mixer, View], AttentionClass] = {}
        for stage in self.items:
            for cls in attention_classes(self.model, stage.shard):
                known = merged.get(cls.key)
                merged[cls.key] = cls if known is None else known.with_layers(known.layers + cls.layers)
        return list(merged.values())

    def _slowest(self) -> int:
        """The stage that takes longest for a typical batch; the one that paces a full pipeline."""
        if len(self.items) == 1:
            return 0
        tokens = np.array([_TYPICAL_TOKENS])
        times = [
            float(stage.costs.total_s([*self.token_operators(stage, tokens), *self.row_operators(stage, tokens)])[0])
            for stage in self.items
        ]
        return int(np.argmax(times))
