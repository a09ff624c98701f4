"""Numbers for people: three figures, fitting units, no false precision."""

import pytest

from sim.results import breakdown_rows, column_head, figures, show, show_bare, show_change, sorted_parts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.6, "1,235"),
        (1_234_567.0, "1,234,567"),
        (999.6, "1,000"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.2345, "1.23"),
        (1.0, "1"),
        (0.012345, "0.0123"),
        (0.00012345, "0.000123"),
        (1.2345e-6, "1.23e-06"),
        (-12.34, "-12.3"),
        (9.999, "10"),
    ],
)
def test_figures(value: float, text: str) -> None:
    assert figures(value) == text


@pytest.mark.parametrize(("value", "text"), [(2, "2.00"), (20.04, "20.0"), (1234, "1,234"), (0.5, "0.500"), (0, "0")])
def test_padded_figures(value: float, text: str) -> None:
    assert figures(value, pad=True) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.2345, "s", "1.23 s"),
        (0.0456, "s", "45.6 ms"),
        (12e-6, "s", "12 µs"),
        (12345.0, "s", "12,345 s"),
        (10 * 86_400.0, "s", "10 d"),
        (0.0, "s", "0 s"),
        (0.9996, "1", "99.96 %"),
        (0.99999, "1", "99.999 %"),
        (0.9999999, "1", "100 %"),
        (1.0, "1", "100 %"),
        (0.123456, "1", "12.3 %"),
        (8, "", "8"),
        (80 * 2**30, "bytes", "80 GiB"),
        (12.5, "USD/h", "12.50 USD/h"),
        (1234.5, "tok/s/GPU", "1,234 tok/s/GPU"),
        (None, "s", "–"),
        (float("nan"), "1", "–"),
    ],
)
def test_show(value: float | None, unit: str, text: str) -> None:
    assert show(value, unit) == text


@pytest.mark.parametrize(
    ("relative", "text"),
    [(0.1234, "+12.3 %"), (-0.5, "−50.0 %"), (1e-9, "±0 %"), (3.456, "+346 %"), (None, "–"), (-0.0004, "±0 %")],
)
def test_changes(relative: float | None, text: str) -> None:
    assert show_change(relative) == text


def test_units_are_in_the_head_or_in_the_cell() -> None:
    metrics = {"ttft_s": {"p99": 0.5}, "cost_usd_per_million_output_tokens": 1.234, "n_gpus": 8}
    assert (column_head("ttft_s.p99"), show_bare(metrics, "ttft_s.p99")) == ("TTFT p99", "500 ms")
    cost = "cost_usd_per_million_output_tokens"
    assert (column_head(cost), show_bare(metrics, cost)) == ("Cost [USD/1M tok]", "1.23")
    assert (column_head("n_gpus"), show_bare(metrics, "n_gpus")) == ("GPUs", "8")


def test_breakdown_is_sorted_with_idle_last() -> None:
    parts = {"idle": 5.0, "a_b": 1.0, "c": 3.0, "zero": 0.0}
    assert sorted_parts(parts) == [("c", 3.0), ("a b", 1.0), ("idle", 5.0)]
    rows = breakdown_rows({"explains_s": 9.0, "parts": parts}, most=2)
    assert rows == [["2 others", "4.00 s", "44.4 %"], ["idle", "5.00 s", "55.6 %"]]
    rows = breakdown_rows({"explains_s": 9.0, "parts": {**parts, "d": 2.0}}, most=3)
    assert [row[0] for row in rows] == ["c", "2 others", "idle"]
