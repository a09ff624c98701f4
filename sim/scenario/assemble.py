"""From names to things: the model, cluster, engine and requests a scenario speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.core import InputError, load_data
from sim.hardware import Cluster, ClusterSpec, load_cluster
from sim.models import ModelSpec, load_model
from sim.plans import EngineSpec, load_engine
from sim.scenario.load import Scenario
from sim.scenario.spec import ServingWorkload
from sim.workloads import RequestTable, TrafficSpec, generate, load_traffic, read_trace

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
    spec = scenario.spec
    return Assembled(
        scenario=scenario,
        model=load_model(_path_or_name(spec.model, scenario.base)),
        cluster=load_cluster(_cluster_spec(scenario)),
        engine=load_engine(spec.engine),
        requests=_traffic(spec.workload, scenario.base, seed),
        concurrency=spec.workload.concurrency,
    )


def _path_or_name(text: str, base: Path) -> str:
    path = base / text
    return str(path) if path.suffix in {".json", ".yaml", ".yml"} and path.is_file() else text


def _cluster_spec(scenario: Scenario) -> ClusterSpec:
    cluster = scenario.spec.cluster
    if isinstance(cluster, ClusterSpec):
        return cluster
    try:
        return load_data("hardware_profiles/clusters", cluster, ClusterSpec, kind="cluster")
    except InputError as error:
        if error.file is None:
            error.file = scenario.document.path
            error.line = scenario.document.line_of(("cluster",))
            error.path = "cluster"
        raise


def _traffic(workload: ServingWorkload, base: Path, seed: int) -> RequestTable:
    if workload.trace is not None:
        return read_trace(workload.trace, base=base, seed=seed)
    traffic = workload.traffic
    assert traffic is not None
    spec: TrafficSpec = load_traffic(traffic) if isinstance(traffic, str) else traffic
    if workload.concurrency is not None:
        count = workload.requests or _CLOSED_LOOP_ROUNDS * workload.concurrency
    else:
        count = workload.requests or _OPEN_LOOP_REQUESTS
    return generate(spec, requests=count, rate=workload.rate, seed=seed)


def longest_request(requests: RequestTable) -> int:
    """Tokens (prompt and output) of the longest request."""
    return int(np.max(requests.input_tokens + requests.output_tokens))
