"""What a run did beside its requests: work, bytes, energy and where the time went, from the leaps of its replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from sim.hardware import Device, power_w, resting_w
from sim.models import (
    ModelSpec,
    attention_flops_per_key,
    kv_bytes_per_token_rank,
    model_flops_per_token,
    state_bytes_rank,
    state_flops_per_token,
)
from sim.plans import ResolvedPlan
from sim.results import RunFacts
from sim.scenario.assemble import Assembled
from sim.serving import CompiledCost, ServingRun


@dataclass(frozen=True)
class _Work:
    """What the engines of a pool did together.

    Attributes:
        flops: Matrix FLOPs.
        moved_bytes: Bytes of weights and KV read.
        energy_j: Energy of their GPUs [J].
    """

    flops: float
    moved_bytes: float
    energy_j: float


def run_facts(
    things: Assembled,
    plan: ResolvedPlan,
    outcome: ServingRun,
    costs: Sequence[CompiledCost],
    frames: Sequence[pd.DataFrame],
) -> RunFacts:
    """The facts of a run.

    Args:
        things: Its scenario.
        plan: Its plan.
        outcome: What happened.
        costs: Iteration cost of each pool of the plan.
        frames: Leaps of every replica, those of the first pool first.
    """
    device = things.cluster.device.at_clock(plan.clock)
    total_s = outcome.duration_s * plan.n_replicas
    work, parts, start = [], dict[str, float](), 0
    for pool, cost in zip(plan.pools, costs, strict=True):
        leaps = pd.concat(frames[start : start + pool.replicas], ignore_index=True)
        start += pool.replicas
        work.append(_work(things.model, device, pool, leaps, cost, duration_s=outcome.duration_s))
        for cause, seconds in cost.causes_s(leaps).items():
            parts[cause] = parts.get(cause, 0.0) + seconds
    flops, moved_bytes, energy_j = (sum(getattr(one, field.name) for one in work) for field in fields(_Work))
    return RunFacts(
        n_gpus=plan.n_gpus,
        n_replicas=plan.n_replicas,
        duration_s=outcome.duration_s,
        usd_per_gpu_hour=things.cluster.usd_per_device_hour,
        energy_j=energy_j,
        matrix_flops=flops,
        memory_bytes=moved_bytes,
        peak_flops=device.compute_rate(plan.compute_dtype)[0],
        peak_bytes_per_s=device.memory_bytes_per_s,
        kv_cache_tokens=sum(pool.kv_tokens * pool.dp * pool.replicas for pool in plan.pools),
        preemptions=sum(record.preemptions for record in outcome.records),
        busy={**parts, "idle": max(0.0, total_s - sum(parts.values()))},
        prefix_caching=plan.prefix_caching and things.requests.blocks is not None,
        warmup_s=things.scenario.spec.workload.warmup,
    )


def _work(
    model: ModelSpec, device: Device, pool: ResolvedPlan, leaps: pd.DataFrame, cost: CompiledCost, *, duration_s: float
) -> _Work:
    steps = leaps["iterations"].to_numpy(dtype=np.float64)
    triangle = 0.5 * steps * (steps - 1)
    busy = float((steps * leaps["first_s"] + leaps["growth_s"] * triangle).sum())
    decoded_keys = float((steps * leaps["attended"] + leaps["attended_growth"] * triangle).sum())
    prompt_keys = float(leaps["prompt_attended"].sum())
    width = pool.step_tokens
    tokens = float((steps * leaps["decoding"] * width + leaps["prompt_tokens"]).sum())
    rows = float((steps * (leaps["decoding"] * width + leaps["prompts"])).sum())
    per_token, per_row = model_flops_per_token(model)
    per_token += state_flops_per_token(model)
    keys = decoded_keys * width + prompt_keys
    flops = tokens * per_token + rows * per_row + keys * attention_flops_per_key(model)
    per_rank = sum(kv_bytes_per_token_rank(model, shard) for shard in pool.shards)
    states = 2.0 * sum(state_bytes_rank(model, shard) for shard in pool.shards)  # read and written
    decoded = float((steps * leaps["decoding"]).sum())
    # copies of KV heads and of latents are read by every rank
    kv_bytes = (decoded_keys * per_rank + decoded * states) * pool.tp
    moved = cost.bytes_per_gpu(leaps) * pool.gpus_per_replica + kv_bytes
    peak_flops, _ = device.compute_rate(pool.compute_dtype)
    gpu_s = duration_s * pool.replicas * pool.gpus_per_replica
    return _Work(flops, moved, _energy_j(device, gpu_s, busy * pool.gpus_per_replica, flops / peak_flops, moved))


def _energy_j(device: Device, gpu_s: float, busy_gpu_s: float, compute_gpu_s: float, moved_bytes: float) -> float:
    """Energy of all GPUs [J]: power at the mean utilisation while busy, that of a loaded GPU at rest otherwise."""
    idle_gpu_s = max(0.0, gpu_s - busy_gpu_s)
    if busy_gpu_s == 0:
        return resting_w(device) * idle_gpu_s
    busy_w = power_w(
        device,
        compute_frac=np.asarray(min(1.0, compute_gpu_s / busy_gpu_s)),
        memory_frac=np.asarray(min(1.0, moved_bytes / device.memory_bytes_per_s / busy_gpu_s)),
    )
    return float(busy_w) * busy_gpu_s + resting_w(device) * idle_gpu_s
