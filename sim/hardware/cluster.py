"""Nodes and clusters, and what a group of their devices gets from the links between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from sim.core import InputError, UnitError, data_names, did_you_mean, load_data, named_in, parse_quantity
from sim.hardware.device import Device, Link, load_device, load_link, value_or
from sim.hardware.spec import ClusterSpec, NodeSpec, PriceSpec
from sim.hardware.topology import Vertex, build_graph

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Node:
    """A server in SI units.

    Attributes:
        name: Short name.
        title: Name as sold.
        device: Its devices.
        n_devices: How many.
        link: Link between them, None for one device.
        domain: Devices that share the scale-up fabric.
        torus: Shape of the torus of a domain.
        nic: Network link at the rate of one device, None without network.
        sources: Where the figures come from.
        host_bytes: DRAM of the host [B], 0 if unknown.
        host_bytes_per_s: Theoretical bandwidth of that DRAM [B/s], 0 if unknown.
        nvme_bytes: Capacity of the local disks [B], 0 without.
        nvme_bytes_per_s: Read bandwidth of the local disks together [B/s], 0 without.
        max_w: Highest power, devices included [W], 0 if unknown.
    """

    name: str
    title: str
    device: Device
    n_devices: int
    link: Link | None
    domain: int
    torus: tuple[int, ...] | None
    nic: Link | None
    sources: tuple[str, ...]
    host_bytes: float = 0.0
    host_bytes_per_s: float = 0.0
    nvme_bytes: float = 0.0
    nvme_bytes_per_s: float = 0.0
    max_w: float = 0.0


@dataclass(frozen=True)
class CommGroup:
    """Ranks that communicate, and the links between them.

    Attributes:
        ranks: How many.
        nodes: Scale-up domains that they span.
        ranks_per_node: Most ranks in one domain.
        intra: Link inside a domain; None if no two ranks share one.
        inter: Network link of one rank after oversubscription; None inside one domain.
        bytes_per_s: Rate per rank of a ring through all of them [B/s].
        latency_s: Of the slowest link crossed [s].
        kind: `single`, the link's topology, or `multi`.
    """

    ranks: int
    nodes: int
    ranks_per_node: int
    intra: Link | None
    inter: Link | None
    bytes_per_s: float
    latency_s: float
    kind: str


@lru_cache(maxsize=256)
def load_node(name: str) -> Node:
    """The node with this name, or in this YAML file.

    Raises:
        InputError: if there is none.
    """
    spec = load_data("hardware_profiles/nodes", name, NodeSpec, kind="node")
    nic = None
    if spec.nic_link is not None:
        nic = load_link(named_in(name, spec.nic_link))
        if spec.nic_bandwidth is not None:
            nic = nic.with_rate(spec.nic_bandwidth.value)
    device = load_device(named_in(name, spec.device))
    host_rate = value_or(spec.host_bandwidth, device.host_bytes_per_s)
    if host_rate < device.host_bytes_per_s:
        device = replace(device, host_bytes_per_s=host_rate)
    return Node(
        name=spec.name,
        title=spec.title,
        device=device,
        n_devices=spec.devices.value,
        link=load_link(named_in(name, spec.link)) if spec.link is not None else None,
        domain=spec.domain or spec.devices.value,
        torus=spec.torus,
        nic=nic,
        sources=tuple(spec.refs.values()),
        host_bytes=value_or(spec.host_memory, 0.0),
        host_bytes_per_s=value_or(spec.host_memory_bandwidth, 0.0),
        nvme_bytes=value_or(spec.nvme, 0.0),
        nvme_bytes_per_s=value_or(spec.nvme_read_bandwidth, 0.0),
        max_w=value_or(spec.max_power, 0.0),
    )


@dataclass(frozen=True, eq=False)
class Cluster:
    """Equal nodes and their network.

    Attributes:
        name: Short name.
        node: One node.
        n_nodes: How many.
        devices_per_node: Devices used of each.
        oversubscription: Of the network's leaves.
        rails: Whether equal device positions share a leaf.
        usd_per_device_hour: Price [USD/h], None if unknown.
        price_source: Where the price comes from.
    """

    name: str
    node: Node
    n_nodes: int
    devices_per_node: int
    oversubscription: float
    rails: bool
    usd_per_device_hour: float | None
    price_source: str

    @property
    def device(self) -> Device:
        """The device of every node."""
        return self.node.device

    def with_device(self, device: Device) -> Cluster:
        """The cluster with another device in every place."""
        return replace(self, node=replace(self.node, device=device))

    @property
    def n_devices(self) -> int:
        """Devices in all."""
        return self.n_nodes * self.devices_per_node

    @property
    def domain(self) -> int:
        """Devices of the cluster that share a scale-up fabric."""
        per_domain = self.node.domain // self.node.n_devices
        return max(1, per_domain) * self.devices_per_node if per_domain > 1 else self.devices_per_node

    @cached_property
    def graph(self) -> nx.Graph[Vertex]:
        """The cluster's links; see `topology`."""
        return build_graph(
            nodes=self.n_nodes,
            devices=self.devices_per_node,
            domain=self.domain,
            link=self.node.link,
            nic=self.node.nic,
            torus=self.node.torus,
            oversubscription=self.oversubscription,
            rails=self.rails,
        )

    def group(self, devices: Sequence[int]) -> CommGroup:
        """What the ranks on these devices get from the links between them.

        Inside a domain a ring runs at the link's rate per device (behind a switch), at a pair's rate (mesh, torus) or
        at the share that all devices of a socket leave each other (PCIe: the link between sockets is crossed once per
        direction). Across domains the domain's network interfaces that belong to ranks of the group carry it together;
        traffic that leaves its rail is divided by the oversubscription.

        Raises:
            InputError: if a device is not in the cluster, or is named twice.
        """
        if len(set(devices)) != len(devices) or not devices:
            raise InputError("a group needs distinct devices", value=list(devices))
        if min(devices) < 0 or max(devices) >= self.n_devices:
            raise InputError(f"the cluster has devices 0 to {self.n_devices - 1}", value=list(devices))
        per_domain = Counter(d // self.domain for d in devices)
        ranks, domains, most = len(devices), len(per_domain), max(per_domain.values())
        link = self.node.link if most > 1 else None
        if ranks == 1:
            return CommGroup(1, 1, 1, None, None, float("inf"), 0.0, "single")
        intra_rate = float("inf") if link is None else _ring_rate(link, most)
        intra_latency = 0.0 if link is None else link.latency_s
        if domains == 1:
            assert link is not None
            return CommGroup(ranks, 1, most, link, None, intra_rate, intra_latency, link.topology)
        nic = self.node.nic
        if nic is None:
            raise InputError(
                f"{self.node.name} has no network: a group cannot span {domains} of them", path="cluster.nodes"
            )
        one_rail = len({d % self.devices_per_node for d in devices}) == 1 or not self.rails
        rate = nic.bytes_per_s / (1.0 if one_rail and self.rails else self.oversubscription)
        inter = nic.with_rate(rate)
        ring = min(intra_rate, rate * most)
        return CommGroup(ranks, domains, most, link, inter, ring, max(intra_latency, nic.latency_s), "multi")


def _ring_rate(link: Link, ranks: int) -> float:
    """Rate per rank [B/s] of rings through `ranks` devices of one domain."""
    if link.topology == "mesh":
        return min(link.bytes_per_s, (ranks - 1) * link.p2p_bytes_per_s)
    if link.topology == "torus":
        return min(link.bytes_per_s, 2.0 * link.p2p_bytes_per_s)
    return link.bytes_per_s


def load_cluster(spec: ClusterSpec | str) -> Cluster:
    """The cluster that `spec` describes, or a named one.

    Raises:
        InputError: if a name is unknown or the node has too few devices.
    """
    if isinstance(spec, str):
        file = spec
        spec = load_data("hardware_profiles/clusters", file, ClusterSpec, kind="cluster")
        spec = spec.model_copy(update={"node": named_in(file, spec.node)})
    try:
        node = load_node(spec.node)
    except InputError as error:
        if error.file is None:
            error.path = "cluster.node"
        raise
    used = spec.devices_per_node or node.n_devices
    if used > node.n_devices:
        raise InputError(f"{node.name} has {node.n_devices} devices", path="cluster.devices_per_node", value=used)
    price, source = _price(spec.price, node.device)
    return Cluster(
        name=spec.name or f"{spec.nodes}x {node.name}",
        node=node,
        n_nodes=spec.nodes,
        devices_per_node=used,
        oversubscription=spec.oversubscription,
        rails=spec.topology == "rail_fat_tree",
        usd_per_device_hour=price,
        price_source=source,
    )


def _price(text: str | None, device: Device) -> tuple[float | None, str]:
    name = text or device.price
    if name is None:
        return None, "no price known for this device"
    if name in data_names("hardware_profiles/prices"):
        spec = load_data("hardware_profiles/prices", name, PriceSpec, kind="price")
        ref = spec.refs.get(spec.price.ref, spec.price.ref)
        return spec.price.value, f"{spec.provider} {spec.product}, {spec.kind}, {spec.date}: {ref}"
    try:
        return parse_quantity(name, "usd_per_h"), "given in the scenario"
    except UnitError:
        names = data_names("hardware_profiles/prices")
        raise InputError(
            f"unknown price {name!r}{did_you_mean(name, names)}",
            path="cluster.price",
            allowed="a name of `plansim list prices` or a quantity such as '2.5 USD/h'",
        ) from None
