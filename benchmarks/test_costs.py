"""Compiling the cost tables of a plan. Budget: 50 ms once a device's kernel tables are read, with either source."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sim.plans import require
from sim.scenario import PlanRunner, assemble
from sim.testing.scenarios import small_scenario


@pytest.mark.parametrize("model", ["llama-3.1-70b", "deepseek-ai/DeepSeek-V3"])
@pytest.mark.parametrize("costs", ["analytic", "measured"])
def test_compile(cpu: BenchmarkFixture, costs: str, model: str) -> None:
    if costs == "measured" and find_spec("aiconfigurator_core") is None:
        pytest.skip("aiconfigurator-core is not installed")
    node = "dgx-h200" if "DeepSeek" in model else "dgx-h100"
    values = {"model": model, "cluster": {"node": node, "nodes": 1}, "plan.tp": 8, "costs": costs, "engine": "trtllm"}
    things = assemble(small_scenario(values), seed=0)
    plan = require(things.scenario.spec.plan, model=things.model, engine=things.engine, cluster=things.cluster)

    def compile_tables() -> int:
        cost = PlanRunner(things, seed=0).compiled(plan)
        return len([cost.base(1, ()), *(cost.decode_row(kind, 1) for kind in range(len(cost.windows)))])

    assert cpu.pedantic(compile_tables, rounds=5, warmup_rounds=1) > 1
