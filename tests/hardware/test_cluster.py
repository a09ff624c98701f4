"""Groups of devices: what they get inside a node, across nodes and across rails, and errors that help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import InputError, build_spec, parse_yaml
from sim.hardware import Cluster, ClusterSpec, NodeSpec, load_cluster, load_device, load_node

GB = 1e9


def cluster(node: str = "dgx-h100", nodes: int = 1, **fields: Any) -> Cluster:
    return load_cluster(ClusterSpec(node=node, nodes=nodes, **fields))


def test_one_device_needs_no_link() -> None:
    group = cluster().group([3])
    assert (group.kind, group.intra, group.inter, group.latency_s) == ("single", None, None, 0.0)
    assert group.bytes_per_s == float("inf")


@given(st.sets(st.integers(0, 7), min_size=2))
def test_behind_a_switch_any_group_gets_the_full_rate(devices: set[int]) -> None:
    group = cluster().group(sorted(devices))
    assert (group.kind, group.ranks, group.nodes, group.inter) == ("switch", len(devices), 1, None)
    assert group.bytes_per_s == 450 * GB


@pytest.mark.parametrize("ranks", range(2, 9))
def test_in_a_mesh_a_group_gets_the_links_to_its_members(ranks: int) -> None:
    group = cluster("8x-mi300x").group(range(ranks))
    assert group.kind == "mesh"
    assert group.bytes_per_s == (ranks - 1) * 64 * GB


def test_a_ring_on_a_torus_uses_two_links() -> None:
    group = cluster("tpu-v5e-8").group(range(8))
    assert (group.kind, group.bytes_per_s) == ("torus", 2 * 50 * GB)


def test_pcie_gives_each_device_its_lanes() -> None:
    group = cluster("8x-l40s-pcie").group(range(8))
    assert (group.kind, group.bytes_per_s) == ("pcie", 31.5 * GB)


def test_a_rail_group_has_its_interface() -> None:
    group = cluster(nodes=4).group([0, 8, 16, 24])
    assert (group.kind, group.nodes, group.ranks_per_node, group.intra) == ("multi", 4, 1, None)
    assert group.inter is not None
    assert group.inter.bytes_per_s == group.bytes_per_s == 50 * GB


def test_the_rails_of_a_node_work_together() -> None:
    two = cluster(nodes=2)
    assert two.group([0, 1, 8, 9]).bytes_per_s == 2 * 50 * GB
    assert two.group(range(16)).bytes_per_s == 8 * 50 * GB


def test_a_ring_across_nodes_is_never_faster_than_inside() -> None:
    slow_inside = cluster("8x-l40s-pcie", nodes=2).group(range(16))
    assert slow_inside.bytes_per_s == min(31.5 * GB, 8 * 12.5 * GB)


def test_oversubscription_spares_a_rail_and_divides_across_rails() -> None:
    blocking = cluster(nodes=2, oversubscription=4.0)
    on_rail, across = blocking.group([1, 9]), blocking.group([1, 10])
    assert on_rail.inter is not None
    assert across.inter is not None
    assert on_rail.inter.bytes_per_s == 50 * GB
    assert across.inter.bytes_per_s == 50 * GB / 4
    assert cluster(nodes=2).group([1, 10]).bytes_per_s == 50 * GB


@given(st.floats(1.0, 16.0), st.sets(st.integers(0, 31), min_size=2))
def test_oversubscription_never_helps(oversubscription: float, devices: set[int]) -> None:
    members = sorted(devices)
    free, blocking = cluster(nodes=4), cluster(nodes=4, oversubscription=oversubscription)
    assert blocking.group(members).bytes_per_s <= free.group(members).bytes_per_s


@given(st.lists(st.integers(0, 31), min_size=2, unique=True), st.randoms())
def test_the_order_of_devices_does_not_matter(devices: list[int], random: object) -> None:
    shuffled = list(devices)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert cluster(nodes=4).group(devices) == cluster(nodes=4).group(shuffled)


def test_latency_is_that_of_the_slowest_link_crossed() -> None:
    two = cluster(nodes=2)
    node = load_node("dgx-h100")
    assert node.link is not None
    assert node.nic is not None
    assert two.group(range(8)).latency_s == node.link.latency_s
    assert two.group(range(16)).latency_s == max(node.link.latency_s, node.nic.latency_s)


def test_the_trays_of_a_rack_are_one_domain() -> None:
    rack = cluster("gb200-nvl72", nodes=18)
    group = rack.group(range(72))
    assert (rack.domain, group.nodes, group.inter, group.bytes_per_s) == (72, 1, None, 900 * GB)
    both = cluster("gb200-nvl72", nodes=36).group([0, 72])
    assert (both.nodes, both.kind) == (2, "multi")


def test_a_domain_shrinks_with_the_devices_used() -> None:
    assert cluster("gb200-nvl72", nodes=18, devices_per_node=2).domain == 36
    assert cluster(devices_per_node=2, nodes=3).domain == 2


def test_fewer_devices_per_node_are_counted_from_zero() -> None:
    half = cluster(nodes=2, devices_per_node=4)
    assert half.n_devices == 8
    assert half.group([3, 4]).nodes == 2


def test_a_cluster_takes_the_default_price_a_named_one_or_a_quantity() -> None:
    assert cluster().usd_per_device_hour == pytest.approx(6.88)
    assert "AWS" in cluster().price_source
    assert cluster(price="h100-sxm-lambda-on-demand").usd_per_device_hour == pytest.approx(3.99)
    assert cluster(price="2.5 USD/h").usd_per_device_hour == 2.5
    assert cluster("gb200-nvl72").usd_per_device_hour is None


def test_an_unknown_node_is_named_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="unknown node 'dgx-h10'; did you mean 'dgx-h100'") as caught:
        cluster("dgx-h10")
    assert caught.value.path == "cluster.node"
    assert caught.value.hint == "plansim list nodes"


def test_an_unknown_price_is_named_with_a_suggestion() -> None:
    with pytest.raises(
        InputError, match="unknown price 'h100-sxm-aws-on-demnd'; did you mean 'h100-sxm-aws-on-demand'"
    ):
        cluster(price="h100-sxm-aws-on-demnd")


def test_more_devices_than_a_node_has_are_refused() -> None:
    with pytest.raises(InputError, match="dgx-h100 has 8 devices") as caught:
        cluster(devices_per_node=9)
    assert (caught.value.path, caught.value.value) == ("cluster.devices_per_node", 9)


@pytest.mark.parametrize("devices", [[0, 16], [-1, 0]])
def test_a_device_outside_the_cluster_is_refused(devices: list[int]) -> None:
    with pytest.raises(InputError, match="the cluster has devices 0 to 15") as caught:
        cluster(nodes=2).group(devices)
    assert caught.value.value == devices


@pytest.mark.parametrize("devices", [[0, 0], []])
def test_repeated_or_no_devices_are_refused(devices: list[int]) -> None:
    with pytest.raises(InputError, match="distinct devices"):
        cluster().group(devices)


def test_a_group_cannot_span_nodes_without_a_network() -> None:
    alone = cluster("1x-l4", nodes=2)
    with pytest.raises(InputError, match="1x-l4 has no network"):
        alone.group([0, 1])


NODE = """
name: mine
title: Mine
device: l4
devices: {value: 4, source: assumed, ref: me}
topology: pcie
link: pcie4
refs: {me: a test}
"""


def test_a_node_may_be_a_file_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(NODE, encoding="utf-8")
    mine = cluster(str(path))
    assert (mine.n_devices, mine.device) == (4, load_device("l4"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("link: pcie4\n", ""), "a node with several devices needs `link`"),
        (("topology: pcie", "topology: single"), "is for a node of one device"),
        (("link: pcie4", "link: pcie4\ndomain: 6"), "`domain` must be a multiple of the 4 devices"),
        (("link: pcie4", "link: pcie4\ntorus: [2, 3]"), "a place for each of the 4 devices"),
    ],
)
def test_a_contradictory_node_is_refused(change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_spec(NodeSpec, parse_yaml(NODE.replace(*change)))


def test_a_node_knows_the_tiers_below_its_devices() -> None:
    node = load_node("dgx-h100")
    assert node.host_bytes == 2048 * GB
    assert node.host_bytes_per_s == pytest.approx(614.4 * GB)
    assert node.nvme_bytes == pytest.approx(30.7e12)
    assert node.nvme_bytes_per_s == 55 * GB
    assert node.max_w == 10_200
    assert replace(node, n_devices=1).device.memory_bytes < node.host_bytes


def test_files_of_the_users_own_name_each_other_from_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "kernels.yaml").write_text("name: my-kernels\ncurves: []\n")
    (own / "device.yaml").write_text("extends: a100-80-sxm\nname: mine\nkernels: kernels.yaml\n")
    (own / "link.yaml").write_text("extends: nvlink3\nname: my-link\n")
    node = "extends: dgx-a100\nname: my-node\ndevice: device.yaml\nlink: link.yaml\nnic_link: link.yaml\n"
    (own / "node.yaml").write_text(node)
    (own / "cluster.yaml").write_text("name: my-cluster\nnode: node.yaml\n")
    monkeypatch.chdir(tmp_path)
    found = load_cluster("own/cluster.yaml").node
    assert found.link is not None
    assert found.nic is not None
    assert (found.name, found.device.name) == ("my-node", "mine")
    assert (found.link.name, found.nic.name) == ("my-link", "my-link")
    assert found.device.kernels.provenance("gemm", "bf16", "vllm").startswith("generic: gemm bf16 any (stands in for ")
