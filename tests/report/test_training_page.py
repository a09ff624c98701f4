"""The page and figures of a training step: they show what its tables hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sim
from sim.report import html_text, memory_timeline, stage_memory_bar
from sim.results import TrainingResult

NAME = "llama3-70b-train-h100"
SMALL = ("cluster={node: dgx-h100, nodes: 8}", "workload.global_batch=32")


def result_of(*overrides: str) -> TrainingResult:
    result = sim.run(sim.load(NAME, overrides=[*SMALL, *overrides]))
    assert isinstance(result, TrainingResult)
    return result


@pytest.fixture(scope="module", params=["plan={tp: 8, pp: 4, vpp: 4}", "plan={tp: 8, pp: 4, schedule: dualpipe}"])
def result(request: pytest.FixtureRequest) -> Any:
    return result_of(request.param, "plan.recompute=full")


def test_memory_over_time_reaches_the_peak_of_each_stage_and_ends_where_it_began(result: TrainingResult) -> None:
    table = result.memory_over_time
    for device, peak in enumerate(result.stage_memory["allocated_bytes"]):
        own = table[table["device"] == device]
        assert own["at_s"].is_monotonic_increasing
        assert own["allocated_bytes"].max() == pytest.approx(peak)
        assert own["activations_bytes"].iloc[-1] == pytest.approx(0.0, abs=1.0)
    assert result.stage_memory["allocated_bytes"].max() == pytest.approx(result.metrics["peak_memory_bytes"])


def test_the_passes_are_those_of_the_step(result: TrainingResult) -> None:
    plan, passes = result.plan, result.passes
    forward = passes[passes["kind"] == "F"]
    assert len(forward) == plan["microbatches"] * plan["pp"] * plan["vpp"]
    assert passes["finish_s"].max() < result.metrics["step_time_s"]


def test_figures_hold_the_tables(result: TrainingResult) -> None:
    bars = stage_memory_bar(result)
    stacked = np.sum([trace.y for trace in bars.data], axis=0) * 2**30
    np.testing.assert_allclose(stacked, result.stage_memory["allocated_bytes"])
    (limit,) = (shape.y0 for shape in bars.layout.shapes)
    assert limit * 2**30 == pytest.approx(sum(result.memory.values()) - result.memory["runtime_bytes"])
    assert result.memory["free_bytes"] == pytest.approx(result.metrics["memory_headroom_bytes"])
    lines = memory_timeline(result)
    two_ways = ["stages 0 and 3", "stages 1 and 2"]  # either end of DualPipe holds the same
    alone = [f"stage {i}" for i in range(result.plan["pp"])]
    assert [trace.name for trace in lines.data] == (two_ways if result.plan["schedule"] == "dualpipe" else alone)


def test_the_pipeline_says_what_its_signs_mean(result: TrainingResult) -> None:
    text = html_text(result)
    assert ("half the height" in text) == (result.plan["schedule"] == "dualpipe")
    assert ("Shades tell the chunks" in text) == (result.plan["vpp"] > 1)


def test_transfers_between_stages_have_one_source(result: TrainingResult) -> None:
    names = [name for name in result.provenance["costs"] if name.startswith("p2p")]
    assert names == ["p2p between stages"]


def test_the_page_has_pipeline_and_memory(result: TrainingResult) -> None:
    text = html_text(result)
    for name in ("time-plot", "pipeline-plot", "memory-plot", "memory-time-plot"):
        assert f'id="{name}-data"' in text


def test_a_step_without_a_pipeline_or_with_very_many_passes_says_so() -> None:
    alone = html_text(result_of("plan={tp: 8, recompute: full, zero: 3}"))
    assert 'id="pipeline"' not in alone
    many = result_of("plan={tp: 8, pp: 4}", "workload.global_batch=16384", "plan.recompute=full")
    assert "passes" not in many.tables()
    assert "65,536 passes, too many to draw" in html_text(many)
