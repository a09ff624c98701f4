"""Ranks to devices: every device once, and nothing that fits in a domain straddles two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.plans import Placement
from sim.plans.placement import place, stage_groups

degrees = st.sampled_from([1, 2, 3, 4, 6, 8, 16])


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    node = draw(st.sampled_from([1, 4, 6, 8]))
    domain = node * draw(st.sampled_from([1, 1, 3]))
    total = node * draw(st.integers(1, 12))
    domain = min(domain, total)
    return Placement(draw(degrees), draw(degrees), draw(degrees), domain, min(node, domain), total)


@given(placements())
def test_every_rank_has_its_own_device(p: Placement) -> None:
    used = [device for replica in range(p.max_replicas) for device in p.replica_devices(replica)]
    assert len(used) == len(set(used)) == p.max_replicas * p.tp * p.dp * p.pp
    assert all(0 <= device < p.n_devices for device in used)


@given(placements())
def test_what_fits_in_a_domain_stays_in_one(p: Placement) -> None:
    for replica in range(p.max_replicas):
        for stage in range(p.pp):
            ranks = [p.devices(replica, stage, rank) for rank in range(p.dp)]
            for rank in ranks:
                assert len({device // p.domain for device in rank}) == max(1, p.tp // p.domain)
            if p.dp <= p.slots:
                assert len({device // p.domain for rank in ranks for device in rank}) == 1
        if p.compact:
            assert len({device // p.domain for device in p.replica_devices(replica)}) == 1


@given(placements())
def test_a_compact_plan_fills_the_cluster_as_far_as_domains_allow(p: Placement) -> None:
    if p.compact:
        assert p.max_replicas * p.tp * p.dp * p.pp <= p.n_devices
        assert p.max_replicas >= (p.n_devices // p.domain) * (p.slots // (p.dp * p.pp))


def test_groups_of_a_replica_over_two_nodes(make_cluster) -> None:
    cluster = make_cluster(nodes=2)
    placement = place(cluster, tp=4, dp=2, pp=2)
    first, second = stage_groups(cluster, placement, moe_tp=1)
    assert placement.devices(0, 0, 1) == (4, 5, 6, 7)
    assert placement.devices(0, 1, 0) == (8, 9, 10, 11)
    assert (first["tp"].ranks, first["dp"].ranks, first["ep"].ranks, first["pp"].ranks) == (4, 2, 8, 2)
    assert first["ep"].nodes == 1
    assert second["pp"].nodes == 2
    assert placement.spans_nodes


def test_a_scale_up_domain_may_span_nodes(make_cluster) -> None:
    cluster = make_cluster(devices=4, nodes=18, domain=72)
    placement = place(cluster, tp=8, dp=1, pp=1)
    (groups,) = stage_groups(cluster, placement, moe_tp=1)
    assert groups["tp"].nodes == 1
    assert placement.max_replicas == 9
    assert placement.spans_nodes


def test_tensor_parallel_groups_wider_than_a_domain_fill_whole_ones(make_cluster) -> None:
    cluster = make_cluster(nodes=4)
    assert place(cluster, tp=16, dp=1, pp=1).max_replicas == 2
    assert place(cluster, tp=12, dp=1, pp=1).max_replicas == 0


@pytest.mark.parametrize(("tp", "pp", "fit"), [(1, 3, 4), (8, 3, 0), (8, 2, 1), (4, 1, 4), (2, 5, 1)])
def test_most_replicas_on_two_nodes(make_cluster, tp: int, pp: int, fit: int) -> None:
    assert place(make_cluster(nodes=2), tp=tp, dp=1, pp=pp).max_replicas == fit
