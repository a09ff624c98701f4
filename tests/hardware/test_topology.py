"""Laws of the link graphs: switches, meshes, PCIe trees, tori, rail-optimised fat trees and racks."""

from __future__ import annotations

from itertools import combinations
from math import prod

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware import ClusterSpec, Link, build_graph, load_cluster
from sim.hardware.topology import Vertex, slice_shape

GB = 1e9
NIC = Link("nic", "NIC", 50 * GB, 50 * GB, 8e-6, 0.9, "nic")


def link(topology: str, *, total: float = 400 * GB, pair: float = 400 * GB) -> Link:
    return Link(topology, topology, total, pair, 4e-6, 0.8, topology)  # type: ignore[arg-type]


def graph(
    scale_up: Link | None,
    *,
    nodes: int = 1,
    devices: int = 8,
    domain: int | None = None,
    torus: tuple[int, ...] | None = None,
    oversubscription: float = 1.0,
    rails: bool = True,
) -> nx.Graph[Vertex]:
    return build_graph(
        nodes=nodes,
        devices=devices,
        domain=domain or devices,
        link=scale_up,
        nic=NIC,
        torus=torus,
        oversubscription=oversubscription,
        rails=rails,
    )


def gpus(found: nx.Graph[Vertex]) -> list[Vertex]:
    return [vertex for vertex in found if vertex[0] == "gpu"]


def cut(found: nx.Graph[Vertex], side: set[Vertex]) -> float:
    """Bandwidth per direction [B/s] of the links between `side` and the rest."""
    return float(sum(found.edges[edge]["bytes_per_s"] for edge in nx.edge_boundary(found, side)))


@given(st.integers(2, 16))
def test_behind_a_switch_all_pairs_are_two_hops_apart(devices: int) -> None:
    found = graph(link("switch"), devices=devices)
    assert {nx.shortest_path_length(found, a, b) for a, b in combinations(gpus(found), 2)} == {2}
    assert all(found.degree(gpu) == 1 for gpu in gpus(found))


@given(st.integers(2, 12))
def test_in_a_mesh_every_pair_has_its_own_link(devices: int) -> None:
    found = graph(link("mesh", pair=50 * GB), devices=devices)
    assert found.number_of_edges() == devices * (devices - 1) // 2
    assert {data["bytes_per_s"] for *_, data in found.edges(data=True)} == {50 * GB}


@given(st.integers(2, 16))
def test_pcie_is_a_tree_of_two_sockets(devices: int) -> None:
    found = graph(link("pcie"), devices=devices)
    assert nx.is_forest(found)
    assert nx.is_connected(found.subgraph([v for v in found if found.degree(v)]))
    on_socket = [sum(vertex[0] == "gpu" for vertex in found[("host", 0, s)]) for s in (0, 1)]
    assert sum(on_socket) == devices
    assert max(on_socket) - min(on_socket) <= 1


def test_sockets_share_one_link() -> None:
    found = graph(link("pcie", total=30 * GB, pair=30 * GB))
    first: set[Vertex] = {("host", 0, 0), *(("gpu", i) for i in range(4))}
    assert cut(found, first) == 30 * GB


@pytest.mark.parametrize("shape", [(4, 4), (16, 16), (4, 4, 4), (3, 5), (8,)])
def test_a_whole_torus_has_two_links_per_axis_and_device(shape: tuple[int, ...]) -> None:
    found = graph(link("torus", pair=100 * GB), devices=prod(shape), torus=shape)
    assert {found.degree(gpu) for gpu in gpus(found)} == {2 * len(shape)}
    assert found.number_of_edges() == len(shape) * prod(shape)


@pytest.mark.parametrize(("shape", "links"), [((4, 4), 2 * 4), ((16, 16), 2 * 16), ((4, 4, 4), 2 * 16), ((8,), 2)])
def test_half_a_torus_is_joined_by_two_cross_sections(shape: tuple[int, ...], links: int) -> None:
    """Bisection of a torus with an even first axis: two cuts of one cross-section each (Dally & Towles, ch. 5)."""
    total = prod(shape)
    found = graph(link("torus", pair=100 * GB), devices=total, torus=shape)
    assert cut(found, {("gpu", i) for i in range(total // 2)}) == links * 100 * GB


def test_an_axis_of_two_has_one_link() -> None:
    found = graph(link("torus"), devices=4, torus=(2, 2))
    assert found.number_of_edges() == 4


def test_a_slice_of_a_flat_torus_is_a_grid_without_rings() -> None:
    found = load_cluster(ClusterSpec(node="tpu-v5e-8")).graph
    assert nx.is_isomorphic(found, nx.grid_2d_graph(2, 4))


def test_optical_switches_close_the_rings_of_whole_cubes() -> None:
    found = load_cluster(ClusterSpec(node="tpu-v5p-4", nodes=16)).graph
    chips = found.subgraph(gpus(found))
    assert {chips.degree(chip) for chip in chips} == {6}


@given(st.sampled_from([(16, 16), (16, 20, 28), (4, 4), (12,)]), st.integers(1, 256))
def test_slices_have_room_and_fit(whole: tuple[int, ...], devices: int) -> None:
    devices = min(devices, prod(whole))
    shape = slice_shape(devices, whole)
    assert prod(shape) >= devices
    assert all(size <= full for size, full in zip(shape, whole, strict=True))


@pytest.mark.parametrize(
    ("devices", "whole", "shape"),
    [
        (1, (16, 16), (1, 1)),
        (8, (16, 16), (2, 4)),
        (16, (16, 16), (4, 4)),
        (256, (16, 16), (16, 16)),
        (64, (8, 8, 8), (4, 4, 4)),
    ],
)
def test_slices_are_nearest_to_a_cube(devices: int, whole: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert slice_shape(devices, whole) == shape


@given(st.integers(2, 6), st.integers(2, 8))
def test_a_rail_joins_equal_positions_of_all_nodes(nodes: int, devices: int) -> None:
    found = graph(link("switch"), nodes=nodes, devices=devices)
    network = found.subgraph([v for v in found if v[0] != "switch"])
    for a, b in combinations(range(nodes * devices), 2):
        hops = nx.shortest_path_length(network, ("gpu", a), ("gpu", b))
        assert hops == (2 if a % devices == b % devices else 4)


@pytest.mark.parametrize("oversubscription", [1.0, 2.0, 4.0])
def test_uplinks_are_downlinks_over_the_oversubscription(oversubscription: float) -> None:
    found = graph(link("switch"), nodes=4, devices=8, oversubscription=oversubscription)
    for rail in range(8):
        leaf: Vertex = ("leaf", rail)
        down = sum(found.edges[leaf, v]["bytes_per_s"] for v in found[leaf] if v[0] == "gpu")
        up = found.edges[leaf, ("spine", 0)]["bytes_per_s"]
        assert down == 4 * NIC.bytes_per_s
        assert down / up == pytest.approx(oversubscription)


def test_without_rails_a_leaf_joins_a_node_and_is_oversubscribed() -> None:
    found = graph(link("switch"), nodes=3, devices=8, rails=False, oversubscription=2.0)
    assert {v for v in found if v[0] == "leaf"} == {("leaf", node) for node in range(3)}
    for node in range(3):
        leaf: Vertex = ("leaf", node)
        below = [v for v in found[leaf] if v[0] == "gpu"]
        assert sorted(below) == [("gpu", 8 * node + i) for i in range(8)]
        down = sum(found.edges[leaf, v]["bytes_per_s"] for v in below)
        assert down / found.edges[leaf, ("spine", 0)]["bytes_per_s"] == pytest.approx(2.0)


def test_one_node_has_no_network() -> None:
    assert {vertex[0] for vertex in graph(link("switch"))} == {"gpu", "switch"}


def test_a_rack_is_one_domain_across_its_trays() -> None:
    found = load_cluster("gb200-nvl72-1").graph
    inside = found.subgraph([v for v in found if v[0] in ("gpu", "switch")])
    assert nx.is_connected(inside)
    assert inside.degree(("switch", 0)) == 72
    assert nx.shortest_path_length(inside, ("gpu", 0), ("gpu", 71)) == 2


def test_two_racks_meet_only_over_the_network() -> None:
    found = load_cluster(ClusterSpec(node="gb200-nvl72", nodes=36)).graph
    inside = found.subgraph([v for v in found if v[0] in ("gpu", "switch")])
    assert sorted(len(part) for part in nx.connected_components(inside)) == [73, 73]
    assert nx.is_connected(found)


def test_an_edge_carries_its_rate_latency_and_link() -> None:
    found = graph(link("switch", total=450 * GB, pair=450 * GB))
    assert found.edges[("gpu", 0), ("switch", 0)] == {"bytes_per_s": 450 * GB, "latency_s": 2e-6, "link": "switch"}
