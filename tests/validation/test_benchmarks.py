"""Results of benchmark tools: one meaning whatever the tool, nothing guessed, what does not fit refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.core import InputError
from sim.testing.benchmarks import check_benchmark, check_incomplete
from sim.validation import BENCHMARKS, MeasuredRow, predict, read_rows
from tests.conftest import Command
from tests.validation.benchmark_samples import (
    AIPERF,
    COUNT,
    DURATION_S,
    E2E_S,
    GUIDELLM,
    GUIDELLM_RUN,
    INFERENCEX,
    OUTPUT,
    PROMPT,
    RATE,
    SAMPLES,
    SENT_S,
    SGLANG,
    TPOT_S,
    TTFT_S,
    VLLM,
    VLLM_DETAILS,
    aiperf_request,
    deployment,
    guidellm_request,
    write_json,
)

Imported = Callable[..., MeasuredRow]
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "sglang_bench": {"engine": "sglang"},
    "aiperf_requests": {"workload": {"traffic": "azure-conv-2023", "concurrency": 2}},
}


@pytest.fixture
def imported(tmp_path: Path) -> Imported:
    """The only row of a file with these objects."""

    def read(*objects: dict[str, Any], **changes: Any) -> MeasuredRow:
        table = read_rows(write_json(tmp_path / "run.json", *objects), deployment=deployment(**changes))
        assert len(table.rows) == 1
        return table.rows[0]

    return read


def test_every_importer_has_a_sample() -> None:
    assert set(SAMPLES) == set(BENCHMARKS.names())


@pytest.mark.parametrize("name", SAMPLES)
def test_contract(name: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / f"{name}.json", *SAMPLES[name])
    check_benchmark(name, path, deployment(**DEPLOYMENTS.get(name, {})))


@pytest.mark.parametrize("name", SAMPLES)
def test_all_tools_tell_the_same_of_the_same_run(name: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "run.json", *SAMPLES[name])
    expected = {"ttft_s": TTFT_S, "tpot_s": TPOT_S, "itl_s": TPOT_S, "e2e_s": E2E_S, "output_tokens_per_s": RATE}
    for row in read_rows(path, deployment=deployment(**DEPLOYMENTS.get(name, {}))).rows:
        found = {metric: row.measured[metric] for metric in expected if metric in row.measured}
        assert len(found) >= 3
        assert found == pytest.approx({metric: expected[metric] for metric in found}, rel=1e-6)


def test_throughput_is_per_gpu_of_the_deployment(imported: Imported) -> None:
    row = imported(VLLM, plan={"tp": 2, "replicas": 2})
    assert row.measured["output_tokens_per_s_per_gpu"] == pytest.approx(RATE / 4)


def test_time_per_output_token_with_the_first_is_not_tpot(tmp_path: Path) -> None:
    """guidellm's figure differs from TPOT by TTFT / tokens; TPOT is measured only where requests are listed."""
    summary = read_rows(write_json(tmp_path / "a.json", GUIDELLM), deployment=deployment())
    assert not [metric for metric in summary.rows[0].measured if metric.startswith("tpot_s")]
    assert any("time_per_output_token_ms is not tpot_s" in text for text in summary.assumptions)
    assert [metric for metric in summary.rows[0].measured if metric.startswith("itl_s")] == ["itl_s"]
    listed = {**GUIDELLM_RUN, "requests": {"successful": [guidellm_request(i) for i in range(COUNT)]}}
    whole = read_rows(write_json(tmp_path / "b.json", {**GUIDELLM, "benchmarks": [listed]}), deployment=deployment())
    assert whole.rows[0].measured["tpot_s"] == pytest.approx(TPOT_S)
    assert not any("is not tpot_s" in text for text in whole.assumptions)


def test_a_sample_of_requests_is_not_taken_for_all_of_them(imported: Imported) -> None:
    some = {**GUIDELLM_RUN, "requests": {"successful": [guidellm_request(0)]}}
    row = imported({**GUIDELLM, "benchmarks": [some]})
    assert row.requests == ()
    assert "tpot_s" not in row.measured


def test_real_requests_are_replayed_in_an_open_loop(imported: Imported) -> None:
    row = imported({**VLLM, **VLLM_DETAILS, "request_rate": 4.0, "max_concurrency": None})
    assert not row.closed_loop
    (table,) = row.requests
    np.testing.assert_allclose(table.arrival_s, SENT_S, atol=1e-9)
    assert set(table.input_tokens) == {PROMPT}
    np.testing.assert_allclose(row.e2e_s[0], E2E_S)
    found = predict(row)
    assert found.e2e_errors is not None
    assert len(found.e2e_errors) == COUNT


def test_an_infinite_rate_without_a_limit_sends_all_at_once(imported: Imported) -> None:
    row = imported({**VLLM, "max_concurrency": None})
    assert row.scenario is not None
    assert row.scenario["workload"]["concurrency"] == COUNT


def test_a_rate_with_a_limit_needs_the_times_of_sending(imported: Imported) -> None:
    assert "known" in imported({**VLLM, "request_rate": 4.0}).reason
    assert not imported({**VLLM, **VLLM_DETAILS, "request_rate": 4.0}).reason


def test_what_vllm_bench_may_do_beside_is_not_overlooked(imported: Imported) -> None:
    ramp = {**VLLM, "max_concurrency": None, "request_rate": 4.0, "ramp_up_strategy": "linear"}
    assert "ramps up" in imported(ramp).reason
    assert not imported({**ramp, **VLLM_DETAILS}).reason
    assert "speculative" in imported({**VLLM, "spec_decode_acceptance_rate": 60.0}).reason


def test_bursty_arrivals_keep_their_law(imported: Imported) -> None:
    row = imported({**VLLM, "request_rate": 4.0, "max_concurrency": None, "burstiness": 0.25})
    assert row.scenario is not None
    assert row.scenario["workload"]["traffic"]["arrivals"] == {"kind": "gamma", "cv": 2.0, "rate": 1.0}


def test_range_ratio_of_sglang_is_a_share_of_the_longest(imported: Imported) -> None:
    """With ratio 0 the mean is half the longest: the totals prove it, and a ratio they contradict is not used."""
    row = imported(SGLANG, engine="sglang")
    assert row.scenario is not None
    lengths = row.scenario["workload"]["traffic"]["lengths"]
    assert lengths["input"] == {"kind": "uniform", "min": 1, "max": 2 * PROMPT - 1}
    narrow = imported({**SGLANG, "random_range_ratio": 1.0}, engine="sglang")
    assert narrow.scenario is not None
    assert narrow.scenario["workload"]["traffic"]["lengths"]["input"] == {"kind": "constant", "value": PROMPT}
    assert narrow.groups["lengths"] == "mean only"


def test_requests_that_do_not_count_are_left_out(imported: Imported) -> None:
    good = [aiperf_request(i) for i in range(COUNT)]
    others = [
        aiperf_request(8, benchmark_phase="warmup"),
        aiperf_request(9, was_cancelled=True),
        {**aiperf_request(10), "error": {"message": "gone"}},
    ]
    row = imported(*others, *good)
    assert len(row.requests[0]) == COUNT
    assert row.measured["output_tokens_per_s"] == pytest.approx(COUNT * OUTPUT / DURATION_S, rel=1e-6)
    assert not row.closed_loop


def test_attention_data_parallelism_of_inferencex(imported: Imported) -> None:
    row = imported({**INFERENCEX, "tp": 8, "ep": 8, "dp_attention": "true"}, plan={})
    assert row.scenario is not None
    assert row.scenario["plan"] == {"tp": 1, "dp": 8, "ep": 8}
    assert row.measured["output_tokens_per_s_per_gpu"] == pytest.approx(RATE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"disagg": True}, "pools"), ({"is_multinode": True}, "pools"), ({"spec_decoding": "mtp"}, "speculative")],
)
def test_points_that_cannot_be_simulated_say_why(change: dict[str, Any], reason: str, imported: Imported) -> None:
    assert reason in imported({**INFERENCEX, **change}).reason


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    bare = {**AIPERF, "input_config": {}}
    del bare["input_sequence_length"]
    path = write_json(tmp_path / "bare.json", bare)
    check_incomplete(path, "the model", "the engine", "the GPUs", "the parallelism", "the load", "the lengths")
    check_incomplete(path, "the parallelism (plan.tp)", "the load", deployment=deployment(plan={}))
    table = read_rows(path, deployment=deployment(workload={"traffic": "azure-conv-2023", "concurrency": 3}))
    assert "lengths are those of the scenario's workload" in table.assumptions


@pytest.mark.parametrize(
    ("sample", "change", "message"),
    [
        (VLLM, {"mean_tpot_ms": TPOT_S}, "implausible tpot_s"),
        (VLLM, {"mean_ttft_ms": 1e6 * TTFT_S}, "longer than the whole run"),
        (INFERENCEX, {"mean_ttft": 1e6 * TTFT_S}, "implausible ttft_s"),
        (AIPERF, {"request_latency": {"unit": "parsec", "avg": 1.0}}, "the unit does not fit"),
        (VLLM, {"mean_ttft_ms": "60"}, "expected a finite number"),
        (VLLM, {"completed": 0}, "above zero"),
        ({**VLLM, **VLLM_DETAILS}, {"ttfts": [TTFT_S]}, "different lengths"),
        (GUIDELLM, {"metadata": {"version": 1}}, "reports of this version"),
        (GUIDELLM, {"benchmarks": []}, "the file has no runs"),
        (VLLM, {"model_id": "Qwen/Qwen3-32B"}, "the scenario about llama-3.1-8b"),
        (INFERENCEX, {"framework": "sglang"}, "the scenario about vllm"),
        (INFERENCEX, {"hw": "b200"}, "b200 GPUs"),
        (INFERENCEX, {"tp": 2}, "tp 2, the scenario 1"),
        ({"loss": 1.0}, {}, "no known benchmark tool writes these keys: loss"),
    ],
)
def test_wrong_files_are_refused(
    sample: dict[str, Any], change: dict[str, Any], message: str, imported: Imported
) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        imported({**sample, **change})


def test_a_cut_off_line_is_named(tmp_path: Path) -> None:
    path = write_json(tmp_path / "cut.jsonl", SGLANG, SGLANG)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(InputError, match="not valid JSON") as caught:
        read_rows(path, deployment=deployment())
    assert caught.value.line == 2


def test_validate_and_calibrate_take_them_alike(tmp_path: Path, plansim: Command) -> None:
    runs = [{**VLLM, "max_concurrency": 1 + i} for i in range(5)]
    path = write_json(tmp_path / "runs.jsonl", *runs)
    scenario = tmp_path / "deployment.yaml"
    scenario.write_text(
        "name: d\nmodel: llama-3.1-8b\ncluster: {node: dgx-h100}\nworkload: {traffic: azure-conv-2023}\n"
    )
    base = ("--rows", path, "--scenario", scenario, "--json", "-q")
    bare = plansim("validate", *base)
    assert bare.code == 2
    assert "the parallelism (plan.tp)" in bare.err
    done = plansim("validate", *base, "--set", "plan.tp=1", "--workers", 1)
    assert (done.code, done.err) == (0, "")
    assert done.document["summary"]["runs"]["answered"] == 5
    fitted = plansim("calibrate", "vllm", *base, "--set", "plan.tp=1", "--parameter", "frontend_s")
    assert fitted.code == 0
    assert len(fitted.document["rows"]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scenario", "llama3-70b-azure-conv"), "add --rows FILE"),
        (("--set", "costs=measured"), "add --dataset, --rows or --scenario"),
        (("--set", "costs=measured", "--dataset", "serving_points", "--cross-validate", "model"), "--set excludes"),
    ],
)
def test_options_that_need_each_other(arguments: tuple[str, ...], message: str, plansim: Command) -> None:
    done = plansim("validate", *arguments)
    assert done.code == 2
    assert message in done.err


def test_a_table_names_its_own_deployments(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(
        "id,model,node,tp,concurrency,input_tokens,output_tokens,ttft_s\na,llama-3.1-8b,dgx-h100,1,1,9,9,1\n"
    )
    with pytest.raises(InputError, match="says itself what was measured"):
        read_rows(path, deployment=deployment())
