"""What an arrival process must offer, and the registry of them.

A process draws its times at its own rate. Another rate compresses the time axis, so that with one seed every rate
sees the same gaps, scaled; and draws are taken in order, so that the first n of m requests are the n requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from sim.core import Array, RatePerS, Registry, Spec

ARRIVALS: Registry[type[ArrivalProcess]] = Registry("arrival", package="sim.workloads.arrivals")


class ArrivalProcess(Spec, ABC):
    """A law of arrival times.

    Subclasses add a field `kind: Literal["<registered name>"]` and their parameters.
    """

    kind: str

    @abstractmethod
    def times(self, count: int, rng: np.random.Generator) -> Array:
        """`count` arrival times [s] at the process's own rate, ascending, the first at 0."""

    @property
    @abstractmethod
    def mean_rate(self) -> float:
        """The process's own long-run rate [1/s]."""

    def at_rate(self, count: int, rate: float | None, rng: np.random.Generator) -> Array:
        """Arrival times [s] with the time axis compressed to the long-run `rate` [1/s]; None keeps the own rate."""
        times = self.times(count, rng)
        return times if rate is None else times * (self.mean_rate / rate)


class Renewal(ArrivalProcess):
    """A process with independent gaps of one law.

    Attributes:
        rate: Mean arrivals per second.
    """

    rate: RatePerS = 1.0

    @abstractmethod
    def unit_gaps(self, count: int, rng: np.random.Generator) -> Array:
        """`count` gaps of mean 1."""

    @property
    def mean_rate(self) -> float:
        """The rate [1/s]."""
        return self.rate

    def times(self, count: int, rng: np.random.Generator) -> Array:
        """`count` arrival times [s], the first at 0."""
        times = np.zeros(count)
        np.cumsum(self.unit_gaps(count - 1, rng), out=times[1:])
        return times / self.rate
