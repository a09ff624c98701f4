"""CPU-seconds of one pipelined step: its graph compiled, and replayed with new times.

Budget: 0.3 CPU-seconds for 16 devices, 8 chunks and 128 micro-batches (Llama 3 405B's pipeline, with more chunks).
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sim.testing.training import equal_times
from sim.training import SCHEDULES, pass_graph, replay

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
