"""The cost of an operator on one device: picks the form, the curve and the rate, and keeps the parts apart.

Start at `CostModel.cost`. Curves and collectives are looked up once per dtype or group and kept, so that a call costs
a handful of numpy operations whatever the number of points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.core import Array, InputError
from sim.costs.attention import (
    MLA_HEADS_PER_BLOCK,
    DecodeCurve,
    PrefillTerms,
    block_units,
    decode_attention_terms,
    decode_attention_time_s,
    prefill_attention_terms,
    prefill_attention_time_s,
)
from sim.costs.collectives import BoundCollective, bind_collective
from sim.costs.curves import Curves
from sim.costs.elementwise import stream_time_s
from sim.costs.gemm import gemm_terms, gemm_time_s
from sim.costs.launch import eager_time_s
from sim.costs.moe import Routing, busiest_rank_pairs, grouped_gemm_terms, grouped_gemm_time_s, touched_experts
from sim.costs.numeric import p_norm, where_positive
from sim.costs.recurrent import state_scan_terms, state_update_terms, state_update_time_s
from sim.hardware import CommGroup, Device
from sim.models import (
    Collective,
    DecodeAttention,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
    Operator,
    PrefillAttention,
    Sampling,
    StateScan,
    StateUpdate,
    activation_bytes,
    bytes_per_element,
)

BOUNDS = ("compute", "memory", "network", "launch")
"""What can bound an operator; `launch` is fixed latency."""


@dataclass(frozen=True)
class OpCost:
    """Time of all executions of an operator [s] and the parts it is made of.

    The parts are what each resource alone would take; they overlap, so they do not add up to the time.

    Attributes:
        time_s: Time.
        compute_s: Arithmetic, with the serial walk of thread blocks.
        memory_s: Device memory.
        network_s: Links.
        overhead_s: Fixed latency of kernels or messages.
    """

    time_s: Array
    compute_s: Array
    memory_s: Array
    network_s: Array
    overhead_s: Array

    def bound(self) -> NDArray[np.str_]:
        """The largest part of each point, one of `BOUNDS`."""
        parts = (self.compute_s, self.memory_s, self.network_s, self.overhead_s)
        stacked = np.stack(np.broadcast_arrays(*parts))
        return np.asarray(np.asarray(BOUNDS)[np.argmax(stacked, axis=0)])


class CostModel:
    """Operators of one rank to seconds, on a device, with an engine's kernels, over the groups of its plan.

    Args:
        device: The device.
        engine: Family of the software stack whose kernels and collectives are meant (`vllm`, `sglang`, `trtllm`).
        groups: Communication groups by name (`tp`, `ep`, `dp`, `pp`).
        routing: How tokens spread over experts.
        eager_launch_s: Host time per kernel without CUDA graphs [s]; None with graphs.
    """

    def __init__(
        self,
        device: Device,
        *,
        engine: str = "vllm",
        groups: Mapping[str, CommGroup] | None = None,
        routing: Routing = "uniform",
        eager_launch_s: float | None = None,
    ) -> None:
        self.device = device
        self.engine = engine
        self.groups = dict(groups or {})
        self.routing: Routing = routing
        self.eager_launch_s = eager_launch_s
        self.sources: dict[str, str] = {}
        self._curves = Curves(device, engine, self.sources)
        self._units = block_units(device.kind, device.units)
        self._collectives: dict[tuple[str, str], BoundCollective] = {}
        self._forms: dict[type, Callable[[Any], OpCost]] = {
            Gemm: self._gemm,
            GroupedGemm: self._grouped_gemm,
            DecodeAttention: self._decode_attention,
            PrefillAttention: self._prefill_attention,
            StateUpdate: self._state_update,
            StateScan: self._state_scan,
            Elementwise: lambda op: self._stream(op, "elementwise", op.dtype),
            Embedding: lambda op: self._stream(op, "embedding", op.dtype),
            Sampling: lambda op: self._stream(op, "sampling", "bf16"),
            Collective: self._collective,
        }

    def cost(self, operator: Operator) -> OpCost:
        """Time and parts [s] of all `operator.count` executions, in the broadcast shape of the operator's fields.

        Never below the roofline: `time >= max(flops/peak, bytes/bandwidth)`.

        Raises:
            InputError: if a collective names a group that the model was not given.
        """
        return self._forms[type(operator)](operator)

    def total_s(self, operators: Iterable[Operator]) -> Array:
        """Time [s] of all operators, one after the other."""
        return np.asarray(sum((self.cost(operator).time_s for operator in operators), np.asarray(0.0)))

    def breakdown(self, operators: Iterable[Operator]) -> dict[str, Array]:
        """Time [s] by cause; the values add up to `total_s`."""
        causes: dict[str, Array] = {}
        for operator in operators:
            time_s = self.cost(operator).time_s
            known = causes.get(operator.cause)
            causes[operator.cause] = time_s if known is None else np.asarray(known + time_s)
        return causes

    def prefill_terms(self, operator: PrefillAttention | StateScan) -> PrefillTerms:
        """Parts of one launch over each prompt chunk by itself [s]; `join_chunks` makes them one launch."""
        if isinstance(operator, StateScan):
            return state_scan_terms(
                operator.chunk,
                flops_per_token=operator.flops_per_token,
                bytes_per_row=operator.row_bytes(),
                state_bytes=operator.state_bytes,
                flops_per_s=self._curves.matrix_rate(operator.dtype),
                bytes_per_s=self.device.memory_bytes_per_s,
                curve=self._curves.scan(operator.dtype),
            )
        width = operator.head_dim + operator.v_dim
        keys = operator.kv_heads * operator.keys_per_token
        ends = activation_bytes(operator.kv_dtype) * operator.q_heads
        row_bytes = width * (ends + keys * bytes_per_element(operator.kv_dtype))
        return prefill_attention_terms(
            operator.chunk,
            operator.prefix,
            q_heads=operator.q_heads,
            flops_per_key=2.0 * operator.q_heads * width,
            head_dim=operator.head_dim if operator.kind == "gqa" else None,
            bytes_per_row=row_bytes,
            prefix_bytes=operator.bytes() - np.asarray(operator.chunk) * row_bytes,
            units=self._units,
            flops_per_s=self._curves.attention_rate(operator.kv_dtype, operator.kind),
            bytes_per_s=self.device.memory_bytes_per_s,
            curve=self._curves.prefill(operator.kv_dtype, operator.kind),
            window=operator.window,
            keys_per_token=operator.keys_per_token,
            near_keys=operator.near_keys,
        )

    def prefill_curve(self, operator: PrefillAttention | StateScan) -> tuple[float, float]:
        """Fixed latency [s] of one launch over prompts, and the exponent that joins work and walk."""
        if isinstance(operator, StateScan):
            scan = self._curves.scan(operator.dtype)
            return scan.t0_s, scan.p
        curve = self._curves.prefill(operator.kv_dtype, operator.kind)
        return curve.t0_s, curve.p

    # ---- one method per kind of operator ----

    def _gemm(self, op: Gemm) -> OpCost:
        setup = self._curves.gemm(op.weights_dtype)
        terms = gemm_terms(
            op.m,
            op.n,
            op.k,
            moved_bytes=op.bytes(),
            flops_per_s=setup.flops_per_s,
            bytes_per_s=self.device.memory_bytes_per_s,
            curve=setup.curve,
            dequantise_ops_per_s=setup.dequantise_ops_per_s,
        )
        time_s = gemm_time_s(op.m, terms, setup.curve)
        return self._assemble(
            op.count, time_s, terms.compute_s, terms.memory_s + terms.quantise_s, overhead_s=terms.overhead_s
        )

    def _grouped_gemm(self, op: GroupedGemm) -> OpCost:
        setup = self._curves.moe(op.weights_dtype)
        ep = op.total_experts / op.experts
        pairs = busiest_rank_pairs(op.tokens, top_k=op.top_k, ep=ep, routing=self.routing)
        as_tokens = pairs * (ep / op.top_k)
        touched = touched_experts(as_tokens, experts=op.total_experts, top_k=op.top_k, ep=ep, routing=self.routing)
        terms = grouped_gemm_terms(
            pairs,
            touched,
            hidden=op.hidden,
            intermediate=op.intermediate,
            matrices=3 if op.gated else 2,
            weight_bytes=setup.weight_bytes,
            flops_per_s=setup.flops_per_s,
            bytes_per_s=self.device.memory_bytes_per_s,
            curve=setup.curve,
            dequantise_ops_per_s=setup.dequantise_ops_per_s,
        )
        floor_s = op.bytes() / self.device.memory_bytes_per_s
        time_s = np.maximum(grouped_gemm_time_s(pairs, terms, setup.curve), floor_s)
        return self._assemble(
            op.count,
            time_s,
            terms.compute_s,
            terms.memory_s + terms.gather_s,
            overhead_s=terms.overhead_s,
            launches=4.0,
        )

    def _decode_attention(self, op: DecodeAttention) -> OpCost:
        curve: DecodeCurve = self._curves.decode(op.kv_dtype, op.kind)
        blocks = np.ceil(op.q_heads / MLA_HEADS_PER_BLOCK) if op.kind == "mla" else op.kv_heads
        terms = decode_attention_terms(
            op.sequences,
            op.context,
            flops=op.flops(),
            moved_bytes=op.bytes(),
            blocks=np.asarray(op.sequences) * blocks,
            head_dim=op.head_dim,
            units=self._units,
            flops_per_s=self._curves.attention_rate(op.kv_dtype, op.kind),
            bytes_per_s=self.device.memory_bytes_per_s,
            curve=curve,
        )
        time_s = decode_attention_time_s(op.sequences, terms, curve)
        compute_s = np.maximum(terms.compute_s, terms.blocks_s)
        return self._assemble(op.count, time_s, compute_s, terms.memory_s, overhead_s=terms.overhead_s)

    def _prefill_attention(self, op: PrefillAttention) -> OpCost:
        curve = self._curves.prefill(op.kv_dtype, op.kind)
        terms = self.prefill_terms(op)
        memory_s = np.maximum(terms.moved_s, op.bytes() / self.device.memory_bytes_per_s)
        time_s = np.maximum(prefill_attention_time_s(terms, curve), where_positive(op.chunk, memory_s))
        compute_s = p_norm(terms.work_s, terms.walk_s, curve.p)
        return self._assemble(op.count, time_s, compute_s, memory_s, overhead_s=np.asarray(curve.t0_s))

    def _state_update(self, op: StateUpdate) -> OpCost:
        curve = self._curves.update(op.dtype)
        terms = state_update_terms(
            op.bytes(),
            np.asarray(op.sequences) * op.heads,
            units=self._units,
            bytes_per_s=self.device.memory_bytes_per_s,
            curve=curve,
        )
        compute_s = np.maximum(terms.blocks_s, op.flops() / self.device.vector_flops)
        time_s = np.maximum(state_update_time_s(op.sequences, terms, curve), compute_s)
        return self._assemble(op.count, time_s, compute_s, terms.memory_s, overhead_s=terms.overhead_s, launches=2.0)

    def _state_scan(self, op: StateScan) -> OpCost:
        t0_s, p = self.prefill_curve(op)
        terms = self.prefill_terms(op)
        compute_s = p_norm(terms.work_s, terms.walk_s, p)
        time_s = where_positive(op.chunk, t0_s + compute_s + terms.moved_s)
        return self._assemble(op.count, time_s, compute_s, terms.moved_s, overhead_s=np.asarray(t0_s), launches=2.0)

    def _stream(self, op: Elementwise | Embedding | Sampling, kernel: str, dtype: str) -> OpCost:
        curve = self._curves.stream(kernel, dtype)
        moved = op.bytes()
        time_s = stream_time_s(moved, bytes_per_s=self.device.memory_bytes_per_s, curve=curve)
        overhead_s = np.asarray(curve.launches * curve.t0_s)
        memory_s = np.maximum(time_s - overhead_s, 0.0)
        return self._assemble(
            op.count, time_s, np.asarray(0.0), memory_s, overhead_s=overhead_s, launches=curve.launches
        )

    def _collective(self, op: Collective) -> OpCost:
        bound = self._bound_collective(op.kind, op.group)
        time_s = bound.time_s(np.asarray(op.buffer_bytes, dtype=np.float64))
        fixed_s = np.minimum(time_s, bound.fixed_s)
        return self._assemble(
            op.count, time_s, np.asarray(0.0), np.asarray(0.0), network_s=time_s - fixed_s, overhead_s=fixed_s
        )

    # ---- helpers ----

    def _assemble(
        self,
        count: float,
        time_s: Array,
        compute_s: Array,
        memory_s: Array,
        *,
        overhead_s: Array,
        network_s: Array | None = None,
        launches: float = 1.0,
    ) -> OpCost:
        """The cost of `count` executions; in eager mode none is shorter than its launches."""
        if self.eager_launch_s is not None:
            launch_s = eager_time_s(0.0, launches=where_positive(time_s, launches), launch_s=self.eager_launch_s)
            time_s, overhead_s = np.maximum(time_s, launch_s), np.maximum(overhead_s, launch_s)
        none = np.asarray(0.0) if network_s is None else network_s
        return OpCost(time_s * count, compute_s * count, memory_s * count, none * count, overhead_s * count)

    def _bound_collective(self, kind: str, name: str) -> BoundCollective:
        key = (kind, name)
        if key not in self._collectives:
            group = self.groups.get(name)
            if group is None:
                raise InputError(
                    f"{kind} over group {name!r}, which the plan does not have", allowed=sorted(self.groups)
                )
            bound = bind_collective(kind, group, engine=self.engine)
            self._collectives[key] = bound
            if bound.names:
                self.sources[f"{kind} over {name}"] = bound.source
        return self._collectives[key]
