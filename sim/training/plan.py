"""A training plan with every field filled in, or the reasons why it cannot run.

Start at `resolve_training`. Memory is judged in `sim.training.memory`; where the ranks stand is in `ranks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from math import ceil
from typing import Any, Literal

from sim.core import Reason
from sim.hardware import LOWEST_CLOCK, Cluster, clock_within, lowest_cap_w, resting_w
from sim.models import LayerGroup, ModelSpec, MoE
from sim.plans import TrainingEngineSpec, TrainingPlanSpec
from sim.plans.training import RANK_DIMENSIONS, ContextKind, RankDimension, Recompute, WideDtype
from sim.training.adapters import Adapters
from sim.training.blocks import Blocks, blocks_of, indivisible, indivisible_scan, nearest_divisors, unmodelled
from sim.training.host_optimizer import host_reasons
from sim.training.precision import PLAIN, Recipe, lacking, recipe_of
from sim.training.schedules import SCHEDULES
from sim.training.shape import WorkShape
from sim.training.spec import EncoderSpec, TrainingWorkload

_LABELLED = ("tp", "cp", "pp", "vpp", "ep")


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A training plan; see `TrainingPlanSpec` for the fields it shares.

    Attributes:
        n_gpus: GPUs in all.
        microbatches: Micro-batches of a step on each data-parallel rank.
        attention: Attention kernel.
        dropout: Whether there is dropout.
        fused_accumulation: Whether the product of a weight gradient adds to earlier ones itself.
        fused_projections: Whether products that share an input (queries, keys, values; gate and up) are one kernel.
        copies_shards: Whether gathered parameters are copied out of the buffer they arrive in, and gradients into one.
        gathers_again: Whether inputs gathered over tensor-parallel ranks are dropped, and gathered again backward.
        precision: Name of the recipe of the linear layers' products.
        recipe: What it means.
        adapters: What is trained if the model is frozen.
        encoder: What the first stage has before the model.
        layers_per_stage: Layers of every virtual stage.
    """

    n_gpus: int
    dp: int
    dp_replicas: int
    tp: int
    sp: bool
    pp: int
    vpp: int
    cp: int
    cp_zigzag: bool
    cp_kind: ContextKind
    ep: int
    rank_order: tuple[RankDimension, ...]
    zero: int
    recompute: Recompute
    recompute_every: int
    micro_batch: int
    microbatches: int
    schedule: str
    layers_per_stage: tuple[int, ...]
    grad_dtype: WideDtype
    overlap_dp: bool
    prefetch: int
    overlap_p2p: bool
    scatter_gather: bool
    overlap_tp: bool
    compiled: bool
    cuda_graphs: bool
    clock: float
    attention: Literal["flash", "plain"]
    dropout: bool
    fused_accumulation: bool
    copies_shards: bool
    gathers_again: bool
    fused_projections: bool
    precision: str
    recipe: Recipe = PLAIN
    adapters: Adapters | None = None
    encoder: EncoderSpec | None = None

    @property
    def stages(self) -> int:
        """Virtual stages."""
        return self.pp * self.vpp

    @property
    def shards(self) -> int:
        """Ranks that sharded states are divided over; context-parallel ranks share too."""
        return self.dp * self.cp // self.dp_replicas

    @property
    def reduced_after(self) -> int:
        """Micro-batches whose gradients are added up before they are reduced where only a shard is kept (ZeRO-2).

        An interleaved schedule works on one chunk of the model with as many micro-batches as stages in a row, and a
        rank adds up that chunk's gradients meanwhile (Llama 3, arXiv 2407.21783, section 3.3.2: gradients sharded,
        accumulated over micro-batches, then reduce-scattered); otherwise, as where a V turns from chunk to chunk, each
        micro-batch's are reduced by themselves.
        """
        return min(self.pp, self.microbatches) if SCHEDULES.get(self.schedule).stays_on_chunk else 1

    @property
    def label(self) -> str:
        """Short text, such as `dp8 tp8 pp16 vpp4 zero1 selective mb1`."""
        degrees = [f"{name}{getattr(self, name)}" for name in _LABELLED if getattr(self, name) > 1]
        order = [name for name in self.rank_order if getattr(self, name) > 1]
        degrees += ["-".join(order)] if order != [name for name in RANK_DIMENSIONS if name in order] else []
        copies = f"/{self.dp_replicas}" if self.dp_replicas > 1 else ""
        parts = [f"dp{self.dp}{copies}", *degrees, *([f"zero{self.zero}"] if self.zero else [])]
        every = f"/{self.recompute_every}" if self.recompute_every > 1 else ""
        parts += [f"{self.recompute}{every}"] if self.recompute != "none" else []
        parts += [self.schedule] if self.schedule not in ("1f1b", "interleaved") else []
        parts += [f"{self.clock:.0%}"] if self.clock < 1.0 else []
        return " ".join([*parts, f"mb{self.micro_batch}"])

    def shape(self, sequence: int) -> WorkShape:
        """What a rank works on at this sequence length."""
        return WorkShape(
            micro_batch=self.micro_batch,
            sequence=sequence,
            tp=self.tp,
            cp=self.cp,
            cp_zigzag=self.cp_zigzag,
            cp_kind=self.cp_kind,
            ep=self.ep,
            sp=self.sp,
            attention=self.attention,
            dropout=self.dropout,
            recipe=self.recipe,
            adapters=self.adapters,
            encoder=self.encoder,
            grad_dtype=self.grad_dtype,
            fused_accumulation=self.fused_accumulation,
            copies_shards=self.copies_shards and self.zero == 3,
            gathers_again=self.gathers_again,
            fused_projections=self.fused_projections,
        )

    def to_dict(self) -> dict[str, Any]:
        """Every field, for a result."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        found |= {"layers_per_stage": list(self.layers_per_stage), "rank_order": list(self.rank_order)}
        adapters = None if self.adapters is None else asdict(self.adapters)
        encoder = None if self.encoder is None else self.encoder.model_dump(mode="json")
        return found | {"recipe": asdict(self.recipe), "adapters": adapters, "encoder": encoder}


def resolve_training(
    spec: TrainingPlanSpec,
    *,
    workload: TrainingWorkload,
    model: ModelSpec,
    engine: TrainingEngineSpec,
    cluster: Cluster,
) -> TrainingPlan | tuple[Reason, ...]:
    """The plan that `spec` means on this cluster, or why it cannot run."""
    reasons = list(_degree_reasons(spec, workload, model, cluster))
    if reasons:
        return tuple(reasons)
    plan = _filled(spec, workload, model, engine, cluster)
    reasons = [*_model_reasons(plan, model, workload), *_placement_reasons(plan, cluster, workload.optimizer)]
    return tuple(reasons) if reasons else plan


def _filled(
    spec: TrainingPlanSpec, workload: TrainingWorkload, model: ModelSpec, engine: TrainingEngineSpec, cluster: Cluster
) -> TrainingPlan:
    default = engine.defaults
    given = {name: value for name, value in spec if value is not None}
    tp, pp, cp, vpp = (int(given.get(name, 1)) for name in ("tp", "pp", "cp", "vpp"))
    dp = int(given.get("dp", cluster.n_devices // (tp * pp * cp)))
    micro_batch = int(given.get("micro_batch", 1))
    interleaved = default.interleaved_schedule if vpp > 1 else default.schedule
    overlaps = ("overlap_dp", "overlap_p2p", "overlap_tp")
    kinds = ("rank_order", "zero", "recompute", "grad_dtype", "cp_kind")
    switches = (*kinds, "prefetch", "scatter_gather", "compiled", "cuda_graphs", "cp_zigzag", *overlaps)
    layers = spec.layers_per_stage or even_layers(model.n_layers, pp * vpp)
    return TrainingPlan(
        **{name: given.get(name, getattr(default, name)) for name in switches},
        n_gpus=dp * tp * pp * cp,
        dp=dp,
        dp_replicas=int(given.get("dp_replicas", 1)),
        tp=tp,
        sp=bool(given.get("sp", default.sp and tp > 1)),
        pp=pp,
        vpp=vpp,
        cp=cp,
        ep=int(given.get("ep", 1)),
        recompute_every=int(given.get("recompute_every", 1)),
        micro_batch=micro_batch,
        microbatches=workload.global_batch // (dp * micro_batch),
        schedule=str(given.get("schedule", interleaved)),
        layers_per_stage=layers,
        clock=min(float(given.get("clock", 1.0)), clock_within(cluster.device, spec.power_cap)),
        attention=workload.attention or default.attention,
        dropout=default.dropout if workload.dropout is None else workload.dropout,
        fused_accumulation=default.fused_accumulation,
        copies_shards=default.copies_shards,
        gathers_again=default.gathers_again,
        fused_projections=default.fused_projections,
        precision=workload.precision,
        recipe=recipe_of(workload.precision, workload.quantisation, fused_casts=default.fused_casts),
        adapters=Adapters.of(workload.lora),
        encoder=workload.encoder,
    )


def even_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Layers per virtual stage, as even as they go; what is left over goes to stages from the middle outwards.

    So the first and the last stage, which also hold embedding and LM head, are the ones with one less.
    """
    base, extra = divmod(layers, stages)
    middle = sorted(range(stages), key=lambda i: (abs(2 * i - (stages - 1)), i))
    counts = [base] * stages
    for i in middle[:extra]:
        counts[i] += 1
    return tuple(counts)


def layers_of_stage(model: ModelSpec, layers_per_stage: tuple[int, ...], stage: int) -> list[tuple[LayerGroup, int]]:
    """Layer groups of a virtual stage and how many layers of each it has."""
    start = sum(layers_per_stage[:stage])
    stop, passed, found = start + layers_per_stage[stage], 0, []
    for group in model.layers:
        count = min(stop, passed + group.count) - max(start, passed)
        if count > 0:
            found.append((group, count))
        passed += group.count
    return found


def alike_stages(model: ModelSpec, layers_per_stage: tuple[int, ...]) -> list[int]:
    """For each virtual stage the first one with the same layers that is at the same end, if any: itself, if it is."""
    groups = {id(group): number for number, group in enumerate(model.layers)}
    seen: dict[tuple[object, ...], int] = {}
    found = []
    for stage in range(len(layers_per_stage)):
        layers = layers_of_stage(model, layers_per_stage, stage)
        counts = tuple((groups[id(group)], count) for group, count in layers)
        found.append(seen.setdefault((counts, stage == 0, stage == len(layers_per_stage) - 1), stage))
    return found


# ---- why a plan cannot run ----


def _degree_reasons(
    spec: TrainingPlanSpec, workload: TrainingWorkload, model: ModelSpec, cluster: Cluster
) -> Iterator[Reason]:
    tp, pp, cp = spec.tp or 1, spec.pp or 1, spec.cp or 1
    inner, devices = tp * pp * cp, cluster.n_devices
    numbers = {"tp": tp, "pp": pp, "cp": cp, "devices": devices}
    if devices % inner:
        near = nearest_divisors(devices, inner)
        yield Reason(
            "ranks",
            f"tp {tp} x cp {cp} x pp {pp} = {inner} does not divide the {devices} GPUs of the cluster; the nearest "
            f"products that do are {near}",
            numbers,
        )
        return
    dp = spec.dp or devices // inner
    if dp * inner != devices:
        yield Reason(
            "ranks",
            f"dp {dp} x tp {tp} x cp {cp} x pp {pp} = {dp * inner} is not the {devices} GPUs of the cluster; "
            f"dp {devices // inner} would",
            {**numbers, "dp": dp},
        )
        return
    unit = dp * (spec.micro_batch or 1)
    for batch in workload.batches:
        if batch % unit:
            yield _batch_reason(batch, dp, spec.micro_batch or 1, whole=batch == workload.global_batch)
            break
    yield from power_reasons(spec.power_cap, cluster)
    if spec.layers_per_stage is not None and sum(spec.layers_per_stage) != model.n_layers:
        yield Reason(
            "layers",
            f"layers_per_stage adds up to {sum(spec.layers_per_stage)}, the model has {model.n_layers} layers",
            {"given": sum(spec.layers_per_stage), "layers": model.n_layers},
        )


def power_reasons(cap_w: float | None, cluster: Cluster) -> Iterator[Reason]:
    """Why no clock keeps within a power cap; nothing if one does."""
    least_w, rest_w, most_w = lowest_cap_w(cluster.device), resting_w(cluster.device), cluster.device.peak_w
    if cap_w is None or cap_w >= least_w:
        return
    yield Reason(
        "power",
        f"power_cap {cap_w:.0f} W is below the {least_w:.0f} W that a {cluster.device.name} draws in products at "
        f"{LOWEST_CLOCK:.0%} of its clock ({rest_w:.0f} W without work); give {ceil(least_w)} to {most_w:.0f} W",
        {"power_cap": cap_w, "lowest_cap_w": least_w, "resting_w": rest_w, "peak_w": most_w},
    )


def _batch_reason(batch: int, dp: int, micro: int, *, whole: bool) -> Reason:
    """Why a batch cannot be dealt to data-parallel ranks, with the nearest that can."""
    unit, share = dp * micro, batch // dp
    fits = f", or micro_batch {nearest_divisors(share, micro)}" if batch % dp == 0 and micro > 1 else ""
    near = " or ".join(str(value) for value in sorted({max(unit, batch // unit * unit), (batch // unit + 1) * unit}))
    which = "global batch" if whole else "batch_ramp's batch"
    return Reason(
        "batch",
        f"{which} {batch} does not divide by dp {dp} x micro_batch {micro} = {unit}; the nearest that do are {near}"
        f"{fits}",
        {"global_batch": batch, "dp": dp, "micro_batch": micro},
    )


def _model_reasons(plan: TrainingPlan, model: ModelSpec, workload: TrainingWorkload) -> Iterator[Reason]:
    if 0 in plan.layers_per_stage[1:-1]:
        yield Reason(
            "layers",
            f"pp {plan.pp} x vpp {plan.vpp} = {plan.stages} virtual stages for {model.n_layers} layers: only the first "
            f"and the last, with embedding and LM head, can be without one; at most {model.n_layers + 2} stages are",
            {"stages": plan.stages, "layers": model.n_layers},
        )
    if plan.vpp > 1 and plan.pp == 1:
        yield Reason("schedule", f"vpp {plan.vpp} needs pipeline stages, but pp is 1: use vpp 1", {"vpp": plan.vpp})
    if plan.sp and plan.tp == 1:
        yield Reason(
            "sequence_parallel", "sp divides norms over tensor-parallel ranks, but tp is 1: leave sp out", {"tp": 1}
        )
    yield from _sequence_reasons(plan, workload.sequence_length)
    if plan.overlap_tp and plan.tp > 1 and not plan.sp:
        yield Reason(
            "sequence_parallel",
            f"overlap_tp cuts gathers and scatters, which tp {plan.tp} has with sp alone (Megatron-LM asserts it): "
            "set sp, or leave overlap_tp out",
            {"tp": plan.tp},
        )
    if plan.ep > 1 and not model.is_moe:
        yield Reason("experts", f"ep {plan.ep}, but {model.name} has no experts", {"ep": plan.ep})
    wide = workload.quantisation.first_16bit + workload.quantisation.last_16bit
    if wide > model.n_layers:
        yield Reason(
            "precision",
            f"{wide} layers kept in 16 bits, but {model.name} has {model.n_layers}: give less of `first_16bit` and "
            "`last_16bit`",
            {"kept": wide, "layers": model.n_layers},
        )
    if workload.encoder is not None:
        yield from _encoder_reasons(plan, workload.encoder)
    if model.residual_streams > 1:
        yield Reason("model", f"training of {model.name} is not modelled: {model.residual_streams} residual streams")
    for group in model.layers:
        if what := unmodelled(group):
            yield Reason("model", f"training of {model.name} is not modelled: {what}")
        else:
            yield from _layer_reasons(plan, blocks_of(group))


def _sequence_reasons(plan: TrainingPlan, length: int) -> Iterator[Reason]:
    """Why context-parallel ranks cannot have equal slices of a sequence, in zigzag two each."""
    slices = plan.cp * (2 if plan.cp > 1 and plan.cp_zigzag else 1)
    if length % slices:
        near = [value for value in (length // slices * slices, (length // slices + 1) * slices) if value]
        yield Reason(
            "sequence",
            f"a sequence of {length} tokens does not divide into {slices} slices for cp {plan.cp}"
            f"{' in zigzag' if plan.cp_zigzag else ''}; the nearest lengths that do are {' or '.join(map(str, near))}",
            {"sequence_length": length, "cp": plan.cp, "slices": slices},
        )


def _encoder_reasons(plan: TrainingPlan, encoder: EncoderSpec) -> Iterator[Reason]:
    if plan.adapters is not None:
        yield Reason("encoder", "adapters beside an encoder are not modelled: leave out `lora` or `encoder`")
    for group in encoder.layers:
        blocks = blocks_of(group) if unmodelled(group) is None else None
        if blocks is None or blocks.attention is None or isinstance(blocks.ffn, MoE):
            yield Reason("encoder", "an encoder has layers of attention and a dense feed-forward block")
        else:
            yield from indivisible(blocks, plan.tp)


def _layer_reasons(plan: TrainingPlan, blocks: Blocks) -> Iterator[Reason]:
    ffn = blocks.ffn
    yield from indivisible(blocks, plan.tp)
    if plan.cp > 1 and blocks.recurrence is not None:
        yield from indivisible_scan(blocks.recurrence, tp=plan.tp, cp=plan.cp)
    if plan.cp > 1 and plan.cp_kind == "ulysses" and blocks.attention is not None:
        heads = blocks.attention.heads // plan.tp
        if heads % plan.cp:
            yield Reason(
                "context_parallel",
                f"ulysses divides the {heads} query heads of a rank over cp {plan.cp}; the nearest cp are "
                f"{nearest_divisors(heads, plan.cp)}, or another `cp_kind`",
                {"heads": heads, "cp": plan.cp},
            )
    if isinstance(ffn, MoE) and ffn.experts % plan.ep:
        near = nearest_divisors(ffn.experts, plan.ep)
        yield Reason(
            "experts",
            f"{ffn.experts} experts do not divide by ep {plan.ep}; the nearest ep are {near}",
            {"experts": ffn.experts, "ep": plan.ep},
        )


def _placement_reasons(plan: TrainingPlan, cluster: Cluster, optimizer: str) -> Iterator[Reason]:
    if plan.dp % plan.ep:
        yield Reason(
            "expert_ranks",
            f"ep {plan.ep} does not divide dp {plan.dp}; the nearest ep are {nearest_divisors(plan.dp, plan.ep)}",
            {"ep": plan.ep, "dp": plan.dp},
        )
    yield from _replica_reasons(plan)
    if optimizer == "adam_cpu":
        yield from host_reasons(cluster)
    if why := lacking(plan.recipe, frozenset(cluster.device.flops), cluster.device.name):
        yield Reason("precision", why)
    domain = min(cluster.domain, cluster.n_devices)
    if plan.rank_order[0] == "tp" and plan.tp > domain and plan.tp % domain:
        yield Reason(
            "placement",
            f"tp {plan.tp} neither fits in a domain of {domain} GPUs nor fills whole ones",
            {"tp": plan.tp, "domain": domain},
        )
    if plan.n_gpus > domain and cluster.node.nic is None:
        yield Reason(
            "network",
            f"{plan.n_gpus} GPUs span several {cluster.node.name}, which have no network",
            {"gpus": plan.n_gpus},
        )


def _replica_reasons(plan: TrainingPlan) -> Iterator[Reason]:
    copies, left = plan.dp_replicas, plan.dp // plan.dp_replicas
    if copies == 1:
        return
    numbers = {"dp": plan.dp, "dp_replicas": copies, "ep": plan.ep}
    if plan.dp % copies:
        near = nearest_divisors(plan.dp, copies)
        yield Reason("replicas", f"dp_replicas {copies} does not divide dp {plan.dp}; the nearest are {near}", numbers)
    elif left % plan.ep:
        yield Reason("replicas", f"dp / dp_replicas = {left} ranks do not divide by ep {plan.ep}", numbers)
    if plan.zero == 0:
        yield Reason("replicas", f"dp_replicas {copies}, but zero 0 divides no states: use zero 1, 2 or 3", numbers)
