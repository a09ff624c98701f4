"""How host and device of a pass join."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.training.analytic import Screen
from sim.training.host import HOST_EXPONENT, pass_s
from tests.training.builders import resolved, step_of

SECONDS = st.floats(1e-6, 10.0)


@given(device=SECONDS, host=SECONDS)
def test_a_pass_is_between_the_longer_and_both_in_turn(device: float, host: float) -> None:
    assert max(device, host) <= pass_s(device, host) * (1 + 1e-12)
    assert pass_s(device, host) <= (device + host) * (1 + 1e-12)


def test_equal_times_cost_the_root_and_a_fast_host_nothing() -> None:
    assert pass_s(1.0, 1.0) == pytest.approx(2.0 ** (1.0 / HOST_EXPONENT))
    assert pass_s(1.0, 0.1) == pytest.approx(1.0, rel=1e-3)
    assert pass_s(1.0, 0.0) == 1.0


def test_a_graph_launches_a_layer_at_once() -> None:
    """Small layers wait for the host; as graphs they hardly do, recomputed or not, and the screen says the same."""
    for plan in ({}, {"recompute": "full"}):
        eager, graphs = (step_of({**plan, "cuda_graphs": use}) for use in (False, True))
        fixed_s = eager.engine.step_s.value + eager.plan.microbatches * eager.engine.micro_batch_s.value
        waits = [step.times.parts_s["host"] - fixed_s for step in (eager, graphs)]
        assert 0.0 < waits[1] < 0.1 * waits[0]
        assert graphs.times.parts_s["linear"] == pytest.approx(eager.times.parts_s["linear"])
        found, things = resolved({**plan, "cuda_graphs": True})
        assert Screen(**things).estimate([found]).step_s[0] == pytest.approx(graphs.step_s, rel=0.01)
