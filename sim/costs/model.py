"""The cost of an operator on one device: picks the form, the curve and the rate, and keeps the parts apart.

Start at `CostModel.cost`. Curves and collectives are looked up once per dtype or group and kept, so that a call costs
a handful of numpy operations whatever the number of points. With measured tables the form's time is scaled by what was
measured over what the form says, see `sim.costs.tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

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
from sim.costs.cost import OpCost
from sim.costs.curves import Curves, cache_kernel
from sim.costs.elementwise import StreamCurve, stream_time_s
from sim.costs.fusion import NO_FUSION, Fusion, side_by_side_share
from sim.costs.gemm import gemm_terms, gemm_time_s, headwise_gemm_time_s
from sim.costs.launch import (
    BEHIND_REDUCTION,
    QUANTISED_PRODUCT_LAUNCHES,
    TRITON_EXPERT_CALLS,
    eager_time_s,
    expert_launches,
    gemm_launches,
    host_calls,
    scaled_on_the_fly,
)
from sim.costs.moe import busiest_rank_pairs, grouped_gemm_terms, grouped_gemm_time_s
from sim.costs.numeric import Value, p_norm, where_positive
from sim.costs.precision import precision_of
from sim.costs.recurrent import SCAN_LAUNCHES, state_scan_terms, state_update_terms, state_update_time_s
from sim.costs.tables.lookup import Analytic, Measured, MeasuredKernels
from sim.costs.tables.shapes import kernel_of
from sim.costs.usage import Use, merged
from sim.hardware import CommGroup, Device
from sim.models import (
    NORM_PASSES,
    AbsorbedProducts,
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
    attention_dtype,
    bytes_per_element,
)


class _Form(NamedTuple):
    """What a form says about one execution.

    Attributes:
        cost: Time and parts [s].
        floor_s: Least time by FLOPs and bytes [s].
        launches: Kernels launched.
        fixed_s: Fixed latency that measured ratios leave alone [s].
        cold_read_s: Time to read the operands where a benchmark that repeats the call finds them in a cache [s].
        cold_fixed_s: Fixed latency of the same calls [s].
    """

    cost: OpCost
    floor_s: Array
    launches: float = 1.0
    fixed_s: float = 0.0
    cold_read_s: Value = 0.0
    cold_fixed_s: Value = 0.0


_NONE = np.asarray(0.0)


class CostModel:
    """Operators of one rank to seconds, on a device, with an engine's kernels, over the groups of its plan.

    Args:
        device: The device.
        engine: Family of the software stack whose kernels and collectives are meant (`vllm`, `sglang`, `trtllm`).
        groups: Communication groups by name (`tp`, `ep`, `dp`, `pp`).
        eager_launch_s: Host time per kernel without CUDA graphs [s]; None with graphs.
        measured: Measured tables for some kernels; None for closed forms alone.
        lent: The same of other engines whose kernels this one takes, by family.
        fusion: What the engine's kernels do together or beside each other.
        moe_library: Library of the experts' kernels; empty, the one that the engine takes by itself.
        sorts_logits: Whether all logits are sorted to pick a token (top-k and top-p without a kernel of their own).
    """

    def __init__(
        self,
        device: Device,
        *,
        engine: str = "vllm",
        groups: Mapping[str, CommGroup] | None = None,
        eager_launch_s: float | None = None,
        measured: MeasuredKernels | None = None,
        lent: Mapping[str, MeasuredKernels] | None = None,
        fusion: Fusion = NO_FUSION,
        moe_library: str = "",
        sorts_logits: bool = False,
    ) -> None:
        self.device = device
        self.engine = engine
        self.fusion = fusion
        self.sorts_logits = sorts_logits
        self.groups = dict(groups or {})
        self.eager_launch_s = eager_launch_s
        self._measured = measured
        self._lent = dict(lent or {})
        self._looked_up: dict[tuple[str, str, bool], Use] = {}
        self._curve_sources: dict[str, str] = {}
        self._moe_library = moe_library
        self._curves = Curves(device, engine, self._curve_sources, moe_library)
        self._units = block_units(device.kind, device.units)
        self._collectives: dict[tuple[str, str, str], BoundCollective] = {}
        self._forms: dict[type, Callable[[Any], _Form]] = {
            Gemm: self._gemm,
            GroupedGemm: self._grouped_gemm,
            DecodeAttention: self._decode_attention,
            AbsorbedProducts: self._absorbed_products,
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
        if isinstance(operator, Collective) and operator.before_norm and self.fusion.norm_bytes:
            return self._before_norm(operator)
        form = self._forms[type(operator)](operator)
        one = form.cost
        if self._measured is not None and not isinstance(operator, PrefillAttention):
            found = self._look_up(operator)
            if found is not None:
                time_s = np.maximum(one.time_s * found.at.ratio, np.where(one.time_s > 0.0, form.floor_s, 0.0))
                one = one.scaled(np.divide(time_s, one.time_s, out=np.ones_like(time_s), where=one.time_s > 0.0))
        if self.eager_launch_s is not None:
            launch_s = eager_time_s(
                0.0, launches=where_positive(one.time_s, form.launches), launch_s=self.eager_launch_s
            )
            one = replace(one, time_s=np.maximum(one.time_s, launch_s), overhead_s=np.maximum(one.overhead_s, launch_s))
        return one.scaled(operator.count)

    def _before_norm(self, op: Collective) -> OpCost:
        """Of an all-reduce with a norm behind it: by the kernel that does both as far as its buffers reach."""
        size_bytes, most = np.asarray(op.buffer_bytes, dtype=np.float64), self.fusion.norm_bytes
        kernel, fits = self.fusion.norm_kernel or self.engine, size_bytes <= most
        both = replace(op, buffer_bytes=np.minimum(size_bytes, most), before_norm=False, kernel=kernel)
        apart = replace(op, buffer_bytes=np.maximum(size_bytes, most), before_norm=False)
        if np.all(fits) or not np.any(fits):
            return self.cost(both if np.all(fits) else apart)
        return self.cost(both).where(fits, self.cost(apart))

    def price(self, operator: Operator) -> Analytic:
        """What the closed forms say about one execution, for tables to be anchored to."""
        form = self._forms[type(operator)](operator)
        return Analytic(form.cost.time_s, form.floor_s, form.fixed_s, form.cold_read_s, form.cold_fixed_s)

    def total_s(self, operators: Iterable[Operator]) -> Array:
        """Time [s] of all operators, one after the other but for blocks whose streams run beside each other."""
        return np.asarray(sum((time_s for _, time_s in self._times(operators)), np.asarray(0.0)))

    def breakdown(self, operators: Iterable[Operator]) -> dict[str, Array]:
        """Time [s] by cause; the values add up to `total_s`."""
        causes: dict[str, Array] = {}
        for cause, time_s in self._times(operators):
            known = causes.get(cause)
            causes[cause] = time_s if known is None else np.asarray(known + time_s)
        return causes

    def launches(self, operators: Iterable[Operator]) -> float:
        """Kernels that follow each other in a pass over the operators; those of a second stream run beside them."""
        found = 0.0
        for op in operators:
            if op.stream == "side" and self.fusion.side_stream:
                continue
            form = self._forms[type(op)](op)
            found += op.count * form.launches * bool(np.any(form.cost.time_s > 0.0))
        return found

    def _times(self, operators: Iterable[Operator]) -> Iterator[tuple[str, Array]]:
        """Cause and time [s] of each operator; of a block of two streams each takes its share of the block's time."""
        for in_block, block in groupby(operators, key=lambda operator: operator.stream is not None):
            members = [(operator, self.cost(operator)) for operator in block]
            share: Value = 1.0
            if in_block and self.fusion.side_stream:
                share = self._side_share(members)
            for operator, cost in members:
                yield operator.cause, np.asarray(cost.time_s * share)

    def _side_share(self, members: list[tuple[Operator, OpCost]]) -> Array:
        """Time of a block of two streams over that of its operators one after the other, which many tokens take."""
        share = side_by_side_share([(operator.stream == "side", cost) for operator, cost in members])
        tokens = [operator.m for operator, _ in members if isinstance(operator, Gemm) and operator.stream == "side"]
        return np.where(reduce(np.maximum, tokens, _NONE) <= self.fusion.side_tokens, share, 1.0)

    def is_mixed(self, operator: Operator) -> bool:
        """Whether it is of decodes whose query heads get a tile each, in one launch with prompts."""
        if not (isinstance(operator, DecodeAttention) and operator.beside_prompts and self.fusion.one_attention):
            return False
        return operator.kind == "gqa" and self._curves.decode(operator.kv_dtype, operator.kind).mixed_rows > 0.0

    def prefill_terms(self, operator: PrefillAttention | StateScan) -> PrefillTerms:
        """Parts of one launch over each prompt chunk by itself [s]; `join_chunks` makes them one launch.

        Measured ratios go by the length of the chunk: no table has prompts with a prefix.
        """
        terms = self._scan_terms(operator) if isinstance(operator, StateScan) else self._chunk_terms(operator)
        found = self._look_up(operator)
        if found is None or isinstance(operator, StateScan):
            return terms
        work_s, walk_s, moved_s = (part * found.at.ratio for part in terms)
        least_s = operator.flops() / self._attention_rate(operator)
        return PrefillTerms(np.maximum(work_s, least_s), walk_s, moved_s)

    def _scan_terms(self, operator: StateScan) -> PrefillTerms:
        return state_scan_terms(
            operator.chunk,
            flops_per_token=operator.flops_per_token,
            bytes_per_row=operator.row_bytes(),
            state_bytes=operator.state_bytes,
            flops_per_s=self._curves.matrix_rate(operator.dtype),
            bytes_per_s=self.device.memory_bytes_per_s,
            curve=self._curves.scan(operator.dtype),
        )

    def _chunk_terms(self, operator: PrefillAttention) -> PrefillTerms:
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
        found = self._look_up(operator)
        return curve.t0_s if found is None else found.anchor.fixed_s, curve.p

    # ---- where times came from ----

    @property
    def sources(self) -> dict[str, str]:
        """Where each curve, table and collective that was used comes from, by kernel and number format."""
        return {label: str(use) for label, use in self.uses.items()}

    @property
    def uses(self) -> dict[str, Use]:
        """Source of each kernel that was used, by kernel and number format, with its look-ups."""
        curves = {label: Use("analytic", text) for label, text in self._curve_sources.items()}
        return merged([curves, *({label: use} for (label, *_), use in self._looked_up.items())])

    def _look_up(self, op: Operator) -> Measured | None:
        """What measured tables say about an operator; None where they say nothing and the form stands."""
        if self._measured is None:
            return None
        if isinstance(op, Collective):
            found = self._look_up_collective(op)
        elif isinstance(op, GroupedGemm) and not self._curves.moe(op.weights_dtype).by_default:
            found = f"tables do not tell {self._moe_library} from other libraries"
        else:
            found = self._measured.ratio(op)
        if found is None:
            return None
        label = _over(op.kind, op.group, op.kernel) if isinstance(op, Collective) else self._label(op)
        key = (label, op.name, isinstance(found, str))
        if isinstance(found, str):
            self._looked_up[key] = Use("analytic", self._curve_sources.get(label, ""), found, operators=1)
            return None
        look_ups, outside = found.at.inside.size, int(np.sum(~found.at.inside))
        known = self._looked_up.get(key)
        if known is None or known.look_ups < look_ups:
            anchor = found.anchor
            self._looked_up[key] = Use(
                "measured", anchor.table, anchor.note, look_ups, outside, operators=1, doubt=anchor.doubt
            )
        return found

    def _look_up_collective(self, op: Collective) -> Measured | str | None:
        tables = self._lent.get(op.kernel, self._measured)
        group, bound = self.groups.get(op.group), self._bound_collective(op.kind, op.group, op.kernel)
        if group is None or group.ranks < 2 or tables is None:
            return None
        if group.intra is None or group.nodes > 1:
            return f"tables hold one scale-up domain, not {group.nodes}"
        if not group.intra.in_tables:
            return f"tables hold another link than {group.intra.name}"
        known_as = (group.ranks, group.intra.name, group.bytes_per_s)
        return tables.ratio(op, price=lambda rows: self.price(rows), group=known_as) if bound.timers else None

    def host_calls(self, operators: Iterable[Operator], *, from_graphs: bool = False) -> float:
        """Calls from Python that a forward pass over prompts is made of; see `sim.costs.launch.host_calls`."""
        within = self.fusion.norm_bytes > 0.0
        return host_calls(operators, self.expert_calls, from_graphs=from_graphs, norms_within=within)

    def expert_calls(self, op: GroupedGemm) -> float:
        """Calls from Python that launch the experts: several where Triton's own kernels unpack MXFP4."""
        unpacked = op.weights_dtype == "mxfp4" and precision_of(self.device, op.weights_dtype).weight_only
        if not unpacked or self._moe_library not in ("", "triton"):
            return 1.0
        return TRITON_EXPERT_CALLS + float(op.experts < op.total_experts)

    # ---- one method per kind of operator ----

    def _gemm(self, op: Gemm) -> _Form:
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
        cost = OpCost(time_s, terms.compute_s, terms.memory_s + terms.quantise_s, _NONE, terms.overhead_s)
        cold = self._cold(op.bytes(), terms.memory_s, terms.overhead_s)
        return _Form(
            cost,
            self._roofline_s(op, setup.flops_per_s),
            launches=gemm_launches(op),
            cold_read_s=cold[0],
            cold_fixed_s=cold[1],
        )

    def _grouped_gemm(self, op: GroupedGemm) -> _Form:
        setup = self._curves.moe(op.weights_dtype)
        ep = op.total_experts / op.experts
        pairs = busiest_rank_pairs(op.tokens, top_k=op.top_k, ep=ep, spread=op.spread, experts=op.experts)
        touched = replace(op, tokens=pairs * (ep / op.top_k)).touched()
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
        cost = OpCost(time_s, terms.compute_s, terms.memory_s + terms.gather_s, _NONE, terms.overhead_s)
        return _Form(cost, self._roofline_s(op, setup.flops_per_s), launches=expert_launches(setup.library))

    def _decode_attention(self, op: DecodeAttention) -> _Form:
        curve: DecodeCurve = self._curves.decode(op.kv_dtype, op.kind)
        if curve.tail and not self.fusion.one_attention:
            curve = replace(curve, tail=0.0)
        blocks = np.ceil(op.q_heads / MLA_HEADS_PER_BLOCK) if op.kind == "mla" else op.kv_heads
        moved_bytes, flops, mixed = op.bytes(), op.flops(), self.is_mixed(op)
        if mixed:
            curve, flops = replace(curve, e=self._curves.prefill(op.kv_dtype, op.kind).e_128), flops * curve.mixed_rows
        terms = decode_attention_terms(
            op.sequences,
            op.context,
            flops=flops,
            moved_bytes=moved_bytes,
            blocks=np.asarray(op.sequences) * blocks,
            head_dim=op.head_dim,
            units=self._units,
            flops_per_s=self._curves.attention_rate(op.kv_dtype, op.kind),
            bytes_per_s=self.device.memory_bytes_per_s,
            curve=curve,
            whole=mixed,
        )
        time_s = decode_attention_time_s(op.sequences, terms, curve)
        compute_s = np.maximum(terms.compute_s, terms.blocks_s)
        cost = OpCost(time_s, compute_s, terms.memory_s, _NONE, terms.overhead_s)
        cold = self._cold(moved_bytes, terms.memory_s, terms.overhead_s)
        floor_s = self._roofline_s(op, self._attention_rate(op))
        launches = 1.0 + (op.kind == "mla" and "rope" in self.fusion.within_attention)
        return _Form(cost, floor_s, launches=launches, cold_read_s=cold[0], cold_fixed_s=cold[1])

    def _absorbed_products(self, op: AbsorbedProducts) -> _Form:
        """Both products head by head, less what they are charged as products of all heads at once."""
        in_fp8 = self.fusion.absorbed_fp8 and scaled_on_the_fly(op.weights_dtype)
        setup = self._curves.headwise(op.weights_dtype if in_fp8 else op.dtype)
        alone_s = sum(
            headwise_gemm_time_s(
                op.tokens,
                n,
                k,
                heads=op.heads,
                ends_bytes=activation_bytes(op.dtype),
                weight_bytes=bytes_per_element(op.weights_dtype if in_fp8 else op.dtype),
                flops_per_s=setup.flops_per_s,
                bytes_per_s=self.device.memory_bytes_per_s,
                curve=setup.curve,
            )
            for k, n in ((op.nope_dim, op.kv_rank), (op.kv_rank, op.v_dim))
        )
        charged_s = sum(self.cost(one).time_s for one in op.together())
        memory_s = op.bytes() / self.device.memory_bytes_per_s
        time_s = where_positive(op.tokens, np.maximum(alone_s - charged_s, memory_s))
        launches = QUANTISED_PRODUCT_LAUNCHES if in_fp8 else 0.0
        return _Form(OpCost(time_s, _NONE, memory_s, _NONE, np.asarray(time_s - memory_s)), memory_s, launches=launches)

    def _prefill_attention(self, op: PrefillAttention) -> _Form:
        curve = replace(self._curves.prefill(op.kv_dtype, op.kind), t0_s=self.prefill_curve(op)[0])
        terms = self.prefill_terms(op)
        memory_s = np.maximum(terms.moved_s, op.bytes() / self.device.memory_bytes_per_s)
        time_s = np.maximum(prefill_attention_time_s(terms, curve), where_positive(op.chunk, memory_s))
        compute_s = p_norm(terms.work_s, terms.walk_s, curve.p)
        cost = OpCost(time_s, compute_s, memory_s, _NONE, np.asarray(curve.t0_s))
        return _Form(cost, self._roofline_s(op, self._attention_rate(op)), fixed_s=curve.t0_s)

    def _state_update(self, op: StateUpdate) -> _Form:
        curve = self._curves.update(op.dtype)
        again = 2.0 * op.state_bytes if op.tokens > 1 and self.fusion.copies_states else 0.0
        terms = state_update_terms(
            op.bytes() + again * np.asarray(op.sequences),
            np.asarray(op.sequences) * op.heads * op.tokens,
            units=self._units,
            bytes_per_s=self.device.memory_bytes_per_s,
            curve=curve,
        )
        floor_s = self._roofline_s(op, self.device.vector_flops)
        compute_s = np.maximum(terms.blocks_s, op.flops() / self.device.vector_flops)
        time_s = np.maximum(state_update_time_s(op.sequences, terms, curve), compute_s)
        return _Form(OpCost(time_s, compute_s, terms.memory_s, _NONE, terms.overhead_s), floor_s, launches=2.0)

    def _state_scan(self, op: StateScan) -> _Form:
        t0_s, p = self.prefill_curve(op)
        terms = self.prefill_terms(op)
        compute_s = p_norm(terms.work_s, terms.walk_s, p)
        time_s = where_positive(op.chunk, t0_s + compute_s + terms.moved_s)
        cost = OpCost(time_s, compute_s, terms.moved_s, _NONE, np.asarray(t0_s))
        return _Form(cost, self._roofline_s(op, self._curves.matrix_rate(op.dtype)), launches=SCAN_LAUNCHES)

    def _stream(self, op: Elementwise | Embedding | Sampling, kernel: str, dtype: str) -> _Form:
        curve = self._curves.stream(kernel, dtype)
        if op.name in self.fusion.within_attention:
            return _Form(OpCost(_NONE, _NONE, _NONE, _NONE, _NONE), _NONE)
        if op.name == "qk_norm" and self.fusion.one_qk_norm:
            curve = replace(curve, launches=curve.launches / 2.0)
        if isinstance(op, Sampling) and self.sorts_logits:
            curve = curve.sorting()
        one = self._streamed(op, curve)
        if op.name == BEHIND_REDUCTION and self.fusion.norm_bytes:
            within = np.asarray(op.bytes() <= NORM_PASSES * self.fusion.norm_bytes)
            inside = self._streamed(op, replace(curve, launches=0.0))
            return inside._replace(cost=inside.cost.where(within, one.cost), launches=one.launches * (not within.any()))
        return one

    def _streamed(self, op: Elementwise | Embedding | Sampling, curve: StreamCurve) -> _Form:
        moved = op.bytes()
        time_s = stream_time_s(moved, bytes_per_s=self.device.memory_bytes_per_s, curve=curve)
        overhead_s = np.asarray(curve.launches * curve.t0_s)
        cost = OpCost(time_s, _NONE, np.maximum(time_s - overhead_s, 0.0), _NONE, overhead_s)
        return _Form(cost, moved / self.device.memory_bytes_per_s, launches=curve.launches)

    def _collective(self, op: Collective) -> _Form:
        bound = self._bound_collective(op.kind, op.group, op.kernel)
        size_bytes = np.asarray(op.buffer_bytes, dtype=np.float64)
        time_s = bound.time_s(size_bytes)
        fixed_s = np.minimum(time_s, bound.fixed_s)
        floor_s = size_bytes * bound.bound_s_per_byte
        time_s = np.maximum(fixed_s + (time_s - fixed_s) / self.device.kernels.scales.link, floor_s)
        return _Form(OpCost(time_s, _NONE, _NONE, time_s - fixed_s, fixed_s), floor_s)

    # ---- helpers ----

    def _roofline_s(self, op: Operator, flops_per_s: float) -> Array:
        """Least time [s] of one execution: its FLOPs at the dense peak, its bytes at the memory bandwidth."""
        return np.asarray(np.maximum(op.flops() / flops_per_s, op.bytes() / self.device.memory_bytes_per_s))

    def _cold(self, moved_bytes: Value, memory_s: Array, overhead_s: Array) -> tuple[Array, Array]:
        """Times [s] to read operands from memory, and of the launch, where a repeated call finds them in the cache.

        A benchmark runs one product or attention over and over; a model reads all its weights in between.
        """
        cached = np.asarray(moved_bytes) < self.device.llc_bytes
        return np.where(cached, memory_s, 0.0), np.where(cached, overhead_s, 0.0)

    def _attention_rate(self, op: DecodeAttention | PrefillAttention) -> float:
        """Dense peak [FLOP/s] that attention could use: over an 8-bit cache some kernels multiply in 8 bit."""
        rate = self._curves.matrix_rate(op.kv_dtype)
        wide = bytes_per_element(op.kv_dtype) >= 2.0
        return rate if wide else max(rate, self.device.compute_rate("fp8")[0])

    def _label(self, op: Operator) -> str:
        """The kernel and number format, as the curves name them."""
        if isinstance(op, Gemm | GroupedGemm):
            return f"{kernel_of(op)} {precision_of(self.device, op.weights_dtype).kernel}"
        if isinstance(op, DecodeAttention):
            return f"{kernel_of(op)} {cache_kernel(op.kv_dtype)}"
        if isinstance(op, PrefillAttention):
            return f"{kernel_of(op)} {'fp8' if op.kind == 'indexer' else attention_dtype(op.kv_dtype)}"
        return f"{kernel_of(op)} {attention_dtype(op.dtype) if isinstance(op, StateUpdate | StateScan) else 'bf16'}"

    def _bound_collective(self, kind: str, name: str, kernel: str) -> BoundCollective:
        key = (kind, name, kernel)
        if key not in self._collectives:
            group = self.groups.get(name)
            if group is None:
                raise InputError(
                    f"{kind} over group {name!r}, which the plan does not have", allowed=sorted(self.groups)
                )
            bound = bind_collective(kind, group, engine=kernel or self.engine)
            self._collectives[key] = bound
            if bound.names:
                self._curve_sources[_over(*key)] = bound.source
        return self._collectives[key]


def _over(kind: str, group: str, kernel: str) -> str:
    """Name of a collective in the result, apart from that of the engine's own kernel."""
    return f"{kind} over {group}{f' with norm, of {kernel}' if kernel else ''}"
