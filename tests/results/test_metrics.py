"""The table of metrics, names of objectives, and that docs/metrics.md is fresh."""

from pathlib import Path

import pytest

from sim.core import InputError
from sim.results import (
    METRICS,
    TRAINING_ONLY,
    get_metric,
    metric_paths,
    metric_title,
    metric_unit,
    metrics_markdown,
    resolve_metric,
)
from sim.testing.results import synthetic_run

DESIGN_KEYS = (
    "ttft_s",
    "tpot_s",
    "itl_s",
    "e2e_s",
    "requests_per_s",
    "output_tokens_per_s",
    "output_tokens_per_s_per_gpu",
    "total_tokens_per_s_per_gpu",
    "goodput_requests_per_s",
    "slo_attainment_frac",
    "mfu_frac",
    "mbu_frac",
    "energy_j",
    "energy_j_per_output_token",
    "cost_usd_per_million_output_tokens",
    "interactivity_tokens_per_s_per_user",
    "n_gpus",
    "kv_cache_tokens",
    "preemptions",
    "duration_s",
    "requests",
    "goodput_max_requests_per_s_per_gpu",
)


def test_docs_are_fresh() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert text == metrics_markdown(), "run the command that docs/metrics.md names"


def test_every_metric_of_the_design_is_defined_and_computed() -> None:
    assert set(DESIGN_KEYS) <= set(METRICS)
    serving = [name for name in METRICS if name not in TRAINING_ONLY]
    assert list(synthetic_run(goodput=0.5).metrics) == serving
    assert list(synthetic_run().metrics["requests"]) == ["in", "finished", "running", "queued", "rejected", "failed"]
    assert list(synthetic_run().metrics["ttft_s"]) == ["mean", "p50", "p90", "p95", "p99"]


@pytest.mark.parametrize(
    ("name", "path", "maximise"),
    [
        ("goodput_max_per_gpu", "goodput_max_requests_per_s_per_gpu", True),
        ("ttft_s.p99", "ttft_s.p99", False),
        ("ttft_s", "ttft_s.mean", False),
        ("ttft.p90", "ttft_s.p90", False),
        ("cost", "cost_usd_per_million_output_tokens", False),
        ("energy", "energy_j_per_output_token", False),
        ("gpus", "n_gpus", False),
        ("throughput", "output_tokens_per_s_per_gpu", True),
        ("mfu", "mfu_frac", True),
        ("-mfu", "mfu_frac", False),
        ("+duration_s", "duration_s", True),
        ("requests.rejected", "requests.rejected", False),
        ("requests.finished", "requests.finished", True),
        ("+busy_frac", "busy_frac", True),
    ],
)
def test_objectives(name: str, path: str, maximise: bool) -> None:
    objective = resolve_metric(name)
    assert (objective.path, objective.maximise) == (path, maximise)
    assert objective.direction == ("max" if maximise else "min")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ttfs_s.p99", "did you mean 'ttft_s'?"),
        ("ttft_s.p42", "no part 'p42'"),
        ("n_gpus.p99", "no part 'p99'"),
        ("busy_frac", "'+busy_frac' to maximise"),
        ("requests.in", "'+requests.in' to maximise"),
        ("", "unknown metric"),
    ],
)
def test_wrong_objectives(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_metric(name)
    assert said in str(caught.value)


def test_paths_lead_to_numbers() -> None:
    metrics = synthetic_run(goodput=0.5).metrics
    flat = metric_paths(metrics)
    serving = [metric for metric in METRICS.values() if metric.name not in TRAINING_ONLY]
    assert set(flat) == {path for metric in serving for path in metric.paths}
    assert all(get_metric(metrics, path) == pytest.approx(value) for path, value in flat.items())
    assert get_metric(metrics, "ttft_s") == metrics["ttft_s"]["mean"]
    assert get_metric(metrics, "nothing.p99") is None
    assert (metric_title("ttft_s.p99"), metric_unit("ttft_s.p99")) == ("TTFT p99", "s")


def test_short_names_are_unique_and_hide_no_metric() -> None:
    short = [name for metric in METRICS.values() for name in metric.short]
    assert len(short) == len(set(short))
    for metric in METRICS.values():
        assert metric.name not in short
        assert metric.definition.endswith(".")
