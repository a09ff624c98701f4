"""Collectives against their textbook formulas on synthetic links, and against public measurements on shipped ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import InputError
from sim.costs.collectives import COLLECTIVES, KINDS, bind_collective, lower_bound_s_per_byte, wire_factor
from sim.costs.collectives.base import BASE_LATENCY_S, per_step_s
from sim.hardware import ClusterSpec, CommGroup, Link, load_cluster

GB = 1e9
LINK = Link(
    name="ideal",
    title="Ideal switch",
    bytes_per_s=100 * GB,
    p2p_bytes_per_s=100 * GB,
    latency_s=BASE_LATENCY_S + 1e-6,
    achieved_frac=1.0,
    topology="switch",
    in_network_reduction=False,
    collectives={},
    sources=(),
)
RAIL = replace(LINK, name="rail", topology="nic", bytes_per_s=25 * GB, p2p_bytes_per_s=25 * GB, latency_s=10e-6)
big = 1e9


def one_domain(ranks: int, link: Link = LINK) -> CommGroup:
    return CommGroup(
        ranks=ranks,
        nodes=1,
        ranks_per_node=ranks,
        intra=link,
        inter=None,
        bytes_per_s=link.bytes_per_s,
        latency_s=link.latency_s,
        kind=link.topology,
    )


def domains(nodes: int, per_node: int) -> CommGroup:
    return CommGroup(
        ranks=nodes * per_node,
        nodes=nodes,
        ranks_per_node=per_node,
        intra=LINK if per_node > 1 else None,
        inter=RAIL,
        bytes_per_s=min(LINK.bytes_per_s, RAIL.bytes_per_s * per_node),
        latency_s=RAIL.latency_s,
        kind="multi",
    )


def run(name: str, kind: str, group: CommGroup, size: float) -> float:
    timer = COLLECTIVES.get(name)().bind(kind, group, "vllm")
    assert timer is not None
    return float(timer(np.asarray(size)))


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ring_all_reduce(ranks: int) -> None:
    steps = 2 * (ranks - 1)
    expected = BASE_LATENCY_S + steps * (1e-6 + big / ranks / (100 * GB))
    assert run("ring", "all_reduce", one_domain(ranks), big) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather(kind: str) -> None:
    half = run("ring", kind, one_domain(8), big) - BASE_LATENCY_S
    whole = run("ring", "all_reduce", one_domain(8), big) - BASE_LATENCY_S
    assert whole == pytest.approx(2 * half)


def test_one_shot_sends_everything_once_and_two_shot_a_share_twice() -> None:
    group = one_domain(4)
    slope_one = run("one_shot", "all_reduce", group, 2e6) - run("one_shot", "all_reduce", group, 1e6)
    slope_two = run("two_shot", "all_reduce", group, 2e6) - run("two_shot", "all_reduce", group, 1e6)
    assert slope_one == pytest.approx(3 * 1e6 / (100 * GB))
    assert slope_two == pytest.approx(1.5 * 1e6 / (100 * GB))


def test_tree_wins_for_small_messages_over_many_domains_and_ring_for_large_ones() -> None:
    group = domains(64, 8)
    assert run("tree", "all_reduce", group, 1e3) < run("ring", "all_reduce", group, 1e3) / 5
    assert run("ring", "all_reduce", group, 1e11) < run("tree", "all_reduce", group, 1e11)


def test_rails_of_a_domain_work_together() -> None:
    group = domains(4, 4)
    expected = wire_factor("all_reduce", 16) * 1e11 / (4 * 25 * GB)
    assert run("ring", "all_reduce", group, 1e11) == pytest.approx(expected, rel=1e-2)


def test_hierarchical_all_reduce_adds_its_phases() -> None:
    group = domains(4, 8)
    local = 2 * run("ring", "all_gather", one_domain(8), big)
    remote = BASE_LATENCY_S + 6 * per_step_s(RAIL.latency_s) + 2 * 3 / 4 * big / 8 / (25 * GB)
    assert run("hierarchical", "all_reduce", group, big) == pytest.approx(local + remote)


def test_halving_and_doubling_take_few_steps_and_the_bytes_of_a_ring() -> None:
    """8 ranks: 3 steps each way, 2 x 7/8 of the buffer; over 4 domains 2 steps more, with an eighth of it a rank."""
    expected = BASE_LATENCY_S + 6 * 1e-6 + 2 * 7 / 8 * big / (100 * GB)
    assert run("halving_doubling", "all_reduce", one_domain(8), big) == pytest.approx(expected)
    remote = 4 * per_step_s(RAIL.latency_s) + 2 * 3 / 4 * big / 8 / (25 * GB)
    assert run("halving_doubling", "all_reduce", domains(4, 8), big) == pytest.approx(expected + remote)
    half = run("halving_doubling", "all_gather", domains(4, 8), big) - BASE_LATENCY_S
    assert half == pytest.approx((expected + remote - BASE_LATENCY_S) / 2)


def test_ranks_beyond_a_power_of_two_cost_a_step_and_the_buffer_each_way() -> None:
    six, four = (run("halving_doubling", "all_reduce", one_domain(ranks), big) for ranks in (6, 4))
    assert six - four == pytest.approx(2 * (1e-6 + big / (100 * GB)))


def test_algorithms_of_other_libraries_are_never_chosen() -> None:
    for group in (one_domain(8), domains(64, 8)):
        assert "halving_doubling" not in bind_collective("all_reduce", group).names


def test_pairwise_exchange_is_ruled_by_the_slower_of_local_and_remote() -> None:
    local = run("pairwise", "all_to_all", one_domain(8), big)
    assert local == pytest.approx(7 / 8 * big / (100 * GB), rel=1e-2)
    remote = run("pairwise", "all_to_all", domains(2, 8), big)
    assert remote == pytest.approx(8 / 16 * big / (25 * GB), rel=1e-2)


def test_switch_reduction_sends_the_buffer_once() -> None:
    link = replace(LINK, in_network_reduction=True)
    group = one_domain(8, link)
    assert lower_bound_s_per_byte("all_reduce", group) == pytest.approx(1 / (100 * GB))
    slope = run("nvls", "all_reduce", group, 2 * big) - run("nvls", "all_reduce", group, big)
    assert slope == pytest.approx(big / (61 * GB))


def test_a_mesh_uses_only_the_links_inside_the_group() -> None:
    link = replace(LINK, topology="mesh", p2p_bytes_per_s=100 * GB / 7)
    times = [
        run("ring", "all_reduce", one_domain(ranks, link), big) / wire_factor("all_reduce", ranks) for ranks in (2, 8)
    ]
    assert times[0] == pytest.approx(7 * times[1], rel=1e-2)


def test_a_torus_pays_for_hops_in_an_all_to_all() -> None:
    link = replace(LINK, topology="torus", p2p_bytes_per_s=25 * GB)
    flat, ring = one_domain(64), one_domain(64, link)
    ratio = run("pairwise", "all_to_all", ring, 1e11) / run("pairwise", "all_to_all", flat, 1e11)
    assert ratio == pytest.approx(2 * 8 / 4, rel=1e-2)


def test_point_to_point() -> None:
    assert run("direct", "p2p", one_domain(2), big) == pytest.approx(BASE_LATENCY_S + 1e-6 + big / (100 * GB))
    assert run("direct", "p2p", domains(2, 1), big) == pytest.approx(
        BASE_LATENCY_S + per_step_s(10e-6) + big / (25 * GB)
    )


def test_selector_takes_the_fastest_for_each_size() -> None:
    bound = bind_collective("all_reduce", one_domain(8), engine="vllm")
    assert bound.chosen(1e3) == "one_shot"
    assert bound.chosen(1e9) == "ring"
    sizes = np.geomspace(1, 1e10, 50)
    for timer in bound.timers:
        assert np.all(bound.time_s(sizes) <= np.asarray(timer(sizes)) * (1 + 1e-12))


def test_one_rank_and_no_bytes_cost_nothing() -> None:
    assert float(bind_collective("all_reduce", one_domain(1)).time_s(np.asarray(big))) == 0.0
    assert float(bind_collective("all_reduce", one_domain(4)).time_s(np.asarray(0.0))) == 0.0


def test_unknown_kind() -> None:
    with pytest.raises(InputError, match="all_reduc"):
        bind_collective("all_reduc", one_domain(4))


@given(
    st.sampled_from(KINDS),
    st.sampled_from([(1, 2), (1, 4), (1, 8), (2, 1), (2, 8), (16, 8), (3, 4)]),
    st.floats(1, 1e11),
    st.booleans(),
    st.floats(0.3, 1.0),
)
def test_every_algorithm_respects_the_bandwidth_bound(
    kind: str, shape: tuple[int, int], size: float, reducing: bool, frac: float
) -> None:
    nodes, per_node = shape
    group = one_domain(per_node) if nodes == 1 else domains(nodes, per_node)
    if group.intra is not None:
        group = replace(group, intra=replace(group.intra, in_network_reduction=reducing, achieved_frac=frac))
    bound = lower_bound_s_per_byte(kind, group) * size
    for name in COLLECTIVES.names():
        timer = COLLECTIVES.get(name)().bind(kind, group, "vllm")
        if timer is not None:
            assert float(timer(np.asarray(size))) >= bound * (1 - 1e-12), name


def bus_rate(node: str, ranks: int, size: float, kind: str = "all_reduce") -> float:
    group = load_cluster(ClusterSpec(node=node)).group(range(ranks))
    seconds = float(bind_collective(kind, group, engine="vllm").time_s(np.asarray(size)))
    return wire_factor(kind, ranks) * size / seconds / GB


@pytest.mark.parametrize(
    ("node", "ranks", "measured", "tolerance"),
    [
        ("dgx-h100", 2, 271, 0.20),
        ("dgx-h100", 4, 312, 0.15),
        ("dgx-h100", 8, 361, 0.15),
        ("dgx-h200", 4, 309, 0.15),
        ("dgx-h200", 8, 313, 0.20),
        ("dgx-a100", 2, 156, 0.25),
        ("dgx-a100", 4, 167, 0.25),
        ("dgx-a100", 8, 174, 0.25),
    ],
)
def test_bus_rate_at_64_mib_is_that_of_public_profiles(
    node: str, ranks: int, measured: float, tolerance: float
) -> None:
    """H100 and H200: nccl-tests tables of APEX+; A100: all-reduce tables of Vidur [GB/s]."""
    assert bus_rate(node, ranks, 64 * 2**20) == pytest.approx(measured, rel=tolerance)


@pytest.mark.parametrize(("ranks", "floor_us"), [(2, 8), (4, 11), (8, 15)])
def test_library_floor_on_h100(ranks: int, floor_us: float) -> None:
    """Small-message all-reduce of NCCL (APEX+ nccl-tests tables); an engine without its own kernel pays it."""
    group = load_cluster(ClusterSpec(node="dgx-h100")).group(range(ranks))
    seconds = float(bind_collective("all_reduce", group, engine="none").time_s(np.asarray(1024.0)))
    assert seconds == pytest.approx(floor_us * 1e-6, rel=0.35)


def test_engines_avoid_the_library_floor() -> None:
    group = load_cluster(ClusterSpec(node="dgx-h100")).group(range(8))
    seconds = float(bind_collective("all_reduce", group, engine="vllm").time_s(np.asarray(16384.0)))
    assert 3e-6 < seconds < 7e-6


def test_two_h100_nodes_run_at_the_rate_of_their_rails() -> None:
    """Inter-node rings of eight 400 Gb/s interfaces: public nccl-tests results of 350-390 GB/s of 400."""
    cluster = load_cluster(ClusterSpec(node="dgx-h100", nodes=2))
    group = cluster.group(range(16))
    seconds = float(bind_collective("all_reduce", group).time_s(np.asarray(4e9)))
    assert wire_factor("all_reduce", 16) * 4e9 / seconds / GB == pytest.approx(370, rel=0.15)
