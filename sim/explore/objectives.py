"""Objectives of a search: metric paths or short names, with a direction."""

from __future__ import annotations

from collections.abc import Sequence

from sim.results import Objective, resolve_metric
from sim.scenario import ScenarioSpec

GOODPUT = "goodput_max_requests_per_s_per_gpu"
"""Metric path that has to be searched for, plan by plan."""

_IN_MONEY = ("cost_usd_per_million_output_tokens", "usd_per_hour")
_WITHOUT_GOODPUT = "output_tokens_per_s_per_gpu"


def parse_objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives called `names`; a leading `+` or `-` states the direction, else the metric's own is taken.

    Raises:
        InputError: if a name is no metric; suggests the nearest.
    """
    return tuple(resolve_metric(name) for name in names)


def objectives_of(spec: ScenarioSpec, *, priced: bool) -> tuple[Objective, ...]:
    """The objectives of a scenario's search.

    Where none are listed, and there is no SLO or the load is a closed loop, so that no highest rate within the SLO
    exists, throughput per GPU takes the place of `goodput_max_per_gpu` among the defaults. Where the device has no
    known price, the number of GPUs takes the place of the cost.

    Args:
        spec: The scenario.
        priced: Whether the device has a price.
    """
    found = parse_objectives(spec.search.objectives)
    if not priced:
        gpus = resolve_metric("n_gpus")
        found = tuple(dict.fromkeys(gpus if each.path in _IN_MONEY else each for each in found))
    bounded = spec.slo is not None and spec.workload.concurrency is None
    if bounded or "objectives" in spec.search.model_fields_set:
        return found
    throughput = resolve_metric(_WITHOUT_GOODPUT)
    return tuple(throughput if each.path == GOODPUT else each for each in found)


def needs_goodput(objectives: Sequence[Objective]) -> bool:
    """Whether the highest sustainable rate must be searched for."""
    return any(each.path == GOODPUT for each in objectives)
