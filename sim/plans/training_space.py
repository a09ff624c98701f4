"""What a user may say about the training plans of a search: values to try per field. Data only."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from sim.core import PowerW, Spec
from sim.plans.spec import Counts, Names, Shares, one_or_more
from sim.plans.training import RANK_DIMENSIONS, ContextKind, RankOrder, Recompute, WideDtype, ZeroStage

_LIST = (Field(min_length=1), BeforeValidator(one_or_more))


def _orders(value: Any) -> Any:
    """A list of rank orders from one or several."""
    one = isinstance(value, str) or (isinstance(value, list) and value and all(n in RANK_DIMENSIONS for n in value))
    return [value] if one else value


RankOrders = Annotated[tuple[RankOrder, ...], Field(min_length=1), BeforeValidator(_orders)]
Switches = Annotated[tuple[bool, ...], *_LIST]
Powers = Annotated[tuple[PowerW, ...], *_LIST]


class TrainingSpace(Spec):
    """Values to try per field of a training plan, one or a list; see `TrainingPlanSpec` for their meaning.

    What is absent takes a range from model, cluster and engine (`sim.training.space`). Values that are listed are all
    tried, also where they cannot run, so that a search can say why.

    Attributes:
        dp: Data-parallel ranks.
        dp_replicas: Copies of the sharded states (hybrid sharding).
        tp: Tensor-parallel ranks.
        sp: Sequence parallelism.
        pp: Pipeline stages.
        vpp: Model chunks per stage.
        cp: Context-parallel ranks.
        cp_kind: What context-parallel ranks exchange; without any, all are alike and count once.
        ep: Expert-parallel ranks.
        rank_order: Orders in which ranks are numbered, one or a list of them; those alike for a plan count once.
        zero: What data-parallel ranks share.
        recompute: Activations computed again.
        recompute_every: With full recomputation, one layer in so many.
        micro_batch: Sequences of a micro-batch.
        schedule: Pipeline schedules.
        grad_dtype: Format of gradients.
        overlap_dp: Data-parallel collectives beside compute.
        overlap_p2p: Sends beside compute.
        overlap_tp: Tensor-parallel collectives beside compute.
        compiled: Fused kernels.
        cuda_graphs: Whether the kernels of a layer are launched as one graph, of all plans.
        clock: GPU clock over the highest.
        power_cap: Power that a GPU may draw in products at full rate, each of which sets a clock.
    """

    dp: Counts | None = None
    dp_replicas: Counts | None = None
    tp: Counts | None = None
    sp: Switches | None = None
    pp: Counts | None = None
    vpp: Counts | None = None
    cp: Counts | None = None
    cp_kind: Annotated[tuple[ContextKind, ...], *_LIST] | None = None
    ep: Counts | None = None
    rank_order: RankOrders | None = None
    zero: Annotated[tuple[ZeroStage, ...], *_LIST] | None = None
    recompute: Annotated[tuple[Recompute, ...], *_LIST] | None = None
    recompute_every: Counts | None = None
    micro_batch: Counts | None = None
    schedule: Names | None = None
    grad_dtype: Annotated[tuple[WideDtype, ...], *_LIST] | None = None
    overlap_dp: Switches | None = None
    overlap_p2p: Switches | None = None
    overlap_tp: Switches | None = None
    compiled: Switches | None = None
    cuda_graphs: bool | None = None
    clock: Shares | None = None
    power_cap: Powers | None = None

    @model_validator(mode="after")
    def _consistent(self) -> TrainingSpace:
        if self.recompute_every is not None and self.recompute is not None and "full" not in self.recompute:
            raise ValueError(f"`recompute_every` goes with `recompute: full`, not {', '.join(self.recompute)}")
        return self
