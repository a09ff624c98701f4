"""Scenarios: the YAML root, how one is run, and paired what-if comparison of its variants.

Start in `spec` (what a file may say), then `load` (files, `--set` overrides, errors with lines), `assemble` (names to
models, clusters, engines and traffic), `run` and `compare`.
"""

from sim.scenario.assemble import Assembled, assemble
from sim.scenario.compare import compare
from sim.scenario.load import Scenario, load, scenario_schema
from sim.scenario.run import GoodputProbe, PlanRunner, run, seed_of
from sim.scenario.spec import ScenarioSpec, SearchSpec, ServingWorkload, VariantSpec

__all__ = [
    "Assembled",
    "GoodputProbe",
    "PlanRunner",
    "Scenario",
    "ScenarioSpec",
    "SearchSpec",
    "ServingWorkload",
    "VariantSpec",
    "assemble",
    "compare",
    "load",
    "run",
    "scenario_schema",
    "seed_of",
]
