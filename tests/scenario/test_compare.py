"""What-if comparison: the same requests on both sides, and what their difference says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.core import InfeasibleError, InputError
from sim.results import CompareResult, metric_paths
from sim.scenario import Scenario, compare, load, run
from sim.testing.scenarios import small_scenario

NOTHING = {"name": "nothing", "set": {"plan.tp": 1}}
WIDE = {"name": "wide", "set": {"plan.tp": 2}}
H200 = {"name": "h200", "set": {"cluster": "dgx-h200-1"}}


def scenario(*variants: dict[str, Any], **values: Any) -> Scenario:
    base = {"variants": list(variants), "replications": 3, "plan.tp": 1, "workload.requests": 40}
    return small_scenario({**base, **values})


def hashes(result: CompareResult) -> set[str]:
    return {one.provenance["inputs"]["requests_sha256"] for one in result.runs().values()}


def test_base_and_variants_serve_the_same_requests() -> None:
    result = compare(scenario(WIDE, H200))
    assert len(hashes(result)) == 1
    assert list(result.runs()) == ["base", "wide", "h200"]


def test_a_variant_of_the_rate_keeps_lengths_and_scales_gaps() -> None:
    result = compare(scenario({"name": "twice", "set": {"workload.rate": 16.0}}))
    base, twice = result.base.requests, result.variants[0].run.requests
    assert base["input_tokens"].tolist() == twice["input_tokens"].tolist()
    np.testing.assert_allclose(base["arrival_s"], 2 * twice["arrival_s"])


def test_a_difference_is_variant_minus_base_over_all_pairs() -> None:
    case = scenario(WIDE)
    found = compare(case, seed=4).variants[0].difference
    pairs = [
        (metric_paths(run(case, seed=seed).metrics), metric_paths(run(case.variant(0), seed=seed).metrics))
        for seed in (4, 5, 6)
    ]
    for path in ("ttft_s.p99", "tpot_s.mean", "cost_usd_per_million_output_tokens", "n_gpus", "requests.finished"):
        deltas = np.array([float(b[path] or 0) - float(a[path] or 0) for a, b in pairs])
        difference = found[path]
        assert difference.value == pytest.approx(deltas.mean(), abs=1e-12)
        assert difference.interval is not None
        low, high = difference.interval
        half = 2.919986 * deltas.std(ddof=1) / np.sqrt(3)  # Student t, two degrees of freedom, two-sided 90 %
        assert (low, high) == pytest.approx((deltas.mean() - half, deltas.mean() + half), rel=1e-6, abs=1e-12)
        assert low <= difference.value <= high
    base = float(np.mean([float(a["tpot_s.mean"] or 0) for a, _ in pairs]))
    assert found["tpot_s.mean"].relative == pytest.approx(found["tpot_s.mean"].value / base)
    assert found["tpot_s.mean"].value < 0, "two GPUs decode faster"
    assert found["tpot_s.mean"].sure


def test_shown_runs_are_those_of_the_first_seed() -> None:
    case = scenario(WIDE)
    result = compare(case, seed=7)
    assert result.base.to_json() == run(case, seed=7).to_json()
    assert result.variants[0].run.to_json() == run(case.variant(0), seed=7).to_json()


def test_a_variant_that_changes_nothing_differs_in_nothing() -> None:
    difference = compare(scenario(NOTHING)).variants[0].difference
    assert len(difference) > 40
    assert {each.value for each in difference.values()} == {0.0}
    assert {each.interval for each in difference.values()} == {(0.0, 0.0)}
    assert not any(each.sure for each in difference.values())


def test_one_pair_has_no_interval() -> None:
    difference = compare(scenario(WIDE, replications=1)).variants[0].difference
    assert {each.interval for each in difference.values()} == {None}
    assert {each.sure for each in difference.values()} == {None}
    assert difference["tpot_s.mean"].value < 0


def test_a_trace_is_one_realisation(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [{"plansim": "requests", "version": 1, "name": "mine"}]
    rows += [{"arrival_s": i / 4, "input_tokens": 50 + i, "output_tokens": 5} for i in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    difference = compare(scenario(WIDE, **{"workload.trace": {"path": str(path)}})).variants[0].difference
    assert {each.interval for each in difference.values()} == {None}


def test_metrics_that_one_side_lacks_are_left_out() -> None:
    """Without an SLO there is no goodput to compare with."""
    difference = (
        compare(scenario({"name": "slo", "set": {"slo": {"ttft": 1.0}}}, replications=1)).variants[0].difference
    )
    assert "goodput_requests_per_s" not in difference
    assert difference["ttft_s.mean"].value == 0.0


def test_workers_and_progress_change_nothing() -> None:
    seen: list[tuple[int, int, str]] = []
    alone = compare(scenario(WIDE), progress=lambda *step: seen.append(step))
    together = compare(scenario(WIDE), workers=2)
    assert json.dumps(alone.to_json()) == json.dumps(together.to_json())
    assert seen == [(i + 1, 6, "base" if i < 3 else "wide") for i in range(6)]


def test_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="no variants") as caught:
        compare(scenario())
    assert caught.value.path == "variants"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"plan.replica": 2}, ["plan.replica", "did you mean"]),
        ({"plan.tp": 0}, ["plan.tp", "0"]),
        ({"name.x": 1}, ["mapping"]),
    ],
)
def test_a_mistake_in_a_variant_is_blamed_on_it(tmp_path: Path, values: dict[str, Any], words: list[str]) -> None:
    """With the file and the line of the variant."""
    text = f"""\
name: small
model: llama-3.1-8b
cluster: dgx-h100-1
workload: {{traffic: chat-poisson, requests: 5}}
variants:
  - {{name: good, set: {{plan.tp: 2}}}}
  - {{name: bad, set: {json.dumps(values).replace('"', "")}}}
"""
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        compare(load(path))
    for word in [*words, "small.yaml:7", "variants.1"]:
        assert word in str(caught.value)


def test_a_variant_that_cannot_run_is_named_with_the_reasons() -> None:
    with pytest.raises(InfeasibleError, match="'huge'") as caught:
        compare(scenario({"name": "huge", "set": {"model": "llama-3.1-405b"}}))
    assert [reason.code for reason in caught.value.reasons] == ["memory"]
