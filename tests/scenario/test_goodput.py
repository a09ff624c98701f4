"""Finding the edge of what a plan sustains, on made-up edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import InputError
from sim.results import SloSpec
from sim.scenario.goodput import bisect_edge, native_rate, require_slo


@given(edge=st.floats(0.01, 1000.0), guess=st.floats(0.01, 1000.0), tolerance=st.sampled_from([0.01, 0.03, 0.2]))
def test_the_answer_is_the_last_rate_of_the_lattice_below_the_edge(edge: float, guess: float, tolerance: float) -> None:
    tried: list[float] = []

    def attains(rate: float) -> bool:
        tried.append(rate)
        return rate <= edge

    found = bisect_edge(attains, anchor=4.0, tolerance=tolerance, guess=guess)
    assert edge / (1 + tolerance) * (1 - 1e-12) <= found <= edge
    assert found in tried
    assert len(tried) == len(set(tried)), "no rate is simulated twice"
    assert found == bisect_edge(lambda rate: rate <= edge, anchor=4.0, tolerance=tolerance), "whatever the guess"


@given(guess=st.floats(0.1, 10.0))
def test_a_good_guess_needs_few_probes(guess: float) -> None:
    tried: list[float] = []

    def attains(rate: float) -> bool:
        tried.append(rate)
        return rate <= 1.1 * guess

    bisect_edge(attains, anchor=1.0, tolerance=0.03, guess=guess)
    assert len(tried) <= 5


def test_what_never_attains_sustains_nothing_and_what_always_does_is_bounded() -> None:
    assert bisect_edge(lambda rate: False, anchor=1.0, tolerance=0.03) == 0.0
    assert 1e5 < bisect_edge(lambda rate: True, anchor=1.0, tolerance=0.03) < 1e12


def test_native_rate() -> None:
    assert native_rate(np.array([0.0, 1.0, 4.0])) == pytest.approx(0.5)
    assert native_rate(np.zeros(3)) == 1.0


def test_goodput_needs_an_slo_and_an_open_loop() -> None:
    slo = SloSpec(ttft=1.0)
    assert require_slo(slo, None) is slo
    with pytest.raises(InputError, match="needs an SLO"):
        require_slo(None, None)
    with pytest.raises(InputError, match="closed loop"):
        require_slo(slo, 8)
