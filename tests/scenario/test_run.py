"""What a run of one plan says, against laws and against arithmetic done by hand."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.core import InfeasibleError, InputError
from sim.hardware import Device
from sim.results import RunResult, get_metric
from sim.scenario import PlanRunner, Scenario, run
from sim.testing.scenarios import plan_runner, resolved_plan, small_scenario
from sim.testing.serving import check_run

SMALL_BATCH = {"plan.max_num_batched_tokens": 512, "plan.max_num_seqs": 64}


def lengths(prompts: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "made-up",
        "arrivals": {"kind": "poisson", "rate": 1.0},
        "lengths": {"kind": "joint", "input": prompts, "output": outputs},
    }


def exactly(prompt: int, output: int) -> dict[str, Any]:
    return lengths({"kind": "constant", "value": prompt}, {"kind": "constant", "value": output})


def up_to(prompt: int, output: int) -> dict[str, Any]:
    return lengths({"kind": "uniform", "min": 1, "max": prompt}, {"kind": "uniform", "min": 1, "max": output})


def with_slo(**values: Any) -> Scenario:
    return small_scenario({"slo": {"ttft": 0.2, "tpot": 0.015, "attainment": 0.9}, **values})


def device_of(scenario: Scenario) -> Device:
    return plan_runner(scenario).things.cluster.device


# ---- conservation, determinism, memory, breakdown ----


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    rate=st.floats(2.0, 80.0),
    frac=st.floats(0.2, 0.24),
    replicas=st.integers(1, 2),
    duration=st.sampled_from([None, 1.5]),
)
def test_laws_of_a_run(seed: int, rate: float, frac: float, replicas: int, duration: float | None) -> None:
    """Laws 1, 11 and 12 from ample to scarce memory: nothing lost, no block too many, every second explained."""
    scenario = small_scenario(
        {
            **SMALL_BATCH,
            "workload": {"traffic": up_to(300, 200), "rate": rate, "requests": 60, "duration": duration},
            "plan.kv_memory_frac": frac,
            "plan.replicas": replicas,
        }
    )
    runner = plan_runner(scenario, seed=seed)
    plan = resolved_plan(runner)
    outcome = runner.simulate(plan)
    check_run(outcome)
    assert outcome.headroom().blocks <= plan.kv_blocks
    result = runner.evaluate(plan)
    counts = dict(result.metrics["requests"])
    assert counts.pop("in") == sum(counts.values())
    assert duration is not None or counts["finished"] == 60
    parts = result.breakdown["parts"]
    assert sum(parts.values()) == pytest.approx(result.breakdown["explains_s"], rel=1e-9)
    assert result.breakdown["explains_s"] == pytest.approx(result.metrics["duration_s"] * replicas)
    assert min(parts.values()) >= 0
    assert result.metrics["preemptions"] == sum(outcome.log.preemptions)
    assert result.metrics["kv_cache_tokens"] == plan.kv_blocks * plan.block_tokens * replicas


@pytest.mark.parametrize(("frac", "scarce"), [(0.2, True), (0.9, False)])
def test_little_memory_preempts_and_counts_it(frac: float, scarce: bool) -> None:
    scenario = small_scenario(
        {
            **SMALL_BATCH,
            "workload": {"traffic": up_to(300, 200), "rate": 80.0, "requests": 100},
            "plan.kv_memory_frac": frac,
        }
    )
    result = run(scenario)
    assert (result.metrics["preemptions"] > 0) == scarce
    assert result.metrics["preemptions"] == result.requests["preemptions"].sum()
    assert result.metrics["requests"]["finished"] == 100


def saved_bytes(result: RunResult, folder: Path) -> dict[str, bytes]:
    result.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Law 4: JSON and tables."""
    scenario = small_scenario({"plan.replicas": 2, "plan.router": "random", "workload.requests": 60})
    first, again = (saved_bytes(run(scenario, seed=3), tmp_path / name) for name in ("a", "b"))
    assert first == again
    assert {"result.json", "requests.parquet", "iterations.parquet"} <= set(first)
    other = json.dumps(run(scenario, seed=4).to_json())
    assert other != json.dumps(run(scenario, seed=3).to_json())


def test_the_scenario_has_the_seed_unless_one_is_given() -> None:
    scenario = small_scenario({"seed": 5, "workload.requests": 20})
    assert run(scenario).to_json() == run(scenario, seed=5).to_json()
    assert run(scenario).provenance["seed"] == 5


def test_progress_goes_to_its_end() -> None:
    seen: list[tuple[int, int]] = []
    run(small_scenario({"workload.requests": 5}), progress=lambda done, total, what: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


# ---- which requests count ----


def test_warm_up_leaves_out_what_was_sent_before() -> None:
    whole, trimmed = (run(small_scenario({"workload.warmup": w, "workload.requests": 200})) for w in (0.0, 8.0))
    late = whole.requests[whole.requests["arrival_s"] >= 8.0]
    assert 0 < len(late) < 200
    assert trimmed.requests["arrival_s"].tolist() == late["arrival_s"].tolist()
    assert trimmed.metrics["requests"]["in"] == len(late)
    assert trimmed.metrics["ttft_s"]["mean"] == pytest.approx(late["ttft_s"].mean())
    window_s = whole.metrics["duration_s"] - 8.0
    assert trimmed.metrics["requests_per_s"] == pytest.approx(len(late) / window_s)
    assert trimmed.metrics["output_tokens_per_s"] == pytest.approx(late["emitted_tokens"].sum() / window_s)
    assert trimmed.metrics["energy_j"] == pytest.approx(whole.metrics["energy_j"])


@pytest.mark.parametrize("warmup", [1000.0, 14.0])
def test_a_warm_up_behind_the_last_request_leaves_nothing_to_measure(warmup: float) -> None:
    with pytest.raises(InputError, match="no request is sent after the warm-up") as error:
        run(small_scenario({"workload.warmup": warmup, "workload.requests": 20}))
    assert "workload.warmup" in str(error.value)
    assert "a shorter warmup" in str(error.value)


def test_a_run_cut_short_counts_what_was_under_way() -> None:
    """Four slots and a flood: some are done, four run, the rest that came wait; what came later is not in."""
    scenario = small_scenario(
        {
            "workload": {"traffic": exactly(100, 100), "rate": 20.0, "requests": 200, "duration": 3.0},
            "plan.max_num_seqs": 4,
        }
    )
    result = run(scenario)
    counts = result.metrics["requests"]
    assert result.metrics["duration_s"] == 3.0
    assert counts["running"] == 4
    assert counts["finished"] > 0
    assert counts["queued"] > 0
    assert counts["in"] == int((plan_runner(scenario).things.requests.arrival_s <= 3.0 - 0.025).sum())
    unfinished = result.requests[result.requests["status"] != "finished"]
    assert unfinished["finish_s"].isna().all()
    assert (unfinished["emitted_tokens"] < 100).all()
    assert unfinished["emitted_tokens"].sum() > 0


def test_a_closed_loop_keeps_its_concurrency_and_sends_ten_rounds() -> None:
    scenario = small_scenario({"workload": {"traffic": exactly(200, 60), "concurrency": 6}})
    result = run(scenario)
    requests = result.requests
    assert len(requests) == 60
    assert (requests["arrival_s"] == 0.0).sum() == 6
    finishes = np.sort(requests["finish_s"])[: 60 - 6]
    np.testing.assert_allclose(np.sort(requests["arrival_s"])[6:], finishes)
    in_system = requests["e2e_s"].sum() / result.metrics["duration_s"]
    assert 5.9 < in_system <= 6.0 + 1e-9
    assert len(run(small_scenario({**_closed(6), "workload.requests": 25})).requests) == 25


def _closed(concurrency: int) -> dict[str, Any]:
    return {"workload": {"traffic": exactly(200, 60), "concurrency": concurrency}}


def test_throughput_of_a_closed_loop_is_that_of_the_formula() -> None:
    """c x osl / (TTFT + (osl - 1) x TPOT): all requests are alike, so Little's law holds but for the last round."""
    metrics = run(small_scenario(_closed(8))).metrics
    formula = 8 * 60 / (metrics["ttft_s"]["mean"] + 59 * metrics["tpot_s"]["mean"])
    assert metrics["output_tokens_per_s"] == pytest.approx(formula, rel=0.01)


def test_a_trace_replaces_traffic_rate_and_number(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [{"plansim": "requests", "version": 1, "name": "mine"}]
    rows += [{"arrival_s": float(i), "input_tokens": 50 + i, "output_tokens": 5} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = run(small_scenario({"workload.trace": {"path": str(path)}}))
    assert result.requests["input_tokens"].tolist() == [50, 51, 52]
    assert result.requests["arrival_s"].tolist() == [0.0, 1.0, 2.0]
    assert result.provenance["trace_report"]["rows_kept"] == 3


# ---- context limits ----


def test_a_given_context_limit_rejects_and_cuts() -> None:
    """Prompts that fill the limit are rejected, outputs end at it; both are counted, nothing raises."""
    traffic = lengths({"kind": "uniform", "min": 100, "max": 300}, {"kind": "constant", "value": 80})
    scenario = small_scenario(
        {"workload": {"traffic": traffic, "rate": 20.0, "requests": 80}, "plan.max_model_len": 250}
    )
    result = run(scenario)
    requests = result.requests
    too_long = requests["input_tokens"] >= 250
    assert 0 < too_long.sum() < 80
    assert (requests["status"] == "rejected").tolist() == too_long.tolist()
    assert result.metrics["requests"]["rejected"] == too_long.sum()
    assert (requests["emitted_tokens"][too_long] == 0).all()
    served = requests[~too_long]
    assert served["emitted_tokens"].tolist() == np.minimum(80, 250 - served["input_tokens"]).tolist()


def test_without_one_a_request_that_never_fits_is_infeasible_with_numbers() -> None:
    scenario = small_scenario(
        {**SMALL_BATCH, "workload": {"traffic": exactly(3000, 2000), "requests": 5}, "plan.kv_memory_frac": 0.2}
    )
    plan = resolved_plan(plan_runner(scenario))
    assert plan.max_model_len == plan.kv_tokens < 5000
    with pytest.raises(InfeasibleError) as caught:
        run(scenario)
    (reason,) = caught.value.reasons
    assert reason.code == "context"
    assert reason.numbers == {"longest_tokens": 5000, "max_model_len": plan.kv_tokens, "kv_tokens": plan.kv_tokens}
    assert "5000" in reason.message


def test_a_request_that_just_fits_the_memory_is_served() -> None:
    runner = plan_runner(small_scenario({**SMALL_BATCH, "plan.kv_memory_frac": 0.2}))
    tokens = resolved_plan(runner).kv_tokens
    values = {
        **SMALL_BATCH,
        "plan.kv_memory_frac": 0.2,
        "workload": {"traffic": exactly(tokens - 50, 50), "requests": 3},
    }
    assert run(small_scenario(values)).metrics["requests"]["finished"] == 3
    values["workload"] = {"traffic": exactly(tokens - 50, 51), "requests": 3}
    with pytest.raises(InfeasibleError):
        run(small_scenario(values))


# ---- physics by hand ----


def test_the_engine_does_not_see_the_front_end() -> None:
    scenario = small_scenario({"workload.requests": 60})
    result = run(scenario)
    engine = plan_runner(scenario).things.engine
    work_s = engine.frontend_request_s.value + engine.frontend_token_s.value * result.requests["input_tokens"]
    alone_s = engine.frontend_s.value + work_s
    assert (alone_s > 0).all()
    before_s = result.requests["ttft_s"] - result.requests["engine_ttft_s"]
    assert (before_s >= alone_s - 1e-12).all()
    assert np.isclose(before_s, alone_s).mean() > 0.5, "at a low rate most requests find the front end free"
    assert (result.requests["first_scheduled_s"] >= result.requests["arrival_s"] + before_s - 1e-12).all()


def test_utilisation_of_one_decoding_sequence_by_hand() -> None:
    """Llama-3.1-8B, one prompt token and 201 tokens out: FLOPs and bytes from the published shapes alone."""
    scenario = small_scenario({"workload": {"traffic": exactly(1, 201), "requests": 1}})
    result, device = run(scenario), device_of(scenario)
    hidden, inner, layers, vocab, kv = 4096, 14336, 32, 128256, 1024
    per_layer = hidden * (hidden + 2 * kv) + hidden * hidden + 3 * hidden * inner
    weights = layers * per_layer + hidden * vocab
    steps, keys = 201, 201 * 202 / 2
    flops = 2.0 * weights * steps + 4.0 * hidden * layers * keys
    moved = 2.0 * weights * steps + 2.0 * 2.0 * kv * layers * keys
    duration_s, metrics = result.metrics["duration_s"], result.metrics
    assert metrics["mfu_frac"] == pytest.approx(flops / duration_s / device.compute_rate("bf16")[0], rel=1e-6)
    assert metrics["mbu_frac"] == pytest.approx(moved / duration_s / device.memory_bytes_per_s, rel=0.01)
    assert metrics["mbu_frac"] > 0.5, "one sequence is bound by memory"
    assert metrics["mfu_frac"] < 0.01
    assert metrics["tpot_s"]["mean"] > 2.0 * weights / device.memory_bytes_per_s, "no faster than the roofline"


def test_every_decoded_token_reads_the_weights_and_its_context() -> None:
    """400 tokens more, after a prompt of 20,000: the bytes of those steps alone, for what came before cancels."""
    moved = []
    for output in (1, 401):
        scenario = small_scenario({"workload": {"traffic": exactly(20_000, output), "requests": 1}})
        metrics = run(scenario).metrics
        moved.append(metrics["mbu_frac"] * metrics["duration_s"] * device_of(scenario).memory_bytes_per_s)
    weights = 2.0 * (32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336) + 4096 * 128256)
    keys = sum(20_000 + step for step in range(1, 401))
    kv_bytes = 2.0 * 2.0 * 1024 * 32 * keys
    assert moved[1] - moved[0] == pytest.approx(400 * weights + kv_bytes, rel=0.005)
    assert kv_bytes > 0.15 * 400 * weights


def test_limits_of_an_engine_are_those_of_a_rank_times_its_ranks() -> None:
    """Slots and blocks add up over data-parallel ranks, tokens also over pipeline lanes; a prompt goes to one."""
    runner = plan_runner(small_scenario({"model": "deepseek-v2-lite", "workload.requests": 2}))
    plan = resolved_plan(runner, dp=2, ep=2, pp=2, max_num_seqs=64, max_num_batched_tokens=2048)
    limits = runner._limits(plan)
    assert limits.max_sequences == 2 * 64
    assert limits.token_budget == 2 * 2 * 2048
    assert limits.chunk_limit == 2048
    assert limits.kv_blocks == 2 * plan.kv_blocks


@pytest.mark.parametrize(
    "values",
    [
        {"plan.tp": 2},
        {"plan.pp": 2},
        {"plan.replicas": 2},
        {"model": "deepseek-v2-lite", "plan": {"dp": 2, "ep": 2}},
        {"model": "gpt-oss-20b", "workload.rate": 40.0},
        {"model": "qwen2.5-0.5b", "cluster": "l40s-1", "workload.rate": 60.0},
        {"plan.clock": 0.5, "workload.rate": 40.0},
    ],
    ids=str,
)
def test_utilisation_power_and_cost_are_within_their_bounds(values: dict[str, Any]) -> None:
    scenario = small_scenario(values)
    result, things = run(scenario), plan_runner(scenario).things
    metrics, device = result.metrics, things.cluster.device.at_clock(result.plan["clock"])
    for name in ("mfu_frac", "mbu_frac", "mfu_busy_frac", "mbu_busy_frac", "busy_frac"):
        assert 0 < metrics[name] < 1, name
    gpu_s = metrics["n_gpus"] * metrics["duration_s"]
    assert device.idle_w * gpu_s < metrics["energy_j"] < device.peak_w * gpu_s
    tokens = result.requests["emitted_tokens"].sum()
    assert metrics["energy_j_per_output_token"] == pytest.approx(metrics["energy_j"] / tokens)
    price = things.cluster.usd_per_device_hour
    assert price is not None
    cost = price * gpu_s / 3600.0 / tokens * 1e6
    assert metrics["cost_usd_per_million_output_tokens"] == pytest.approx(cost)
    assert metrics["gpu_hours"] == pytest.approx(gpu_s / 3600.0)


def test_splitting_a_model_splits_its_bytes() -> None:
    """The bytes that all GPUs read are about the same however the model is split, so MBU x GPUs x time is, too."""
    moved = []
    for plan in ({"tp": 1}, {"tp": 2}, {"pp": 2}):
        metrics = run(small_scenario({"plan": plan, "workload": {"traffic": exactly(1, 400), "requests": 1}})).metrics
        moved.append(metrics["mbu_frac"] * metrics["n_gpus"] * metrics["duration_s"])
    np.testing.assert_allclose(moved, moved[0], rtol=0.02)


def test_a_lower_clock_is_no_faster_and_draws_less() -> None:
    runs = [run(small_scenario({"plan.clock": c, "workload.rate": 30.0})).metrics for c in (1.0, 0.75, 0.5)]
    for fast, slow in pairwise(runs):
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            assert slow[name]["mean"] >= fast[name]["mean"] * (1 - 1e-9)
        assert slow["energy_j"] / slow["duration_s"] < fast["energy_j"] / fast["duration_s"]
    assert runs[-1]["ttft_s"]["mean"] > 1.05 * runs[0]["ttft_s"]["mean"], "prompts are bound by arithmetic"


def test_a_faster_cluster_is_faster() -> None:
    a100, h100, h200 = (
        run(small_scenario({"cluster": name, "workload.requests": 60})).metrics["tpot_s"]["mean"]
        for name in ("dgx-a100-1", "dgx-h100-1", "dgx-h200-1")
    )
    assert a100 > h100 > h200


# ---- goodput ----


def goodput(runner: PlanRunner, **fields: Any) -> float:
    plan = resolved_plan(runner, **fields)
    return runner.goodput(plan).rate_per_s / plan.n_gpus


def test_the_rate_found_is_sustained_and_the_next_is_not() -> None:
    runner = plan_runner(with_slo())
    plan = resolved_plan(runner)
    probe = runner.goodput(plan)
    step = 1 + runner.things.scenario.spec.search.goodput.tolerance
    tried = dict(probe.probes)
    assert tried[probe.rate_per_s]
    above = [rate for rate in tried if rate > probe.rate_per_s * (1 + 1e-9)]
    assert min(above) == pytest.approx(probe.rate_per_s * step)
    assert not any(tried[rate] for rate in above)
    assert runner.goodput(plan, guess_per_s=3 * probe.rate_per_s).rate_per_s == pytest.approx(probe.rate_per_s)


def test_goodput_in_a_result_is_per_gpu() -> None:
    runner = plan_runner(with_slo())
    plan = resolved_plan(runner, tp=2)
    metrics = runner.evaluate(plan, goodput=True).metrics
    assert metrics["goodput_max_requests_per_s_per_gpu"] == pytest.approx(runner.goodput(plan).rate_per_s / 2)
    assert "goodput_max_requests_per_s_per_gpu" not in runner.evaluate(plan).metrics


def test_plans_with_other_graphs_do_not_share_what_they_sustain() -> None:
    """One graph of 512 tokens makes small batches slower; what the engine's own graphs sustain is known by then."""
    runner = plan_runner(with_slo(slo={"tpot": 0.009, "attainment": 0.9}))
    plain, padded = (runner.goodput(resolved_plan(runner, **each)) for each in ({}, {"graph_sizes": (512,)}))
    alone = plan_runner(with_slo(slo={"tpot": 0.009, "attainment": 0.9}))
    assert padded == alone.goodput(resolved_plan(alone, graph_sizes=(512,)))
    assert padded.rate_per_s < plain.rate_per_s


def test_a_looser_slo_or_a_better_gpu_sustains_no_less() -> None:
    base = {"workload.requests": 100}
    strict, mid, loose = (
        goodput(plan_runner(with_slo(slo={"ttft": 0.2, "tpot": tpot, "attainment": share}, **base)))
        for tpot, share in ((0.010, 0.99), (0.010, 0.9), (0.03, 0.9))
    )
    assert 0 < strict <= mid <= loose
    assert loose > 2 * strict
    better = goodput(plan_runner(with_slo(slo={"ttft": 0.2, "tpot": 0.010, "attainment": 0.9}, cluster="dgx-h200-1")))
    assert better >= mid


def test_an_slo_that_nothing_keeps_sustains_nothing() -> None:
    assert goodput(plan_runner(with_slo(**{"slo": {"ttft": 0.001}, "workload.requests": 50}))) == 0.0


def test_plans_that_behave_alike_share_their_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots and memory that no probe uses up change nothing, and are not simulated again."""
    runner = plan_runner(with_slo(**{"workload.requests": 80}))
    simulated: list[str] = []
    simulate = PlanRunner.simulate

    def counted(self: PlanRunner, plan: Any, **how: Any) -> Any:
        simulated.append(plan.label)
        return simulate(self, plan, **how)

    monkeypatch.setattr(PlanRunner, "simulate", counted)
    first = goodput(runner, max_num_seqs=1024)
    probes = len(simulated)
    assert goodput(runner, max_num_seqs=512) == first
    assert goodput(runner, max_num_seqs=1024, kv_memory_frac=0.7) == first
    assert len(simulated) == probes > 0
    monkeypatch.undo()
    alone = plan_runner(with_slo(**{"workload.requests": 80}))
    assert goodput(alone, max_num_seqs=512) == first, "also where nothing is known"
    assert goodput(runner, max_num_seqs=4) < first


def test_a_burst_is_not_a_rate() -> None:
    """100 requests at once fit into free slots and keep the SLO; a rate that goes on like that does not."""
    scenario = small_scenario({"slo": {"ttft": 2.0, "tpot": 0.03, "attainment": 0.9}, "workload.requests": 100})
    runner, slo = plan_runner(scenario), scenario.spec.slo
    assert slo is not None
    plan, requests = resolved_plan(runner), runner.things.requests
    assert runner._verdict(plan, slo, requests, 1e-3).kept
    assert not runner._sustains(plan, slo, requests, time_scale=1e-3)
    one = goodput(runner)
    for replicas in (2, 4):
        assert goodput(runner, replicas=replicas) == pytest.approx(one, rel=0.1), (
            "per GPU, replicas sustain what one does"
        )


def test_goodput_does_not_depend_on_when_the_run_is_cut() -> None:
    """`duration` ends the run that is reported; a probe cut there would count requests under way as missed."""
    whole = goodput(plan_runner(with_slo(**{"workload.requests": 80})))
    assert goodput(plan_runner(with_slo(**{"workload.requests": 80, "workload.duration": 3.0}))) == whole > 0


def test_fewer_requests_per_probe_can_be_asked_for() -> None:
    runner = plan_runner(with_slo(**{"workload.requests": 400, "search.goodput": {"requests": 50}}))
    assert goodput(runner) == goodput(plan_runner(with_slo(**{"workload.requests": 50}))) > 0


def test_goodput_needs_an_slo_and_an_open_loop() -> None:
    for values in ({}, {"slo": {"ttft": 1.0}, "workload": {"traffic": "chat-poisson", "concurrency": 4}}):
        runner = plan_runner(small_scenario(values))
        with pytest.raises(InputError):
            runner.goodput(resolved_plan(runner))


def test_both_kinds_of_engines_show_their_memory() -> None:
    scenario = small_scenario({"plan": {"tp": 2, "prefill": {"tp": 1}}, "workload.requests": 20})
    result = run(scenario)
    assert isinstance(result, RunResult)
    own, first = result.memory, result.prefill_memory
    assert sum(own.values()) == pytest.approx(sum(first.values())), "both fill a GPU of the same kind"
    assert first["weights_bytes"] > 1.5 * own["weights_bytes"], "one rank holds what two share"
    assert result.to_json()["prefill_memory"] == first
    used = {name: sum(v for k, v in sizes.items() if k != "free_bytes") for name, sizes in (("d", own), ("p", first))}
    assert result.metrics["peak_memory_bytes"] == max(used.values())
    assert not run(small_scenario({"workload.requests": 20})).prefill_memory


def test_top_p_takes_time_where_the_engine_sorts_for_it() -> None:
    """Before 0.17 vLLM sorted all logits; the checkpoint's `generation_config.json` may ask for it."""

    def tpot_s(engine: str, *, truncated: bool) -> float:
        changes = {"engine": engine, "workload.truncated_sampling": truncated, **SMALL_BATCH}
        value = get_metric(run(small_scenario(changes)).metrics, "tpot_s")
        assert value is not None
        return value

    assert tpot_s("vllm-0.15", truncated=True) > 1.01 * tpot_s("vllm-0.15", truncated=False)
    assert tpot_s("vllm", truncated=True) == tpot_s("vllm", truncated=False)


def test_texts_with_less_in_common_touch_more_experts() -> None:
    """Decodes read the experts that a batch touches; the choice of a dense model's traffic changes nothing."""

    def tpot_s(model: str, popularity: float | None) -> float:
        changes = {"model": model, "workload.expert_popularity": popularity, **SMALL_BATCH}
        value = get_metric(run(small_scenario(changes)).metrics, "tpot_s")
        assert value is not None
        return value

    sparse = [tpot_s("qwen3-30b-a3b", shape) for shape in (0.5, 2.0, 8.0)]
    assert sparse == sorted(set(sparse))
    assert tpot_s("qwen3-30b-a3b", 1.0) == tpot_s("qwen3-30b-a3b", None), "what is assumed of texts of one kind"
    assert tpot_s("qwen3-8b", 0.5) == tpot_s("qwen3-8b", None)
