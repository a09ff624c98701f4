"""Tables for the terminal, and results in words."""

from typing import Any

import pytest
from rich.console import Console

from sim.report import compare_tables, run_tables, search_tables, what_changed, why_lost
from sim.results import Evaluation, SearchResult, evaluations_frame, rejected_frame, resolve_metric
from sim.testing.results import synthetic_compare, synthetic_run, synthetic_search


def printed(parts: list[Any], *, width: int = 120) -> str:
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    return capture.get()


def small_search(best: dict[str, Any], other: dict[str, Any], *, on_front: bool) -> SearchResult:
    """A search over two plans by TTFT p99 and cost; the first is recommended."""
    plans = [Evaluation({}, "best", best), Evaluation({}, "other", other)]
    front = plans if on_front else plans[:1]
    objectives = [resolve_metric("ttft_s.p99"), resolve_metric("cost")]
    scenario = {"name": "s", "slo": {"ttft": 2.0, "attainment": 0.9}}
    table = evaluations_frame(plans, front=front)
    return SearchResult(front, plans[0], "it is cheapest", {}, rejected_frame([]), table, objectives, {}, scenario)


def numbers(ttft_s: float, cost: float, gpus: int = 4, attained: float = 1.0, mean_s: float = 0.2) -> dict[str, Any]:
    return {
        "ttft_s": {"mean": mean_s, "p99": ttft_s},
        "cost_usd_per_million_output_tokens": cost,
        "n_gpus": gpus,
        "slo_attainment_frac": attained,
    }


@pytest.mark.parametrize(
    ("other", "on_front", "why"),
    [
        (numbers(0.5, 2.0), True, "costs more (+100 %); better in TTFT p99 −50.0 %"),
        (numbers(0.5, 1.0, gpus=8), True, "needs more GPUs (+100 %); better in TTFT p99 −50.0 %"),
        (numbers(0.5, 1.0, mean_s=0.3), True, "has a longer mean TTFT (+50.0 %); better in TTFT p99 −50.0 %"),
        (numbers(1.0, 1.0), True, "comes later by the rule of the recommendation"),
        (
            numbers(2.0, 0.5, attained=0.5),
            True,
            "keeps the SLO for 50 % of the requests, 90 % are wanted; better in Cost −50.0 %",
        ),
        (numbers(2.0, 1.5), False, "beaten by best: TTFT p99 +100 %, Cost +50.0 %"),
        (
            numbers(2.0, 1.0, attained=0.5),
            False,
            "keeps the SLO for 50 % of the requests, 90 % are wanted; beaten by best: TTFT p99 +100 %",
        ),
    ],
)
def test_why_a_plan_lost(other: dict[str, Any], on_front: bool, why: str) -> None:
    (loss,) = why_lost(small_search(numbers(1.0, 1.0), other, on_front=on_front))
    assert (loss.label, loss.on_front, loss.why) == ("other", on_front, why)


def test_every_loser_is_explained() -> None:
    found = synthetic_search()
    losses = why_lost(found)
    assert len(losses) == len(found.simulated) - 1
    assert [loss.on_front for loss in losses] == sorted((loss.on_front for loss in losses), reverse=True)
    assert not [loss for loss in losses if loss.why == "not on the front"]


def test_search_tables() -> None:
    found = synthetic_search()
    text = printed(search_tables(found))
    assert found.recommended is not None
    assert f"Recommended: {found.recommended.label}" in text
    assert f"{found.recommended.label} ★" in text
    assert "Max goodput [req/s/GPU]" in text
    assert "vllm serve meta-llama/Llama-3.1-70B" in text
    assert "Why the others lost" in text
    assert "weights need 141 GB per GPU" in text
    assert max(map(len, text.splitlines())) <= 120


def test_search_tables_without_a_plan() -> None:
    found = SearchResult(
        [], None, "nothing fits", {"generated": 1, "infeasible": {"memory": 1}},
        rejected_frame([("tp1", "memory", "too big [x]")]), evaluations_frame([]), [], {},
    )  # fmt: skip
    text = printed(search_tables(found))
    assert "No plan to recommend: nothing fits" in text
    assert "too big [x]" in text


@pytest.mark.parametrize("width", [80, 120])
def test_run_tables(width: int) -> None:
    text = printed(run_tables(synthetic_run(goodput=0.5)), width=width)
    for words in ("Latency", "TTFT", "p99", "Delivers", "Max goodput", "Time goes to", "idle", "weights", "Start it"):
        assert words in text
    assert max(map(len, text.splitlines())) <= width


def test_compare_tables() -> None:
    text = printed(compare_tables(synthetic_compare()))
    assert "h200: TTFT p99 −28.6 %" in text
    assert "243 ms (−28.6 %)" in text
    assert "(−2.0 % ≈)" in text


def test_what_changed_leaves_unsure_changes_out() -> None:
    sure, unsure = what_changed(synthetic_compare())
    assert sure.startswith("h200: TTFT p99 −28.6 %, TPOT p99 −28.6 %")
    assert sure.endswith("attains the SLO (100 % of the requests).")
    assert unsure.startswith("fp8-kv: no sure change")
