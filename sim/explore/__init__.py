"""The search over execution plans: bounds, analytic screen, simulation, Pareto archive, one recommendation.

Start in `search`, then `screen` (the steady state of every plan at once), `pareto` (dominance, layers, archive),
`algorithms` (which plans get simulated), `executor` (in one process or several) and `recommend` (the rule).
`training` and `training_screen` are the same for training jobs.
"""

from sim.explore.algorithms import ALGORITHMS, Algorithm
from sim.explore.pareto import ParetoArchive, front_mask, layers
from sim.explore.recommend import COST_TIE_FRAC, STEP_TIE_FRAC, recommend, recommend_training
from sim.explore.screen import screen
from sim.explore.search import search
from sim.explore.training import search_training

__all__ = [
    "ALGORITHMS",
    "COST_TIE_FRAC",
    "STEP_TIE_FRAC",
    "Algorithm",
    "ParetoArchive",
    "front_mask",
    "layers",
    "recommend",
    "recommend_training",
    "screen",
    "search",
    "search_training",
]
