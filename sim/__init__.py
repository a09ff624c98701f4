"""plansim: a discrete-event performance simulator and execution-plan search for AI systems.

It answers one question: on this hardware, for this model and this workload, which execution plans are worth
running, and what will each deliver?

Most people need four functions:

    import sim

    scenario = sim.load("scenarios/llama3-70b-azure-conv.yaml", overrides=["plan.tp=4"])
    result = sim.run(scenario)           # one plan: metrics, breakdown, tables of requests and iterations
    found = sim.search(scenario)         # all plans: the Pareto front and one recommendation
    changed = sim.compare(scenario)      # the scenario's named variants, on the same traffic

Every result is plain data (`result.metrics`, `result.requests` as a DataFrame), prints as one screen, renders as a
table in a notebook, saves itself with `.save(folder)` and becomes figures through `sim.report`.

The packages read from the bottom up, and each imports only those before it. `core` holds units, errors, YAML and
the plug-in registry. `results` defines what is measured. `kernel` is the event loop and the only place that knows
simpy. `hardware` describes devices, links and clusters; `models` turns a transformer into operators, which are work
without time; `costs` gives operators their time on a device. `plans` says how a model is laid onto a cluster;
`workloads` makes or reads requests; `serving` runs them through replicas. `scenario` joins all of these from one YAML
file; `explore` searches over plans; `report` draws; `cli` is the command `plansim`. To follow a request through
them, read ARCHITECTURE.md.

Names resolve on first use, so `import sim` costs nothing until something runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.explore import search as search
    from sim.results import CompareResult as CompareResult
    from sim.results import RunResult as RunResult
    from sim.results import SearchResult as SearchResult
    from sim.scenario import Scenario as Scenario
    from sim.scenario import ScenarioSpec as ScenarioSpec
    from sim.scenario import compare as compare
    from sim.scenario import load as load
    from sim.scenario import run as run

__version__ = "0.1.0"

_HOME = {
    "sim.scenario": ("Scenario", "ScenarioSpec", "compare", "load", "run"),
    "sim.explore": ("search",),
    "sim.results": ("CompareResult", "RunResult", "SearchResult"),
    "sim.core": ("InfeasibleError", "InputError", "PlansimError", "SloNotMetError"),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}
_PACKAGES = ("core", "costs", "explore", "hardware", "models", "plans", "report", "results", "scenario", "workloads")
__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    """The public name or package `name`, imported on first use."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in _PACKAGES:
        return import_module(f"sim.{name}")
    raise AttributeError(f"module 'sim' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, for completion in notebooks."""
    return sorted([*__all__, *_PACKAGES])
