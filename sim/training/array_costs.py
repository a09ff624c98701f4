"""What the screen asks of costs for whole arrays: collectives over the groups that plans have, and casts of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.core import Array
from sim.costs import CostModel, bind_collective
from sim.hardware import Cluster, CommGroup, Device
from sim.models import Elementwise, ModelSpec
from sim.plans import TrainingEngineSpec
from sim.training.columns import Flags, Members
from sim.training.costing import KERNEL_FAMILY
from sim.training.layout_kinds import layer_kinds
from sim.training.plan import TrainingPlan
from sim.training.ranks import Lattice
from sim.training.sustained import sustained_of


class Network:
    """Times of collectives over the groups that plans have.

    Args:
        cluster: The cluster.
        engine: The engine's profile.
    """

    def __init__(self, cluster: Cluster, engine: TrainingEngineSpec) -> None:
        self.cluster = cluster
        self.engine = engine
        self.kept = sustained_of(cluster.device)
        self._groups: dict[Lattice, CommGroup] = {}

    def group(self, lattice: Lattice) -> CommGroup:
        """The links between some ranks."""
        if lattice not in self._groups:
            self._groups[lattice] = self.cluster.group(lattice.devices)
        return self._groups[lattice]

    def time_s(self, kind: str, sizes_bytes: Array, group: CommGroup) -> Array:
        """Time of collectives of these buffers [s]."""
        rate = self.kept.network * self.engine.network_frac.value if group.nodes > 1 else self.kept.local_comm
        return bind_collective(kind, group, engine=KERNEL_FAMILY).time_s(sizes_bytes) / rate

    def over_s(self, kind: str, sizes_bytes: Array, members: Members) -> Array:
        """Time of collectives of `sizes_bytes`, plans first, over the ranks that each plan has in it [s]."""
        found = np.zeros(sizes_bytes.shape)
        order = np.argsort(members.number, kind="stable")
        sizes = np.bincount(members.number, minlength=len(members.lattices))
        for lattice, rows in zip(members.lattices, np.split(order, np.cumsum(sizes)[:-1]), strict=True):
            if len(rows) and lattice.ranks * lattice.rows > 1:
                found[rows] = self.time_s(kind, sizes_bytes[rows], self.group(lattice))
        return found

    def hop_s(self, sizes_bytes: Array, far: Flags) -> Array:
        """Time of a transfer between two ranks, across the network where `far` [s]."""
        domain = min(self.cluster.domain, self.cluster.n_devices)
        found = np.zeros(sizes_bytes.shape)
        for step, where in ((1, ~far), (domain, far)):
            if where.any() and self.cluster.n_devices > step:
                found[where] = self.time_s("p2p", sizes_bytes[where], self.group(Lattice(2, step)))
        return found


@dataclass(frozen=True)
class Casting:
    """Casts of weights to low precision.

    Attributes:
        cast_bytes: Traffic of casting a weight of each kind of layer once [B], shape `(kinds of layer,)`.
        copies_bytes: Its copies [B], likewise.
        device: What casts.
    """

    cast_bytes: Array
    copies_bytes: Array
    device: Device

    @classmethod
    def of(cls, model: ModelSpec, plan: TrainingPlan, cluster: Cluster) -> Casting:
        """Those of all plans that share the recipe of this one."""
        low = np.array([float(not kind.kept_16bit) for kind in layer_kinds(model)])
        return cls(low * plan.recipe.weight_cast_bytes, low * plan.recipe.copies_bytes, cluster.device)

    def time_s(self, moved_bytes: Array, *, rate: float) -> Array:
        """Time of a pass over so many bytes [s], zero for none."""
        traffic = Elementwise(name="weight_cast", cause="quantisation", moved_bytes=moved_bytes)
        return np.where(moved_bytes > 0.0, CostModel(self.device).cost(traffic).time_s / rate, 0.0)
