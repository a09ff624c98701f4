"""What a user may say about a training plan: how a model, its states and its micro-batches are laid out. Data only.

Whatever is left open takes the engine's default in `sim.training.plan`, which also says why a plan cannot run.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from sim.core import Frac, PowerW, Spec

Count = Annotated[int, Field(ge=1)]
Recompute = Literal["none", "selective", "cheap", "operators", "full"]
ZeroStage = Annotated[int, Field(ge=0, le=3)]
ContextKind = Literal["all_gather", "ring", "token_ring", "ulysses"]
WideDtype = Literal["bf16", "fp32"]
RankDimension = Literal["tp", "cp", "dp", "pp"]
RANK_DIMENSIONS: Final[tuple[RankDimension, ...]] = get_args(RankDimension)
"""Dimensions of ranks, in the order in which Megatron-LM and the other engines number them unless told otherwise."""


def rank_order(value: Any) -> Any:
    """A rank order from a list, or from text such as Megatron-LM's `tp-cp-ep-dp-pp`.

    Expert-parallel ranks are neighbours among the data-parallel ones, so `ep` may be named right before `dp`.

    Raises:
        ValueError: if it does not name each dimension once; says which order is near.
    """
    names = value.split("-") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError("a list of dimensions such as [tp, cp, dp, pp], or text such as tp-cp-dp-pp")
    kept = tuple(name for at, name in enumerate(names) if name != "ep" or tuple(names[at + 1 : at + 2]) != ("dp",))
    if sorted(kept) == sorted(RANK_DIMENSIONS):
        return kept
    known = [name for name in dict.fromkeys(kept) if name in RANK_DIMENSIONS]
    near = "-".join([*known, *(name for name in RANK_DIMENSIONS if name not in known)])
    raise ValueError(
        f"a rank order names each of {', '.join(RANK_DIMENSIONS)} once, fastest links first (and ep, if at all, right "
        f"before dp), not {'-'.join(names)}; the nearest that does is {near}"
    )


RankOrder = Annotated[tuple[RankDimension, ...], BeforeValidator(rank_order)]


class TrainingPlanSpec(Spec):
    """A training plan; a field left open takes the engine's default.

    The job has `dp x tp x pp x cp` GPUs, numbered in `rank_order`.

    Attributes:
        dp: Data-parallel ranks; all GPUs of the cluster that the other degrees leave.
        dp_replicas: Copies of the sharded states among the data-parallel ranks (hybrid sharding, HSDP): states are
            divided over `dp / dp_replicas` neighbours only; 1.
        tp: Tensor-parallel ranks; 1.
        sp: Sequence parallelism: norms and residuals divided over the tensor-parallel ranks.
        pp: Pipeline stages; 1.
        vpp: Model chunks per stage (virtual stages); 1.
        cp: Context-parallel ranks; 1.
        cp_zigzag: Whether each context-parallel rank has a slice from either end of the sequence, so that all attend to
            as many keys; otherwise the last rank has the most work.
        cp_kind: What context-parallel ranks exchange: keys and values, gathered before attention (`all_gather`) or
            passed around beside it (`ring`); queries and partial results, both ways around (`token_ring`); or heads
            for positions, before and after (`ulysses`).
        ep: Ranks that experts are spread over, a divisor of `dp`; 1.
        rank_order: Dimensions in the order in which ranks are numbered, tp, cp, dp, pp unless given: the first has
            neighbours for ranks, so it crosses the fastest links, and the last the slowest. Text as in Megatron-LM's
            `tp-cp-ep-dp-pp` will do.
        zero: What data-parallel ranks share: 0 nothing, 1 optimizer states, 2 also gradients, which are then reduced in
            every micro-batch, 3 also parameters (fully sharded data parallel).
        recompute: Activations computed again in the backward pass: none, those of the attention core (selective), of
            norms, activation functions and up-projections of latent attention (cheap, as DeepSeek-V3 does), every
            second product and all that moves only memory (operators, as TorchTitan selects them), or all of a layer but
            its input (full).
        recompute_every: With full recomputation, only one layer in so many keeps nothing but its input; 1 is all.
        micro_batch: Sequences of one micro-batch per data-parallel rank; 1.
        schedule: Name of the pipeline schedule.
        layers_per_stage: Layers of every virtual stage, first to last; absent, divided as evenly as they go, with the
            extra ones in the middle stages.
        grad_dtype: Format in which gradients are accumulated and reduced.
        overlap_dp: Whether gradient and parameter collectives run beside compute.
        prefetch: With sharded parameters and `overlap_dp`, layers gathered ahead of the one that computes: 0 gathers a
            layer when the one before it has ended (`BACKWARD_POST` of PyTorch's FSDP), 1 beside it (`BACKWARD_PRE`).
        overlap_p2p: Whether a stage computes while it sends.
        scatter_gather: Whether each tensor-parallel rank sends a share of what the next stage needs, which is gathered
            there; otherwise each sends all of it.
        overlap_tp: Whether tensor-parallel collectives are split in chunks that run beside their products;
            with sequence parallelism only.
        compiled: Whether a compiler fuses element-wise kernels.
        cuda_graphs: Whether the kernels of a layer are launched together, as one graph a pass.
        clock: GPU clock over the highest; 1.
        power_cap: Power that a GPU may draw in products at full rate, which sets its clock; memory keeps its speed, so
            a step with much traffic can draw more (`sim.hardware.power`).
    """

    dp: Count | None = None
    dp_replicas: Count | None = None
    tp: Count | None = None
    sp: bool | None = None
    pp: Count | None = None
    vpp: Count | None = None
    cp: Count | None = None
    cp_zigzag: bool | None = None
    cp_kind: ContextKind | None = None
    ep: Count | None = None
    rank_order: RankOrder | None = None
    zero: ZeroStage | None = None
    recompute: Recompute | None = None
    recompute_every: Count | None = None
    micro_batch: Count | None = None
    schedule: str | None = None
    layers_per_stage: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    grad_dtype: WideDtype | None = None
    overlap_dp: bool | None = None
    prefetch: Annotated[int, Field(ge=0)] | None = None
    overlap_p2p: bool | None = None
    scatter_gather: bool | None = None
    overlap_tp: bool | None = None
    compiled: bool | None = None
    cuda_graphs: bool | None = None
    clock: Annotated[Frac, Field(gt=0, le=1)] | None = None
    power_cap: PowerW | None = None

    @model_validator(mode="after")
    def _consistent(self) -> TrainingPlanSpec:
        if self.recompute_every is not None and self.recompute not in (None, "full"):
            raise ValueError(f"`recompute_every` goes with `recompute: full`, not {self.recompute}")
        stages = (self.pp or 1) * (self.vpp or 1)
        if self.layers_per_stage is not None and len(self.layers_per_stage) != stages:
            raise ValueError(
                f"`layers_per_stage` names {len(self.layers_per_stage)} stages, but pp x vpp is {stages}: give {stages}"
            )
        return self
