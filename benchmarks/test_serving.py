"""Requests per CPU-second through simulated replicas, with leaps and without.

Budgets: 30,000 requests/s through one replica with leaps on a decode-heavy trace; the whole Azure trace on one 8-GPU
plan in under 2 CPU-seconds; a million requests over 64 replicas in under 60 CPU-seconds and 1.5 GB.
"""

from __future__ import annotations

import resource

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import sim
from sim.plans import ResolvedPlan, require
from sim.scenario import PlanRunner, Scenario, assemble


def prepared(scenario: Scenario) -> tuple[PlanRunner, ResolvedPlan]:
    """A runner with the scenario's traffic, and its plan, compiled."""
    things = assemble(scenario, seed=0)
    plan = require(scenario.spec.plan, model=things.model, engine=things.engine, cluster=things.cluster)
    runner = PlanRunner(things, seed=0)
    runner.compiled(plan)
    return runner, plan


def decode_heavy(requests: int, *, rate: float, nodes: int = 1, replicas: int = 1) -> Scenario:
    """Short prompts and answers of some 480 tokens: nearly all iterations only decode."""
    lengths = {"kind": "lognormal", "median": 400, "sigma": 0.6, "min": 16, "max": 2048}
    traffic = {
        "name": "decode-heavy",
        "arrivals": {"kind": "poisson", "rate": rate},
        "lengths": {"kind": "joint", "input": {"kind": "constant", "value": 32}, "output": lengths},
    }
    return sim.load(
        {
            "name": "decode-heavy",
            "model": "llama-3.1-8b",
            "cluster": {"node": "dgx-h100", "nodes": nodes},
            "plan": {"tp": 1, "replicas": replicas},
            "workload": {"traffic": traffic, "requests": requests},
        }
    )


@pytest.mark.parametrize("leap", [True, False], ids=["leaps", "single-steps"])
@pytest.mark.parametrize("load", [2.0, 12.0], ids=["light", "busy"])
def test_decode_heavy(cpu: BenchmarkFixture, leap: bool, load: float) -> None:
    runner, plan = prepared(decode_heavy(20_000, rate=load))
    outcome = cpu.pedantic(runner.simulate, args=(plan,), kwargs={"leap": leap}, rounds=3, warmup_rounds=1)
    events = len(outcome.records[0])
    cpu.extra_info["requests_per_cpu_s"] = len(outcome.log) / cpu.stats.stats.min
    cpu.extra_info["events_per_request"] = events / len(outcome.log)


def test_azure_trace_on_eight_gpus(cpu: BenchmarkFixture, azure_trace: str) -> None:
    scenario = sim.load("llama3-70b-azure-conv", overrides=[f"workload.trace.path={azure_trace}"])
    runner, plan = prepared(scenario)
    result = cpu.pedantic(runner.evaluate, args=(plan,), rounds=3, warmup_rounds=1)
    assert result.metrics["requests"]["finished"] == 19366
    cpu.extra_info["requests_per_cpu_s"] = 19366 / cpu.stats.stats.min


def test_a_million_requests_over_64_replicas(cpu: BenchmarkFixture) -> None:
    runner, plan = prepared(decode_heavy(1_000_000, rate=500.0, nodes=8, replicas=64))
    outcome = cpu.pedantic(runner.simulate, args=(plan,), rounds=1)
    assert min(outcome.log.finish_s) > 0
    cpu.extra_info["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
