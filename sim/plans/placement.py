"""Which devices a plan's ranks run on.

Tensor-parallel ranks are neighbours inside a scale-up domain, data-parallel ranks come next, pipeline stages last, so
the heaviest traffic stays on the fastest links. What fits in a domain never straddles two: neither a tensor-parallel
group, nor a stage, nor a replica. All replicas of a plan therefore see the same links and one of them stands for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sim.hardware import Cluster, CommGroup


@dataclass(frozen=True)
class Placement:
    """Devices of every rank.

    Attributes:
        tp: Tensor-parallel ranks.
        dp: Data-parallel ranks.
        pp: Pipeline stages.
        domain: Devices that share a scale-up fabric.
        node_devices: Devices of a node; fewer than `domain` where the fabric spans nodes.
        n_devices: Devices of the cluster.
    """

    tp: int
    dp: int
    pp: int
    domain: int
    node_devices: int
    n_devices: int

    @property
    def possible(self) -> bool:
        """Whether tensor-parallel groups fit in a domain or fill whole ones."""
        return self.tp <= self.domain or self.tp % self.domain == 0

    @property
    def slots(self) -> int:
        """Tensor-parallel groups per domain; 0 if a group is larger than a domain."""
        return self.domain // self.tp

    @property
    def compact(self) -> bool:
        """Whether a replica fits in one domain."""
        return self.dp * self.pp <= self.slots

    @property
    def domains_per_stage(self) -> int:
        """Domains that a stage takes; 1 if it fits in one."""
        if self.slots == 0:
            return self.dp * (self.tp // self.domain)
        return -(-self.dp // self.slots)

    @property
    def stages_per_domain(self) -> int:
        """Stages that fit in one domain, at least 1."""
        return max(1, self.slots // self.dp)

    @property
    def domains_per_replica(self) -> int:
        """Domains that a replica takes; 1 if it fits in one."""
        if self.compact:
            return 1
        return self.domains_per_stage * -(-self.pp // self.stages_per_domain)

    @property
    def max_replicas(self) -> int:
        """Most replicas that fit in the cluster."""
        if not self.possible:
            return 0
        domains, rest = divmod(self.n_devices, self.domain)
        if self.compact:
            return domains * (self.slots // (self.dp * self.pp)) + rest // self.tp // (self.dp * self.pp)
        return domains // self.domains_per_replica

    def devices(self, replica: int, stage: int, rank: int) -> tuple[int, ...]:
        """Devices of the tensor-parallel group of data-parallel rank `rank` in a stage of a replica."""
        if self.compact:
            per_domain = self.slots // (self.dp * self.pp)
            domain, place = divmod(replica, per_domain)
            slot = (place * self.pp + stage) * self.dp + rank
        elif self.slots == 0:
            whole = self.tp // self.domain
            domain, slot = replica * self.domains_per_replica + (stage * self.dp + rank) * whole, 0
        elif self.domains_per_stage == 1:
            offset, place = divmod(stage, self.stages_per_domain)
            domain, slot = replica * self.domains_per_replica + offset, place * self.dp + rank
        else:
            offset, slot = divmod(rank, self.slots)
            domain = replica * self.domains_per_replica + stage * self.domains_per_stage + offset
        first = domain * self.domain + slot * self.tp
        return tuple(range(first, first + self.tp))

    @property
    def devices_per_replica(self) -> int:
        """Devices of a replica."""
        return self.tp * self.dp * self.pp

    @property
    def spans_nodes(self) -> bool:
        """Whether some replica has devices in several nodes."""
        if self.node_devices == self.domain or not self.compact:
            return not self.compact
        return any(
            len({device // self.node_devices for device in self.replica_devices(replica)}) > 1
            for replica in range(max(1, self.slots // (self.dp * self.pp)))
        )

    def replica_devices(self, replica: int) -> tuple[int, ...]:
        """All devices of a replica, stage by stage, then by data-parallel rank."""
        return tuple(
            d for stage in range(self.pp) for rank in range(self.dp) for d in self.devices(replica, stage, rank)
        )


def place(cluster: Cluster, *, tp: int, dp: int, pp: int) -> Placement:
    """The placement of ranks on the cluster; check `possible` and `max_replicas`."""
    domain = min(cluster.domain, cluster.n_devices)
    return Placement(tp, dp, pp, domain, min(cluster.devices_per_node, domain), cluster.n_devices)


Devices = tuple[int, ...]


def devices_for(pools: Sequence[tuple[Placement, int]]) -> list[tuple[Devices, ...]]:
    """Devices of every replica of several pools that fit on one cluster, packed as `domains_for` counts them.

    Args:
        pools: Placement and number of replicas of each pool.
    """
    domain = pools[0][0].domain
    found: list[dict[int, Devices]] = [{} for _ in pools]
    start = 0
    for at, (placement, replicas) in enumerate(pools):
        if not placement.compact:
            size = placement.domains_per_replica * domain
            for replica in range(replicas):
                found[at][replica] = tuple(start + device for device in placement.replica_devices(0))
                start += size
    taken: dict[int, int] = {}
    sizes = [
        (placement.devices_per_replica, at, replica)
        for at, (placement, replicas) in enumerate(pools)
        if placement.compact
        for replica in range(replicas)
    ]
    for size, at, replica in sorted(sizes, key=lambda one: (-one[0], one[1], one[2])):
        where = start
        while taken.get(where, 0) + size > domain:
            where += domain
        first = where + taken.get(where, 0)
        taken[where] = taken.get(where, 0) + size
        found[at][replica] = tuple(range(first, first + size))
    return [tuple(of[replica] for replica in sorted(of)) for of in found]


def domains_for(pools: Sequence[tuple[Placement, int]]) -> int | None:
    """Scale-up domains that several pools of one cluster take together; None if they do not fit.

    Replicas that fit in a domain share the domains that larger ones leave, largest first into the first with room.

    Args:
        pools: Placement and number of replicas of each pool.
    """
    whole, sizes = 0, []
    for placement, replicas in pools:
        if not placement.possible:
            return None
        if placement.compact:
            sizes += [placement.devices_per_replica] * replicas
        else:
            whole += placement.domains_per_replica * replicas
    domain, devices = pools[0][0].domain, pools[0][0].n_devices
    free = [min(domain, devices - start) for start in range(whole * domain, devices, domain)]
    room = list(free)
    for size in sorted(sizes, reverse=True):
        place = next((i for i, left in enumerate(room) if left >= size), None)
        if place is None:
            return None
        room[place] -= size
    fits = whole * domain <= devices
    return whole + sum(left < size for left, size in zip(room, free, strict=True)) if fits else None


def transfer_group(cluster: Cluster, domains: int) -> CommGroup:
    """The two ends of a transfer between pools that take so many domains together: one device each."""
    return cluster.group((0, cluster.domain) if domains > 1 else (0, min(1, cluster.n_devices - 1)))


def stage_groups(cluster: Cluster, placement: Placement, *, moe_tp: int) -> tuple[Mapping[str, CommGroup], ...]:
    """Communication groups of one rank, by name, for each stage of the first replica.

    `tp` are the ranks of a tensor-parallel group, `dp` the same rank of every data-parallel rank, `ep` the ranks that
    hold different experts (`moe_tp` neighbours share one), `pp` the two ranks of the transfer into the stage.
    """
    groups = []
    for stage in range(placement.pp):
        ranks = [placement.devices(0, stage, rank) for rank in range(placement.dp)]
        flat = [device for rank in ranks for device in rank]
        other = stage - 1 if stage else min(1, placement.pp - 1)
        ends = {placement.devices(0, other, 0)[0], ranks[0][0]}
        groups.append(
            {
                "tp": cluster.group(ranks[0]),
                "dp": cluster.group([rank[0] for rank in ranks]),
                "ep": cluster.group(flat[::moe_tp]),
                "pp": cluster.group(sorted(ends)),
            }
        )
    return tuple(groups)
