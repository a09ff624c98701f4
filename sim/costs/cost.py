"""What an operator costs: its time and what each resource alone would take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.core import Array
from sim.costs.numeric import Value

BOUNDS = ("compute", "memory", "network", "launch")
"""What can bound an operator; `launch` is fixed latency."""


@dataclass(frozen=True)
class OpCost:
    """Time of all executions of an operator [s] and the parts it is made of.

    The parts are what each resource alone would take; they overlap, so they do not add up to the time.

    Attributes:
        time_s: Time.
        compute_s: Arithmetic, with the serial walk of thread blocks.
        memory_s: Device memory.
        network_s: Links.
        overhead_s: Fixed latency of kernels or messages.
    """

    time_s: Array
    compute_s: Array
    memory_s: Array
    network_s: Array
    overhead_s: Array

    def scaled(self, factor: Value) -> OpCost:
        """Time and parts times `factor`."""
        return OpCost(*(np.asarray(part * factor) for part in self._parts()))

    def where(self, kept: NDArray[np.bool_], other: OpCost) -> OpCost:
        """These times where `kept`, those of the other elsewhere."""
        pairs = zip(self._parts(), other._parts(), strict=True)
        return OpCost(*(np.where(kept, own, others) for own, others in pairs))

    def _parts(self) -> tuple[Array, ...]:
        return self.time_s, self.compute_s, self.memory_s, self.network_s, self.overhead_s

    def bound(self) -> NDArray[np.str_]:
        """The largest part of each point, one of `BOUNDS`."""
        stacked = np.stack(np.broadcast_arrays(*self._parts()[1:]))
        return np.asarray(np.asarray(BOUNDS)[np.argmax(stacked, axis=0)])
