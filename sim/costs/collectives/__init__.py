"""Collective communication: one algorithm a file, and the selector that picks the fastest by size and topology.

Start with `bind_collective` (in `select`); `base` says what an algorithm is. To add one, add a file with a class
registered in `COLLECTIVES`.
"""

from sim.costs.collectives.base import COLLECTIVES, Algorithm, Timer, wire_factor
from sim.costs.collectives.measured import root_form
from sim.costs.collectives.select import KINDS, BoundCollective, bind_collective, lower_bound_s_per_byte

__all__ = [
    "COLLECTIVES",
    "KINDS",
    "Algorithm",
    "BoundCollective",
    "Timer",
    "bind_collective",
    "lower_bound_s_per_byte",
    "root_form",
    "wire_factor",
]
