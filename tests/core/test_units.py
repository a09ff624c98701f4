"""Text with units: every prefix, every trap, and a round trip."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import DIMENSIONS, UnitError, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("3.35 TB/s", "bytes_per_s", 3.35e12),
        ("400 Gb/s", "bytes_per_s", 50e9),
        ("400 Gbit/s", "bytes_per_s", 50e9),
        ("25 GiB/s", "bytes_per_s", 25 * 2**30),
        ("80 GiB", "bytes", 80 * 2**30),
        ("80 GB", "bytes", 80e9),
        ("8 b", "bytes", 1.0),
        ("16 Kib", "bytes", 2048.0),
        ("1 byte", "bytes", 1.0),
        ("989 TFLOP/s", "flops", 989e12),
        ("989.4 TFLOPS", "flops", 989.4e12),
        ("1979 TOPS", "flops", 1979e12),
        ("4 TFLOP", "flop", 4e12),
        ("50 ms", "s", 0.05),
        ("2us", "s", 2e-6),
        ("2 µs", "s", 2e-6),
        ("1.5 h", "s", 5400.0),
        ("2 min", "s", 120.0),
        ("1 day", "s", 86400.0),
        ("2.5 USD/h", "usd_per_h", 2.5),
        ("30000 USD", "usd", 30000.0),
        ("30,000 USD", "usd", 30000.0),
        ("0.7 kW", "w", 700.0),
        ("1.2 kWh", "j", 4.32e6),
        ("1830 MHz", "hz", 1.83e9),
        ("4 req/s", "per_s", 4.0),
        ("120 requests/min", "per_s", 2.0),
        ("4/s", "per_s", 4.0),
        ("90 %", "frac", 0.9),
        ("0.9", "frac", 0.9),
        ("8192", "tokens", 8192.0),
        ("8k", "tokens", 8000.0),
        ("8 Ki", "tokens", 8192.0),
        ("1e3 ms", "s", 1.0),
        ("1_000 ms", "s", 1.0),
        ("0", "s", 0.0),
        (0, "bytes", 0.0),
        (0.9, "frac", 0.9),
    ],
)
def test_parses_to_si(text: str | float, dimension: str, value: float) -> None:
    assert parse_quantity(text, dimension) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "dimension", "says"),
    [
        ("80", "bytes", "the unit is missing"),
        (80, "bytes", "the unit is missing"),
        ("50 GB", "s", "it measures bytes, wanted s"),
        ("50 MS", "s", "did you mean 'ms'"),
        ("5 mB", "bytes", "did you mean 'MB'"),
        ("5 parsec", "s", "does not fit"),
        ("fast", "s", "expected a number"),
        ("", "s", "expected a number"),
        ("nan s", "s", "expected a number"),
        ("inf s", "s", "expected a number"),
        (float("nan"), "s", "finite"),
        (float("inf"), "frac", "finite"),
        (True, "frac", "expected a quantity"),
        ("1.2.3 s", "s", "does not fit"),
        ("--1 s", "s", "expected a number"),
    ],
)
def test_refuses_with_a_reason(text: str | float, dimension: str, says: str) -> None:
    with pytest.raises(UnitError, match=says):
        parse_quantity(text, dimension)


def test_code_may_leave_the_unit_out() -> None:
    assert parse_quantity(80, "bytes", require_unit=False) == 80.0
    assert parse_quantity("80", "bytes", require_unit=False) == 80.0


@pytest.mark.parametrize("text", ["1e999 s", "1e999", "1e308 day"])
def test_too_large_to_be_finite_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="finite"):
        parse_quantity(text, "s")


@given(st.sampled_from(sorted(DIMENSIONS)), st.floats(min_value=1e-6, max_value=1e18))
def test_formatted_text_reads_back(dimension: str, value: float) -> None:
    back = parse_quantity(format_quantity(value, dimension, digits=17), dimension, require_unit=False)
    assert back == pytest.approx(value, rel=1e-12)


@given(st.sampled_from(sorted(DIMENSIONS)), st.floats(min_value=1e-6, max_value=1e18))
def test_short_text_is_within_its_digits(dimension: str, value: float) -> None:
    back = parse_quantity(format_quantity(value, dimension), dimension, require_unit=False)
    assert back == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("name", sorted(DIMENSIONS))
def test_every_example_is_valid(name: str) -> None:
    for example in DIMENSIONS[name].example.split(" or "):
        assert math.isfinite(parse_quantity(example, name))


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (3.35e12, "bytes_per_s", "3.35 TB/s"),
        (80 * 2**30, "bytes", "80 GiB"),
        (0.05, "s", "50 ms"),
        (0.0, "s", "0 ns"),
        (700.0, "w", "700 W"),
        (-0.05, "s", "-50 ms"),
        (1e-12, "s", "0.001 ns"),
        (math.inf, "s", "inf ns"),
    ],
)
def test_formats(value: float, dimension: str, text: str) -> None:
    assert format_quantity(value, dimension) == text


@given(st.text(max_size=20), st.sampled_from(sorted(DIMENSIONS)))
def test_any_text_gives_a_number_or_a_unit_error(text: str, dimension: str) -> None:
    with contextlib.suppress(UnitError):
        assert math.isfinite(parse_quantity(text, dimension))
