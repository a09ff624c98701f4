"""All plans of a space that could make sense on a cluster, in a fixed order and without repetition.

Ranges of fields left open:

- `tp`: powers of two up to the GPUs of a scale-up domain;
- `pp`: powers of two up to 8, the number of layers and the GPUs left (1 if the engine has no pipeline);
- `dp`: powers of two up to the GPUs left for models with experts where the engine allows it, else 1;
- `ep`: what the engine allows of the divisors of `dp x tp` (vLLM: 1, or all ranks); `moe_tp` is the rest;
- `replicas`: every number up to the most that fit, beyond 16 only powers of two and the most that fit, so that plans
  which use part of the cluster are seen too;
- `max_num_seqs`: 64, 256 and the engine's default; `max_num_batched_tokens`: 2048, 8192 and the engine's default, as
  far as the budget covers the sequences;
- formats: the checkpoint's and the engine's default for the cache; everything else: the default only.

Values that a user lists are all tried, also where they cannot run, so that a search can say why. Limits come in
ascending order, however listed: of plans that are alike otherwise, the later one has the wider limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from sim.hardware import Cluster
from sim.models import ModelSpec
from sim.plans.engine import EngineSpec
from sim.plans.placement import place
from sim.plans.resolver import default_limits, default_share
from sim.plans.spec import PlanSpace, PlanSpec

_DEEPEST_PIPELINE = 8
_ALL_REPLICAS = 16
_SEQUENCES = (64, 256)
_BUDGETS = (2048, 8192)


def enumerate_plans(
    model: ModelSpec, engine: EngineSpec, cluster: Cluster, space: PlanSpace | None = None
) -> Iterator[PlanSpec]:
    """Plans of the space, every field of `PlanSpec` filled in but `max_model_len` and what the engine works out.

    Args:
        model: The model.
        engine: The engine profile.
        cluster: The cluster; plans may use part of it.
        space: Values to try; None for the default ranges of all fields.
    """
    space = space or PlanSpace()
    limits = list(_limits(engine, cluster, space))
    rest = list(
        product(
            space.weights_dtype or (model.weights_dtype,),
            space.kv_dtype or (engine.kv_dtype,),
            space.max_model_len or (None,),
            sorted(space.kv_memory_frac) if space.kv_memory_frac else (default_share(engine),),
            space.clock or (1.0,),
            space.router or (engine.router,),
            space.scheduler or (engine.scheduler,),
        )
    )
    for tp, pp, dp, ep, moe_tp, replicas in _ranks(model, engine, cluster, space):
        for (weights, kv, length, frac, clock, router, scheduler), (sequences, tokens) in product(rest, limits):
            yield PlanSpec.model_construct(
                replicas=replicas,
                dp=dp,
                tp=tp,
                pp=pp,
                cp=1,
                ep=ep,
                moe_tp=moe_tp,
                max_num_seqs=sequences,
                max_num_batched_tokens=tokens,
                max_model_len=length,
                kv_memory_frac=frac,
                weights_dtype=weights,
                kv_dtype=kv,
                clock=clock,
                router=router,
                scheduler=scheduler,
            )


def _ranks(
    model: ModelSpec, engine: EngineSpec, cluster: Cluster, space: PlanSpace
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """`(tp, pp, dp, ep, moe_tp, replicas)` of the space."""
    devices = cluster.n_devices
    domain = min(cluster.domain, devices)
    for tp in space.tp or _powers_of_two(domain):
        for pp in space.pp or _stages(model, engine, devices // tp):
            for dp in space.dp or _data_parallel(model, engine, devices // (tp * pp)):
                most = place(cluster, tp=tp, dp=dp, pp=pp).max_replicas
                if most == 0 and not _asked_for(space, tp=tp, pp=pp, dp=dp):
                    continue
                for ep in _expert_ranks(model, engine, space, dp * tp):
                    moe_tp = dp * tp // ep if model.is_moe else 1
                    for replicas in space.replicas or _replicas(most):
                        yield tp, pp, dp, ep, moe_tp, replicas


def _asked_for(space: PlanSpace, *, tp: int, pp: int, dp: int) -> bool:
    """Whether every degree above 1 was listed by the user, who is then told that it cannot be placed."""
    listed = ((space.tp, tp), (space.pp, pp), (space.dp, dp))
    return all(values is not None or degree == 1 for values, degree in listed)


def _powers_of_two(most: int) -> list[int]:
    return [1 << i for i in range(max(1, most).bit_length())]


def _stages(model: ModelSpec, engine: EngineSpec, left: int) -> list[int]:
    if not engine.supports.pipeline:
        return [1]
    return _powers_of_two(min(left, model.n_layers, _DEEPEST_PIPELINE))


def _data_parallel(model: ModelSpec, engine: EngineSpec, left: int) -> list[int]:
    allowed = engine.supports.attention_dp
    return _powers_of_two(left) if allowed == "all" or (allowed == "moe" and model.is_moe) else [1]


def _expert_ranks(model: ModelSpec, engine: EngineSpec, space: PlanSpace, ranks: int) -> Sequence[int]:
    if not model.is_moe:
        return (1,)
    if space.ep is not None:
        return [ep for ep in space.ep if ranks % ep == 0]
    allowed = engine.supports.expert_parallel
    if allowed == "any":
        return [ep for ep in range(1, ranks + 1) if ranks % ep == 0]
    return (1, ranks) if allowed == "all_or_none" and ranks > 1 else (1,)


def _replicas(most: int) -> list[int]:
    if most <= _ALL_REPLICAS:
        return list(range(1, max(1, most) + 1))
    return sorted({*_powers_of_two(most), most})


def _limits(engine: EngineSpec, cluster: Cluster, space: PlanSpace) -> Iterator[tuple[int, int]]:
    """`(max_num_seqs, max_num_batched_tokens)` to try."""
    sequences, tokens = default_limits(engine, cluster.device)
    both_listed = space.max_num_seqs is not None and space.max_num_batched_tokens is not None
    for pair in product(
        sorted(space.max_num_seqs or {*_SEQUENCES, sequences}),
        sorted(space.max_num_batched_tokens or {*_BUDGETS, tokens}),
    ):
        if pair[0] <= pair[1] or both_listed:
            yield pair
