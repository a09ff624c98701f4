"""The search over execution plans: bounds, analytic screen, simulation, Pareto archive, one recommendation.

Start in `search`, then `screen` (the steady state of every plan at once), `pareto` (dominance, layers, archive),
`algorithms` (which plans get simulated), `executor` (in one process or several) and `recommend` (the rule).
"""

from sim.explore.algorithms import ALGORITHMS, Algorithm
from sim.explore.pareto import ParetoArchive, front_mask, layers
from sim.explore.recommend import COST_TIE_FRAC, recommend
from sim.explore.screen import screen
from sim.explore.search import search

__all__ = [
    "ALGORITHMS",
    "COST_TIE_FRAC",
    "Algorithm",
    "ParetoArchive",
    "front_mask",
    "layers",
    "recommend",
    "screen",
    "search",
]
