"""The search over training plans against brute force, and what it does where nothing fits or time runs out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sim
from sim.explore import front_mask
from sim.explore.training import evaluate_training
from sim.results import TRAINING_ONLY, Evaluation, SearchResult, TrainingResult, get_metric
from sim.scenario import Scenario, assemble_training
from sim.training import TrainingPlans
from tests.conftest import Command

MODULE = import_module("sim.explore.training")
NAME = "llama3-70b-train-h100"
SPACE = (
    "search.space={tp: [1, 4, 16], pp: [1, 2, 4], cp: 1, micro_batch: [1, 4], zero: [1, 3], recompute: [none, full]}"
)
SMALL = ("model=llama-3-8b", "cluster={node: dgx-h100, nodes: 2}", "workload.global_batch=64", SPACE)


def scenario(*overrides: str) -> Scenario:
    return sim.load(NAME, overrides=[*SMALL, *overrides])


def search(*overrides: str, **options: Any) -> SearchResult:
    return sim.search(scenario(*overrides), **options)


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return search("search.layers=100", "search.max_simulated=1000")


def costs(result: SearchResult, evaluations: list[Evaluation]) -> np.ndarray[Any, Any]:
    rows = [[get_metric(each.metrics, o.path) or 0.0 for o in result.objectives] for each in evaluations]
    return np.array(rows) * [-1.0 if objective.maximise else 1.0 for objective in result.objectives]


def test_the_front_is_that_of_all_plans_replayed(found: SearchResult) -> None:
    """Brute force: every plan of the space is replayed, and those that fit and nothing dominates are the front."""
    things = assemble_training(scenario())
    inputs = (things.model, things.spec.workload, things.engine, things.cluster)
    table, rejected = TrainingPlans(things.spec.search.space, *inputs).listed()
    assert table is not None
    outcomes = [evaluate_training(things, table.plan(row)) for row in range(len(table))]
    fitting = [each for each in outcomes if isinstance(each, Evaluation)]
    assert len(fitting) < len(outcomes), "some do not fit"
    mask = front_mask(costs(found, fitting))
    expected = {tuple(row) for row in costs(found, fitting)[mask]}
    assert {tuple(row) for row in costs(found, found.front)} == expected
    assert 2 <= len(found.front) < len(fitting)
    assert found.space["generated"] == len(table) + rejected.counts.total()
    assert found.space["screened"] == len(fitting)


def test_nothing_that_was_evaluated_dominates_the_front() -> None:
    result = search("search.max_simulated=12", "search.space={tp: [1, 2, 4, 8]}")
    simulated = result.simulated
    values = np.column_stack([simulated[each.path] * (-1.0 if each.maximise else 1.0) for each in result.objectives])
    mask = front_mask(values)
    assert set(simulated["label"][mask]) >= {each.label for each in result.front}
    assert simulated["label"].is_unique
    assert len(result.front) == len(np.unique(values[mask], axis=0))


def test_every_plan_is_accounted_for(found: SearchResult) -> None:
    space = found.space
    assert space["generated"] == space["screened"] + sum(space["infeasible"].values())
    assert {"memory"} <= set(space["infeasible"])
    assert found.rejected["message"].str.contains(r"\d").all()
    assert set(found.rejected["code"]) == set(space["infeasible"])


def test_the_recommended_plan_is_as_fast_as_any_and_runs_alone_to_the_same(found: SearchResult) -> None:
    best, run = found.recommended, found.recommended_run
    assert best is not None
    assert isinstance(run, TrainingResult)
    fastest = min(each.metrics["step_time_s"] for each in found.front)
    assert best.metrics["step_time_s"] <= fastest * 1.01
    assert "shortest step" in found.why
    assert run.metrics.items() > best.metrics.items()
    assert run.metrics.keys() - best.metrics.keys() == {"peak_reserved_bytes"}  # of a plan that is run alone
    fields = ("dp", "tp", "pp", "vpp", "cp", "ep", "rank_order", "zero", "recompute", "micro_batch", "schedule", "sp")
    plan = ", ".join(f"{name}: {json.dumps(best.plan[name])}" for name in fields)
    alone = sim.run(scenario(f"plan={{{plan}}}"))
    assert alone.metrics == run.metrics


def test_the_document_of_the_contract(plansim: Command) -> None:
    options = [part for text in SMALL for part in ("--set", text)]
    done = plansim("search", NAME, *options, "--json", "--workers", 1)
    assert (done.code, done.err) == (0, "")
    document = done.document
    assert (document["command"], document["interrupted"]) == ("search", False)
    for entry in document["front"]:
        assert set(entry["metrics"]) >= TRAINING_ONLY - {"peak_reserved_bytes"}
        assert entry["intervals"].keys() == entry["metrics"].keys()
        low, high = entry["intervals"]["step_time_s"]
        assert low < entry["metrics"]["step_time_s"] < high
        assert f"--tensor-model-parallel-size {entry['plan']['tp']}" in entry["launch"]
        assert f"--micro-batch-size {entry['plan']['micro_batch']}" in entry["launch"]
        assert entry["metrics"]["memory_headroom_bytes"] >= 0
    best = document["recommended"]
    assert {key: value for key, value in best.items() if key != "why"} in document["front"]
    assert {"generated", "infeasible", "screened", "simulated"} == document["space"].keys()
    assert document["provenance"]["costs"]
    assert json.loads(json.dumps(search().to_json())) == document


def test_tables_and_files_for_people(plansim: Command, tmp_path: Any) -> None:
    options = [part for text in SMALL for part in ("--set", text)]
    done = plansim("search", NAME, *options, "--out", tmp_path, "--workers", 1)
    assert done.code == 0
    for word in ("Pareto front", "Memory left", "Recommended", "torchrun", "Plans that cannot run"):
        assert word in done.out
    assert "SLO" not in done.out
    page = (tmp_path / "report.html").read_text()
    assert "shortest step" in page
    assert '<dl class="tiles"><div><dt>Step time</dt>' in page
    assert "tokens cost? llama-3-8b on 2 x dgx-h100" in page
    assert {"evaluations.parquet", "rejected.parquet", "result.json"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "recommended" / "stages.parquet").is_file()


def test_workers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_WORTH_A_PROCESS", 0)
    one, two = search("search.max_simulated=6"), search("search.max_simulated=6", workers=2)
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())
    pd.testing.assert_frame_equal(one.evaluations, two.evaluations)
    pd.testing.assert_frame_equal(one.rejected, two.rejected)


def test_where_nothing_fits_it_exits_3_with_reasons_in_numbers(plansim: Command) -> None:
    options = ["--set", "cluster={node: dgx-h100, nodes: 1}", "--set", "search.space={recompute: none}"]
    done = plansim("search", NAME, *options, "--json", "--workers", 1)
    assert done.code == 3
    document = done.document
    assert document["recommended"] is None
    assert document["space"]["infeasible"]["memory"] > 0
    (example,) = [one for one in document["infeasible"] if one["code"] == "memory"]
    assert "GiB" in example["message"]


def test_schedules_and_switches_are_told_apart() -> None:
    fixed = "tp: 2, pp: 4, cp: 1, rank_order: tp-cp-dp-pp, micro_batch: 1, zero: 1, recompute: full"
    space = f"search.space={{{fixed}, schedule: [1f1b, zb_h1, gpipe], overlap_p2p: [true, false]}}"
    result = search(space, "search.algorithm=exhaustive")
    assert result.space["simulated"] == len(result.simulated) == 6
    assert result.simulated["label"].is_unique
    fastest = result.simulated.set_index("plan.schedule")["step_time_s"].groupby(level=0).min()
    assert fastest["zb_h1"] < fastest["1f1b"]


def test_a_search_finds_how_many_copies_of_sharded_states_are_best() -> None:
    """On 1,024 GPUs gathers over all are slow and gradients between copies on every node too: some copies are best."""
    given = ["model=llama-3-8b", "engine=fsdp", "workload.global_batch=2048"]
    space = "search.space={zero: 3, pp: 1, tp: 1, cp: 1, recompute: full, micro_batch: 1}"
    found = sim.search(sim.load(NAME, overrides=[*given, space, "search.algorithm=exhaustive"]))
    times = found.simulated.set_index("plan.dp_replicas")["step_time_s"]
    assert sorted(times.index) == [1, 8, 128]
    assert times[8] < times[128] < times[1]
    assert found.recommended is not None
    assert "dp1024/8" in found.recommended.label
    assert "--num-distributed-optimizer-instances 8" in found.recommended.launch
    assert "those of fsdp" in found.recommended.launch


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.space.tpp=2", ["tpp"]),
        ("search.space.tp=0", ["search.space.tp"]),
        ("search.space.schedule=1f1c", ["1f1b"]),
        ("search.objectives=[ttft]", ["serving"]),
        ("search.objectives=[stepp]", ["step"]),
        ("search.algorithm=laddr", ["ladder"]),
        ("search.space={recompute: none, recompute_every: 2}", ["recompute: full", "not none"]),
        ("search.space.cp_kind=rign", ["did you mean 'ring'", "ulysses"]),
        ("search.space.dp_replicas=0", ["search.space.dp_replicas", "1"]),
        ("search.objectives=[reserved]", ["plansim run", "peak_memory_bytes"]),
    ],
)
def test_bad_input_exits_2_and_names_the_place(override: str, words: list[str], plansim: Command) -> None:
    done = plansim("search", NAME, "--set", override)
    assert done.code == 2
    assert all(word in done.err for word in words), done.err


@pytest.mark.parametrize(
    ("space", "code", "words"),
    [
        ("tp: 3", "ranks", ["tp 3 x cp 1", "nearest products that do are 2 and 4"]),
        ("dp: 3", "ranks", ["is not the 16 GPUs", "dp 16 would"]),
        ("micro_batch: 3, pp: 1, tp: 2", "batch", ["48", "or micro_batch 2 and 4"]),
        ("schedule: interleaved, pp: 1", "too_few", ["(vpp)", "at least 2"]),
        ("schedule: interleaved, pp: 4, vpp: 2, dp: 4, tp: 1, micro_batch: 8", "multiple",
         ["multiple of 4, not 2", "global batch 64 / dp 4 / micro_batch 8"]),
        ("schedule: forward_only", "schedule", ["trains nothing"]),
        ("schedule: 1f1b, pp: 4, vpp: 2", "chunks", ["use vpp 1"]),
        ("dp_replicas: 3, zero: 3, pp: 1, tp: 2", "replicas", ["does not divide dp 8", "2 and 4"]),
        ("ep: 2", "experts", ["no experts"]),
    ],
)  # fmt: skip
def test_a_space_of_impossible_plans_says_what_is_near(space: str, code: str, words: list[str]) -> None:
    found = search(f"search.space={{{space}}}")
    assert found.recommended is None
    message = found.rejected.set_index("code")["message"][[code]].iloc[0]
    assert all(word in message for word in words), message


def test_objectives_of_the_job_need_its_tokens(plansim: Command) -> None:
    done = plansim("search", NAME, "--set", "workload.tokens=null", "--set", "search.objectives=[training_cost_usd]")
    assert done.code == 2
    assert "tokens" in done.err
    assert plansim("search", NAME, "--check").code == 2
    found = search("workload.tokens=null", "search.max_simulated=2")
    assert "energy_j_per_token" in [each.path for each in found.objectives]


def test_ctrl_c_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    run_plans = MODULE.run_plans

    def interrupted(*arguments: Any, **options: Any) -> Iterator[Any]:
        for done, outcome in enumerate(run_plans(*arguments, **options)):
            if done == 2:
                raise KeyboardInterrupt
            yield outcome

    monkeypatch.setattr(MODULE, "run_plans", interrupted)
    result = search()
    assert result.interrupted
    assert result.space["simulated"] == 2
    assert result.recommended is not None
