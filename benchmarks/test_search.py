"""Plans per CPU-second through the analytic screen, and a whole search on the recorded trace.

Budgets: 10,000 plans/s screened; the search of Llama-3.1-70B on eight H100s with the Azure trace under 60 CPU-seconds
and 1 GB.
"""

from __future__ import annotations

import resource

from pytest_benchmark.fixture import BenchmarkFixture

import sim
from sim.explore import screen
from sim.plans import ResolvedPlan, Resolver, enumerate_plans
from sim.scenario import PlanRunner, assemble


def test_screen(cpu: BenchmarkFixture) -> None:
    """Every plan of a 70B model on four nodes, two formats and four clocks: enumerated, weighed and screened."""
    space = "{weights_dtype: [bf16, fp8], clock: [0.7, 0.8, 0.9, 1.0], max_num_seqs: [32, 64, 128, 256, 512]}"
    scenario = sim.load("llama3-70b-azure-conv", overrides=["cluster.nodes=4", f"search.space={space}"])
    things = assemble(scenario, seed=0)

    def run() -> int:
        runner = PlanRunner(things, seed=0)
        resolver = Resolver(model=things.model, engine=things.engine, cluster=things.cluster)
        plans = enumerate_plans(things.model, things.engine, things.cluster, scenario.spec.search.space)
        found = [resolver.resolve(plan) for plan in plans]
        feasible = [plan for plan in found if isinstance(plan, ResolvedPlan)]
        screen(feasible, things, runner=runner, slo=scenario.spec.slo)
        return len(found)

    count = cpu.pedantic(run, rounds=3, warmup_rounds=1)
    cpu.extra_info["plans"] = count
    cpu.extra_info["plans_per_cpu_s"] = count / cpu.stats.stats.min


def test_search_on_the_azure_trace(cpu: BenchmarkFixture, azure_trace: str) -> None:
    scenario = sim.load("llama3-70b-azure-conv", overrides=[f"workload.trace.path={azure_trace}"])
    found = cpu.pedantic(sim.search, args=(scenario,), rounds=1)
    assert found.recommended is not None
    cpu.extra_info["space"] = found.space
    cpu.extra_info["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
