"""The discipline of timing, with a clock that the work itself moves: no real time passes here."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from sim.calibration.local.timing import MOST_CALLS, Stopwatch, timing_of


@dataclass
class Clock:
    """Time that work spends."""

    now_s: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)

    def __call__(self) -> float:
        return self.now_s

    def work(self, name: str, time_s: Callable[[int], float] | float) -> Callable[[], None]:
        """Work that spends `time_s` on each call, or what `time_s` says for the call of this number."""

        def run() -> None:
            call = self.calls[name] = self.calls.get(name, 0) + 1
            self.now_s += time_s(call) if callable(time_s) else time_s

        return run


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_median_shrugs_off_a_burst(clock: Clock) -> None:
    works = {
        "a": clock.work("a", lambda call: 5.0 if call == 4 else 0.5),
        "b": clock.work("b", lambda call: 9.0 if call == 4 else 0.25),
    }
    timings, interrupted = Stopwatch(clock=clock).measure(works, rounds=5)
    assert not interrupted
    assert {name: timing.time_s for name, timing in timings.items()} == {"a": 0.5, "b": 0.25}
    assert [timing.spread_frac for timing in timings.values()] == [0.0, 0.0]


def test_the_first_call_does_not_count(clock: Clock) -> None:
    timings, _ = Stopwatch(clock=clock).measure(
        {"a": clock.work("a", lambda call: 100.0 if call == 1 else 1.0)}, rounds=1
    )
    assert timings["a"].time_s == 1.0


def test_short_work_is_repeated_within_a_reading(clock: Clock) -> None:
    timings, _ = Stopwatch(clock=clock).measure({"a": clock.work("a", 1e-5)}, rounds=3)
    assert timings["a"].time_s == pytest.approx(1e-5)
    assert clock.calls["a"] == 2 + 3 * 100


def test_what_runs_before_each_call_is_not_timed(clock: Clock) -> None:
    watch = Stopwatch(clock=clock, before=clock.work("before", 1.0))
    timings, _ = watch.measure({"a": clock.work("a", 1e-6)}, rounds=2)
    assert timings["a"].time_s == pytest.approx(1e-6)
    assert clock.calls["before"] == clock.calls["a"] == 2 + 2 * MOST_CALLS


def test_all_work_is_waited_for(clock: Clock) -> None:
    pending = []

    def wait() -> None:
        clock.now_s += sum(pending)
        pending.clear()

    timings, _ = Stopwatch(synchronise=wait, clock=clock).measure({"a": lambda: pending.append(0.1)}, rounds=3)
    assert timings["a"].time_s == pytest.approx(0.1)


@pytest.mark.parametrize(("call", "kept"), [(1, set()), (3, set()), (9, {"a"})])
def test_an_interruption_keeps_what_has_enough_readings(clock: Clock, call: int, kept: set[str]) -> None:
    def stop(number: int) -> float:
        if number == call:
            raise KeyboardInterrupt
        return 1.0

    works = {"a": clock.work("a", 1.0), "b": clock.work("b", stop)}
    timings, interrupted = Stopwatch(clock=clock).measure(works, rounds=7)
    assert interrupted
    assert {"a"} & set(timings) == kept


def test_the_spread_is_the_interquartile_range_over_the_median() -> None:
    timing = timing_of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (timing.time_s, timing.spread_frac, timing.repeats) == (3.0, pytest.approx(2.0 / 3.0), 5)
    assert timing_of([2.0]).spread_frac == 0.0
