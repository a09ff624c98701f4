"""Steady-state times of a plan shape on coarse grids: what the analytic screen of a search needs, in little time.

The same operators and costs as `compiled`, without its exact tables: one batch axis at one mean context, one token
axis, and the attention of one prompt. All pipeline lanes count as full. Batches are padded to the plan's CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from sim.core import Array
from sim.costs import precision_of
from sim.hardware import power_w, resting_w
from sim.models import ModelSpec, Operator, decode_operators, prefill_operators
from sim.serving.stages import EngineTiming, StageCosts, Stages, is_joint

_BATCHES = np.unique(np.round(np.geomspace(1.0, 2048.0, 28)))
_TOKENS = np.unique(np.round(np.geomspace(1.0, 32768.0, 40)))
_TYPICAL_BATCH = 32.0


def _with_step(grid: Array, limit: float) -> Array:
    """The grid with the last count up to `limit` and the first beyond it, where times may jump."""
    return grid if limit >= grid[-1] else np.union1d(grid, [limit, limit + 1.0])


class SteadyCurves:
    """Decode and prompt times of one plan shape, and its power while busy.

    Args:
        model: The model.
        stages: Its pipeline stages, first to last, for one rank each.
        timing: Host times of the engine.
        context: Mean keys that a decoding token attends to [tokens].

    Attributes:
        idle_w: Power of a device without work [W].
        busy_w: Power while decoding a typical batch [W].
    """

    def __init__(self, model: ModelSpec, stages: Sequence[StageCosts], *, timing: EngineTiming, context: float) -> None:
        self._stages = Stages(model, stages)
        side_tokens = stages[0].costs.fusion.side_tokens
        self._tokens, self._batches = (_with_step(grid, side_tokens) for grid in (_TOKENS, _BATCHES))
        self._context = context
        self._dp = stages[0].shard.dp
        self._token_s = self._sum("token", self._tokens)
        rows_s = self._sum("row", self._batches)
        self._row_s = rows_s
        self._timing = timing
        self._own_s = rows_s + self._decode_attention_s()
        prompt_calls = self._stages.prompt_calls(from_graphs=timing.prompt_graphs) if timing.host_call_s else (0.0, 0.0)
        alone, beside = prompt_calls
        self._launch_s = timing.host_call_s * beside
        self._kernels = self._stages.kernels()[True] if timing.kernel_gap_s else 0.0
        self._alone_s = timing.host(1.0, prompts=1.0, calls=alone, kernels=self._kernels)
        self.idle_w, self.busy_w = self._power()

    def decode_s(self, batch: Array) -> Array:
        """Time [s] of a cycle in which every group decodes `batch` sequences, any shape, padded to a graph."""
        batch = np.asarray(batch, dtype=np.float64)
        added_s, least_s = self._timing.host(batch, lanes=len(self._stages), kernels=self._kernels)
        own_s = np.interp(batch, self._batches, self._own_s)
        return np.asarray(np.maximum(self._cycle_s(batch) + own_s + added_s, least_s))

    def prompt_s(self, tokens: float, chunk: Array) -> Array:
        """Time [s] that a prompt of `tokens` adds to cycles that decode anyway, in chunks of at most `chunk` tokens.

        The weights of such a cycle are read anyway, so only the excess over a typical decode counts.
        """
        beside = self._cycle_s(np.asarray(_TYPICAL_BATCH))
        chunk = np.minimum(chunk, tokens)
        excess = np.maximum(self._cycle_s(chunk + _TYPICAL_BATCH, prompts=True), self._launch_s) - beside
        return np.asarray(tokens / chunk * excess + self._prompt_attention_s(tokens))

    def alone_s(self, tokens: float, chunk: Array) -> Array:
        """Time [s] until the first token of a prompt of `tokens` on an idle engine, in chunks of `chunk` tokens."""
        chunk = np.minimum(chunk, tokens)
        one = self._cycle_s(chunk, prompts=True)
        if self._dp > 1:  # experts see the even share of the tokens
            one += np.interp(chunk / self._dp, self._tokens, self._joint_s) - np.interp(
                chunk, self._tokens, self._joint_s
            )
        added_s, least_s = self._alone_s
        chunks = tokens / chunk
        one = one + (self._prompt_attention_s(tokens) + self._row_s[0]) / chunks + added_s
        return np.asarray(chunks * np.maximum(one, least_s))

    def _cycle_s(self, tokens: Array, *, prompts: bool = False) -> Array:
        """Time [s] of what works on the tokens of a cycle: padded to the next graph, if graphs hold prompts."""
        graphed = self._timing.graphs_hold_prompts or not prompts
        return np.interp(self._timing.padded(tokens) if graphed else tokens, self._tokens, self._token_s)

    @cached_property
    def _joint_s(self) -> Array:
        """Time [s] of what works on the tokens of all data-parallel ranks, at the token grid."""
        return self._sum("joint", self._tokens)

    def _sum(self, what: str, grid: Array) -> Array:
        total = np.zeros_like(grid)
        for weight, stage in self._stages.weighted(True):
            make = self._stages.row_operators if what == "row" else self._stages.token_operators
            operators = make(stage, grid)
            if what == "joint":
                operators = [operator for operator in operators if is_joint(operator)]
            total = total + weight * stage.costs.total_s(operators)
        return total

    def _decode_attention_s(self) -> Array:
        stage = self._stages.items[0]
        total = np.zeros_like(self._batches)
        for kind, cls in enumerate(self._stages.classes):
            keys = self._context if cls.window is None else min(self._context, cls.window)
            operators = decode_operators(self._stages.model, stage.shard, self._batches, self._batches * keys, cls)
            total = total + stage.costs.total_s(operators) * self._stages.layer_factor(kind, True)
        return total

    def _prompt_attention_s(self, tokens: float) -> float:
        """Attention [s] of one whole prompt over all layers of a cycle."""
        stage = self._stages.items[0]
        total = 0.0
        for kind, cls in enumerate(self._stages.classes):
            operators = prefill_operators(
                self._stages.model, stage.shard, np.array([max(tokens, 1.0)]), np.array([0.0]), cls
            )
            total += float(stage.costs.total_s(operators)[0]) * self._stages.layer_factor(kind, True)
        return total

    def _power(self) -> tuple[float, float]:
        """Power of the first stage's device without work, and while it decodes a typical batch [W]."""
        stage = self._stages.items[0]
        device = stage.costs.device
        batch = np.array([_TYPICAL_BATCH])
        operators: list[Operator] = [*self._stages.token_operators(stage, batch)]
        for cls in self._stages.classes:
            keys = self._context if cls.window is None else min(self._context, cls.window)
            operators += decode_operators(self._stages.model, stage.shard, batch, batch * keys, cls)
        seconds = float(stage.costs.total_s(operators)[0])
        flops = float(sum(np.sum(op.flops() * op.count) for op in operators))
        moved = float(sum(np.sum(op.bytes() * op.count) for op in operators))
        rate = precision_of(device, stage.shard.weights_dtype).flops_per_s
        busy_w = power_w(
            device,
            compute_frac=np.asarray(min(1.0, flops / seconds / rate)),
            memory_frac=np.asarray(min(1.0, moved / seconds / device.memory_bytes_per_s)),
        )
        return resting_w(device), float(busy_w)
