"""A training scenario through the command and from Python: the document, the tables, and refusals with numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sim
from sim.core import InputError
from sim.results import METRICS, TRAINING_ONLY, TrainingResult
from tests.conftest import Command

NAME = "llama3-70b-train-h100"
SMALL = ("cluster={node: dgx-h100, nodes: 4}", "workload.global_batch=64", "plan={tp: 8, pp: 4, recompute: full}")


def options(*overrides: str) -> list[str]:
    return [part for text in overrides for part in ("--set", text)]


def test_run_gives_the_document_of_the_contract(plansim: Command) -> None:
    done = plansim("run", NAME, *options(*SMALL), "--json")
    assert (done.code, done.err) == (0, "")
    document = done.document
    assert (document["schema_version"], document["command"], document["infeasible"]) == (1, "run", [])
    metrics = document["metrics"]
    assert set(metrics) <= set(METRICS)
    assert set(metrics) >= TRAINING_ONLY
    assert document["intervals"].keys() == metrics.keys()
    breakdown = document["breakdown"]
    assert sum(breakdown["parts"].values()) == pytest.approx(breakdown["explains_s"], rel=1e-9)
    assert breakdown["explains_s"] == metrics["step_time_s"]
    tokens = 64 * 8192
    assert metrics["tokens_per_s_per_gpu"] * 32 * metrics["step_time_s"] == pytest.approx(tokens)
    assert metrics["mfu_frac"] == pytest.approx(metrics["model_tflops_per_gpu"] / 989.4, rel=1e-6)
    assert metrics["goodput_frac"] == pytest.approx(500 * metrics["step_time_s"] / (500 * metrics["step_time_s"] + 60))
    assert metrics["checkpoint_loss_frac"] == pytest.approx(1.0 - metrics["goodput_frac"])
    assert metrics["peak_reserved_bytes"] > metrics["peak_memory_bytes"] + 1.5 * 2**30
    seconds = 15e12 / (metrics["tokens_per_s_per_gpu"] * 32) / metrics["goodput_frac"]
    assert metrics["training_time_s"] == pytest.approx(seconds)
    assert sum(document["memory"].values()) == pytest.approx(79.6 * 2**30)
    assert document["provenance"]["costs"]
    assert document["provenance"]["assumptions"]
    assert len(document["stages"]) == 4
    found = sim.run(sim.load(NAME, overrides=SMALL))
    assert isinstance(found, TrainingResult)
    assert json.loads(json.dumps(found.to_json())) == document


def test_tables_for_people_and_files(plansim: Command, tmp_path: Path) -> None:
    done = plansim("run", NAME, *options(*SMALL), "--out", tmp_path)
    assert done.code == 0
    for word in ("Step time", "MFU", "bubble", "optimizer", "tp comm"):
        assert word in done.out
    assert {path.name for path in tmp_path.iterdir()} == {
        "manifest.json",
        "report.html",
        "result.json",
        "scenario.yaml",
        *(f"{name}.parquet" for name in ("stages", "stage_memory", "passes", "memory_over_time")),
    }
    again = sim.load(tmp_path / "scenario.yaml")
    assert again.root == sim.load(NAME, overrides=SMALL).root
    shown = repr(sim.run(again))
    assert "Step time" in shown
    assert len(shown.splitlines()) < 60


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("plan.tp=3", ["3", "1024 GPUs"]),
        ("plan={tp: 1}", ["memory", "GiB", "optimizer"]),
        ("workload.global_batch=1000", ["1000", "960 or 1024"]),
        ("plan={tp: 4, pp: 4, vpp: 5, micro_batch: 2, schedule: 1f1b}", ["virtual stage", "5"]),
        ("plan={tp: 8, pp: 4, vpp: 3, micro_batch: 16}", ["multiple"]),
    ],
)
def test_infeasible_layouts_exit_3_with_numbers(override: str, words: list[str], plansim: Command) -> None:
    done = plansim("run", NAME, "--set", override, "--json")
    assert done.code == 3, done.err
    message = " ".join(reason["message"] + reason["code"] for reason in done.document["infeasible"])
    assert all(word in message for word in words), message
    assert all(reason["numbers"] for reason in done.document["infeasible"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("plan.zero=5", ["plan.zero", "5"]),
        ("plan.replicas=2", ["plan.replicas"]),
        ("workload.traffic=x", ["workload.traffic"]),
        ("workload.sequence_length=0", ["workload.sequence_length"]),
        ("plan.schedule=1f1c", ["1f1b"]),
        ("engine=megatron", ["megatron-lm"]),
        ("engine=vllm", ["training_engine", "vllm"]),
        ("workload.precision=int7", ["workload.precision"]),
    ],
)
def test_bad_input_exits_2_and_names_the_place(override: str, words: list[str], plansim: Command) -> None:
    done = plansim("run", NAME, "--set", override)
    assert done.code == 2
    assert all(word in done.err for word in words), done.err


def test_compare_gives_the_difference_of_every_metric_of_paired_steps(
    plansim: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # names of metrics do not wrap
    variants = [
        {"name": "none", "set": {"plan.recompute": "selective", "plan.zero": 3}},
        {"name": "h200", "set": {"cluster.node": "dgx-h200"}},
    ]
    options = [part for text in (*SMALL, f"variants={json.dumps(variants)}") for part in ("--set", text)]
    done = plansim("compare", NAME, *options, "--json", "--out", tmp_path, "--workers", 1)
    assert (done.code, done.document["command"]) == (0, "compare")
    base, (other, h200) = done.document["base"], done.document["variants"]
    assert base["metrics"] == plansim("run", NAME, *options, "--json").document["metrics"]
    for path, change in other["difference"].items():
        assert change["interval"] is None, "a step draws nothing"
        assert change["value"] == pytest.approx(other["metrics"][path] - base["metrics"][path])
    assert other["difference"]["hfu_frac"]["relative"] != other["difference"]["mfu_frac"]["relative"]
    assert h200["difference"]["step_time_s"]["value"] < 0
    assert {"report.html", "result.json", "base", "variant-1", "variant-2"} <= {
        each.name for each in tmp_path.iterdir()
    }
    shown = plansim("compare", NAME, *options, "--workers", 1).out
    assert "Exposed TP communication" in shown
    assert "Exposed CP communication" not in shown, "nothing where there is none"


def test_compare_wants_variants(plansim: Command) -> None:
    done = plansim("compare", NAME)
    assert done.code == 2
    assert "no variants" in done.err


@pytest.mark.parametrize("option", ["--trace", "--check"])
def test_options_of_serving_are_refused(option: str, plansim: Command) -> None:
    done = plansim("run", NAME, option)
    assert done.code == 2
    assert option in done.err


def test_a_shape_may_be_written_inline() -> None:
    scenario: dict[str, Any] = {
        "name": "inline",
        "model": {
            "name": "mine",
            "hidden_size": 1024,
            "vocab_size": 32000,
            "max_position_embeddings": 2048,
            "layers": [
                {
                    "count": 4,
                    "attention": {"kind": "gqa", "heads": 16, "kv_heads": 4, "head_dim": 64},
                    "ffn": {"kind": "dense", "intermediate": 4096},
                }
            ],
        },
        "cluster": {"node": "dgx-a100"},
        "workload": {"kind": "training", "global_batch": 16, "sequence_length": 1024},
    }
    result = sim.run(sim.load(scenario))
    assert isinstance(result, TrainingResult)
    assert result.metrics["step_time_s"] > 0
    with pytest.raises(InputError):
        _ = sim.load(scenario).spec


def test_intervals_go_with_the_step_time() -> None:
    result = sim.run(sim.load(NAME, overrides=SMALL))
    assert isinstance(result, TrainingResult)
    low, high = result.intervals["step_time_s"]
    assert low < result.metrics["step_time_s"] < high
    rate = result.intervals["tokens_per_s_per_gpu"]
    tokens = 64 * 8192 / 32
    assert rate == pytest.approx([tokens / high, tokens / low])
    assert result.intervals["training_time_s"][1] / result.metrics["training_time_s"] == pytest.approx(
        high / result.metrics["step_time_s"]
    )
    assert result.intervals["peak_memory_bytes"] is None
