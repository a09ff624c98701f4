"""Where the ranks of a plan stand: which of them communicate, by the order in which they are numbered.

The dimension named first in the rank order has neighbours for ranks, so it gets the fastest links; the one named last
has ranks the furthest apart. Start at `communication_groups`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sim.hardware import Cluster, CommGroup
from sim.plans.training import RANK_DIMENSIONS, RankDimension
from sim.training.plan import TrainingPlan

LAYER_GROUPS: Final = ("tp", "cp", "cp_hop", "ep")
"""Groups that a layer's own passes communicate over."""


class Lattice(NamedTuple):
    """Ranks `i * step + j * stride`, for i below `ranks` and j below `rows`.

    Attributes:
        ranks: How many in a row.
        step: Distance of neighbours in a row.
        rows: How many rows.
        stride: Distance of rows.
    """

    ranks: int
    step: int
    rows: int = 1
    stride: int = 0

    @property
    def plain(self) -> Lattice:
        """The same ranks in as few rows as they go, so that equal groups are equal lattices."""
        ranks, step, rows, stride = self
        if ranks * rows == 1:
            return Lattice(1, 1)
        if ranks == 1:
            return Lattice(rows, stride)
        if rows == 1:
            return Lattice(ranks, step)
        if stride == ranks * step or step == rows * stride:
            return Lattice(ranks * rows, min(step, stride))
        return self

    @property
    def devices(self) -> Sequence[int]:
        """Its devices in ascending order."""
        if self.rows == 1:
            return range(0, self.ranks * self.step, self.step)
        return sorted(i * self.step + j * self.stride for i in range(self.ranks) for j in range(self.rows))


def rank_steps(order: Sequence[str], degrees: Mapping[str, int]) -> dict[str, int]:
    """Distance of neighbours in each dimension, for ranks numbered with the first of `order` fastest."""
    found, passed = {}, 1
    for name in order:
        found[name] = passed
        passed *= degrees[name]
    return found


def lattices(order: Sequence[str], degrees: Mapping[str, int], *, ep: int, replicas: int = 1) -> dict[str, Lattice]:
    """The ranks that rank 0 communicates with, by the name of the group.

    `dp` are the ranks that hold the same parameters, context-parallel ones among them. With hybrid sharding, `dp_shard`
    are those that divide the states and `dp_replica` those that hold the same share. Expert-parallel ranks are
    neighbours among the data-parallel ones, and gradients of experts are reduced over `expert_dp` and `expert_shard`.
    `cp_hop` are the neighbours around the context-parallel ring that are the furthest apart, `ends` the first and the
    last stage.

    Args:
        order: Dimensions in the order in which ranks are numbered.
        degrees: Ranks of each dimension.
        ep: Expert-parallel ranks.
        replicas: Data-parallel replicas of the sharded states.
    """
    step = rank_steps(order, degrees)
    tp, cp, dp, pp = (degrees[name] for name in RANK_DIMENSIONS)
    found = {
        "tp": Lattice(tp, step["tp"]),
        "cp": Lattice(cp, step["cp"]),
        "cp_hop": Lattice(min(cp, 2), step["cp"] * (cp - 1)),
        "ep": Lattice(ep, step["dp"]),
        "dp": Lattice(cp, step["cp"], dp, step["dp"]),
        "dp_shard": Lattice(cp, step["cp"], dp // replicas, step["dp"]),
        "dp_replica": Lattice(replicas, step["dp"] * (dp // replicas)),
        "expert_shard": Lattice(cp, step["cp"], dp // replicas // ep, step["dp"] * ep),
        "expert_dp": Lattice(cp, step["cp"], dp // ep, step["dp"] * ep),
        "stages": Lattice(pp, step["pp"]),
        "ends": Lattice(min(pp, 2), step["pp"] * (pp - 1)),
    }
    return {name: lattice.plain for name, lattice in found.items()}


def plan_lattices(plan: TrainingPlan) -> dict[str, Lattice]:
    """Those of a plan."""
    degrees: dict[str, int] = {name: getattr(plan, name) for name in RANK_DIMENSIONS}
    return lattices(plan.rank_order, degrees, ep=plan.ep, replicas=plan.dp_replicas)


def layer_groups(plan: TrainingPlan, cluster: Cluster) -> dict[str, CommGroup]:
    """The groups that a layer's own passes communicate over."""
    found = plan_lattices(plan)
    return {name: cluster.group(found[name].devices) for name in LAYER_GROUPS}


def communication_groups(plan: TrainingPlan, cluster: Cluster) -> dict[str, CommGroup]:
    """Communication groups of rank 0 by name: all ranks of a kind are taken to see the same links."""
    return {name: cluster.group(lattice.devices) for name, lattice in plan_lattices(plan).items()}


def boundary_groups(plan: TrainingPlan, cluster: Cluster) -> list[CommGroup]:
    """The two ranks on either side of each stage's end, last stage to first included; empty without stages."""
    if plan.pp == 1:
        return []
    step = plan_lattices(plan)["stages"].step
    return [cluster.group(sorted((i * step, (i + 1) % plan.pp * step))) for i in range(plan.pp)]


def distinct_orders(
    orders: Sequence[tuple[RankDimension, ...]], degrees: Mapping[str, int]
) -> list[tuple[RankDimension, ...]]:
    """The orders that number the ranks differently: a dimension of one rank can stand anywhere."""
    found: dict[tuple[str, ...], tuple[RankDimension, ...]] = {}
    for order in orders:
        found.setdefault(tuple(name for name in order if degrees[name] > 1), order)
    return [*found.values()]
