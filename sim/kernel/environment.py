"""The clock and its event queue: simpy's environment with absolute-time alarms.

Coarse actors that wait on several things may be simpy processes (`Kernel.process`). Actors on the hot path, such as a
replica that wakes a million times, use `Kernel.at`: one queue entry per change, no generator, and the time it was
given, not a sum of delays that would drift in the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from enum import IntEnum
from heapq import heappush
from typing import Any

import simpy
from simpy.events import Event, Process


class Priority(IntEnum):
    """Order of events at the same instant: lower first.

    An arrival at the instant of a scheduling step is seen by that step; this is the one rule for ties. So where several
    actors step at one instant, all end what they did (`STEP`) before any begins something new (`PLAN`).
    """

    ARRIVAL = 0
    TRANSFER = 1
    STEP = 2
    PLAN = 3
    END = 9


class Alarm(Event):
    """A callback at an absolute time. Cancelled alarms stay queued and do nothing."""

    def __init__(self, kernel: Kernel, at_s: float, priority: float, action: Callable[[], None]) -> None:
        self.env = kernel
        self.callbacks = [self._ring]
        self._ok = True
        self._value = None
        self.action: Callable[[], None] | None = action
        heappush(kernel._queue, (at_s, priority, next(kernel._eid), self))  # type: ignore[misc]

    def _ring(self, _: Event) -> None:
        if self.action is not None:
            self.action()

    def cancel(self) -> None:
        """Makes the alarm do nothing when its time comes."""
        self.action = None


class Kernel(simpy.Environment):
    """One simulation's clock [s], started at zero."""

    def at(self, time_s: float, action: Callable[[], None], *, priority: float = Priority.STEP) -> Alarm:
        """An alarm that calls `action` at `time_s` [s].

        Raises:
            ValueError: if `time_s` lies in the past or is not a number.
        """
        if not time_s >= self._now:
            raise ValueError(f"an event at {time_s} s cannot be set at {self._now} s: time never runs backwards")
        return Alarm(self, time_s, priority, action)

    @property
    def more_now(self) -> bool:
        """Whether something else is to happen at this very instant."""
        return bool(self._queue) and self._queue[0][0] == self._now and self._queue[0][1] < Priority.END

    def close(self) -> None:
        """Cancels everything that is still to come, so that nothing keeps the actors of a finished run alive."""
        for *_, event in self._queue:
            if isinstance(event, Alarm):
                event.cancel()
        self._queue.clear()

    def spawn(self, generator: Generator[Event, Any, Any]) -> Process:
        """A simpy process that runs `generator`."""
        return self.process(generator)

    def stop(self) -> None:
        """Ends `run_all` after the event that is being handled."""
        self._stopped = True
        self.at(self._now, _raise_stop, priority=-1)

    def run_all(self, *, until_s: float | None = None) -> bool:
        """Runs until nothing is left to happen, or until `until_s` [s]; True if `stop` ended it early."""
        self._stopped = False
        with suppress(_StopRun):
            self.run(until=until_s)
        return self._stopped


class _StopRun(Exception):  # noqa: N818 - control flow, never seen outside
    """Leaves simpy's loop."""


def _raise_stop() -> None:
    raise _StopRun
