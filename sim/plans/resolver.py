"""From what a user says to a plan with every field known, or the reasons why it cannot run.

Start at `resolve`. A search uses one `Resolver` for all its plans: what depends only on the ranks and formats of a
plan (divisibility, shards, placement, memory per token) is worked out once and shared, so that each further plan
costs a few additions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sim.core import InfeasibleError, Reason
from sim.costs import precision_of
from sim.hardware import Cluster, Device
from sim.models import ModelSpec, stages
from sim.plans.engine import EngineSpec
from sim.plans.memory import MemoryModel, StageMemory, memory_model
from sim.plans.placement import devices_for, domains_for, place, stage_groups, transfer_group
from sim.plans.reductions import reduction_reasons
from sim.plans.resolved import Infeasible, PlanShape, ResolvedPlan, ShapeKey
from sim.plans.spec import PlanSpec, PoolSpec, plan_label
from sim.plans.speculation import SpeculationSpec, with_draft_layers
from sim.plans.validity import (
    backend_reasons,
    balancer_reasons,
    default_exchange,
    device_reasons,
    dtype_reasons,
    exchange_reasons,
    graph_reasons,
    parallel_reasons,
    placement_reasons,
    speculation_reasons,
    waiting_reasons,
)


class Resolver:
    """Resolves the plans of one model, engine and cluster.

    Args:
        model: The model.
        engine: The engine profile.
        cluster: The cluster.
    """

    def __init__(self, *, model: ModelSpec, engine: EngineSpec, cluster: Cluster) -> None:
        self.model = model
        self.engine = engine
        self.cluster = cluster
        limits = default_limits(engine, cluster.device)
        self.defaults: dict[str, Any] = {
            "max_num_seqs": limits[0],
            "max_num_batched_tokens": limits[1],
            "kv_memory_frac": default_share(engine),
            "weights_dtype": model.weights_dtype,
            "kv_dtype": engine.kv_dtype,
            "prefix_caching": engine.prefix_caching,
            "router": engine.router,
            "scheduler": engine.scheduler,
        }
        self._shapes: dict[tuple[int, ShapeKey], PlanShape | tuple[Reason, ...]] = {}

    def resolve(self, plan: PlanSpec) -> ResolvedPlan | Infeasible:
        """The plan with every field known, or why it cannot run."""
        if plan.prefill is not None:
            return self._resolve_pools(plan, plan.prefill)
        given = {name: value for name, value in plan if value is not None}
        fields = {**self.defaults, **given}
        key = self._key(fields)
        shape = self._shape(key, fields.get("cp", 1))
        replicas: int = fields.get("replicas", 1)
        if isinstance(shape, tuple):
            return self._refuse(plan, given, [*shape, *self._placement_reasons(key, replicas)])
        if replicas > shape.placement.max_replicas or not shape.groups:
            return self._refuse(plan, given, list(self._placement_reasons(key, replicas)))
        return self._limits(plan, given, fields, shape, replicas)

    def _resolve_pools(self, plan: PlanSpec, prompts: PoolSpec) -> ResolvedPlan | Infeasible:
        """A plan with engines of their own for prompts; both kinds have the same formats, clock and context limit."""
        alike = {name: getattr(plan, name) for name in PlanSpec.model_fields if name not in PoolSpec.model_fields}
        pools = {
            "prefill": self.resolve(PlanSpec(**{**alike, **dict(prompts), "prefill": None, "speculation": None})),
            "decode": self.resolve(plan.model_copy(update={"prefill": None})),
        }
        given = {name: value for name, value in plan if value is not None}
        reasons = [
            Reason(reason.code, f"{name} engines: {reason.message}", reason.numbers)
            for name, pool in pools.items()
            if isinstance(pool, Infeasible)
            for reason in pool.reasons
        ]
        if plan.batch_wait:
            reasons.append(Reason("engine", "decode engines compute no prompts that could wait: batch_wait must be 0"))
        first, own = pools["prefill"], pools["decode"]
        if reasons or isinstance(first, Infeasible) or isinstance(own, Infeasible):
            return self._refuse(plan, given, reasons)
        domains = domains_for([(pool.placement, pool.replicas) for pool in (first, own)])
        if domains is None:
            needed, have = first.n_gpus + own.n_gpus, self.cluster.n_devices
            text = f"prefill and decode engines take {needed} GPUs and do not fit together on {have}"
            return self._refuse(plan, given, [Reason("placement", text, {"needed": needed, "devices": have})])
        if domains > 1 and self.cluster.node.nic is None:
            text = f"prefill and decode engines are on several {self.cluster.node.name}, which have no network"
            return self._refuse(plan, given, [Reason("network", text, {"domains": domains})])
        placed = devices_for([(pool.placement, pool.replicas) for pool in (first, own)])
        return replace(
            own,
            label=self.label(given),
            max_model_len=min(first.max_model_len, own.max_model_len),
            devices=placed[1],
            prefill=replace(first, devices=placed[0]),
            kv_link=transfer_group(self.cluster, domains),
        )

    def _splits_prompts(self, asked: int | None) -> bool:
        """Whether prompts may be split over iterations, with the context limit that is asked for."""
        above = self.engine.chunked_prefill_above
        context = self.model.max_position_embeddings if asked is None else asked
        return self.engine.chunked_prefill and (above is None or context > above)

    def _key(self, fields: Mapping[str, Any]) -> ShapeKey:
        dp, tp, pp = fields.get("dp", 1), fields.get("tp", 1), fields.get("pp", 1)
        ep, moe_tp = fields.get("ep"), fields.get("moe_tp")
        ranks = dp * tp if self.model.is_moe else 1
        if ep is None:
            ep = max(1, ranks // moe_tp) if moe_tp is not None else 1
        if moe_tp is None:
            moe_tp = max(1, ranks // ep)
        speculation: SpeculationSpec | None = fields.get("speculation")
        layers, states = (0, 1) if speculation is None else (speculation.draft_layers, speculation.step_tokens)
        exchange = fields.get("expert_exchange") or default_exchange(
            self.model, self.engine, self.cluster, dp=dp, tp=tp, moe_tp=moe_tp
        )
        balanced = bool(fields.get("expert_balancer", False))
        return (tp, pp, dp, ep, moe_tp, fields["weights_dtype"], fields["kv_dtype"], layers, states, exchange, balanced)

    def _shape(self, key: ShapeKey, cp: int) -> PlanShape | tuple[Reason, ...]:
        found = self._shapes.get((cp, key))
        if found is None:
            found = self._shapes[cp, key] = self._build(key, cp)
        return found

    def _build(self, key: ShapeKey, cp: int) -> PlanShape | tuple[Reason, ...]:
        tp, pp, dp, ep, moe_tp, weights, kv, drafts, states, exchange, balanced = key
        model, engine, cluster = with_draft_layers(self.model, drafts), self.engine, self.cluster
        device = cluster.device
        reasons = [
            *device_reasons(engine, device),
            *parallel_reasons(model, engine, dp=dp, tp=tp, pp=pp, cp=cp, ep=ep, moe_tp=moe_tp),
            *dtype_reasons(model, engine, device, weights=weights, kv=kv, tp=tp, moe_tp=moe_tp),
            *exchange_reasons(engine, exchange, dp=dp, ep=ep, moe_tp=moe_tp),
            *balancer_reasons(balanced, ep=ep),
        ]
        if reasons:
            return _distinct(reasons)
        shards = stages(
            model,
            pp=pp,
            tp=tp,
            ep=ep,
            moe_tp=moe_tp,
            dp=dp,
            weights_dtype=weights,
            kv_dtype=kv,
            all_to_all=exchange == "all_to_all",
            dispatch_dtype=engine.expert_exchange.sent_as(weights, all_to_all=exchange == "all_to_all"),
            balanced=balanced,
            inputs_apart=engine.fusion is not None and engine.fusion.recurrent_inputs_apart,
        )
        placement = place(cluster, tp=tp, dp=dp, pp=pp)
        placeable = placement.max_replicas > 0 and (placement.compact or cluster.node.nic is not None)
        return PlanShape(
            *key,
            compute_dtype=precision_of(device, weights).arithmetic,
            shards=shards,
            groups=stage_groups(cluster, placement, moe_tp=moe_tp) if placeable else (),
            placement=placement,
            memory=memory_model(model, shards, device, engine, states=states),
        )

    def _share_left(self, shape: PlanShape, *, tokens: int, seqs: int, speculation: SpeculationSpec | None) -> float:
        """Share of memory that the engine gives weights and KV cache if it is not told one."""
        reserve = self.engine.static_reserve
        assert reserve is not None
        return reserve.share(
            shape.memory.visible_bytes,
            tokens=tokens,
            seqs=seqs,
            dp=shape.dp,
            width=shape.dp * shape.tp,
            pp=shape.pp,
            drafts=speculation is not None and speculation.method != "ngram",
        )

    def _placement_reasons(self, key: ShapeKey, replicas: int) -> Iterator[Reason]:
        tp, pp, dp, *_ = key
        return placement_reasons(self.cluster, place(self.cluster, tp=tp, dp=dp, pp=pp), replicas)

    def label(self, given: Mapping[str, Any]) -> str:
        """Short text for plan fields: ranks, and what differs from the defaults."""
        return plan_label({k: v for k, v in given.items() if k not in self.defaults or v != self.defaults[k]})

    def _refuse(self, plan: PlanSpec, given: Mapping[str, Any], reasons: list[Reason]) -> Infeasible:
        return Infeasible(plan, self.label(given), tuple(reasons))

    def _limits(
        self, plan: PlanSpec, given: Mapping[str, Any], fields: Mapping[str, Any], shape: PlanShape, replicas: int
    ) -> ResolvedPlan | Infeasible:
        tokens, rows = fields["max_num_batched_tokens"], fields["max_num_seqs"]
        asked = fields.get("max_model_len")
        chunked = self._splits_prompts(asked)
        if not chunked and "max_num_batched_tokens" not in given:
            tokens = max(tokens, asked or self.model.max_position_embeddings)
        speculation: SpeculationSpec | None = fields.get("speculation")
        frac = fields["kv_memory_frac"]
        if frac is None:
            frac = self._share_left(shape, tokens=tokens, seqs=rows, speculation=speculation)
        block = self.engine.block_tokens.value
        blocks, tightest = shape.memory.kv_blocks(tokens=tokens, rows=rows, frac=frac, block_tokens=block)
        layout = shape.memory.pool(tightest, block).layout
        width = 1 if speculation is None else speculation.step_tokens
        capacity = layout.tokens_in(blocks) - (width - 1)
        length = min(self.model.max_position_embeddings, capacity) if asked is None else asked
        reasons = [
            *self._option_reasons(plan, fields, shape, tokens=tokens, rows=rows, width=width),
            *_sharing_reasons(self.model.name, asked=plan.prefix_caching, sharable=layout.sharable),
            *_memory_reasons(
                shape.memory,
                tightest,
                tokens=tokens,
                rows=rows,
                frac=frac,
                blocks=min(blocks, capacity),
                chosen_by="" if fields["kv_memory_frac"] is not None else self.engine.name,
            ),
            *_limit_reasons(
                self.model,
                self.engine.name,
                tokens=tokens,
                rows=rows,
                width=width,
                length=length,
                capacity=capacity,
                chunked=chunked,
            ),
        ]
        if reasons:
            return self._refuse(plan, given, reasons)
        return ResolvedPlan(
            shape=shape,
            label=self.label(given),
            replicas=replicas,
            max_num_seqs=rows,
            max_num_batched_tokens=tokens,
            queue_interval=fields.get("queue_interval", 1),
            balance_wait=fields.get("balance_wait", 0),
            batch_wait=fields.get("batch_wait", 0),
            batch_fill=fields.get("batch_fill", 1.0),
            moe_backend=fields.get("moe_backend"),
            prompt_graphs=fields.get("prompt_graphs", self.engine.graphs_hold_prompts),
            fuse_all_reduce=fields.get("fuse_all_reduce"),
            graph_sizes=fields.get("graph_sizes", self.engine.graphs(width)),
            max_model_len=length,
            max_model_len_given=asked is not None,
            kv_memory_frac=frac,
            clock=fields.get("clock", 1.0),
            router=fields["router"],
            scheduler=fields["scheduler"],
            chunked_prefill=chunked,
            prefix_caching=fields["prefix_caching"] and layout.sharable,
            block_tokens=block,
            kv_blocks=blocks,
            watermark_blocks=int(self.engine.watermark_frac.value * blocks),
            tightest=tightest,
            speculation=speculation,
            stand_ins=self._stand_ins(shape, fields.get("moe_backend")),
        )

    def _option_reasons(
        self, plan: PlanSpec, fields: Mapping[str, Any], shape: PlanShape, *, tokens: int, rows: int, width: int
    ) -> Iterator[Reason]:
        """Why the engine cannot be run with these options; `width` is the tokens of a sequence in an iteration."""
        yield from speculation_reasons(self.engine, fields.get("speculation"), pp=shape.pp)
        yield from waiting_reasons(
            self.engine,
            queue_interval=fields.get("queue_interval", 1),
            balance_wait=fields.get("balance_wait", 0),
            batch_wait=fields.get("batch_wait", 0),
            dp=shape.dp,
        )
        yield from backend_reasons(self.model, self.engine, self.cluster.device, fields.get("moe_backend"))
        yield from reduction_reasons(
            self.engine, self.model, self.cluster.device, shape.placement, asked=fields.get("fuse_all_reduce")
        )
        prompts = fields.get("prompt_graphs", self.engine.graphs_hold_prompts)
        yield from graph_reasons(
            self.engine, plan.graph_sizes, prompt_graphs=prompts, tokens=tokens, rows=rows, width=width
        )

    def _stand_ins(self, shape: PlanShape, moe_backend: str | None) -> tuple[str, ...]:
        """What is priced as something else, for lack of times of its own."""
        if moe_backend is None:
            return ()
        device, engine = self.cluster.device, self.engine
        kernel = precision_of(device, shape.weights_dtype).kernel
        if device.kernels.has_library("moe", kernel, engine.family, moe_backend):
            return ()
        text = f"no times are known of {moe_backend} experts in {shape.weights_dtype} on {device.title}"
        return (f"{text}: they are taken to be those of the kernels that {engine.name} chooses by itself",)


def _distinct(reasons: list[Reason]) -> tuple[Reason, ...]:
    """Reasons without repetitions: layer groups of one model often fail alike."""
    return tuple({(reason.code, reason.message): reason for reason in reasons}.values())


def _sharing_reasons(model: str, *, asked: bool | None, sharable: bool) -> Iterator[Reason]:
    if asked and not sharable:
        text = f"prefix caching is not modelled for {model}, whose layers keep states of a sequence"
        yield Reason("prefix_caching", text)


def _memory_reasons(
    memory: MemoryModel, stage: StageMemory, *, tokens: int, rows: int, frac: float, blocks: int, chosen_by: str
) -> Iterator[Reason]:
    """Why memory does not suffice; `chosen_by` names the engine where it chose the fraction by itself."""
    outside = 0.0 if memory.graphs_in_budget else memory.graph_bytes
    if memory.share_of == "device" and memory.visible_bytes * frac + outside > memory.device_bytes:
        yield Reason(
            "memory",
            f"a memory fraction of {frac:g} leaves no room for {_gib(outside)} of CUDA graphs",
            {"kv_memory_frac": frac, "graphs_bytes": outside, "device_bytes": memory.device_bytes},
        )
    if blocks > 0:
        return
    activations = memory.activation_bytes(stage, tokens=tokens, rows=rows)
    budget = memory.visible_bytes * (frac if memory.share_of != "free" else 1.0)
    yield Reason(
        "memory",
        f"weights {_gib(stage.weights_bytes)}, activations {_gib(activations)} and runtime "
        f"{_gib(memory.runtime_bytes)} leave no KV block in {_gib(budget)} "
        f"({budget / memory.visible_bytes:.3g} of a GPU with {_gib(memory.device_bytes)}"
        + (f", as {chosen_by} has it by itself; kv_memory_frac gives it another share)" if chosen_by else ")"),
        {
            "weights_bytes": stage.weights_bytes,
            "activations_bytes": activations,
            "runtime_bytes": memory.runtime_bytes,
            "graphs_bytes": memory.graph_bytes,
            "budget_bytes": budget,
            "device_bytes": memory.device_bytes,
        },
    )


def _gib(value: float) -> str:
    return f"{value / 2**30:.1f} GiB"


def _limit_reasons(
    model: ModelSpec, engine: str, *, tokens: int, rows: int, width: int, length: int, capacity: int, chunked: bool
) -> Iterator[Reason]:
    if tokens < rows:
        yield Reason(
            "budget",
            f"max_num_batched_tokens {tokens} is less than max_num_seqs {rows}: {engine} refuses to start",
            {"max_num_batched_tokens": tokens, "max_num_seqs": rows},
        )
    elif tokens < rows * width:
        yield Reason(
            "budget",
            f"max_num_batched_tokens {tokens} does not hold {width} tokens of each of max_num_seqs {rows} sequences",
            {"max_num_batched_tokens": tokens, "max_num_seqs": rows, "step_tokens": width},
        )
    if not chunked and tokens < length:
        yield Reason(
            "budget",
            f"without chunked prefill max_num_batched_tokens {tokens} must hold a prompt of {length} tokens",
            {"max_num_batched_tokens": tokens, "max_model_len": length},
        )
    if length > model.max_position_embeddings:
        yield Reason(
            "context",
            f"max_model_len {length} is beyond the {model.max_position_embeddings} tokens of {model.name}",
            {"max_model_len": length, "model_tokens": model.max_position_embeddings},
        )
    if 0 < capacity < length:
        yield Reason(
            "context",
            f"the KV cache holds {capacity} tokens, less than max_model_len {length}",
            {"kv_tokens": capacity, "max_model_len": length},
        )


def default_share(engine: EngineSpec) -> float | None:
    """Default share of memory for the KV cache and what goes with it; None where it follows from the plan."""
    return engine.kv_memory_frac.value if engine.static_reserve is None else None


def default_limits(engine: EngineSpec, device: Device) -> tuple[int, int]:
    """Default `max_num_seqs` and `max_num_batched_tokens` of an engine on a device: the first entry that fits."""
    entry = next(
        entry
        for entry in engine.limits
        if device.memory_bytes >= entry.min_memory and not device.name.startswith(entry.except_devices)
    )
    return entry.max_num_seqs, entry.max_num_batched_tokens


def resolve(plan: PlanSpec, *, model: ModelSpec, engine: EngineSpec, cluster: Cluster) -> ResolvedPlan | Infeasible:
    """The plan with every field known, or why it cannot run."""
    return Resolver(model=model, engine=engine, cluster=cluster).resolve(plan)


def require(plan: PlanSpec, *, model: ModelSpec, engine: EngineSpec, cluster: Cluster) -> ResolvedPlan:
    """The plan with every field known.

    Raises:
        InfeasibleError: if it cannot run; says why with numbers.
    """
    found = resolve(plan, model=model, engine=engine, cluster=cluster)
    if isinstance(found, Infeasible):
        raise InfeasibleError(f"the plan {found.label} cannot run {model.name} on {cluster.name}", found.reasons)
    return found
