"""The power law: idle at rest, the limit at most, and monotone in work and clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import data_names
from sim.hardware import LOWEST_CLOCK, clock_within, load_device, lowest_cap_w, power_w, resting_w
from sim.hardware.power import COMPUTE_SHARE

DEVICES = st.sampled_from(data_names("hardware_profiles/devices"))
FRACTION = st.floats(0.0, 1.0)
CLOCK = st.floats(0.05, 1.0)


def watts(name: str, compute: float, memory: float, clock: float = 1.0) -> float:
    device = load_device(name).at_clock(clock)
    return float(power_w(device, compute_frac=np.asarray(compute), memory_frac=np.asarray(memory)))


@given(DEVICES, CLOCK)
def test_a_device_without_work_rests_between_bare_idle_and_its_limit(name: str, clock: float) -> None:
    device = load_device(name)
    assert watts(name, 0.0, 0.0, clock) == resting_w(device)
    assert device.idle_w < resting_w(device) <= device.peak_w


@given(DEVICES, FRACTION, FRACTION, CLOCK)
def test_power_stays_between_idle_and_the_limit(name: str, compute: float, memory: float, clock: float) -> None:
    device = load_device(name)
    assert device.idle_w <= watts(name, compute, memory, clock) <= device.peak_w * (1 + 1e-12)


def test_all_units_busy_reach_the_limit() -> None:
    assert watts("h100-sxm", 1.0, 1.0) == pytest.approx(700)


@given(DEVICES, FRACTION, FRACTION, FRACTION, CLOCK)
def test_more_work_never_draws_less(name: str, low: float, high: float, other: float, clock: float) -> None:
    low, high = sorted((low, high))
    assert watts(name, low, other, clock) <= watts(name, high, other, clock)
    assert watts(name, other, low, clock) <= watts(name, other, high, clock)


@given(DEVICES, FRACTION, FRACTION, CLOCK, CLOCK)
def test_a_lower_clock_never_draws_more(name: str, compute: float, memory: float, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert watts(name, compute, memory, low) <= watts(name, compute, memory, high) * (1 + 1e-12)


def test_energy_per_operation_falls_with_the_voltage_until_its_floor() -> None:
    """Dynamic energy per FLOP is proportional to the square of the voltage, which stops falling at 0.6 of the clock."""
    rest = resting_w(load_device("h100-sxm"))
    full, half_way, floor, below = ((watts("h100-sxm", 0.5, 0.0, c) - rest) / c for c in (1.0, 0.8, 0.6, 0.3))
    assert half_way / full == pytest.approx(0.8**2)
    assert floor / full == pytest.approx(0.6**2)
    assert below == pytest.approx(floor)


@pytest.mark.parametrize(("name", "limit"), [("a100-80-sxm", 400), ("h100-sxm", 700)])
def test_computing_prompts_reaches_the_limit(name: str, limit: float) -> None:
    """The prompt phase of serving peaks at the board's limit on A100 and H100 (POLCA; Splitwise)."""
    assert watts(name, 0.7, 0.3) > 0.95 * limit


def test_memory_bound_decoding_draws_about_half_of_the_limit() -> None:
    """POLCA (arXiv 2308.12908) and Splitwise (arXiv 2311.18677): the token phase draws 0.4 to 0.7 of the limit."""
    assert 0.4 < watts("a100-80-sxm", 0.05, 0.8) / 400 < 0.7


def test_power_is_computed_for_whole_arrays() -> None:
    grid = power_w(
        load_device("h100-sxm"), compute_frac=np.linspace(0, 1, 5)[:, None], memory_frac=np.linspace(0, 1, 3)
    )
    assert grid.shape == (5, 3)
    assert np.all(np.diff(grid, axis=0) >= 0)
    assert np.all(np.diff(grid, axis=1) >= 0)


@given(DEVICES, st.floats(0.073, 1.0))
def test_a_cap_is_what_products_at_full_rate_draw_at_its_clock(name: str, share: float) -> None:
    """The best products reach 1 / `COMPUTE_SHARE` of the peak and draw the cap there, at any voltage."""
    device = load_device(name)
    cap_w = resting_w(device) + share * (device.peak_w - resting_w(device))
    clock = clock_within(device, cap_w)
    assert LOWEST_CLOCK <= clock <= 1.0
    assert watts(name, 1.0 / COMPUTE_SHARE, 0.0, clock) == pytest.approx(cap_w)
    assert clock_within(device, None) == clock_within(device, 2.0 * device.peak_w) == 1.0


@given(DEVICES)
def test_caps_are_followed_down_to_the_lowest_clock(name: str) -> None:
    device = load_device(name)
    least_w = lowest_cap_w(device)
    assert resting_w(device) < least_w < device.peak_w
    assert clock_within(device, least_w * (1.0 + 1e-9)) == pytest.approx(LOWEST_CLOCK)
    with pytest.raises(ValueError, match=r"caps on .* followed down to"):
        clock_within(device, least_w - 1.0)


def test_a_cap_does_not_hold_what_memory_draws() -> None:
    """H100 at 200 W: products keep within, a stream at full bandwidth draws more than twice as much."""
    clock = clock_within(load_device("h100-sxm"), 200.0)
    assert clock == pytest.approx(0.444, abs=0.002)
    assert watts("h100-sxm", 1.0 / COMPUTE_SHARE, 0.0, clock) == pytest.approx(200.0)
    assert 450.0 < watts("h100-sxm", 0.0, 1.0, clock) < 470.0
