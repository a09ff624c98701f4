"""From a step to a job: rates, energy, money, and the time to train so many tokens, checkpoints included."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sim.hardware import power_w
from sim.models import compute_dtype
from sim.training.flops import recomputed_flops, training_flops
from sim.training.memory import available_bytes
from sim.training.step import COMM_CAUSES, TrainingStep

_STREAM_CAUSES = ("norm_activation", "optimizer")
"""Causes during which memory is what is busy."""
_HOUR_S = 3600.0


def job_metrics(step: TrainingStep) -> dict[str, float | int | None]:
    """Every metric of a training run, by the names of `sim.results.METRICS`; None where it is not known."""
    times, plan, workload = step.times, step.plan, step.workload
    gpus, step_s = plan.n_gpus, times.step_s
    tokens = float(workload.global_batch * workload.sequence_length)
    model_flops = workload.global_batch * training_flops(
        step.model,
        sequence=workload.sequence_length,
        attention=workload.mfu_attention,
        adapters=plan.adapters,
        encoder=plan.encoder,
    )
    again_flops = workload.global_batch * recomputed_flops(
        step.model,
        sequence=workload.sequence_length,
        kind=plan.recompute,
        every=plan.recompute_every,
        attention=workload.mfu_attention,
    )
    peak_flops, _ = step.device.compute_rate(compute_dtype(plan.recipe.dtype))
    energy_j = _step_energy_j(step)
    exposed = {f"exposed_{cause}_frac": times.parts_s.get(cause, 0.0) / step_s for cause in COMM_CAUSES}
    found: dict[str, float | int | None] = {
        "step_time_s": step_s,
        "tokens_per_s_per_gpu": tokens / step_s / gpus,
        "samples_per_s_per_gpu": workload.global_batch / step_s / gpus,
        "model_tflops_per_gpu": model_flops / step_s / gpus / 1e12,
        "mfu_frac": model_flops / step_s / gpus / peak_flops,
        "hfu_frac": (model_flops + again_flops) / step_s / gpus / peak_flops,
        "bubble_frac": times.bubble_s / step_s,
        "bubble_over_ideal": times.bubble_s / times.busy_s,
        "exposed_comm_frac": times.exposed_comm_s / step_s,
        **exposed,
        "peak_memory_bytes": step.peak_memory.allocated_bytes,
        "memory_headroom_bytes": available_bytes(step.device, step.engine) - step.peak_memory.allocated_bytes,
        "energy_j": energy_j,
        "energy_j_per_token": energy_j / tokens,
        "n_gpus": gpus,
    }
    return {**found, **_job(step, tokens, energy_j)}


def goodput_frac(step: TrainingStep) -> float:
    """Share of the wall time that makes steps: all but checkpoints, which are a fixed cost every so many steps."""
    checkpoint = step.workload.checkpoint
    if checkpoint is None:
        return 1.0
    steps_s = checkpoint.every_steps * step.times.step_s
    return steps_s / (steps_s + checkpoint.time)


def _job(step: TrainingStep, tokens_per_step: float, step_energy_j: float) -> Mapping[str, float | None]:
    """Cost of a token, and time, money and energy of all tokens where the job says how many."""
    goodput = goodput_frac(step)
    per_hour = step.cluster.usd_per_device_hour
    usd_per_hour = None if per_hour is None else per_hour * step.plan.n_gpus
    tokens_per_s = tokens_per_step / step.times.step_s * goodput
    cost = None if usd_per_hour is None else usd_per_hour / _HOUR_S / tokens_per_s * 1e6
    total_s, total_j = _whole_job(step, step_energy_j)
    total_usd = None if total_s is None or usd_per_hour is None else total_s / _HOUR_S * usd_per_hour
    return {
        "goodput_frac": goodput,
        "checkpoint_loss_frac": 1.0 - goodput,
        "cost_usd_per_million_tokens": cost,
        "usd_per_hour": usd_per_hour,
        "training_time_s": total_s,
        "training_cost_usd": total_usd,
        "training_energy_j": total_j,
    }


def _whole_job(step: TrainingStep, step_energy_j: float) -> tuple[float | None, float | None]:
    """Time [s] and energy [J] of all tokens, a ramp and checkpoints included; None where they are not given."""
    workload, total_s, total_j = step.workload, 0.0, 0.0
    if workload.tokens is None:
        return None, None
    checkpoint = workload.checkpoint
    standing_s = 0.0 if checkpoint is None else checkpoint.time / checkpoint.every_steps
    for batch, steps in workload.parts(workload.tokens / workload.sequence_length):
        if steps > 0.0:
            one = step.at_batch(batch)
            total_s += steps * (one.times.step_s + standing_s)
            total_j += steps * (step_energy_j if one is step else _step_energy_j(one))
    return total_s, total_j


def _step_energy_j(step: TrainingStep) -> float:
    """Energy of all GPUs over a step [J]: power at the mean use of arithmetic and of memory."""
    times, gpus = step.times, step.plan.n_gpus
    peak_flops, _ = step.device.compute_rate(compute_dtype(step.plan.recipe.dtype))
    compute = min(1.0, times.hardware_flops / times.step_s / gpus / peak_flops)
    memory = min(1.0, sum(times.parts_s.get(cause, 0.0) for cause in _STREAM_CAUSES) / times.step_s)
    watts = power_w(step.device, compute_frac=np.asarray(compute), memory_frac=np.asarray(memory))
    return float(watts) * times.step_s * gpus
