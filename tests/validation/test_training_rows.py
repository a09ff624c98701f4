"""Measured training runs: seconds behind each figure, what can't be evaluated and why, and the two halves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim.training.flops import palm_flops_per_token
from sim.validation import MeasuredRow, predict, read_rows, score
from sim.validation.flop_rates import Counted, flops_per_step
from sim.validation.formats.training_runs import half_of
from tests.training.builders import gpt
from tests.validation.samples import TRAINING, write


def row(tmp_path: Path, **changes: str) -> MeasuredRow:
    return read_rows(write(tmp_path / "t.csv", {**TRAINING, **changes})).rows[0]


def test_a_time_a_rate_and_memory_are_taken_as_they_are(tmp_path: Path) -> None:
    assert row(tmp_path).measured == {"step_time_s": 0.9, "peak_memory_bytes": 20 * 2.0**30}
    rate = row(tmp_path, metric="tokens_per_s_per_gpu", value="4000", unit="tok/s/GPU", extra_metrics="peak_mem_GB=16")
    assert rate.measured == {"tokens_per_s_per_gpu": 4000.0, "peak_memory_bytes": 16e9}


@pytest.mark.parametrize(
    ("definition", "factor"),
    [("model 72Bslh^2 full attention", 72.0), ("hardware 96Bslh^2 full attention", 96.0)],
)
def test_a_flop_rate_becomes_seconds_by_its_definition(definition: str, factor: float, tmp_path: Path) -> None:
    found = row(tmp_path, metric="HW_TFLOPs_per_GPU", value="120", unit="TFLOP/s/GPU", flops_definition=definition)
    s, h, layers, vocab = 1024, 2048, 24, 50257
    head = vocab / ((16.0 if factor == 96.0 else 12.0) * layers * h)
    flops = factor * 32 * s * layers * h * h * (1 + s / (6 * h) + head)
    assert found.measured["step_time_s"] == pytest.approx(flops / (120e12 * 8))


def test_utilisation_is_of_the_sixteen_bit_peak(tmp_path: Path) -> None:
    given = {"flops_definition": "model 72Bslh^2", "unit": "%"}
    share = row(tmp_path, metric="MFU", value="50", **given).measured["step_time_s"]
    rate = row(tmp_path, metric="model_TFLOPs_per_GPU", value="156", **given).measured["step_time_s"]
    assert share == pytest.approx(rate)


def test_dense_definitions_agree_with_palm_s(tmp_path: Path) -> None:
    model, n = gpt(layers=4, hidden=512, heads=8), 1e9
    counted = Counted(model, batch=2.0, sequence=1024.0, parameters=n)
    expected = 2 * 1024 * palm_flops_per_token(model, sequence=1024, parameters=n)
    for definition in ("6N+12LHQT per token", "6N+12Lhs per token, full attention", "3(2Ns+4Lds^2), full attention"):
        assert flops_per_step(definition, counted) == pytest.approx(expected)
    half = flops_per_step("6N tok + 6s^2dhL causal", counted)
    assert half is not None
    assert half < expected
    assert flops_per_step("some other way", counted) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "MFU", "value": "50"}, "can't be evaluated"),
        ({"metric": "MFU", "value": "50", "flops_definition": "as we like"}, "as we like"),
        ({"global_batch": ""}, "global_batch"),
        ({"pp": "6-12 (not stated)"}, "6-12"),
        ({"gpu": "TPUv4"}, "TPUv4"),
        ({"sharding_offload": "ZeRO-3 + NVMe offload"}, "offload"),
        ({"usable": "RL"}, "reinforcement"),
        ({"usable": "no"}, "unusable"),
        ({"metric": "weak_scaling_efficiency", "value": "100"}, "weak_scaling_efficiency"),
        ({"tp": "3"}, "does not divide"),
    ],
)
def test_what_cannot_be_evaluated_says_why(changes: dict[str, str], words: str, tmp_path: Path) -> None:
    found = row(tmp_path, **{"extra_metrics": "", **changes})
    assert found.scenario is None
    assert words in found.reason


def test_memory_counts_even_where_the_flop_rate_does_not(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", {**TRAINING, "metric": "MFU", "value": "50"})
    entries = {entry.metric: entry for entry in score([read_rows(path)]).entries[0][0]}
    assert entries["step_time_s"].predicted is None
    assert "can't be evaluated" in entries["step_time_s"].reason
    assert entries["peak_memory_bytes"].error is not None


@pytest.mark.parametrize(
    ("changes", "plan"),
    [
        ({"recompute": "selective + SP"}, {"recompute": "selective", "sp": True}),
        ({"recompute": "selective layer"}, {"recompute": "full", "recompute_every": 2}),
        ({"sharding_offload": "FSDP FULL_SHARD(ZeRO-3)"}, {"zero": 3}),
        ({"schedule": "ZB-1p", "recompute": "none"}, {"schedule": "zb_h1"}),
        ({"precision": "bf16+compile"}, {"compiled": True}),
        ({"schedule": "1F1B + interlaced", "pp": "4"}, {"schedule": "1f1b_interlaced"}),
        ({"schedule": "1F1B + redis", "pp": "4"}, {"layers_per_stage": [7, 7, 6, 4]}),
        ({"vpp": "2"}, {"vpp": 2, "schedule": "interleaved"}),
        ({"micro_batch": "not stated"}, {"micro_batch": 1}),
        ({"micro_batch": "not stated", "pp": "1", "dp": "4"}, {"micro_batch": 8}),
    ],
)
def test_layouts_are_read(changes: dict[str, str], plan: dict[str, Any], tmp_path: Path) -> None:
    found = row(tmp_path, **changes)
    assert found.scenario is not None
    assert found.scenario["plan"].items() >= plan.items()
    assert predict(found).values["step_time_s"]


@pytest.mark.parametrize(
    ("name", "parallel", "window", "plan"),
    [
        ("GPT 175B baseline Megatron-LM", False, None, {}),
        ("GPT 175B +parallel transformer block", True, None, {"overlap_dp": False, "overlap_p2p": False}),
        ("GPT 175B +TP overlap", True, 512, {"overlap_dp": False, "overlap_p2p": False, "overlap_tp": True}),
        ("GPT 175B (MegaScale)", True, 512, {"overlap_dp": True, "overlap_p2p": True, "overlap_tp": True}),
    ],
)
def test_steps_of_megascale_s_ablation_add_up(
    name: str, parallel: bool, window: int | None, plan: dict[str, Any], tmp_path: Path
) -> None:
    found = row(tmp_path, model=name).scenario
    assert found is not None
    [layer] = found["model"]["layers"]
    assert layer["parallel"] is parallel
    assert layer["attention"].get("window") == window
    assert found["plan"].items() >= plan.items()


@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        ("bf16", "bf16"),
        ("FP8", "fp8"),
        ("float8+compile", "fp8_dynamic"),
        ("float8 rowwise+compile", "fp8_rowwise"),
    ],
)
def test_recipes_are_read(text: str, recipe: str, tmp_path: Path) -> None:
    found = row(tmp_path, precision=text).scenario
    assert found is not None
    assert found["workload"]["precision"] == recipe


def test_rates_and_times_are_the_same_prediction(tmp_path: Path) -> None:
    step_s = predict(row(tmp_path)).values["step_time_s"]
    rate = predict(row(tmp_path, metric="tokens_per_s_per_gpu", value="1")).values["tokens_per_s_per_gpu"]
    assert step_s is not None
    assert rate == pytest.approx(32 * 1024 / 8 / step_s)


def test_halves_are_fixed_and_even() -> None:
    names = [f"T{number:04d}" for number in range(2000)]
    halves = [half_of(name) for name in names]
    assert 900 < halves.count("fit") < 1100
    assert (half_of("T0001"), half_of("T0002")) == (halves[1], halves[2])
    assert {"fit", "held out"} == set(halves)
