"""The clock, leaps and traces."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel import Kernel, Priority, TraceRecorder, leap_end_s, steps_until


def test_events_run_by_time_then_priority_then_order() -> None:
    kernel, seen = Kernel(), []
    kernel.at(2.0, lambda: seen.append("late"))
    kernel.at(1.0, lambda: seen.append("step"), priority=Priority.STEP)
    kernel.at(1.0, lambda: seen.append("arrival"), priority=Priority.ARRIVAL)
    kernel.at(1.0, lambda: seen.append("second step"), priority=Priority.STEP)
    kernel.run_all()
    assert seen == ["arrival", "step", "second step", "late"]
    assert kernel.now == 2.0


def test_alarm_keeps_the_time_it_was_given() -> None:
    kernel = Kernel()
    times: list[float] = []
    for i in range(1, 100):
        kernel.at(i * 0.1, lambda: times.append(kernel.now))
    kernel.run_all()
    assert times == [i * 0.1 for i in range(1, 100)]


def test_cancelled_alarms_do_nothing_and_the_past_is_refused() -> None:
    kernel, seen = Kernel(), []
    kernel.at(1.0, lambda: seen.append(1)).cancel()
    kernel.at(2.0, lambda: None)
    kernel.run_all()
    assert not seen
    for time_s in (1.0, float("nan")):
        with pytest.raises(ValueError, match="never runs backwards"):
            kernel.at(time_s, lambda: None)


def test_a_process_and_an_alarm_share_the_clock() -> None:
    kernel, seen = Kernel(), []

    def process():  # type: ignore[no-untyped-def]
        yield kernel.timeout(1.5)
        seen.append(("process", kernel.now))

    kernel.spawn(process())
    kernel.at(1.0, lambda: seen.append(("alarm", kernel.now)))
    kernel.run_all()
    assert seen == [("alarm", 1.0), ("process", 1.5)]


@given(
    start=st.floats(0, 1e5),
    first=st.floats(1e-4, 1.0),
    growth=st.floats(0, 1e-3),
    span=st.floats(0, 1e4),
)
def test_steps_until_is_the_least_number_that_reaches_the_instant(
    start: float, first: float, growth: float, span: float
) -> None:
    instant = start + span
    steps = steps_until(instant, start, first, growth)
    assert leap_end_s(start, first, growth, steps) >= instant
    assert steps == 1 or leap_end_s(start, first, growth, steps - 1) < instant


@given(first=st.floats(1e-4, 1), growth=st.floats(0, 1e-2), steps=st.integers(1, 300))
def test_leap_is_the_sum_of_its_steps(first: float, growth: float, steps: int) -> None:
    assert leap_end_s(0.0, first, growth, steps) == pytest.approx(sum(first + growth * j for j in range(steps)))


def test_trace_lanes_never_overlap_and_bytes_repeat(tmp_path: Path) -> None:
    trace = TraceRecorder()
    spans = [(0.0, 3.0), (1.0, 2.0), (2.0, 5.0), (3.0, 4.0)]
    lanes = trace.lanes(spans)
    assert lanes == [0, 1, 1, 0]
    trace.name_process(0, "replica 0")
    for (start, end), lane in zip(spans, lanes, strict=True):
        trace.span("request", start_s=start, end_s=end, pid=0, tid=lane, tokens=3)
    trace.counter("KV blocks", at_s=1.0, pid=0, used=5)
    for name in ("a", "b"):
        trace.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    document = json.loads(gzip.decompress((tmp_path / "a").read_bytes()))
    slices = [event for event in document["traceEvents"] if event["ph"] == "X"]
    assert [event["dur"] for event in slices] == [3e6, 1e6, 3e6, 1e6]
    with pytest.raises(ValueError, match="before it starts"):
        trace.span("x", start_s=2.0, end_s=1.0, pid=0, tid=0)
