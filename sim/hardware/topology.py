"""The links of a cluster as a networkx graph.

Vertices are tuples: `("gpu", i)` for device i of the cluster, `("switch", d)` for the scale-up switch of domain d,
`("host", n, s)` for socket s of node n, `("leaf", r)` and `("spine", 0)` for the network. Edges carry
`bytes_per_s` per direction, `latency_s` and the link's name. In a rail-optimised fat tree a leaf joins the devices of
equal position in all nodes; without rails a leaf joins the devices of one node (top of rack). Leaves reach each other
over the spine with the stated oversubscription.
"""

from __future__ import annotations

from itertools import combinations, product
from math import prod
from typing import TYPE_CHECKING

from sim.hardware.device import Link

if TYPE_CHECKING:
    import networkx as nx

Vertex = tuple[str | int, ...]


def build_graph(
    *,
    nodes: int,
    devices: int,
    domain: int,
    link: Link | None,
    nic: Link | None,
    torus: tuple[int, ...] | None,
    oversubscription: float,
    rails: bool,
) -> nx.Graph[Vertex]:
    """The graph of a cluster.

    Args:
        nodes: Nodes.
        devices: Devices per node.
        domain: Devices that share a scale-up fabric; a multiple of `devices` where the fabric spans nodes.
        link: Link between the devices of a domain.
        nic: Network link at the rate of one device.
        torus: Shape of the torus of a domain.
        oversubscription: Leaf downlinks over uplinks.
        rails: Whether there is a leaf per device position; otherwise there is one per node.
    """
    import networkx as nx

    graph: nx.Graph[Vertex] = nx.Graph()
    total = nodes * devices
    graph.add_nodes_from(("gpu", i) for i in range(total))
    if link is not None:
        for start in range(0, total, domain):
            members = list(range(start, min(start + domain, total)))
            _scale_up(graph, members, link, start // domain, torus)
    if nic is not None and nodes > 1:
        _network(graph, nodes, devices, nic, oversubscription, rails)
    return graph


def _edge(graph: nx.Graph[Vertex], a: Vertex, b: Vertex, link: Link, bytes_per_s: float) -> None:
    graph.add_edge(a, b, bytes_per_s=bytes_per_s, latency_s=link.latency_s / 2.0, link=link.name)


def _scale_up(
    graph: nx.Graph[Vertex], members: list[int], link: Link, number: int, torus: tuple[int, ...] | None
) -> None:
    gpus: list[Vertex] = [("gpu", i) for i in members]
    if link.topology == "switch":
        for gpu in gpus:
            _edge(graph, gpu, ("switch", number), link, link.bytes_per_s)
    elif link.topology == "mesh":
        for a, b in combinations(gpus, 2):
            _edge(graph, a, b, link, link.p2p_bytes_per_s)
    elif link.topology == "torus":
        _torus(graph, gpus, link, torus or (len(gpus),))
    else:
        _pcie(graph, gpus, link, number)


def _pcie(graph: nx.Graph[Vertex], gpus: list[Vertex], link: Link, number: int) -> None:
    """Two sockets joined by one link's worth of bandwidth; half of the devices on each."""
    half = (len(gpus) + 1) // 2
    sockets: list[Vertex] = [("host", number, 0), ("host", number, 1)]
    for i, gpu in enumerate(gpus):
        _edge(graph, gpu, sockets[i >= half], link, link.bytes_per_s)
    if len(gpus) > half:
        _edge(graph, sockets[0], sockets[1], link, link.bytes_per_s)


def _torus(graph: nx.Graph[Vertex], gpus: list[Vertex], link: Link, whole: tuple[int, ...]) -> None:
    """A torus, or the slice of it that holds these devices.

    A ring closes along an axis of full length, and in three dimensions along any multiple of 4, which optical switches
    join (Jouppi et al., ISCA 2023).
    """
    shape = slice_shape(len(gpus), whole)
    closed = [size == full or (len(whole) == 3 and size % 4 == 0) for size, full in zip(shape, whole, strict=True)]
    places = product(*(range(size) for size in shape))
    at = dict(zip(places, gpus, strict=False))
    for place, gpu in at.items():
        for axis, size in enumerate(shape):
            if place[axis] + 1 == size and not closed[axis]:
                continue
            following = (*place[:axis], (place[axis] + 1) % size, *place[axis + 1 :])
            other = at.get(following)
            if other is not None and other != gpu:
                _edge(graph, gpu, other, link, link.p2p_bytes_per_s)


def slice_shape(devices: int, whole: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the part of a torus that holds `devices`: of all boxes that fit, the nearest to a cube.

    The smallest box with room for them if none has exactly as many places.
    """
    boxes = [(1,) * len(whole)] if devices == 1 else list(product(*(_lengths(size, devices) for size in whole)))
    roomy = [box for box in boxes if prod(box) >= devices]
    return min(roomy, key=lambda box: (prod(box), sum(box), box), default=whole)


def _lengths(size: int, devices: int) -> list[int]:
    return [length for length in range(1, min(size, devices) + 1) if length in (1, size) or length % 2 == 0]


def _network(
    graph: nx.Graph[Vertex], nodes: int, devices: int, nic: Link, oversubscription: float, rails: bool
) -> None:
    for node, position in product(range(nodes), range(devices)):
        leaf = position if rails else node
        _edge(graph, ("gpu", node * devices + position), ("leaf", leaf), nic, nic.bytes_per_s)
    leaves, below = (devices, nodes) if rails else (nodes, devices)
    if leaves > 1:
        for leaf in range(leaves):
            _edge(graph, ("leaf", leaf), ("spine", 0), nic, nic.bytes_per_s * below / oversubscription)
