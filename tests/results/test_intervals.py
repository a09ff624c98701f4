"""Intervals follow the bands of what was compared with measurements, and stay unknown elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.results import Band, band_of, intervals_of
from sim.testing.results import synthetic_run

BANDS = {
    "ttft_s": Band(0.5, 2.0),
    "tpot_s": Band(0.8, 1.5),
    "output_tokens_per_s_per_gpu": Band(0.7, 1.25),
}
METRICS = synthetic_run(goodput=1.0).metrics


def test_shape_is_that_of_the_metrics_and_energy_is_not_known() -> None:
    found = intervals_of(METRICS, BANDS, closed_loop=True)
    assert list(found) == list(METRICS)
    assert {name for name, value in found.items() if isinstance(value, dict)} == {
        name for name, value in METRICS.items() if isinstance(value, dict)
    }
    for name in ("energy_j", "mfu_frac", "n_gpus", "goodput_max_requests_per_s_per_gpu"):
        assert found[name] is None


def test_latencies_have_the_band_of_their_kind() -> None:
    found = intervals_of(METRICS, BANDS, closed_loop=True)
    for name, band in (("ttft_s", BANDS["ttft_s"]), ("tpot_s", BANDS["tpot_s"]), ("itl_s", BANDS["tpot_s"])):
        for part, value in METRICS[name].items():
            assert found[name][part] == pytest.approx([value * band.low, value * band.high])
    low, high = found["e2e_s"]["mean"]
    assert 0.5 < low / METRICS["e2e_s"]["mean"] < 0.8, "between the bands of first token and the rest"
    assert 1.5 < high / METRICS["e2e_s"]["mean"] < 2.0


def test_in_an_open_loop_only_the_time_between_tokens_is_known() -> None:
    opened, closed = (intervals_of(METRICS, BANDS, closed_loop=flag) for flag in (False, True))
    assert opened["tpot_s"] == closed["tpot_s"]
    assert set(opened["ttft_s"].values()) == set(opened["e2e_s"].values()) == {None}
    for name in ("output_tokens_per_s", "cost_usd_per_million_output_tokens"):
        assert opened[name] is None
        assert closed[name][0] < METRICS[name] < closed[name][1]
    cost = METRICS["cost_usd_per_million_output_tokens"]
    assert closed["cost_usd_per_million_output_tokens"] == pytest.approx([cost / 1.25, cost / 0.7])


def test_nothing_is_known_without_bands() -> None:
    found = intervals_of(METRICS, {}, closed_loop=True)
    flat = [v for value in found.values() for v in (value.values() if isinstance(value, dict) else [value])]
    assert set(flat) == {None}


@given(st.floats(0.1, 1.0), st.floats(1.0, 5.0), st.floats(1.0, 3.0))
def test_a_stretched_band_holds_the_plain_one_and_its_inverse_turns_around(low: float, high: float, by: float) -> None:
    band = Band(low, high)
    wider = band.widened(by)
    assert wider.low <= low * (1 + 1e-12)
    assert wider.high >= high * (1 - 1e-12)
    assert wider.low * wider.high == pytest.approx(low * high), "the middle stays"
    assert (band.inverse().low, band.inverse().high) == pytest.approx((1 / high, 1 / low))


def test_paths_find_their_band() -> None:
    assert band_of("ttft_s.p99", BANDS) is BANDS["ttft_s"]
    assert band_of("itl_s", BANDS) is BANDS["tpot_s"]
    assert band_of("energy_j", BANDS) is None
