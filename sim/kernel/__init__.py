"""Discrete-event kernel: the clock, alarms, fair-shared channels and the recording of what happened.

The only package that imports simpy. Everything above sees four things: `Kernel` (the clock and its event queue,
ordered by time, priority and sequence), `FairShareNetwork` (flows that share links by max-min fairness),
`leap` (how many equal steps fit before something changes) and `TraceRecorder` (spans and counters for Perfetto).
"""

from sim.kernel.environment import Alarm, Kernel, Priority
from sim.kernel.fairshare import FairShareNetwork, Flow, max_min_rates
from sim.kernel.leap import TICK_S, leap_end_s, on_grid, steps_until
from sim.kernel.trace import TraceRecorder

__all__ = [
    "TICK_S",
    "Alarm",
    "FairShareNetwork",
    "Flow",
    "Kernel",
    "Priority",
    "TraceRecorder",
    "leap_end_s",
    "max_min_rates",
    "on_grid",
    "steps_until",
]
