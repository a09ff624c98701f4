"""Figures: what they draw, that they sum up, and that making them imports nothing too early."""

import subprocess
import sys

import numpy as np
import pytest

from sim.report import (
    breakdown_bar,
    difference_plot,
    latency_cdf,
    memory_bar,
    pareto,
    pareto_views,
    rejected_bar,
)
from sim.report.palette import DARK, SERIES
from sim.results import Evaluation, SearchResult, evaluations_frame, rejected_frame, resolve_metric
from sim.testing.results import synthetic_compare, synthetic_run, synthetic_search


def test_importing_the_reports_does_not_import_plotly() -> None:
    code = "import sys, sim.report; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pareto_shows_every_simulated_plan_once() -> None:
    found = synthetic_search()
    line, others, front, chosen = pareto(found).data
    assert line.mode == "lines"
    assert len(others.x) + len(front.x) + len(chosen.x) == len(found.simulated)
    assert len(front.x) + len(chosen.x) == len(found.front)
    assert found.recommended is not None
    assert chosen.text[0].startswith(f"<b>{found.recommended.label}</b>")
    assert chosen.y[0] == found.recommended.metrics["goodput_max_requests_per_s_per_gpu"]


def test_pareto_line_is_the_front_of_the_two_metrics() -> None:
    figure = pareto(synthetic_search(), x="cost", y="goodput_max_per_gpu")
    line, *groups = figure.data
    x, y = (np.concatenate([np.asarray(group[name]) for group in groups]) for name in ("x", "y"))
    best = {(a, b) for a, b in zip(x, y, strict=True) if not (((x <= a) & (y > b)) | ((x < a) & (y >= b))).any()}
    assert set(zip(line.x, line.y, strict=True)) == best
    assert "smaller is better" in figure.layout.xaxis.title.text
    assert "larger is better" in figure.layout.yaxis.title.text


def test_pareto_views_are_pairs_of_objectives() -> None:
    views = pareto_views(synthetic_search())
    assert len(views) == 6
    assert views["Max goodput against TTFT p99"] == ("ttft_s.p99", "goodput_max_requests_per_s_per_gpu")


def test_views_of_metrics_that_rank_plans_alike_come_last() -> None:
    rows = [(1.0, 8.0, 30e9), (2.0, 4.0, 50e9), (4.0, 2.0, 40e9)]
    names = ("step_time_s", "tokens_per_s_per_gpu", "memory_headroom_bytes")
    plans = [Evaluation({}, f"plan {row[0]}", dict(zip(names, row, strict=True))) for row in rows]
    objectives = [resolve_metric(name) for name in names]
    found = SearchResult(
        plans, plans[0], "", {}, rejected_frame([]), evaluations_frame(plans, front=plans), objectives, {}
    )
    views = [*pareto_views(found).values()]
    assert views[0] == ("memory_headroom_bytes", "step_time_s")
    assert views[-1] == ("tokens_per_s_per_gpu", "step_time_s")
    figure = pareto(found)
    assert "[GiB]" in figure.layout.xaxis.title.text
    assert sorted(x for group in figure.data[1:] for x in group.x) == pytest.approx(
        [row / 2**30 for row in (30e9, 40e9, 50e9)]
    )


def test_pareto_leaves_undefined_points_out() -> None:
    metrics = {"ttft_s": {"p99": 0.5}, "n_gpus": 8, "mfu_frac": None}
    plans = [Evaluation({}, "a", metrics), Evaluation({}, "b", {**metrics, "mfu_frac": 0.4})]
    found = SearchResult(
        plans, plans[1], "", {}, rejected_frame([]), evaluations_frame(plans, front=plans), [resolve_metric("-mfu")], {}
    )
    figure = pareto(found, x="ttft_s.p99", y="mfu")
    assert sum(len(group.x) for group in figure.data[1:]) == 1
    assert "smaller is better" in figure.layout.yaxis.title.text  # as the objective says
    assert figure.layout.yaxis.tickformat == ".0%"


def test_labels_are_escaped_in_hover() -> None:
    plan = Evaluation({}, "<b>&", {"ttft_s": {"p99": 0.5}, "n_gpus": 8})
    found = SearchResult([], None, "", {}, rejected_frame([]), evaluations_frame([plan]), [], {})
    assert pareto(found, x="ttft_s.p99", y="gpus").data[1].text[0].startswith("<b>&lt;b&gt;&amp;</b>")


def test_latency_curves_rise_to_one_and_mark_the_slo() -> None:
    figure = latency_cdf(synthetic_run())
    assert len(figure.data) == 3
    for curve in figure.data:
        assert (np.diff(curve.x) >= 0).all()
        assert (np.diff(curve.y) >= 0).all()
        assert curve.y[-1] == pytest.approx(1.0)
    texts = [note.text for note in figure.layout.annotations]
    assert texts == ["TTFT", "TPOT", "E2E", "SLO 2 s", "SLO 50 ms"]
    assert [line.x0 for line in figure.layout.shapes] == [2.0, 0.05]


def test_latency_curves_of_several_runs_have_a_legend() -> None:
    figure = latency_cdf(synthetic_compare().runs())
    assert len(figure.data) == 9
    assert [curve.name for curve in figure.data if curve.showlegend] == ["base", "h200", "fp8-kv"]


def test_latency_of_nothing_is_an_empty_figure() -> None:
    run = synthetic_run()
    run.requests = run.requests[:0]
    assert [len(curve.x) for curve in latency_cdf(run).data] == [0, 0, 0]


def test_breakdown_sums_to_one() -> None:
    bar = breakdown_bar(synthetic_run()).data[0]
    assert sum(bar.x) == pytest.approx(1.0)
    assert bar.y[0] == "idle"
    assert bar.y[-1] == "projections"


def test_memory_sums_to_the_gpu() -> None:
    run = synthetic_run()
    figure = memory_bar(run)
    assert sum(part.x[0] for part in figure.data) * 2**30 == pytest.approx(sum(run.memory.values()))
    assert figure.to_json() == memory_bar(run.memory).to_json()


def test_rejected_counts() -> None:
    bar = rejected_bar(synthetic_search()).data[0]
    assert dict(zip(bar.y, bar.x, strict=True)) == {"memory": 20, "heads": 10}


def test_differences_have_their_intervals() -> None:
    figure = difference_plot(synthetic_compare())
    first = figure.data[0]
    ttft = list(first.y).index("TTFT p99")
    assert first.x[ttft] == pytest.approx(1 / 1.4 - 1)
    assert first.error_x.array[ttft] == pytest.approx(0.2 * (1 - 1 / 1.4))
    assert first.error_x.arrayminus[ttft] == pytest.approx(0.2 * (1 - 1 / 1.4))


def test_every_series_colour_has_a_dark_partner() -> None:
    assert set(SERIES) <= set(DARK)


def test_figures_are_deterministic() -> None:
    assert pareto(synthetic_search()).to_json() == pareto(synthetic_search()).to_json()
    assert latency_cdf(synthetic_run()).to_json() == latency_cdf(synthetic_run()).to_json()
