"""Every shipped hardware file: it loads, cites its sources, and obeys what physics and catalogues allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from sim.core import Sourced, Spec, data_names, load_data
from sim.hardware import (
    ClusterSpec,
    DeviceSpec,
    LinkSpec,
    NodeSpec,
    PriceSpec,
    load_cluster,
    load_device,
    load_link,
    load_node,
)

KINDS: dict[str, type[Spec]] = {
    "device": DeviceSpec,
    "link": LinkSpec,
    "node": NodeSpec,
    "price": PriceSpec,
    "cluster": ClusterSpec,
}
LOADERS: dict[str, Callable[[str], object]] = {
    "device": load_device,
    "link": load_link,
    "node": load_node,
    "cluster": load_cluster,
}
REQUIRED = {
    "h100-sxm",
    "a100-80-sxm",
    "b200-sxm",
    "h200-sxm",
    "a100-40-sxm",
    "a100-80-pcie",
    "a100-40-pcie",
    "h100-pcie",
    "gb200",
    "l40s",
    "l4",
    "a10g",
    "rtx-4090",
    "mi300x",
    "gaudi3",
    "tpu-v5e",
    "tpu-v5p",
    "ascend-910b",
    "jetson-agx-orin",
}
GIB_OVER_GB = 2**30 / 1e9
GB, TB, T = 1e9, 1e12, 1e12


def names(kind: str) -> tuple[str, ...]:
    return data_names(f"hardware_profiles/{kind}s")


@cache
def spec(kind: str, name: str) -> Spec:
    return load_data(f"hardware_profiles/{kind}s", name, KINDS[kind], kind=kind)


FILES = [(kind, name) for kind in KINDS for name in names(kind)]
every_file = pytest.mark.parametrize(("kind", "name"), FILES, ids=[f"{kind}-{name}" for kind, name in FILES])
every_device = pytest.mark.parametrize("name", names("device"))
every_link = pytest.mark.parametrize("name", names("link"))
every_node = pytest.mark.parametrize("name", names("node"))


def device_spec(name: str) -> DeviceSpec:
    found = spec("device", name)
    assert isinstance(found, DeviceSpec)
    return found


def node_spec(name: str) -> NodeSpec:
    found = spec("node", name)
    assert isinstance(found, NodeSpec)
    return found


def sourced(value: object) -> Iterator[Sourced[float]]:
    """Every number with a source inside `value`."""
    if isinstance(value, Sourced):
        yield value
    elif isinstance(value, Spec):
        for field in type(value).model_fields:
            yield from sourced(getattr(value, field))
    elif isinstance(value, dict):
        for item in value.values():
            yield from sourced(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from sourced(item)


def refs_used(found: Spec) -> set[str]:
    collectives = {c.ref for c in found.collectives} if isinstance(found, LinkSpec) else set()
    return {number.ref for number in sourced(found)} | collectives


@every_file
def test_the_file_is_named_like_what_it_holds(kind: str, name: str) -> None:
    assert getattr(spec(kind, name), "name") == name  # noqa: B009
    if kind in LOADERS:
        assert getattr(LOADERS[kind](name), "name") == name  # noqa: B009


@every_file
def test_refs_are_those_that_the_numbers_cite(kind: str, name: str) -> None:
    found = spec(kind, name)
    refs: dict[str, str] = getattr(found, "refs")  # noqa: B009
    assert refs_used(found) == set(refs)
    assert all(text.strip() for text in refs.values())


@every_file
def test_an_assumption_is_never_of_high_confidence(kind: str, name: str) -> None:
    assert [n for n in sourced(spec(kind, name)) if n.source == "assumed" and n.confidence == "high"] == []


def test_every_file_but_a_cluster_has_numbers() -> None:
    assert [(kind, name) for kind, name in FILES if kind != "cluster" and not list(sourced(spec(kind, name)))] == []


@every_device
def test_idle_power_lies_below_the_limit(name: str) -> None:
    device = load_device(name)
    assert 0 < device.idle_w < 0.5 * device.peak_w


@every_device
def test_narrower_formats_are_never_slower(name: str) -> None:
    flops = load_device(name).flops
    chains = (("fp4", "fp8", "bf16", "tf32", "fp32"), ("fp4", "fp8", "bf16", "fp16"), ("int4", "int8"))
    for chain in chains:
        rates = [flops[dtype] for dtype in chain if dtype in flops]
        assert rates == sorted(rates, reverse=True), chain


@every_device
def test_every_dtype_is_known_and_some_16_bit_arithmetic_exists(name: str) -> None:
    flops = load_device(name).flops
    assert set(flops) <= {"bf16", "fp16", "fp8", "fp4", "int8", "int4", "tf32", "fp32", "fp64"}
    assert {"bf16", "fp16"} & set(flops)
    assert all(0.01 * T <= rate <= 20_000 * T for rate in flops.values())


@every_device
def test_software_sees_at_most_the_memory_that_was_sold(name: str) -> None:
    """Up to the 7 % by which 80 "GB" may be 80 GiB, and at least the share that Apple leaves to the GPU."""
    found = device_spec(name)
    if found.memory_sold is not None:
        assert 0.75 * found.memory_sold.value <= found.memory.value <= GIB_OVER_GB * found.memory_sold.value


@every_device
def test_arithmetic_intensity_is_plausible(name: str) -> None:
    """FLOP per byte at the ridge of the roofline: 15 to 1000 with DRAM, below 10 where weights stay in SRAM."""
    device = load_device(name)
    ridge = device.compute_rate("bf16")[0] / device.memory_bytes_per_s
    low, high = (0.1, 10) if device_spec(name).memory_type == "SRAM" else (15, 1000)
    assert low < ridge < high


@every_device
def test_memory_is_read_in_a_plausible_time(name: str) -> None:
    device = load_device(name)
    assert 1e-7 < device.memory_bytes / device.memory_bytes_per_s < 3.0


@every_device
def test_the_default_price_is_one_of_the_device_on_demand(name: str) -> None:
    price = load_device(name).price
    if price is not None:
        found = spec("price", price)
        assert isinstance(found, PriceSpec)
        assert (found.device, found.kind) == (name, "on_demand")


@every_device
def test_some_node_has_the_device(name: str) -> None:
    assert name in {node_spec(node).device for node in names("node")}


def test_required_devices_are_there() -> None:
    assert set(names("device")) >= REQUIRED


@every_link
def test_a_pair_gets_at_most_what_a_device_has(name: str) -> None:
    link = load_link(name)
    assert 0 < link.p2p_bytes_per_s <= link.bytes_per_s
    assert 0.1 < link.achieved_frac < 1
    assert 0.2e-6 <= link.latency_s < 100e-6


@every_link
def test_only_meshes_and_tori_have_a_rate_per_pair(name: str) -> None:
    found = spec("link", name)
    assert isinstance(found, LinkSpec)
    assert (found.pair_bandwidth is not None) == (found.topology in ("mesh", "torus"))


@every_link
def test_only_switches_reduce(name: str) -> None:
    link = load_link(name)
    assert link.topology == "switch" or not link.in_network_reduction


@every_node
def test_a_node_hangs_together_as_its_link_does(name: str) -> None:
    found = node_spec(name)
    if found.link is not None:
        assert found.topology == load_link(found.link).topology
    if found.nic_link is not None:
        assert load_link(found.nic_link).topology == "nic"


@every_node
def test_a_node_can_be_used_alone_and_in_pairs(name: str) -> None:
    cluster = load_cluster(ClusterSpec(node=name, nodes=2 if node_spec(name).nic_link else 1))
    group = cluster.group(range(cluster.n_devices))
    assert group.ranks == cluster.n_devices
    assert group.bytes_per_s > 0
    assert cluster.graph.number_of_nodes() >= cluster.n_devices


@every_node
def test_the_network_is_slower_than_the_links_inside(name: str) -> None:
    node = load_node(name)
    if node.link is not None and node.nic is not None and node.link.topology != "pcie":
        assert node.nic.bytes_per_s < node.link.bytes_per_s


@every_node
def test_tiers_get_larger_and_slower(name: str) -> None:
    """HBM of all devices is faster than host DRAM, and that than local disks, wherever they are stated."""
    node = load_node(name)
    if node.host_bytes_per_s and node.device.kind != "cpu":
        assert node.n_devices * node.device.memory_bytes_per_s > 0.9 * node.host_bytes_per_s
    if node.nvme_bytes_per_s and node.host_bytes_per_s:
        assert node.nvme_bytes_per_s < node.host_bytes_per_s
    assert (node.nvme_bytes > 0) == (node.nvme_bytes_per_s > 0)
    if node.max_w:
        assert 0.75 * node.n_devices * node.device.peak_w < node.max_w < 4 * node.n_devices * node.device.peak_w


@pytest.mark.parametrize("name", names("price"))
def test_a_price_is_per_device_and_of_a_known_one(name: str) -> None:
    found = spec("price", name)
    assert isinstance(found, PriceSpec)
    assert found.device in names("device")
    assert name.startswith(found.device)
    assert 0.05 <= found.price.value <= 20
    assert found.date.startswith("20")


@pytest.mark.parametrize(
    ("kind", "least"), [("device", 60), ("link", 40), ("node", 60), ("price", 60), ("cluster", 15)]
)
def test_the_catalogue_is_broad(kind: str, least: int) -> None:
    assert len(names(kind)) >= least


@pytest.mark.parametrize(
    ("name", "bf16", "bytes_per_s", "sold", "watts"),
    [
        ("h100-sxm", 989 * T, 3.35 * TB, 80 * GB, 700),
        ("h100-pcie", 756 * T, 2.0 * TB, 80 * GB, 350),
        ("h200-sxm", 989 * T, 4.8 * TB, 141 * GB, 700),
        ("a100-80-sxm", 312 * T, 2.039 * TB, 80 * GB, 400),
        ("a100-80-pcie", 312 * T, 1.935 * TB, 80 * GB, 300),
        ("a100-40-sxm", 312 * T, 1.555 * TB, 40 * GB, 400),
        ("b200-sxm", 2250 * T, 7.7 * TB, 180 * GB, 1000),
        ("gb200", 2500 * T, 8.0 * TB, 186 * GB, 1200),
        ("l40s", 362 * T, 0.864 * TB, 48 * GB, 350),
        ("l4", 121 * T, 0.3 * TB, 24 * GB, 72),
        ("mi300x", 1307 * T, 5.3 * TB, 192 * GB, 750),
        ("tpu-v5e", 197 * T, 0.819 * TB, 16 * 2**30, None),
        ("tpu-v5p", 459 * T, 2.765 * TB, 95 * 2**30, None),
    ],
)
def test_published_figures_of_devices(
    name: str, bf16: float, bytes_per_s: float, sold: float, watts: float | None
) -> None:
    device, found = load_device(name), device_spec(name)
    assert device.flops["bf16"] == pytest.approx(bf16, rel=0.005)
    assert device.memory_bytes_per_s == pytest.approx(bytes_per_s, rel=0.03)
    assert found.memory_sold is not None
    assert found.memory_sold.value == pytest.approx(sold, rel=0.01)
    assert watts is None or device.peak_w == watts


def test_formats_that_silicon_lacks_are_absent() -> None:
    assert "fp8" not in load_device("a100-80-sxm").flops
    assert "fp4" not in load_device("h100-sxm").flops
    assert "bf16" not in load_device("v100-32-sxm").flops


@pytest.mark.parametrize(
    ("name", "total", "pair", "reduces"),
    [
        ("nvlink3", 300 * GB, 300 * GB, False),
        ("nvlink4", 450 * GB, 450 * GB, True),
        ("nvlink4-h200", 450 * GB, 450 * GB, True),
        ("nvlink5", 900 * GB, 900 * GB, True),
        ("nvlink5-nvl72", 900 * GB, 900 * GB, True),
        ("xgmi4-mi300", 448 * GB, 64 * GB, False),
        ("gaudi3-roce", 525 * GB, 75 * GB, False),
        ("ici-v5e", 200 * GB, 50 * GB, False),
        ("pcie4-l40s", 31.5 * GB, 31.5 * GB, False),
        ("ib-ndr", 50 * GB, 50 * GB, False),
    ],
)
def test_published_rates_of_links_per_direction(name: str, total: float, pair: float, reduces: bool) -> None:
    link = load_link(name)
    assert (link.bytes_per_s, link.p2p_bytes_per_s, link.in_network_reduction) == (total, pair, reduces)


def test_a_slower_host_slows_the_devices_of_a_node() -> None:
    """EC2 P5 puts PCIe 5 devices on a PCIe 4 host."""
    assert load_device("h100-sxm").host_bytes_per_s == 63 * GB
    assert load_node("dgx-h100").device.host_bytes_per_s == 63 * GB
    assert load_node("aws-p5").device.host_bytes_per_s == 31.5 * GB


def test_racks_have_their_published_size() -> None:
    assert (load_cluster("gb200-nvl72-1").n_devices, load_cluster("gb200-nvl72-1").domain) == (72, 72)
    assert load_cluster("cloudmatrix384-1").n_devices == 384
    assert load_cluster("tpu-v5e-256").n_devices == 256
    assert load_cluster("dgx-superpod-h100").n_devices == 256
