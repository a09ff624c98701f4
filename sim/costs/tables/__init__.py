"""Tables of measured kernel times, and how costs are read from them.

Start with `base`: what a source of tables offers. `aiconfigurator` (an optional package) and `profile` (a user's own
CSV) are sources; a new one is one file with one registration. `ratios` turns rows into ratios of measured to analytic
times, `shapes` says which rows stand for an operator, `lookup` puts both together.
"""

from sim.costs.tables.base import COLUMNS, TABLES, KernelRows, TableSource
from sim.costs.tables.lookup import MeasuredKernels
from sim.costs.tables.ratios import RatioGrid

__all__ = [
    "COLUMNS",
    "TABLES",
    "KernelRows",
    "MeasuredKernels",
    "RatioGrid",
    "TableSource",
]
