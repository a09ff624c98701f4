"""From names to things: the model, cluster, engine and requests a scenario speaks of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.core import load_data
from sim.hardware import Cluster, ClusterSpec, load_cluster
from sim.models import ModelSpec, load_model
from sim.plans import EngineSpec, load_engine
from sim.scenario.load import Scenario, located
from sim.serving import ROUTERS, SCHEDULERS
from sim.workloads import RequestTable, generate, load_traffic, read_trace

_OPEN_LOOP_REQUESTS = 2000
_CLOSED_LOOP_ROUNDS = 10


@dataclass(frozen=True)
class Assembled:
    """Everything a simulation needs but the plan.

    Attributes:
        scenario: Where it comes from.
        model: The model.
        cluster: The cluster, all of it.
        engine: The engine profile.
        requests: The traffic: the same for every plan.
        concurrency: Requests in flight of a closed loop; None for an open one.
    """

    scenario: Scenario
    model: ModelSpec
    cluster: Cluster
    engine: EngineSpec
    requests: RequestTable
    concurrency: int | None


def assemble(scenario: Scenario, *, seed: int) -> Assembled:
    """The things that `scenario` names, with traffic drawn from `seed`.

    Raises:
        InputError: if a name is unknown or a trace is unusable.
    """
    spec, base = scenario.spec, scenario.base
    _check_policies(scenario)
    with scenario.errors_at("model"):
        model = load_model(located(spec.model, base))
    with scenario.errors_at("cluster"):
        cluster = load_cluster(cluster_spec(scenario))
    with scenario.errors_at("engine"):
        engine = load_engine(located(spec.engine, base))
    return Assembled(
        scenario=scenario,
        model=model,
        cluster=cluster,
        engine=engine,
        requests=_traffic(scenario, seed),
        concurrency=spec.workload.concurrency,
    )


def _check_policies(scenario: Scenario) -> None:
    """Refuses a router or scheduler that nobody registered, before anything is simulated."""
    plan, space = scenario.spec.plan, scenario.spec.search.space
    for name, of_plan, of_space, registry in (
        ("router", plan.router, space.router, ROUTERS),
        ("scheduler", plan.scheduler, space.scheduler, SCHEDULERS),
    ):
        with scenario.errors_at(f"plan.{name}"):
            if of_plan is not None:
                registry.get(of_plan)
        with scenario.errors_at(f"search.space.{name}"):
            for policy in of_space or ():
                registry.get(policy)


def cluster_spec(scenario: Scenario) -> ClusterSpec:
    """The cluster of `scenario` as data, its node found from the scenario's folder.

    Raises:
        InputError: if the cluster is unknown.
    """
    cluster = scenario.spec.cluster
    if isinstance(cluster, str):
        cluster = load_data("hardware_profiles/clusters", located(cluster, scenario.base), ClusterSpec, kind="cluster")
    return cluster.model_copy(update={"node": located(cluster.node, scenario.base)})


def _traffic(scenario: Scenario, seed: int) -> RequestTable:
    workload = scenario.spec.workload
    if workload.trace is not None:
        with scenario.errors_at("workload.trace"):
            return read_trace(workload.trace, base=scenario.base, seed=seed)
    traffic = workload.traffic
    assert traffic is not None
    with scenario.errors_at("workload.traffic"):
        spec = load_traffic(located(traffic, scenario.base)) if isinstance(traffic, str) else traffic
    if workload.concurrency is not None:
        count = workload.requests or _CLOSED_LOOP_ROUNDS * workload.concurrency
    else:
        count = workload.requests or _OPEN_LOOP_REQUESTS
    with scenario.errors_at("workload"):
        return generate(spec, requests=count, rate=workload.rate, seed=seed)


def longest_request(requests: RequestTable) -> int:
    """Tokens (prompt and output) of the longest request."""
    return int(np.max(requests.input_tokens + requests.output_tokens))
