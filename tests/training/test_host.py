"""How host and device of a pass join."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.training.host import HOST_EXPONENT, pass_s

SECONDS = st.floats(1e-6, 10.0)


@given(device=SECONDS, host=SECONDS)
def test_a_pass_is_between_the_longer_and_both_in_turn(device: float, host: float) -> None:
    assert max(device, host) <= pass_s(device, host) * (1 + 1e-12)
    assert pass_s(device, host) <= (device + host) * (1 + 1e-12)


def test_equal_times_cost_the_root_and_a_fast_host_nothing() -> None:
    assert pass_s(1.0, 1.0) == pytest.approx(2.0 ** (1.0 / HOST_EXPONENT))
    assert pass_s(1.0, 0.1) == pytest.approx(1.0, rel=1e-3)
    assert pass_s(1.0, 0.0) == 1.0
