"""Each kind of table is recognised by its header and becomes scenarios or reasons, never guesses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sim
from sim.core import InputError
from sim.scenario import assemble, load
from sim.validation import MEASUREMENTS, ClosedPoint, MeasuredRow, read_rows
from tests.validation.samples import OPEN_RUN, OWN, POINT, RUN_019, RUN_060, TRAINING, write

SAMPLES = {
    "serving_points": POINT,
    "vllm0151_runs": OPEN_RUN,
    "vllm019_runs": RUN_019,
    "vllm060_runs": RUN_060,
    "plansim_rows": OWN,
    "training_runs": TRAINING,
}


def one(tmp_path: Path, row: dict[str, str], name: str = "t.csv") -> MeasuredRow:
    return read_rows(write(tmp_path / name, row)).rows[0]


def point(tmp_path: Path, **changes: str) -> MeasuredRow:
    return one(tmp_path, {**POINT, **changes})


def test_every_format_has_a_sample() -> None:
    assert set(SAMPLES) == set(MEASUREMENTS.names())


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_recognised_by_header_and_loadable(name: str, ending: str, tmp_path: Path) -> None:
    table = read_rows(write(tmp_path / f"table{ending}", SAMPLES[name]))
    assert (table.name, table.format, len(table.rows)) == ("table", name, 1)
    row = table.rows[0]
    assert row.reason == ""
    assert row.scenario is not None
    sim.load(row.scenario)
    assert set(row.groups) >= {"system", "model", "engine", "engine version", "precision", "mode", "load"}
    assert table.assumptions


def test_an_unknown_header_lists_what_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_rows(write(tmp_path / "t.csv", {"a": "1", "b": "2"}))
    assert all(name in str(caught.value) for name in SAMPLES)


def test_a_cell_that_is_no_number_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_rows(write(tmp_path / "t.csv", POINT, {**POINT, "id": "p2", "silicon_ttft_ms": "fast"}))
    assert (caught.value.line, caught.value.path, caught.value.value) == (3, "silicon_ttft_ms", "fast")


def test_an_id_stands_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two rows have the id 'p1'"):
        read_rows(write(tmp_path / "t.csv", POINT, POINT))


# ---- serving points ----


def test_throughput_counts_all_gpus_and_leaves_the_first_token_to_ttft(tmp_path: Path) -> None:
    row = point(tmp_path)
    expected = 4 * 64 / (0.1 + 63 * 0.010) / 4
    assert row.measured["output_tokens_per_s_per_gpu"] == pytest.approx(expected, rel=1e-12)
    assert ClosedPoint(1, 1, 2).throughput(0.5, 9.9) == pytest.approx(1.0)


def test_lengths_are_spread_where_the_benchmark_does_so(tmp_path: Path) -> None:
    spread, exact = point(tmp_path).scenario, point(tmp_path, measured_on="").scenario
    assert spread is not None
    assert exact is not None
    assert spread["workload"]["traffic"]["lengths"] == {
        "input": {"kind": "uniform", "min": 410, "max": 512},
        "output": {"kind": "uniform", "min": 51, "max": 64},
    }
    assert exact["workload"]["traffic"]["lengths"] == {
        "input": {"kind": "constant", "value": 512},
        "output": {"kind": "constant", "value": 64},
    }
    assert spread["workload"]["requests"] == 40


@pytest.mark.parametrize(
    ("changes", "ranks"),
    [
        ({"tp_size": "4"}, {"tp": 2, "dp": 1}),
        ({"tp_size": "1", "attention_dp_size": "4", "batch_size": "1"}, {"tp": 1, "dp": 2}),
    ],
)
def test_ranks_recorded_twice_are_the_same_gpus(tmp_path: Path, changes: dict[str, str], ranks: dict[str, int]) -> None:
    """tp 2 and ep 2 of InferenceX are two GPUs, though the row has 2 x 2; elsewhere 2 x 2 is four."""
    run = {"arch": "openai/gpt-oss-120b", "backend": "trtllm", "precision": "fp4", "moe_tp_size": "2"}
    run |= {"moe_ep_size": "2", **changes}
    row, other = point(tmp_path, **run), point(tmp_path, **run, measured_on="")
    assert row.scenario is not None
    assert other.scenario is not None
    assert {name: row.scenario["plan"][name] for name in ("replicas", "tp", "dp", "moe_tp", "ep")} == {
        "replicas": 1,
        **ranks,
        "moe_tp": 1,
        "ep": 2,
    }
    assert other.scenario["plan"]["tp"] * other.scenario["plan"]["dp"] == 4
    assert row.measured == other.measured


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"backend": "trtllm"}, {"max_num_seqs": 4, "max_num_batched_tokens": 1024}),
        ({"backend": "trtllm", "arch": "meta-llama/Llama-3.1-8B-Instruct"}, {"max_num_seqs": 3}),
        (
            {"backend": "trtllm", "arch": "meta-llama/Llama-3.1-8B-Instruct", "backend_version": "1.1.0"},
            {"max_num_seqs": 4},
        ),
        ({"backend": "vllm", "backend_version": "0.12.0"}, {"max_num_seqs": 4, "max_num_batched_tokens": 2016}),
        (
            {"backend": "vllm", "backend_version": "0.12.0", "arch": "Qwen/Qwen3-235B-A22B-FP8", "moe_tp_size": "4"},
            {"max_num_seqs": 4, "graph_sizes": [256]},
        ),
        ({"backend": "vllm", "backend_version": "0.12.0"}, {"graph_sizes": None}),
        ({"backend": "sglang", "backend_version": "0.5.6.post2"}, {"scheduler": "sglang-mixed"}),
        ({"backend": "sglang", "backend_version": "0.5.1.post1"}, {"scheduler": None}),
        ({"measured_on": "2026-01-01"}, {"max_num_seqs": None, "max_num_batched_tokens": 8192}),
    ],
)
def test_other_runs_have_the_options_of_a_generator(
    tmp_path: Path, changes: dict[str, str], expected: dict[str, Any]
) -> None:
    """4 sequences, a prompt of 512, and 500 tokens to spare, in whole blocks of 32."""
    scenario = point(tmp_path, **{"backend_version": "1.0.0rc3", "measured_on": "", **changes}).scenario
    assert scenario is not None
    assert {name: scenario["plan"].get(name) for name in expected} == expected


QWEN = {
    "arch": "Qwen/Qwen3.5-397B-A17B",
    "backend": "sglang",
    "system": "b200_sxm",
    "moe_tp_size": "4",
    "moe_ep_size": "1",
}


def test_undated_runs_of_models_that_only_one_benchmark_measured_are_that_benchmarks(tmp_path: Path) -> None:
    dated, undated = point(tmp_path, **QWEN).scenario, point(tmp_path, **QWEN, measured_on="").scenario
    assert undated == dated
    assert undated is not None
    assert undated["plan"]["queue_interval"] == 10


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "fp4"}, {"kv_dtype": "fp8", "queue_interval": 30, "kv_memory_frac": 0.85}),
        ({"precision": "bf16"}, {"kv_dtype": "bf16", "queue_interval": 10, "max_num_batched_tokens": 32768}),
        ({"system": "h200_sxm"}, {"kv_dtype": "fp8", "max_num_batched_tokens": 16384, "kv_memory_frac": 0.8}),
        ({"concurrency": "16", "batch_size": "16"}, {"queue_interval": 30}),
    ],
)
def test_runs_have_the_options_of_their_launch_script(
    tmp_path: Path, changes: dict[str, str], expected: dict[str, Any]
) -> None:
    scenario = point(tmp_path, **{**QWEN, **changes}).scenario
    assert scenario is not None
    assert {name: scenario["plan"].get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"usable": "False", "label": "gross outlier"}, "marked unusable: gross outlier"),
        ({"mode": "disagg"}, "prefill workers: parallelism is not recorded"),
        ({"arch": "someone/Unheard-7B"}, "no checkpoint"),
        ({"precision": "int3"}, "no checkpoint"),
        ({"system": "abacus"}, "no node"),
        ({"backend": "abacus"}, "no engine profile"),
        ({"tp_size": ""}, "parallelism is not recorded"),
        ({"tp_size": "3"}, "no whole number of replicas"),
        ({"batch_size": "3"}, "implausible parallelism: 4 in flight on 1 attention ranks"),
        ({"concurrency": ""}, "not recorded"),
        (
            {"arch": "openai/gpt-oss-120b", "precision": "fp4", "moe_tp_size": "2", "moe_ep_size": "1"},
            "implausible parallelism: moe_tp 2 x ep 1",
        ),
    ],
)
def test_traps_get_a_reason(changes: dict[str, str], reason: str, tmp_path: Path) -> None:
    row = point(tmp_path, **changes)
    assert row.scenario is None
    assert reason in row.reason
    assert row.measured["ttft_s"] == 0.1


SCRIPT = {"kv_dtype": "bf16", "max_num_batched_tokens": 8192}
"""What InferenceX's launch scripts of Llama 70B under vLLM set on H100; rows from elsewhere have no date."""


@pytest.mark.parametrize(
    ("changes", "model", "plan"),
    [
        (
            {"arch": "deepseek-ai/DeepSeek-V3", "moe_tp_size": "4"},
            "deepseek-ai/DeepSeek-V3",
            {"replicas": 1, "tp": 4, "dp": 1, "moe_tp": 4, "ep": 1},
        ),
        (
            {"arch": "openai/gpt-oss-120b", "precision": "fp4", "moe_tp_size": "1", "moe_ep_size": "4"},
            "openai/gpt-oss-120b",
            {"replicas": 1, "tp": 4, "dp": 1, "moe_tp": 1, "ep": 4, "moe_backend": "marlin"},
        ),
        ({"n_gpus": "8", "batch_size": "2"}, None, {"replicas": 2, "tp": 4, "dp": 1, "weights_dtype": "fp8", **SCRIPT}),
        (
            {"backend": "trtllm", "precision": "fp4"},
            None,
            {"replicas": 1, "tp": 4, "dp": 1, "weights_dtype": "nvfp4", "kv_dtype": "fp8"}
            | {"max_num_batched_tokens": 776, "max_num_seqs": 776},
        ),
        (
            {"gemm_quant_mode": "fp8_block"},
            None,
            {"replicas": 1, "tp": 4, "dp": 1, "weights_dtype": "fp8_block", **SCRIPT},
        ),
        (
            {"system": "b200_sxm"},
            None,
            {"replicas": 1, "tp": 4, "dp": 1, "weights_dtype": "fp8", "prompt_graphs": False, "fuse_all_reduce": True}
            | SCRIPT
            | {"kv_dtype": "fp8"},
        ),
        (
            {"system": "h200_sxm"},
            None,
            {"replicas": 1, "tp": 4, "dp": 1, "weights_dtype": "fp8", **SCRIPT, "kv_dtype": "fp8"},
        ),
        (
            {"measured_on": ""},
            None,
            {"replicas": 1, "tp": 4, "dp": 1, "weights_dtype": "fp8"}
            | {"max_num_seqs": 4, "max_num_batched_tokens": 2016},
        ),
        (
            {"arch": "moonshotai/Kimi-K2.5", "precision": "fp4", "moe_tp_size": "4"},
            "moonshotai/Kimi-K2.5",
            {"replicas": 1, "tp": 4, "dp": 1, "moe_tp": 4, "ep": 1, "weights_dtype": "nvfp4", "kv_dtype": "fp8"}
            | {"fuse_all_reduce": True},
        ),
    ],
)
def test_formats_and_ranks(changes: dict[str, str], model: str | None, plan: dict[str, object], tmp_path: Path) -> None:
    row = point(tmp_path, **changes)
    assert row.scenario is not None, row.reason
    assert row.scenario["model"] == (model or POINT["arch"])
    assert row.scenario["plan"] == plan


_R1 = {"arch": "deepseek-ai/DeepSeek-V3", "backend": "trtllm", "n_gpus": "8", "tp_size": "8", "moe_tp_size": "8"}
_LONG = {"isl": "8192", "osl": "1024"}
_SHORT = {"isl": "1024", "osl": "1024"}


@pytest.mark.parametrize(
    ("changes", "plan"),
    [
        ({"backend_version": "1.2.0rc6.post2", **_SHORT}, {"tp": 8, "ep": 1, "speculation": None, "batch_wait": None}),
        ({"backend_version": "1.2.0rc6.post3", **_SHORT}, {"max_num_batched_tokens": 1152, "batch_wait": None}),
        ({"backend_version": "1.2.0rc6.post2", **_SHORT}, {"moe_backend": "trtllm-gen"}),
        ({"backend_version": "1.1.0rc2.post2", **_SHORT}, {"moe_backend": "deepgemm"}),
        (
            {
                "backend_version": "1.2.0rc6.post2",
                **_SHORT,
                "tp_size": "1",
                "attention_dp_size": "8",
                "moe_ep_size": "8",
            }
            | {"moe_tp_size": "1"},
            {"dp": 8, "moe_backend": "deepgemm"},
        ),
        ({"backend_version": "1.1.0rc2.post2", "system": "h200_sxm", **_SHORT}, {"moe_backend": None}),
        ({"backend_version": "", "measured_on": "2025-11-02", **_SHORT}, {"tp": 8, "ep": 8, "moe_tp": 1}),
        (
            {"backend_version": "", "measured_on": "2025-11-02", "system": "h200_sxm", **_LONG, "concurrency": "64"},
            {"tp": 1, "dp": 8, "ep": 8, "balance_wait": 60, "kv_memory_frac": 0.75},
        ),
        (
            {"backend_version": "1.2.0rc6.post2", **_SHORT, "concurrency": "64"},
            {"batch_wait": 40, "batch_fill": 0.8, "prompt_graphs": True},
        ),
    ],
)
def test_launch_scripts_of_deepseek_on_tensorrt_llm(
    changes: dict[str, str], plan: dict[str, object], tmp_path: Path
) -> None:
    row = point(tmp_path, **{**_R1, "system": "b200_sxm", "batch_size": "", **changes})
    assert row.scenario is not None, row.reason
    assert {name: row.scenario["plan"].get(name) for name in plan} == plan


def test_runs_of_scripts_that_always_draft_are_taken_to_draft(tmp_path: Path) -> None:
    """Three drafts, one with attention data parallelism, in a version and in runs of which all scripts have them."""
    drafts = {}
    for version, day in (("1.1.0rc2.post2", "2025-12-15"), ("1.1.0rc2.post2", "2026-01-14"), ("1.2.0rc6.post3", "")):
        for dp in (1, 8):
            ranks = {"tp_size": str(8 // dp), "attention_dp_size": str(dp), "moe_ep_size": "8", "moe_tp_size": "1"}
            row = point(
                tmp_path,
                **{**_R1, **ranks, **_SHORT, "system": "b200_sxm", "batch_size": "", "backend_version": version},
                **({"measured_on": day} if day else {}),
            )
            assert row.scenario is not None, row.reason
            found = row.scenario["plan"].get("speculation")
            drafts[version, day, dp] = None if found is None else found["draft_tokens"]
    assert drafts == {
        ("1.1.0rc2.post2", "2025-12-15", 1): None,
        ("1.1.0rc2.post2", "2025-12-15", 8): None,
        ("1.1.0rc2.post2", "2026-01-14", 1): 3,
        ("1.1.0rc2.post2", "2026-01-14", 8): 1,
        ("1.2.0rc6.post3", "", 1): 3,
        ("1.2.0rc6.post3", "", 8): 1,
    }


@pytest.mark.parametrize(
    ("changes", "library"),
    [
        ({}, "marlin"),
        ({"backend_version": ""}, None),
        ({"backend_version": "0.11.2"}, None),
        ({"backend_version": "0.18.0", "system": "h200_sxm"}, "marlin"),
        ({"system": "b200_sxm"}, None),
        ({"system": "gb200"}, None),
        ({"backend": "trtllm"}, None),
    ],
)
def test_gpt_oss_on_hopper_takes_marlin_as_its_scripts_do(
    tmp_path: Path, changes: dict[str, str], library: str | None
) -> None:
    row = point(tmp_path, **{"arch": "openai/gpt-oss-120b", "precision": "fp4", "moe_tp_size": "4", **changes})
    assert row.scenario is not None, row.reason
    assert row.scenario["plan"].get("moe_backend") == library


@pytest.mark.parametrize(
    ("changes", "drafts"),
    [
        ({**QWEN}, 3),
        ({**QWEN, "precision": "bf16"}, None),
        ({**QWEN, "backend_version": "0.5.10"}, None),
        ({**QWEN, "moe_tp_size": "1", "moe_ep_size": "4"}, None),
        ({**_R1, "backend": "sglang", "concurrency": "128", "batch_size": "128"}, 2),
        ({**_R1, "backend": "sglang", "concurrency": "64", "batch_size": "64", "id": "dsr1_c64_cfg87"}, None),
        ({**_R1, "backend": "sglang", "concurrency": "128", "batch_size": "128", "id": "dsr1_c128_cfg87"}, 2),
        ({**_R1, "backend": "sglang", "concurrency": "64", "batch_size": "64"}, 2),
        ({**_R1, "backend": "sglang", "concurrency": "128", "batch_size": "128", "system": "h200_sxm"}, None),
    ],
)
def test_sglang_drafts_where_scripts_with_drafts_have_the_ranks_and_users(
    tmp_path: Path, changes: dict[str, str], drafts: int | None
) -> None:
    row = point(tmp_path, **{"system": "b200_sxm", "backend_version": "0.5.9", **changes})
    assert row.scenario is not None, row.reason
    found = row.scenario["plan"].get("speculation")
    assert (None if found is None else found["draft_tokens"]) == drafts


@pytest.mark.parametrize(("date", "popularity"), [("2026-01-01", 2.0), ("", None)])
def test_prompts_of_random_tokens_have_little_in_common(tmp_path: Path, date: str, popularity: float | None) -> None:
    row = point(tmp_path, measured_on=date)
    assert row.scenario is not None, row.reason
    assert row.scenario["workload"].get("expert_popularity") == popularity


# ---- runs with requests ----


def test_stages_of_an_open_loop(tmp_path: Path) -> None:
    row = one(tmp_path, OPEN_RUN)
    assert row.scenario is not None
    workload = row.scenario["workload"]
    assert workload["requests"] == 60
    assert workload["traffic"]["arrivals"]["windows"] == [{"start": 0.0, "rate": 2.0}, {"start": 10.0, "rate": 4.0}]
    assert row.measured["ttft_s.p90"] == pytest.approx(0.040)
    assert "itl_s.p90" not in row.measured


def test_sampling_of_an_open_loop_is_the_checkpoints(tmp_path: Path) -> None:
    sampled = {}
    for model in ("meta-llama/Llama-3.1-70B-Instruct", "mistralai/Mistral-Nemo-Instruct-2407"):
        scenario = one(tmp_path, OPEN_RUN | {"model": model}).scenario
        assert scenario is not None
        sampled[model] = scenario["workload"]["truncated_sampling"]
    assert list(sampled.values()) == [True, False]


def test_users_of_an_open_loop_send_their_prompts_again(tmp_path: Path) -> None:
    scenario = one(tmp_path, OPEN_RUN).scenario
    assert scenario is not None
    requests = assemble(load(scenario), seed=0).requests
    assert requests.blocks is not None
    first = {tuple(ids) for ids in requests.blocks.to_lists()[:6]}
    assert len(first) == 6, "3 system prompts with 2 users each"
    assert {tuple(ids) for ids in requests.blocks.to_lists()} == first
    assert "not recorded" in one(tmp_path, OPEN_RUN | {"users_per_prompt": ""}).reason


def test_requests_are_found_beside_the_runs_and_sorted(tmp_path: Path) -> None:
    base = {"gpu": "RTXPRO6000", "model": RUN_019["model"], "tp": "1", "dp": "1"}
    times = [("2.0", "2.9"), ("1.0", "1.5"), ("1.5", "2.2")]
    requests = [
        {**base, "input_toks": str(100 * i), "output_toks": "20", "arrival_s": sent, "last_token_s": end}
        for i, (sent, end) in enumerate(times, start=1)
    ]
    write(tmp_path / "x_requests.csv.gz", *requests)
    row = one(tmp_path, RUN_019, "x_runs.csv")
    assert row.groups["mode"] == "real requests"
    assert row.requests[0].arrival_s.tolist() == [0.0, 0.5, 1.0]
    assert row.requests[0].input_tokens.tolist() == [200, 300, 100]
    assert row.e2e_s[0].tolist() == pytest.approx([0.5, 0.7, 0.9])


def test_replicas_keep_their_own_requests_and_others_get_totals(tmp_path: Path) -> None:
    requests = [
        {"run_id": "a", "replica": str(i % 2), "arrival_s": str(3 + i), "prompt_tokens": "200", "output_tokens": "20"}
        for i in range(4)
    ]
    write(tmp_path / "x_requests.csv", *requests)
    other, nothing = {**RUN_060, "run_id": "b"}, {**RUN_060, "run_id": "c", "mean_e2e_s": ""}
    known, totals, empty = read_rows(write(tmp_path / "x_runs.csv", RUN_060, other, nothing)).rows
    assert [table.arrival_s.tolist() for table in known.requests] == [[0.0, 2.0], [0.0, 2.0]]
    assert known.scenario is not None
    assert known.scenario["plan"]["replicas"] == 1
    assert known.scenario["plan"]["max_model_len"] == 24272
    assert totals.requests == ()
    assert totals.scenario is not None
    assert totals.scenario["plan"]["replicas"] == 2
    assert totals.scenario["workload"]["rate"] == pytest.approx(0.5)
    assert "no measurement" in empty.reason


# ---- a table of one's own ----


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tp": ""}, "tp is empty"),
        ({"tp": "two"}, "tp is 'two'"),
        ({"tp": "0"}, "tp is '0'"),
        ({"concurrency": ""}, "exactly one of concurrency and rate"),
        ({"concurrency": "1.5"}, "concurrency is '1.5'"),
        ({"input_tokens": ""}, "input_tokens and output_tokens"),
    ],
)
def test_own_rows_are_never_guessed(changes: dict[str, str], reason: str, tmp_path: Path) -> None:
    assert reason in one(tmp_path, {**OWN, **changes}).reason


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown column 'colour'"):
        one(tmp_path, {**OWN, "colour": "blue"})
