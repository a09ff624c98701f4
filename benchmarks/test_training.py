"""CPU-seconds of one pipelined step: its graph compiled, and replayed with new times.

Budget: 0.3 CPU-seconds for 16 devices, 8 chunks and 128 micro-batches (Llama 3 405B's pipeline, with more chunks).
"""

from __future__ import annotations

import resource
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import sim
from sim.explore import front_mask
from sim.hardware import ClusterSpec, load_cluster
from sim.models import load_model
from sim.plans import TrainingPlanSpec, TrainingSpace, load_training_engine
from sim.testing.training import equal_times
from sim.training import (
    SCHEDULES,
    Screen,
    TrainingPlans,
    TrainingStep,
    TrainingWorkload,
    job_metrics,
    pass_graph,
    replay,
    resolve_training,
)

LAYOUTS = [("1f1b", 16, 1, 128), ("interleaved", 16, 8, 128), ("zb_v", 16, 2, 128), ("dualpipe", 16, 1, 128)]


@pytest.mark.parametrize(("name", "stages", "chunks", "microbatches"), LAYOUTS)
@pytest.mark.parametrize("fresh", [True, False], ids=["compiled", "again"])
def test_step(cpu: BenchmarkFixture, name: str, stages: int, chunks: int, microbatches: int, fresh: bool) -> None:
    """A step whose layout is new, or met before."""
    schedule = SCHEDULES.get(name)()
    times = equal_times(stages * chunks, send_s=0.1)

    def run() -> float:
        if fresh:
            pass_graph.cache_clear()
        return replay(schedule, times, stages=stages, chunks=chunks, microbatches=microbatches).end_s

    cpu.pedantic(run, rounds=5, warmup_rounds=1)
    graph = pass_graph(schedule, stages=stages, chunks=chunks, microbatches=microbatches)
    cpu.extra_info["passes"] = graph.count
    cpu.extra_info["passes_per_cpu_s"] = graph.count / cpu.stats.stats.min


@pytest.mark.parametrize("fresh", [True, False], ids=["compiled", "again"])
@pytest.mark.parametrize("dp", [1, 128])
@pytest.mark.parametrize("straggler", [False, True], ids=["alike", "straggler"])
def test_large_job(cpu: BenchmarkFixture, dp: int, straggler: bool, fresh: bool) -> None:
    """A step of Llama 3 405B with tp8 pp16 and 128 micro-batches, on 128 GPUs or 16,384, metrics and memory included.

    Budget: 1 s; at most twice as long for all GPUs as for one replica, and four times where a device is slow.
    """
    model, engine = load_model("llama-3.1-405b"), load_training_engine("megatron-lm")
    things: dict[str, Any] = {
        "workload": TrainingWorkload(kind="training", global_batch=128 * dp, sequence_length=8192),
        "engine": engine,
        "cluster": load_cluster(ClusterSpec(node="dgx-h100", nodes=16 * dp)),
    }
    plan = resolve_training(TrainingPlanSpec(tp=8, pp=16, vpp=2, dp=dp, zero=1), model=model, **things)
    assert not isinstance(plan, tuple)
    slowdown = np.where(np.arange(16) == 3, 1.3, 1.0)

    def run() -> None:
        if fresh:
            pass_graph.cache_clear()
        step = TrainingStep(model, plan, **things)
        job_metrics(step)
        if straggler:
            step.replayed(slowdown=slowdown)

    cpu.pedantic(run, rounds=5, warmup_rounds=1)
    assert cpu.stats.stats.min < 1.0


def test_screen(cpu: BenchmarkFixture) -> None:
    """Analytic estimates of plans of a 70B model on 1,024 GPUs; budget: 100,000 plans per CPU-second."""
    things = {
        "model": load_model("llama-3-70b"),
        "workload": TrainingWorkload(kind="training", global_batch=1024, sequence_length=8192),
        "engine": load_training_engine("megatron-lm"),
        "cluster": load_cluster(ClusterSpec(node="dgx-h100", nodes=128)),
    }
    choices = product((1, 2, 4, 8), (1, 2, 4, 8, 16), (1, 2, 4), ("none", "selective", "full"), (0, 1, 2), (1, 5))
    specs = [
        TrainingPlanSpec(tp=tp, pp=pp, micro_batch=size, recompute=kind, zero=zero, vpp=vpp if pp > 1 else 1)
        for tp, pp, size, kind, zero, vpp in choices
    ]
    found = [resolve_training(spec, **things) for spec in specs]
    plans = [plan for plan in found if not isinstance(plan, tuple)] * 200
    screen = Screen(**things)
    cpu.pedantic(lambda: screen.estimate(plans), rounds=3, warmup_rounds=1)
    cpu.extra_info["plans"] = len(plans)
    cpu.extra_info["plans_per_cpu_s"] = len(plans) / cpu.stats.stats.min


WIDE = {
    "zero": (0, 1, 2, 3),
    "recompute": ("none", "selective", "operators", "full"),
    "recompute_every": (1, 2, 3, 5),
    "sp": (False, True),
    "overlap_dp": (False, True),
    "overlap_tp": (False, True),
}


@pytest.mark.parametrize("space", [{}, WIDE], ids=["default", "wide"])
def test_full_enumeration(cpu: BenchmarkFixture, space: dict[str, tuple[object, ...]]) -> None:
    """MT-NLG 530B on 2,240 A100s: all plans listed and screened, and the front of their estimates.

    Budget: 2 s with start-up. The front must be that of a comparison of every plan (in the wide space, of one in 101)
    with every other.
    """
    things = (
        load_model("mt-nlg-530b"),
        TrainingWorkload(kind="training", global_batch=2240, sequence_length=2048),
        load_training_engine("megatron-lm"),
        load_cluster(ClusterSpec(node="dgx-a100", nodes=280)),
    )

    def run() -> tuple[np.ndarray, np.ndarray, int]:  # type: ignore[type-arg]
        table, rejected = TrainingPlans(TrainingSpace(**space), *things).listed()  # type: ignore[arg-type]
        assert table is not None
        found = Screen(*things).estimate_table(table)
        costs = np.column_stack(found)[found.memory_bytes <= things[3].device.memory_bytes]
        return costs, front_mask(costs), len(table) + rejected.counts.total()

    costs, mask, count = cpu.pedantic(run, rounds=3, warmup_rounds=1)
    cpu.extra_info |= {"plans": count, "front": int(mask.sum()), "plans_per_cpu_s": count / cpu.stats.stats.min}
    for row in range(0, len(costs), 1 if len(costs) < 10_000 else 101):
        better = (costs <= costs[row]).all(axis=1) & (costs < costs[row]).any(axis=1)
        assert mask[row] == (not better.any())
    assert mask.any()


def test_search(cpu: BenchmarkFixture) -> None:
    """The whole search on MT-NLG 530B: listed, screened and the best 24 replayed."""
    scenario = sim.load("mt-nlg-530b-plans")
    found = cpu.pedantic(sim.search, args=(scenario,), rounds=1)
    assert found.recommended is not None
    cpu.extra_info["space"] = found.space


@pytest.mark.parametrize("options", [["--json"], ["--report"]], ids=["json", "report"])
def test_search_command(benchmark: BenchmarkFixture, options: list[str], tmp_path: Path) -> None:
    """The same as a command, start-up and HTML report included; budget: 2 CPU-seconds of the subprocess."""
    benchmark._timer = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    command = [sys.executable, "-m", "sim", "search", "mt-nlg-530b-plans", "--out", str(tmp_path), *options]
    benchmark.pedantic(
        subprocess.run, args=(command,), kwargs={"capture_output": True, "check": True}, rounds=3, warmup_rounds=1
    )
