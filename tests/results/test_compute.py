"""Arithmetic of every metric on hand-made runs, and the laws a run must keep (1 and 12)."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import PlansimError, summarise
from sim.results import GapRuns, SloSpec, compute_metrics
from sim.testing.results import gaps_of, synthetic_facts, synthetic_requests

NAN = float("nan")


def table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Requests from (status, arrival, scheduled, first token, finish, emitted, asked, input)."""
    columns = ["status", "arrival_s", "first_scheduled_s", "first_token_s", "finish_s", "emitted_tokens"]
    frame = pd.DataFrame(rows, columns=[*columns, "output_tokens", "input_tokens"])
    frame["request"] = np.arange(len(frame))
    frame["ttft_s"] = frame["first_token_s"] - frame["arrival_s"]
    frame["engine_ttft_s"] = frame["ttft_s"] - 0.1
    frame["e2e_s"] = frame["finish_s"] - frame["arrival_s"]
    gaps = (frame["emitted_tokens"] - 1).where(frame["emitted_tokens"] > 1)
    frame["tpot_s"] = (frame["finish_s"] - frame["first_token_s"]) / gaps
    return frame


ROWS = [
    ("finished", 0.0, 0.5, 1.0, 3.0, 5, 5, 100),
    ("finished", 1.0, 1.5, 2.0, 2.0, 1, 1, 50),
    ("running", 2.0, 3.0, 4.0, NAN, 3, 9, 10),
    ("queued", 9.0, NAN, NAN, NAN, 0, 9, 20),
    ("rejected", 9.5, NAN, NAN, NAN, 0, 4, 9999),
]
GAPS = GapRuns(np.array([0.5, 1.0]), np.array([4.0, 2.0]))


def metrics(rows: list[tuple[Any, ...]] = ROWS, *, slo: SloSpec | None = None, **facts: Any) -> dict[str, Any]:
    return compute_metrics(table(rows), GAPS, synthetic_facts(10.0, n_gpus=4, replicas=1, **facts), slo)


def test_latencies() -> None:
    found = metrics()
    assert found["ttft_s"]["mean"] == pytest.approx((1 + 1 + 2) / 3)
    assert found["engine_ttft_s"]["mean"] == pytest.approx((1 + 1 + 2) / 3 - 0.1)
    assert found["tpot_s"] == dict.fromkeys(("mean", "p50", "p90", "p95", "p99"), 0.5)  # one token: no TPOT
    assert found["e2e_s"]["p50"] == pytest.approx(2.0)
    assert found["normalised_latency_s_per_token"]["mean"] == pytest.approx((3 / 5 + 1) / 2)
    assert found["queueing_s"]["mean"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found["itl_s"]["mean"] == pytest.approx((4 * 0.5 + 2 * 1.0) / 6)
    assert found["itl_s"]["p50"] == 0.5
    assert found["interactivity_tokens_per_s_per_user"] == pytest.approx(2.0)


def test_rates_and_counts() -> None:
    found = metrics()
    assert found["requests_per_s"] == pytest.approx(0.2)
    assert found["output_tokens_per_s"] == pytest.approx(0.9)
    assert found["output_tokens_per_s_per_gpu"] == pytest.approx(0.9 / 4)
    assert found["total_tokens_per_s_per_gpu"] == pytest.approx((160 + 9) / 10 / 4)
    assert found["requests"] == {"in": 5, "finished": 2, "running": 1, "queued": 1, "rejected": 1, "failed": 0}


def test_money_energy_and_use() -> None:
    found = metrics(usd_per_gpu_hour=2.0, energy_j=18_000.0, matrix_flops=989e12 * 8, memory_bytes=3.35e12 * 20)
    assert found["cost_usd_per_million_output_tokens"] == pytest.approx(8.0 / 3600 / 0.9 * 1e6)
    assert found["usd_per_hour"] == 8.0
    assert found["energy_j_per_output_token"] == pytest.approx(2000.0)
    assert found["mfu_frac"] == pytest.approx(0.2)
    assert found["mbu_frac"] == pytest.approx(0.5)
    assert found["busy_frac"] == pytest.approx(0.85)
    assert found["mfu_busy_frac"] == pytest.approx(0.2 / 0.85)
    assert metrics(usd_per_gpu_hour=None)["cost_usd_per_million_output_tokens"] is None


def test_slo() -> None:
    assert metrics()["slo_attainment_frac"] is None
    assert metrics()["goodput_requests_per_s"] is None
    found = metrics(slo=SloSpec(ttft=1.0, tpot=0.6))
    assert found["slo_attainment_frac"] == pytest.approx(2 / 5)  # over all that arrived
    assert found["goodput_requests_per_s"] == pytest.approx(0.2)
    assert metrics(slo=SloSpec(tpot=0.4))["slo_attainment_frac"] == pytest.approx(1 / 5)


def test_warm_up_leaves_its_time_out() -> None:
    requests = synthetic_requests(50)
    late = requests[requests["arrival_s"] > 5.0]
    facts = synthetic_facts(20.0, warmup_s=5.0)
    found = compute_metrics(late, gaps_of(requests), facts, None)
    assert found["output_tokens_per_s"] == pytest.approx(late["emitted_tokens"].sum() / 15.0)
    assert found["mfu_frac"] == pytest.approx(0.2)
    power_w = facts.energy_j / 20.0
    assert found["energy_j_per_output_token"] == pytest.approx(power_w * 15.0 / late["emitted_tokens"].sum())


def test_nothing_finished() -> None:
    rows = [("queued", 0.0, NAN, NAN, NAN, 0, 9, 20)]
    found = compute_metrics(table(rows), GapRuns(np.array([]), np.array([])), synthetic_facts(1.0), SloSpec(ttft=1.0))
    assert found["ttft_s"] == dict.fromkeys(("mean", "p50", "p90", "p95", "p99"))
    assert found["energy_j_per_output_token"] is None
    assert found["slo_attainment_frac"] == 0.0
    nothing = compute_metrics(
        table(rows)[:0], GapRuns(np.array([]), np.array([])), synthetic_facts(0.0), SloSpec(ttft=1.0)
    )
    assert nothing["requests"]["in"] == 0
    assert nothing["requests_per_s"] is None
    assert nothing["slo_attainment_frac"] is None


def test_law_1_lost_or_invented_is_an_error() -> None:
    with pytest.raises(PlansimError, match="6 requests arrived, but the table has 5"):
        metrics(arrived=6)
    with pytest.raises(PlansimError, match="unknown states: lost"):
        metrics([*ROWS, ("lost", 9.9, NAN, NAN, NAN, 0, 4, 5)])
    with pytest.raises(PlansimError, match="finishing time"):
        metrics([*ROWS, ("finished", 9.9, 9.9, 9.9, NAN, 1, 1, 5)])
    with pytest.raises(PlansimError, match="more tokens than it was to"):
        metrics([*ROWS, ("finished", 9.0, 9.0, 9.1, 9.5, 3, 2, 5)])
    with pytest.raises(PlansimError, match="8 tokens were emitted after first ones, but 6 token gaps"):
        metrics([*ROWS, ("finished", 9.0, 9.0, 9.1, 9.5, 3, 3, 5)])
    twice = table([*ROWS, ROWS[3]])
    twice["request"] = [0, 1, 2, 3, 4, 3]
    with pytest.raises(PlansimError, match="appears twice"):
        compute_metrics(twice, GAPS, synthetic_facts(10.0), None)


def test_law_12_breakdown_sums_to_what_it_explains() -> None:
    with pytest.raises(PlansimError, match="breakdown sums to 9 s, but has to explain 10 s"):
        metrics(busy={"attention": 4.0, "idle": 5.0})


@given(st.lists(st.tuples(st.floats(1e-4, 10), st.integers(1, 50)), min_size=1, max_size=30))
def test_law_12_itl_percentiles_are_over_gaps(runs: list[tuple[float, int]]) -> None:
    values, counts = (np.array(column, dtype=np.float64) for column in zip(*runs, strict=True))
    tokens = int(counts.sum()) + 1
    row = ("finished", 0.0, 0.1, 0.5, 9.0, tokens, tokens, 10)
    found = compute_metrics(table([row]), GapRuns(values, counts), synthetic_facts(10.0), None)
    expanded = summarise(np.repeat(values, counts.astype(int)))
    assert found["itl_s"] == pytest.approx(expanded)


@given(st.integers(0, 2**31), st.integers(1, 200))
def test_law_12_tpot_percentiles_are_over_requests(seed: int, count: int) -> None:
    requests = synthetic_requests(count, seed=seed)
    found = compute_metrics(requests, gaps_of(requests), synthetic_facts(100.0), None)
    assert found["tpot_s"] == summarise(requests["tpot_s"].to_numpy())
    assert found["e2e_s"]["p99"] == pytest.approx(np.quantile(requests["e2e_s"], 0.99))
