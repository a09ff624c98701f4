"""Small scenarios on shipped models and hardware, quick enough to simulate in a test."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from sim.plans import PlanSpec, ResolvedPlan, require
from sim.scenario import PlanRunner, Scenario, assemble, load

_BASE: Mapping[str, Any] = {
    "name": "small",
    "model": "llama-3.1-8b",
    "cluster": "dgx-h100-1",
    "workload": {"traffic": "chat-poisson", "rate": 8.0, "requests": 120},
}


def small_scenario(values: Mapping[str, Any] | None = None) -> Scenario:
    """A chat service of an 8B model on one node, with `values` set by dotted path; bare quantities are SI."""
    data: dict[str, Any] = deepcopy(dict(_BASE))
    for path, value in (values or {}).items():
        *parents, last = path.split(".")
        here = data
        for key in parents:
            here = here.setdefault(key, {})
        here[last] = value
    return load(data)


def plan_runner(scenario: Scenario, *, seed: int = 0) -> PlanRunner:
    """What evaluates plans of the scenario."""
    return PlanRunner(assemble(scenario, seed=seed), seed=seed)


def resolved_plan(runner: PlanRunner, **fields: Any) -> ResolvedPlan:
    """A plan with these fields for the runner's model and cluster; fields left out are the scenario's own.

    Raises:
        InfeasibleError: if it cannot run.
    """
    things = runner.things
    own = things.scenario.spec.plan.model_dump(exclude_none=True)
    plan = PlanSpec.model_validate({**own, **fields})
    return require(plan, model=things.model, engine=things.engine, cluster=things.cluster)
