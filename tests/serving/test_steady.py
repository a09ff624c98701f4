"""Steady-state curves of the analytic screen against the exact compiled cost, on real models and shipped hardware."""

from functools import cache

import numpy as np
import pytest

from sim.hardware import resting_w
from sim.plans import ResolvedPlan
from sim.scenario import PlanRunner
from sim.serving import CompiledCost, OpenLoop, RequestLog, serve
from sim.testing.scenarios import plan_runner, resolved_plan, small_scenario

CASES: dict[str, tuple[str, str, dict[str, int]]] = {
    "dense": ("llama-3.1-8b", "dgx-h100-1", {"tp": 2}),
    "windows and experts": ("gpt-oss-20b", "dgx-h100-1", {}),
    "latent attention": ("deepseek-v2-lite", "dgx-h200-1", {"tp": 2}),
    "dp with experts": ("qwen3-30b-a3b", "dgx-h200-1", {"dp": 4, "ep": 4}),
    "two stages": ("llama-3.1-8b", "dgx-h100-1", {"pp": 2}),
    "small": ("qwen2.5-0.5b", "l40s-1", {}),
    "paced by the host": ("qwen2.5-0.5b", "dgx-h100-1", {"pp": 2}),
}
BUDGET = 2048


@cache
def case(name: str) -> tuple[PlanRunner, ResolvedPlan, CompiledCost]:
    model, cluster, ranks = CASES[name]
    runner = plan_runner(small_scenario({"model": model, "cluster": cluster, "workload.requests": 2}))
    plan = resolved_plan(runner, **ranks, max_num_seqs=256, max_num_batched_tokens=BUDGET)
    return runner, plan, runner.compiled(plan)


def decode_s(cost: CompiledCost, sequences: int, context: float) -> float:
    """One decode iteration of `sequences` that each attend to `context` tokens."""
    seconds = cost.base(sequences, [])[0]
    for kind, window in enumerate(cost.windows):
        row = cost.decode_row(kind, sequences)
        attended = sequences * (context if window is None else min(context, window))
        seconds += float(np.interp(attended, row.breaks, row.values_s))
    added, least = cost.host(sequences)
    return max(seconds + added, least)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("context", [200.0, 1500.0])
def test_decode_cycles_agree(name: str, context: float) -> None:
    """Within a few percent at any batch; at captured graph sizes, where nothing is padded, much closer."""
    runner, plan, cost = case(name)
    curves, groups = runner.steady(plan, context=context), plan.dp * plan.pp
    for share, tolerance in [(1, 0.005), (4, 0.005), (17, 0.06), (32, 0.005), (60, 0.02), (128, 0.005), (250, 0.02)]:
        exact = decode_s(cost, share * groups, context)
        assert float(curves.decode_s(np.array(float(share)))) == pytest.approx(exact, rel=tolerance)


@pytest.mark.parametrize("sequences", [1, 8, 100])
def test_batches_are_padded_as_in_the_exact_cost(sequences: int) -> None:
    """One graph of 128 tokens makes small batches as slow as 128 tokens, in the screen too."""
    runner = case("dp with experts")[0]
    plain, padded = (
        resolved_plan(runner, dp=2, tp=1, max_num_seqs=256, max_num_batched_tokens=BUDGET, **graphs)
        for graphs in ({}, {"graph_sizes": (128,)})
    )
    exact = decode_s(runner.compiled(padded), 2 * sequences, 200.0)
    found, other = (
        float(runner.steady(plan, context=200.0).decode_s(np.array(float(sequences)))) for plan in (padded, plain)
    )
    assert found == pytest.approx(exact, rel=0.02)
    assert found > other


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("prompt", [100, 1000, 6000])
def test_the_first_token_of_a_lone_request_agrees(name: str, prompt: int) -> None:
    runner, plan, cost = case(name)
    log = RequestLog([prompt], [1])
    serve(log, OpenLoop(np.zeros(1)), costs=[cost], limits=runner._limits(plan))
    curves = runner.steady(plan, context=200.0)
    assert float(curves.alone_s(float(prompt), np.array(float(BUDGET)))) == pytest.approx(log.first_s[0], rel=0.1)


@pytest.mark.parametrize("name", CASES)
def test_a_prompt_adds_no_more_beside_decodes_than_it_takes_alone(name: str) -> None:
    """Beside decodes every data-parallel rank has one, whose experts serve all of them; alone there is one prompt."""
    runner, plan, _ = case(name)
    curves = runner.steady(plan, context=200.0)
    chunks = np.array([256.0, 512.0, 2048.0, 8192.0])
    added = np.array([curves.prompt_s(float(n), chunks) for n in (100, 1000, 6000)])
    alone = np.array([curves.alone_s(float(n), chunks) for n in (100, 1000, 6000)])
    assert (added > 0).all()
    assert (added < plan.dp * alone).all()
    assert (np.diff(added, axis=0) > 0).all(), "longer prompts take longer"


@pytest.mark.parametrize("name", CASES)
def test_curves_rise_with_batch_and_context(name: str) -> None:
    runner, plan, _ = case(name)
    batch = np.array([1.0, 3.0, 10.0, 100.0, 1000.0])
    short, long = (runner.steady(plan, context=context).decode_s(batch) for context in (100.0, 4000.0))
    assert (np.diff(short) > 0).all()
    assert (np.diff(short / batch) < 0).all(), "a token is cheaper in a larger batch"
    assert (long >= short).all()
    assert long[-1] > short[-1], "large batches are not paced by the host"


@pytest.mark.parametrize("name", CASES)
def test_busy_power_lies_between_idle_and_peak(name: str) -> None:
    runner, plan, _ = case(name)
    curves, device = runner.steady(plan, context=500.0), runner.things.cluster.device
    assert curves.idle_w == resting_w(device)
    assert curves.idle_w < curves.busy_w < device.peak_w
