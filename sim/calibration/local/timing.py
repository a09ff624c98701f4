"""Timing of work on the machine at hand: the only place where plansim reads a clock.

Discipline: everything is warmed up first; short work is repeated inside one reading, so that the clock's resolution
and the synchronisation do not count; on a CPU something else runs before each call, outside the time, so that code and
operands are where the kernel before would have left them and not in the innermost caches; readings go round all cases
in turn, so that a moment in which the machine is busy spoils one reading of several cases instead of all of one; the
median counts, and its spread is kept. One thread on a CPU is timed by the processor time it gets: on an idle machine
that is the time that passes, and other programs do not lengthen it (they still share caches and memory). Whether
operands are in the caches is decided by the work itself (see `operands`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from statistics import median, quantiles
from typing import Final, TypeVar

from sim.calibration.local.samples import Timing

Key = TypeVar("Key")
Work = Callable[[], object]
Progress = Callable[[int, int, str], None]

READING_S: Final = 1e-3
"""Shortest time of one reading [s]; shorter work is repeated within it."""

MOST_CALLS: Final = 5
"""Calls in one reading at most where something runs before each."""

PROCESSOR_TIME: Final = time.process_time
"""Clock that runs while this process has a processor."""

LEAST_READINGS: Final = 3
"""Readings below which an interrupted case is dropped."""


@dataclass(frozen=True)
class Stopwatch:
    """Times work that may run asynchronously.

    Attributes:
        synchronise: Waits until all work that was started is done.
        clock: Seconds of a steady clock.
        before: Runs before each call, untimed; None lets calls follow one another, and so hides the launch of all but
            the first where work runs asynchronously.
    """

    synchronise: Callable[[], object] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    before: Work | None = None

    def reading_s(self, work: Work, repeats: int = 1) -> float:
        """Time [s] of one call of `work`, from `repeats` calls."""
        if self.before is not None:
            return sum(self._apart_s(work, self.before) for _ in range(repeats)) / repeats
        self.synchronise()
        start = self.clock()
        for _ in range(repeats):
            work()
        self.synchronise()
        return (self.clock() - start) / repeats

    def _apart_s(self, work: Work, before: Work) -> float:
        before()
        self.synchronise()
        start = self.clock()
        work()
        self.synchronise()
        return self.clock() - start

    def measure(
        self, works: Mapping[Key, Work], *, rounds: int, progress: Progress | None = None, what: str = ""
    ) -> tuple[dict[Key, Timing], bool]:
        """Timings of all works from `rounds` readings each, and whether Ctrl-C cut them short.

        What was read before an interruption is kept where there are at least `LEAST_READINGS` of it.
        """
        readings: dict[Key, list[float]] = {key: [] for key in works}
        interrupted = False
        try:
            calls = {key: self._calls(work) for key, work in works.items()}
            for done in range(rounds):
                for key, work in works.items():
                    readings[key].append(self.reading_s(work, calls[key]))
                if progress is not None:
                    progress(done + 1, rounds, what)
        except KeyboardInterrupt:
            interrupted = True
        known = {key: timing_of(times) for key, times in readings.items() if len(times) >= min(rounds, LEAST_READINGS)}
        return known, interrupted

    def _calls(self, work: Work) -> int:
        """How often `work` is called per reading, after warming it up."""
        self.reading_s(work)
        calls = max(1, ceil(READING_S / max(self.reading_s(work), 1e-9)))
        return calls if self.before is None else min(calls, MOST_CALLS)


def timing_of(readings_s: list[float]) -> Timing:
    """Median and spread of readings [s]; the spread of fewer than two is 0."""
    middle = median(readings_s)
    if len(readings_s) < 2:
        return Timing(time_s=middle, spread_frac=0.0, repeats=len(readings_s))
    low, _, high = quantiles(readings_s, n=4, method="inclusive")
    return Timing(time_s=middle, spread_frac=(high - low) / middle, repeats=len(readings_s))
