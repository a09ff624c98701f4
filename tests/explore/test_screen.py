"""The analytic screen against the simulation it stands in for."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from sim.explore import screen, search
from sim.explore.screen import TrafficMoments, proxy
from sim.plans import ResolvedPlan
from sim.scenario import PlanRunner
from sim.testing.scenarios import plan_runner, resolved_plan, small_scenario

GOODPUT = "goodput_max_requests_per_s_per_gpu"
TRAFFIC = {
    "name": "short",
    "arrivals": {"kind": "poisson", "rate": 1.0},
    "lengths": {
        "kind": "joint",
        "input": {"kind": "uniform", "min": 50, "max": 600},
        "output": {"kind": "uniform", "min": 5, "max": 60},
    },
}


@pytest.fixture(scope="module")
def both() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Estimates and simulations of the same plans, one row each in the same order."""
    space = {
        "tp": [1, 2, 4],
        "pp": [1, 2],
        "replicas": [1, 2],
        "max_num_seqs": [4, 16, 256],
        "max_num_batched_tokens": [2048],
    }
    result = search(
        small_scenario(
            {
                "workload": {"traffic": TRAFFIC, "rate": 15.0, "requests": 100},
                "slo": {"ttft": 0.5, "tpot": 0.012, "attainment": 0.9},
                "search": {"space": space, "algorithm": "exhaustive"},
            }
        )
    )
    by_stage = [result.evaluations[result.evaluations["stage"] == stage] for stage in ("analytic", "simulated")]
    estimated, simulated = (frame.set_index("label") for frame in by_stage)
    return estimated, simulated.reindex(estimated.index)


def test_it_covers_every_feasible_plan(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    estimated, simulated = both
    assert estimated.index.is_unique
    assert len(estimated) == len(simulated) >= 30
    assert simulated["stage"].notna().all()


@pytest.mark.parametrize(
    ("path", "correlation", "spread"),
    [
        (GOODPUT, 0.9, 0.6),
        ("tpot_s.mean", 0.95, 0.3),
        ("energy_j_per_output_token", 0.9, 0.6),
        ("cost_usd_per_million_output_tokens", 0.9, 0.1),
    ],
)
def test_estimates_rank_plans_as_simulation_does(
    both: tuple[pd.DataFrame, pd.DataFrame], path: str, correlation: float, spread: float
) -> None:
    estimated, simulated = (frame[path].to_numpy(dtype=np.float64) for frame in both)
    assert spearmanr(estimated, simulated).statistic > correlation
    np.testing.assert_allclose(estimated, simulated, rtol=spread)


def test_the_time_to_a_first_token_is_about_right_where_plans_keep_up(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    estimated, simulated = both
    keeps_up = simulated["slo_attainment_frac"] > 0.99
    assert keeps_up.sum() > 15
    ratio = (estimated["ttft_s.mean"] / simulated["ttft_s.mean"])[keeps_up]
    # the wait for a slot is left out, which a plan with few of them has beside a full attainment
    assert ratio.between(0.5, 1.5).mean() > 0.9
    assert 0.75 < ratio.median() < 1.25


PLANS = [
    {"max_num_seqs": 16},
    {"max_num_seqs": 128},
    {"tp": 2, "max_num_seqs": 64},
    {"pp": 2, "max_num_seqs": 32},
    {"replicas": 2, "max_num_seqs": 32},
]


def estimate(runner: PlanRunner, plan: ResolvedPlan) -> pd.Series:
    return screen([plan], runner.things, runner=runner, slo=runner.things.scenario.spec.slo).iloc[0]


@pytest.mark.parametrize("fields", PLANS, ids=str)
def test_a_flood_is_served_at_no_more_than_capacity_and_not_much_less(fields: dict[str, Any]) -> None:
    """All requests at once: the slots are full until the last ones leave."""
    runner = plan_runner(small_scenario({"workload": {"traffic": TRAFFIC, "requests": 1500}}))
    plan = resolved_plan(runner, max_num_batched_tokens=2048, **fields)
    served_per_s = 1500 / runner.simulate(plan, time_scale=1e-4).duration_s
    assert 0.75 < served_per_s / estimate(runner, plan)["capacity_requests_per_s"] < 1.04


def test_estimates_do_not_depend_on_the_company() -> None:
    runner = plan_runner(small_scenario({"workload": {"traffic": TRAFFIC, "requests": 100}, "slo": {"ttft": 0.5}}))
    plans = [resolved_plan(runner, **fields) for fields in PLANS]
    together = screen(plans, runner.things, runner=runner, slo=runner.things.scenario.spec.slo)
    for index, plan in enumerate(plans):
        pd.testing.assert_series_equal(together.iloc[index], estimate(runner, plan), check_names=False)


def test_more_replicas_slots_or_patience_sustain_no_less() -> None:
    def sustained(slo: dict[str, Any], **fields: int) -> float:
        runner = plan_runner(small_scenario({"workload": {"traffic": TRAFFIC, "requests": 100}, "slo": slo}))
        return float(estimate(runner, resolved_plan(runner, **fields))["sustained_requests_per_s"])

    slo = {"ttft": 0.5, "tpot": 0.012}
    base = sustained(slo, max_num_seqs=16)
    assert sustained(slo, max_num_seqs=16, replicas=2) == pytest.approx(2 * base)
    assert sustained(slo, max_num_seqs=64) > base > 0
    assert sustained({"ttft": 0.5, "tpot": 0.007}, max_num_seqs=64) < sustained(slo, max_num_seqs=64)
    assert sustained({"ttft": 0.001}, max_num_seqs=64) == 0.0


def moments(arrivals: dict[str, Any], requests: int, attainment: float = 0.9) -> TrafficMoments:
    traffic = {**TRAFFIC, "arrivals": arrivals}
    runner = plan_runner(small_scenario({"workload": {"traffic": traffic, "requests": requests}}))
    return TrafficMoments.of(runner.things, attainment=attainment)


def test_a_steady_rate_has_no_burst() -> None:
    assert moments({"kind": "constant", "rate": 10.0}, 6000).burst == pytest.approx(1.0, abs=0.01)
    assert 1.0 <= moments({"kind": "poisson", "rate": 10.0}, 6000).burst < 1.1
    assert moments({"kind": "poisson", "rate": 10.0}, 300).burst == 1.0, "shorter than two windows"


def test_a_busy_hour_is_a_burst() -> None:
    """A third of the time at four times the rate of the rest: twice the mean rate."""
    windows = [{"start": 0, "rate": 5.0}, {"start": 600, "rate": 20.0}]
    two_rates = {"kind": "piecewise", "period": 900, "windows": windows}
    assert moments(two_rates, 9000).burst == pytest.approx(2.0, rel=0.1)
    assert moments(two_rates, 9000, attainment=0.2).burst < 1.2, "an SLO that most may miss need not hold then"


def test_what_is_sustained_leaves_room_for_the_bursts() -> None:
    """The mean rate that a plan sustains is less by the burst; its capacity is not."""

    def estimated(arrivals: dict[str, Any]) -> pd.Series:
        traffic = {**TRAFFIC, "arrivals": arrivals}
        values = {"workload": {"traffic": traffic, "requests": 9000}, "slo": {"tpot": 0.012, "attainment": 0.9}}
        runner = plan_runner(small_scenario(values))
        return estimate(runner, resolved_plan(runner, max_num_seqs=64))

    windows = [{"start": 0, "rate": 5.0}, {"start": 600, "rate": 20.0}]
    steady = estimated({"kind": "constant", "rate": 10.0})
    bursty = estimated({"kind": "piecewise", "period": 900, "windows": windows})
    assert bursty["sustained_requests_per_s"] == pytest.approx(steady["sustained_requests_per_s"] / 2.0, rel=0.1)
    assert bursty["capacity_requests_per_s"] == pytest.approx(steady["capacity_requests_per_s"])


def test_moments_are_those_of_the_requests() -> None:
    runner = plan_runner(small_scenario({"workload": {"traffic": TRAFFIC, "rate": 8.0, "requests": 200}}))
    requests = runner.things.requests
    found = TrafficMoments.of(runner.things, attainment=0.9)
    assert found.rate_per_s == pytest.approx(199 / requests.span_s)
    assert found.prompt == pytest.approx(requests.input_tokens.mean())
    assert found.output == pytest.approx(requests.output_tokens.mean())
    steps = [(p + j, 1) for p, o in zip(requests.input_tokens, requests.output_tokens, strict=True) for j in range(o)]
    assert found.context == pytest.approx(np.mean([keys for keys, _ in steps]), rel=0.01)


def test_metrics_are_ranked_by_the_nearest_estimate() -> None:
    frame = pd.DataFrame({"ttft_s": [1.0, 2.0]})
    values = proxy("ttft_s.p99", frame)
    assert values is not None
    assert values.tolist() == [1.0, 2.0]
    assert proxy("queueing_s.p50", frame) is not None
    assert proxy("mfu_frac", frame) is None


@pytest.mark.parametrize("caching", [True, False])
def test_prompts_that_begin_alike_count_once_where_their_prefix_is_cached(caching: bool) -> None:
    """A long common system prompt: its plan looks as fast as one without that prompt only if its blocks are shared."""
    capacity = {}
    for shared in (0, 1600):
        sizes = {"input": {"kind": "constant", "value": 2000}, "output": {"kind": "constant", "value": 20}}
        lengths = {"kind": "joint", **sizes}
        traffic: dict[str, Any] = {"name": "alike", "arrivals": {"kind": "poisson", "rate": 1.0}, "lengths": lengths}
        if shared:
            traffic["shared_prefix"] = {"groups": 1, "tokens": shared}
        runner = plan_runner(small_scenario({"workload": {"traffic": traffic, "rate": 4.0, "requests": 50}}))
        plan = resolved_plan(runner, tp=1, prefix_caching=caching)
        found = screen([plan], runner.things, runner=runner, slo=None)
        capacity[shared] = float(found["capacity_requests_per_s"][0])
    assert (capacity[1600] > 2.0 * capacity[0]) == caching
    if not caching:
        assert capacity[1600] == pytest.approx(capacity[0])
