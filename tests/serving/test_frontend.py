"""The queue before the engines: side-by-side latency, serial work, one server per replica."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving import ClosedLoop, ConstantCost, EngineLimits, FrontendTiming, OpenLoop, RequestLog, serve
from sim.serving.frontend import Frontend

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
