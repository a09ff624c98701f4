"""Law 6: what is folded into one engine gives the times of its parts simulated apart."""

from collections.abc import Sequence

import numpy as np
import pytest

from sim.models import sequence_operators, token_operators
from sim.serving import CompiledCost, EngineLimits, OpenLoop, RequestLog, ServingRun, StageCosts, serve
from sim.testing.scenarios import plan_runner, resolved_plan, small_scenario
from sim.testing.serving import AffineCost, check_run

MOE = "deepseek-v2-lite"
_TIMES = ("arrival_s", "scheduled_s", "first_s", "finish_s")


def traffic(seed: int, count: int, rate: float) -> tuple[list[int], list[int], list[float]]:
    """Prompts of up to 400 and outputs of up to 80 tokens, Poisson arrivals."""
    rng = np.random.default_rng(seed)
    arrival_s = np.cumsum(rng.exponential(1 / rate, count))
    return rng.integers(1, 401, count).tolist(), rng.integers(1, 81, count).tolist(), arrival_s.tolist()


def served(
    prompts: Sequence[int], outputs: Sequence[int], arrival_s: Sequence[float], *, times: int = 1, **how: object
) -> ServingRun:
    """A run in which every request comes `times` times at once."""
    log = RequestLog(np.repeat(prompts, times), np.repeat(outputs, times))
    run = serve(log, OpenLoop(np.repeat(arrival_s, times)), **how)  # type: ignore[arg-type]
    check_run(run)
    return run


def assert_each_copy_equals(folded: ServingRun, alone: ServingRun, times: int) -> None:
    for column in _TIMES:
        expected = np.repeat(np.asarray(getattr(alone.log, column)), times)
        np.testing.assert_allclose(np.asarray(getattr(folded.log, column)), expected, rtol=1e-9)


def compiled(stages: Sequence[StageCosts], dp: int) -> CompiledCost:
    runner = plan_runner(small_scenario({"model": MOE, "workload.requests": 2}))
    return CompiledCost(
        runner.things.model,
        stages,
        dp=dp,
        max_sequences=32,
        token_budget=4096,
        max_context=1024,
        timing=runner._timing(resolved_plan(runner)),
    )


@pytest.mark.parametrize("dp", [2, 4])
@pytest.mark.parametrize("rate", [3.0, 30.0])
@pytest.mark.parametrize("ahead", [False, True])
def test_ranks_in_lock_step_equal_one_of_them(dp: int, rate: float, ahead: bool) -> None:
    """With every request once per rank, each rank of the folded engine does what one does alone with its own cost.

    Prompts fit the budget whole, so that all ranks split them alike.
    """
    runner = plan_runner(small_scenario({"model": MOE, "workload.requests": 2}))
    stages = runner._stages(resolved_plan(runner, dp=dp, ep=dp))
    prompts, outputs, arrival_s = traffic(4, 60, rate)

    def limits(ranks: int) -> EngineLimits:
        return EngineLimits(32 * ranks, 4096 * ranks, 4096, 2000 * ranks, block_tokens=16, schedule_ahead=ahead)

    alone = served(prompts, outputs, arrival_s, costs=[compiled(stages, 1)], limits=limits(1))
    folded = served(prompts, outputs, arrival_s, times=dp, costs=[compiled(stages, dp)], limits=limits(dp))
    assert_each_copy_equals(folded, alone, dp)
    assert folded.replicas[0].peak_running == dp * alone.replicas[0].peak_running
    assert folded.replicas[0].kv.peak == dp * alone.replicas[0].kv.peak


@pytest.mark.parametrize("pp", [2, 4])
def test_a_full_pipeline_cycle_is_stages_times_the_slowest(pp: int) -> None:
    """With a micro-batch per stage, a cycle lets each of `pp` pass the slowest stage once, whatever the others take."""
    runner = plan_runner(small_scenario({"workload.requests": 2}))
    plan = resolved_plan(runner, pp=pp)
    cost, stages, model = runner.compiled(plan), runner._stages(plan), runner.things.model
    for lane in (8, 64):
        at = np.array([float(lane)])
        times = [
            float(s.costs.total_s([*token_operators(model, s.shard, at), *sequence_operators(model, s.shard, at)])[0])
            for s in stages
        ]
        assert cost.base(pp * lane, [])[0] == pytest.approx(pp * max(times), rel=1e-9)
        assert cost.base(pp * lane, [])[0] > sum(times), "the last stage also has the LM head"
        row = cost.decode_row(0, pp * lane)
        alone = runner.compiled(resolved_plan(runner, pp=1)).decode_row(0, lane)
        # Equal stages: `pp` times the attention layers of one are those of the whole model.
        mean = np.array([100.0, 1000.0])
        np.testing.assert_allclose(
            np.interp(mean * pp * lane, row.breaks, row.values_s),
            np.interp(mean * lane, alone.breaks, alone.values_s),
            rtol=1e-9,
        )


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("blocks", [60, 4000])
def test_replicas_that_share_a_traffic_evenly_equal_one(replicas: int, blocks: int) -> None:
    """Round robin over N-fold traffic gives every replica the single traffic, preemptions included."""
    prompts, outputs, arrival_s = traffic(9, 80, 6.0)
    limits = EngineLimits(12, 256, 256, kv_blocks=blocks, block_tokens=16)
    cost = AffineCost((None, 96))
    one = served(prompts, outputs, arrival_s, costs=[cost], limits=limits)
    many = served(prompts, outputs, arrival_s, times=replicas, costs=[cost] * replicas, limits=limits)
    assert_each_copy_equals(many, one, replicas)
    assert many.log.preemptions == np.repeat(one.log.preemptions, replicas).tolist()
    assert many.log.replica == list(range(replicas)) * len(prompts)
    assert (sum(one.log.preemptions) > 0) == (blocks == 60)
