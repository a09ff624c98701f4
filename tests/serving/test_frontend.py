"""The queue before the engines: side-by-side latency, serial work, one server per replica."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.leap import TICK_S
from sim.serving import ClosedLoop, ConstantCost, EngineLimits, FrontendTiming, OpenLoop, RequestLog, serve
from sim.serving.frontend import Frontend, TokenStream

LIMITS = EngineLimits(max_sequences=64, token_budget=4096, chunk_limit=4096, kv_blocks=10_000, block_tokens=16)


def received(sent: list[float], timing: FrontendTiming, *, replicas: int = 1) -> np.ndarray:
    log = RequestLog([100] * len(sent), [2] * len(sent))
    load = OpenLoop(np.asarray(sent))
    serve(log, load, costs=[ConstantCost(1e-3)] * replicas, limits=LIMITS, frontend=timing)
    return np.asarray(log.received_s)


def test_latency_is_the_same_for_all_and_work_is_done_in_turn() -> None:
    assert received([0.0, 0.0, 0.0], FrontendTiming(latency_s=0.01)) == pytest.approx([0.01] * 3)
    timing = FrontendTiming(latency_s=0.01, request_s=0.001, token_s=1e-5)
    assert received([0.0, 0.0, 0.0, 5.0], timing) == pytest.approx([0.012, 0.014, 0.016, 5.012])
    assert received([0.0, 0.0, 0.0, 5.0], timing, replicas=2) == pytest.approx([0.012, 0.012, 0.014, 5.012])


@given(
    gaps=st.lists(st.floats(0.0, 0.02), min_size=1, max_size=30),
    tokens=st.lists(st.integers(1, 5000), min_size=30, max_size=30),
    servers=st.integers(1, 4),
)
def test_work_conserving_first_come_first_served(gaps: list[float], tokens: list[int], servers: int) -> None:
    sent = np.cumsum(gaps)
    queue = Frontend(FrontendTiming(0.0, 2e-3, 1e-6), servers)
    ready = np.array([queue.ready_s(at, count) for at, count in zip(sent.tolist(), tokens, strict=False)])
    work = 2e-3 + 1e-6 * np.asarray(tokens[: len(sent)])
    assert (ready >= sent + work - 1e-12).all()
    begun = ready - work
    assert (np.diff(begun) >= -1e-12).all(), "begun in the order of arrival"
    for i, start in enumerate(begun):
        if start > sent[i] + 1e-9:
            busy = ((begun <= start) & (ready >= start - 1e-9)).sum()
            assert busy >= servers, "nobody waits beside a free server"


def test_a_closed_loop_passes_the_front_end_too() -> None:
    log = RequestLog([100] * 8, [3] * 8)
    timing = FrontendTiming(0.01, 0.001)
    serve(log, ClosedLoop(2), costs=[ConstantCost(1e-3)], limits=LIMITS, frontend=timing)
    waits = np.asarray(log.received_s) - np.asarray(log.arrival_s)
    assert waits[0] == pytest.approx(0.011)
    assert waits[1] == pytest.approx(0.012)
    assert (waits >= 0.011 - 1e-12).all()


@given(
    leaps=st.lists(
        st.tuples(st.floats(1e-3, 0.05), st.floats(0.0, 1e-4), st.integers(1, 200), st.integers(0, 600)), max_size=12
    )
)
def test_tokens_leave_in_turn_as_if_told_of_every_iteration(leaps: list[tuple[float, float, int, int]]) -> None:
    """A leap's closed form equals Lindley's recursion, one batch of work after the other."""
    token_s, start, free = 5e-5, 0.0, 0.0
    queue = TokenStream(token_s)
    for first, growth, steps, tokens in leaps:
        sent = queue.send(start, first, growth, steps=steps, tokens=tokens)
        for step in range(steps):
            start += first + growth * step
            if tokens:
                free = max(free, start) + tokens * token_s
        assert sent == pytest.approx(max(free, start), rel=1e-9, abs=len(leaps) * TICK_S)


def streamed(token_s: float, *, leap: bool = True, output: int = 200, shortest: float = 1.0) -> RequestLog:
    share = np.tile(np.linspace(shortest, 1.0, 16), 4)
    log = RequestLog([100] * 64, (output * share).astype(int))
    costs = [ConstantCost(1e-3)]
    serve(log, ClosedLoop(16), costs=costs, limits=LIMITS, frontend=FrontendTiming(stream_token_s=token_s), leap=leap)
    return log


def test_clients_cannot_get_more_tokens_than_the_way_out_can_send() -> None:
    """16 sequences at 1 ms make 16,000 tokens/s; one that sends 10,000 sets the pace, a faster one does not."""
    assert max(streamed(1e-4).finish_s) == pytest.approx(64 * 200 * 1e-4, rel=0.02)
    assert max(streamed(1e-6).finish_s) == pytest.approx(max(streamed(0.0).finish_s), rel=0.02)


def test_what_waits_on_the_way_out_delays_first_tokens_the_more_the_longer_outputs_are() -> None:
    """Work piles up while a wave of sequences decodes, and whoever comes next stands behind it."""
    logs = [streamed(1e-4, output=output, shortest=0.8) for output in (50, 400)]
    waits = [np.mean(np.subtract(log.first_s, log.arrival_s)) for log in logs]
    assert waits[1] > 3 * waits[0]


def test_leaps_equal_single_steps_with_a_busy_way_out() -> None:
    once, often = streamed(8e-5), streamed(8e-5, leap=False)
    np.testing.assert_allclose(once.first_s, often.first_s)
    np.testing.assert_allclose(once.finish_s, often.finish_s)


def test_a_run_cut_short_has_no_tokens_from_after_its_end() -> None:
    log = RequestLog([100] * 64, [200] * 64)
    timing = FrontendTiming(stream_token_s=1e-3)
    serve(log, ClosedLoop(16), costs=[ConstantCost(1e-3)], limits=LIMITS, frontend=timing, until_s=1.0)
    assert np.nanmax(log.first_s) <= 1.0
    assert np.isnan(log.finish_s).all()
