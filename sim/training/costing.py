"""Operators of training to seconds on one rank: the costs of `sim.costs`, with what the device sustains.

Start at `TrainingCosts.pass_cost`. Times of the same operator are worked out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sim.costs import CostModel, PrefillTerms, gemm_terms, gemm_time_s, prefill_attention_time_s
from sim.costs.curves import Curves
from sim.costs.numeric import p_norm
from sim.hardware import CommGroup, Device
from sim.models import Collective, Gemm, GroupedGemm
from sim.training.operators import (
    FLASH_BACKWARD_FLOPS,
    SCAN_BACKWARD_FLOPS,
    BatchedGemm,
    FlashAttention,
    Quantise,
    Scan,
    TrainingOperator,
    WeightGradient,
    matrix_flops,
    stream,
)
from sim.training.sustained import Sustained

KERNEL_FAMILY: Final = "training"
"""Engine family whose kernel curves are asked for; devices without any stand in their serving curves (cuBLAS)."""


@dataclass
class PassCost:
    """Time of one pass over some operators on one rank.

    Attributes:
        parts_s: Seconds by cause.
        flops: Matrix FLOPs.
    """

    parts_s: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0

    @property
    def total_s(self) -> float:
        """Seconds of all operators, one after the other."""
        return sum(self.parts_s.values())

    def add(self, other: PassCost, times: float = 1.0) -> PassCost:
        """Adds `other` so many times, and returns itself."""
        for cause, seconds in other.parts_s.items():
            self.parts_s[cause] = self.parts_s.get(cause, 0.0) + seconds * times
        self.flops += other.flops * times
        return self


class TrainingCosts:
    """Times of operators on one device over the groups of a plan.

    Args:
        device: The device, at its clock.
        groups: Communication groups by name.
        sustained: What the device sustains.
        stream_passes: Traffic of element-wise kernels over that of one fused kernel each.
        attention_frac: Rate of flash attention over that of the device's curve.
        network_frac: Share of a node's network adapters that collectives keep busy.
        raw_s: Times without those factors by operator, shared between models of the same device and groups.
    """

    def __init__(
        self,
        device: Device,
        groups: Mapping[str, CommGroup],
        *,
        sustained: Sustained,
        stream_passes: float = 1.0,
        attention_frac: float = 1.0,
        network_frac: float = 1.0,
        raw_s: dict[TrainingOperator, float] | None = None,
    ) -> None:
        self.device = device
        self.groups = groups
        self.sustained = sustained
        self.stream_passes = stream_passes
        self.attention_frac = attention_frac
        self.network_frac = network_frac
        self.raw_s: dict[TrainingOperator, float] = {} if raw_s is None else raw_s
        self._model = CostModel(device, engine=KERNEL_FAMILY, groups=groups)
        self._curve_sources: dict[str, str] = {}
        self._curves = Curves(device, KERNEL_FAMILY, self._curve_sources)

    @property
    def sources(self) -> dict[str, str]:
        """Where the costs used so far come from."""
        return {**self._curve_sources, **self._model.sources, "sustained": self.sustained.source}

    def pass_cost(self, operators: Iterable[TrainingOperator]) -> PassCost:
        """Time and FLOPs of all operators, one after the other."""
        found = PassCost()
        for operator in operators:
            seconds = self.time_s(operator)
            found.parts_s[operator.cause] = found.parts_s.get(operator.cause, 0.0) + seconds
            found.flops += matrix_flops(operator)
        return found

    def time_s(self, operator: TrainingOperator) -> float:
        """Time [s] of all executions of an operator."""
        if operator not in self.raw_s:
            self.raw_s[operator] = self._raw(operator)
        return self.raw_s[operator] / self._rate(operator)

    def collective_s(self, kind: str, size_bytes: float, group: str) -> float:
        """Time [s] of one collective of this buffer [B] over a group, see `sim.models.Collective`."""
        if size_bytes <= 0.0 or self.groups[group].ranks < 2:
            return 0.0
        return self.time_s(
            Collective(name=kind, cause="comm", kind=kind, buffer_bytes=size_bytes, group=group)  # type: ignore[arg-type]
        )

    def _rate(self, operator: TrainingOperator) -> float:
        """What the device sustains of the rate that the operator's curve promises."""
        kept = self.sustained
        if isinstance(operator, (Gemm, GroupedGemm, BatchedGemm, WeightGradient)):
            return kept.linear
        if isinstance(operator, FlashAttention):
            return self.attention_frac * kept.attention * (kept.attention_backward if operator.backward else 1.0)
        if isinstance(operator, Scan):
            return kept.attention * (kept.attention_backward if operator.backward else 1.0)
        if isinstance(operator, Collective):
            across = self.groups[operator.group].nodes > 1
            return kept.network * self.network_frac if across else kept.local_comm
        passes = self.stream_passes if operator.cause == "norm_activation" else 1.0
        return kept.stream / passes

    def _raw(self, operator: TrainingOperator) -> float:
        if isinstance(operator, FlashAttention):
            return self._flash_s(operator)
        if isinstance(operator, Scan):
            return self._scan_s(operator)
        if isinstance(operator, Quantise):
            return self._quantise_s(operator)
        if isinstance(operator, BatchedGemm):  # one launch of `batch x m` rows, with the operands of all products
            return self._product_s(operator, rows=operator.batch * operator.m, dtype="bf16")
        if isinstance(operator, WeightGradient):
            return self._product_s(operator, rows=operator.m, dtype=operator.dtype)
        return float(self._model.cost(operator).time_s)

    def _flash_s(self, op: FlashAttention) -> float:
        """One launch for all sequences of the micro-batch: their work and traffic add, their walks run side by side."""
        terms = self._model.prefill_terms(op.one)
        times = FLASH_BACKWARD_FLOPS if op.backward else 1.0
        joined = PrefillTerms(terms.work_s * op.batch * times, terms.walk_s * times, terms.moved_s * op.batch * times)
        curve = self._curves.prefill(op.one.kv_dtype, op.one.kind)
        return float(prefill_attention_time_s(joined, curve)) * op.count

    def _scan_s(self, op: Scan) -> float:
        """As for attention: sequences add their work and traffic, and walk side by side."""
        terms, (t0_s, p) = self._model.prefill_terms(op.one), self._model.prefill_curve(op.one)
        times = SCAN_BACKWARD_FLOPS if op.backward else 1.0
        compute_s = p_norm(np.asarray(terms.work_s * op.batch), np.asarray(terms.walk_s), p)
        return float(times * (compute_s + terms.moved_s * op.batch) + t0_s) * op.count

    def _quantise_s(self, op: Quantise) -> float:
        """As long as the longest of traffic, transform and rounding, which overlap within one kernel."""
        moved_s = float(self._model.cost(stream(op.name, op.moved_bytes)).time_s)
        transform_s = op.matrix_flops / self.device.compute_rate("bf16")[0]
        return max(moved_s, transform_s, op.vector_ops / self.device.vector_flops) * op.count

    def _product_s(self, op: BatchedGemm | WeightGradient, *, rows: float, dtype: str) -> float:
        """A product by the form of dense ones, with the operator's own traffic."""
        setup = self._curves.gemm(dtype)
        terms = gemm_terms(
            rows,
            op.n,
            op.k,
            moved_bytes=np.asarray(op.bytes()),
            flops_per_s=setup.flops_per_s,
            bytes_per_s=self.device.memory_bytes_per_s,
            curve=setup.curve,
        )
        return float(gemm_time_s(rows, terms, setup.curve)) * op.count
