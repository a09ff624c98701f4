"""The search against brute force, and what it does where there is nothing to search or no time to finish."""

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.core import Array, InputError, Reason
from sim.explore import front_mask, search
from sim.explore.executor import run_tasks
from sim.results import Evaluation, SearchResult, get_metric
from sim.scenario import Scenario, load
from sim.testing.scenarios import small_scenario

MODULE = import_module("sim.explore.search")  # `sim.explore.search` as an attribute is the function
GOODPUT = "goodput_max_requests_per_s_per_gpu"
TRAFFIC = {
    "name": "short",
    "arrivals": {"kind": "poisson", "rate": 1.0},
    "lengths": {
        "kind": "joint",
        "input": {"kind": "uniform", "min": 50, "max": 600},
        "output": {"kind": "uniform", "min": 5, "max": 40},
    },
}
SPACE = {
    "tp": [1, 2, 3, 16],
    "pp": [1],
    "replicas": [1, 2, 5],
    "max_num_seqs": [4, 64],
    "max_num_batched_tokens": [2048],
    "kv_memory_frac": [0.9, 0.15],
}


def scenario(values: dict[str, Any] | None = None) -> Scenario:
    base = {
        "workload": {"traffic": TRAFFIC, "rate": 15.0, "requests": 60},
        "slo": {"ttft": 0.5, "tpot": 0.02, "attainment": 0.9},
        "search.space": SPACE,
    }
    return small_scenario({**base, **(values or {})})


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return search(scenario({"search.layers": 100, "search.max_simulated": 1000}))


@pytest.fixture(scope="module")
def brute() -> SearchResult:
    return search(scenario({"search.algorithm": "exhaustive"}))


def costs_of(result: SearchResult, frame: pd.DataFrame) -> Array:
    """Objectives of the rows of `frame`, turned so that smaller is better."""
    columns = []
    for each in result.objectives:
        values = frame[each.path].to_numpy(dtype=np.float64)
        columns.append(np.nan_to_num(-values if each.maximise else values, nan=np.inf))
    return np.column_stack(columns)


def vectors(result: SearchResult, plans: list[Evaluation]) -> set[tuple[Any, ...]]:
    return {tuple(get_metric(plan.metrics, each.path) for each in result.objectives) for plan in plans}


# ---- law 13 ----


@pytest.mark.parametrize("result", ["found", "brute"])
def test_no_simulated_plan_dominates_the_front(result: str, request: pytest.FixtureRequest) -> None:
    outcome: SearchResult = request.getfixturevalue(result)
    simulated = outcome.simulated
    costs = costs_of(outcome, simulated)
    front = simulated["on_front"].to_numpy(dtype=bool)
    assert {each.label for each in outcome.front} == set(simulated["label"][front])
    assert not (front & ~front_mask(costs)).any(), "on the front and dominated"
    left_out = np.flatnonzero(front_mask(costs) & ~front)
    assert all((costs[front] == costs[row]).all(axis=1).any() for row in left_out), "neither dominated nor a twin"
    assert 2 <= len(outcome.front) < len(simulated)


def test_the_ladder_with_many_layers_equals_brute_force(found: SearchResult, brute: SearchResult) -> None:
    assert vectors(found, found.front) == vectors(brute, brute.front)
    assert found.recommended is not None
    assert brute.recommended is not None
    assert found.recommended.metrics == brute.recommended.metrics
    assert found.why == brute.why
    assert brute.space["simulated"] == brute.space["screened"]


def test_a_short_ladder_simulates_less_and_still_recommends_the_same(brute: SearchResult) -> None:
    short = search(scenario({"search.layers": 2, "search.max_simulated": 6}))
    assert short.space["simulated"] <= 6 < brute.space["simulated"]
    assert short.recommended is not None
    assert brute.recommended is not None
    assert short.recommended.label == brute.recommended.label


def test_of_plans_that_look_alike_the_one_with_the_widest_limits_is_simulated() -> None:
    """However the limits are listed: what the screen cannot tell apart may differ in the tail."""
    space = {"tp": [1], "pp": [1], "replicas": [1], "max_num_seqs": [64], "kv_memory_frac": [0.9, 0.6, 0.8]}
    result = search(scenario({"search.space": {**space, "max_num_batched_tokens": [2048]}}))
    assert result.space["screened"] == 3
    assert result.simulated["plan.kv_memory_frac"].tolist() == [0.9]


# ---- accounting ----


def test_every_plan_is_accounted_for_with_reasons_in_numbers(found: SearchResult) -> None:
    space = found.space
    assert space["generated"] == 4 * 3 * 2 * 2
    assert space["screened"] + sum(space["infeasible"].values()) == space["generated"]
    assert len(found.evaluations) == space["screened"] + space["simulated"]
    assert len(found.simulated) == space["simulated"]
    assert found.rejected["label"].nunique() == sum(space["infeasible"].values())
    assert found.rejected["message"].str.contains(r"\d").all()
    assert {"memory", "heads", "ranks"} <= set(found.rejected["code"])
    screened = found.evaluations[found.evaluations["stage"] == "analytic"]
    assert screened["label"].is_unique
    assert set(found.simulated["label"]) <= set(screened["label"])
    assert screened[GOODPUT].notna().all()


def test_simulated_plans_come_in_layers(found: SearchResult) -> None:
    layers = found.simulated["layer"].tolist()
    assert layers == sorted(layers)
    assert layers[0] == 0


def test_the_recommended_plan_comes_with_its_run(found: SearchResult) -> None:
    best, run = found.recommended, found.recommended_run
    assert best is not None
    assert run is not None
    assert best in found.front
    assert run.label == best.label
    assert run.metrics == best.metrics
    assert len(run.requests) == 60
    assert found.provenance["costs"] == run.provenance["costs"]
    assert best.metrics["slo_attainment_frac"] >= 0.9
    assert "cheapest" in found.why


def test_the_plan_of_the_front_runs_alone_to_the_same(found: SearchResult) -> None:
    """What a search reports of a plan is what `run` reports of it."""
    from sim.scenario import run

    best = found.recommended
    assert best is not None
    fields = {name: value for name, value in best.plan.items() if name not in ("max_model_len", "moe_tp", "cp")}
    alone = run(scenario({"plan": fields})).metrics
    assert alone == {name: value for name, value in best.metrics.items() if name != GOODPUT}


def test_workers_change_nothing() -> None:
    values = {"search.max_simulated": 6}
    one, two = search(scenario(values)), search(scenario(values), workers=2)
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())
    pd.testing.assert_frame_equal(one.evaluations, two.evaluations)
    pd.testing.assert_frame_equal(one.rejected, two.rejected)
    assert one.recommended_run is not None
    assert two.recommended_run is not None
    pd.testing.assert_frame_equal(one.recommended_run.requests, two.recommended_run.requests)


def test_progress_reaches_its_end() -> None:
    seen: list[tuple[int, int, str]] = []
    search(scenario({"search.max_simulated": 3}), progress=lambda *step: seen.append(step))
    assert seen[0] == (0, 1, "checking plans")
    assert [(done, total) for done, total, what in seen if what.startswith("simulating")] == [
        (0, 3),
        (1, 3),
        (2, 3),
        (3, 3),
    ]


# ---- objectives ----


def closed(values: dict[str, Any] | None = None) -> Scenario:
    workload = {"traffic": TRAFFIC, "concurrency": 6}
    return scenario({"workload": workload, "search.max_simulated": 4, **(values or {})})


def test_a_closed_loop_takes_throughput_for_goodput() -> None:
    result = search(closed())
    paths = [each.path for each in result.objectives]
    assert paths[0] == "output_tokens_per_s_per_gpu"
    assert GOODPUT not in paths
    assert GOODPUT not in result.front[0].metrics
    assert result.recommended is not None


def test_without_an_slo_goodput_has_no_meaning_either() -> None:
    result = search(scenario({"slo": None, "search.max_simulated": 4}))
    assert result.objectives[0].path == "output_tokens_per_s_per_gpu"
    assert "SLO" not in result.why


@pytest.mark.parametrize(
    ("case", "word"),
    [
        (lambda o: closed({"search.objectives": o}), "open loop"),
        (lambda o: scenario({"slo": None, "search.objectives": o}), "needs an SLO"),
    ],
)
def test_goodput_that_is_asked_for_must_be_measurable(case: Any, word: str) -> None:
    with pytest.raises(InputError, match=word):
        search(case(["goodput_max_per_gpu", "cost"]))


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"search.algorithm": "laddr"}, "ladder"),
        ({"search.objectives": ["ttft_s.p98"]}, "ttft_s"),
        ({"search.objectives": ["goodputt"]}, "goodput"),
    ],
)
def test_unknown_algorithms_and_objectives_are_refused_before_anything_runs(values: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        search(scenario(values))


def test_one_objective_has_the_best_plan_for_a_front() -> None:
    result = search(scenario({"search.objectives": ["-tpot_s.mean"], "search.algorithm": "exhaustive"}))
    (best,) = result.front
    assert best.metrics["tpot_s"]["mean"] == result.simulated["tpot_s.mean"].min()


def test_an_objective_without_an_estimate_tells_plans_apart_all_the_same() -> None:
    """Nothing on the screen ranks preemptions; yet not all plans count as equal, of which one would be enough."""
    result = search(scenario({"search.objectives": ["preemptions"], "search.max_simulated": 5}))
    assert result.space["simulated"] == 5


def test_utilisation_is_ranked_by_throughput() -> None:
    result = search(scenario({"search.objectives": ["mfu_frac"], "search.max_simulated": 3}))
    brute = search(scenario({"search.objectives": ["mfu_frac"], "search.algorithm": "exhaustive"}))
    best, of_all = (each.front[0].metrics["mfu_frac"] for each in (result, brute))
    assert best == pytest.approx(of_all, rel=0.02)


# ---- nothing to find, no time to finish ----


def test_no_plan_can_run() -> None:
    result = search(scenario({"model": "llama-3.1-405b", "search.space": {"tp": [1, 2]}}))
    assert result.front == []
    assert result.recommended is None
    assert result.recommended_run is None
    assert result.space["screened"] == result.space["simulated"] == 0
    assert result.space["infeasible"]["memory"] > 0
    assert "no plan can serve" in result.why
    assert json.loads(json.dumps(result.to_json()))["recommended"] is None


def test_traffic_that_fits_no_plan_is_a_reason_not_an_error() -> None:
    traffic = {**TRAFFIC, "lengths": {"kind": "joint", "input": {"kind": "constant", "value": 140_000}}}
    traffic["lengths"]["output"] = {"kind": "constant", "value": 5}  # type: ignore[index]
    result = search(scenario({"workload": {"traffic": traffic, "requests": 3}}))
    assert result.recommended is None
    assert "context" in result.space["infeasible"]
    assert result.rejected["message"].str.contains("140005").any()


def test_a_plan_that_cannot_serve_after_all_is_rejected_with_its_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(tasks: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        yield (Reason("context", "a request of 7 tokens is too long", {"tokens": 7}),)
        yield from run_tasks(tasks[1:], *arguments, **options)

    monkeypatch.setattr(MODULE, "run_tasks", refused)
    result = search(scenario({"search.max_simulated": 3}))
    assert result.space["simulated"] == 2
    assert result.rejected["message"].str.contains("of 7 tokens").sum() == 1


def test_ctrl_c_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Iterator[Any]:
        for done, outcome in enumerate(run_tasks(*arguments, **options)):
            if done == 2:
                raise KeyboardInterrupt
            yield outcome

    monkeypatch.setattr(MODULE, "run_tasks", interrupted)
    result = search(scenario())
    assert result.interrupted
    assert result.space["simulated"] == len(result.simulated) == 2
    assert result.recommended is not None
    assert result.recommended_run is not None
    assert "interrupted" in repr(result)
    monkeypatch.setattr(MODULE, "run_tasks", _interrupt_at_once)
    nothing = search(scenario())
    assert nothing.interrupted
    assert nothing.recommended is None
    assert nothing.space["screened"] > 0


def _interrupt_at_once(*arguments: Any, **options: Any) -> Iterator[Any]:
    raise KeyboardInterrupt
    yield


def test_a_recommendation_whose_run_was_let_go_is_simulated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its way may be cleared by a plan that came later; its run must then have all its metrics, goodput too."""
    keep = MODULE._Search.keep

    def forgetful(self: Any, run: Any, layer: int) -> None:
        keep(self, run, layer)
        self.best_run = None

    monkeypatch.setattr(MODULE._Search, "keep", forgetful)
    result = search(scenario({"search.max_simulated": 4}))
    assert result.recommended is not None
    assert result.recommended_run is not None
    assert result.recommended_run.label == result.recommended.label
    assert result.recommended_run.metrics == result.recommended.metrics


def test_engines_for_prompts_alone_are_not_dropped_without_a_word() -> None:
    scenario = load("llama3-8b-small-gpus", overrides=["plan.prefill.tp=1"])
    with pytest.raises(InputError, match="compute prompts and decode"):
        search(scenario)
