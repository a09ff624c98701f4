"""Search algorithms, one file each: which of the screened plans are worth simulating.

`base` has the contract. An algorithm is registered by name and chosen with `search: {algorithm: NAME}`.
"""

from sim.explore.algorithms.base import ALGORITHMS, Algorithm

__all__ = ["ALGORITHMS", "Algorithm"]
