"""Hardware for the tests of plans, made here so that they do not depend on the shipped figures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sim.hardware import Cluster, Device, KernelCurves, Link, Node
from sim.plans import EngineSpec, load_engine

GIB = 2**30
MakeCluster = Callable[..., Cluster]


def make_device(memory_gib: float, *, name: str = "h100-test") -> Device:
    flops = {"bf16": 989e12, "fp16": 989e12, "fp8": 1979e12, "int8": 1979e12, "fp32": 67e12}
    return Device(
        name=name,
        title=name,
        vendor="NVIDIA",
        kind="gpu",
        flops=flops,
        vector_flops=67e12,
        units=132,
        llc_bytes=50e6,
        memory_bytes=memory_gib * GIB,
        memory_bytes_per_s=3.35e12,
        host_bytes_per_s=64e9,
        idle_w=100.0,
        peak_w=700.0,
        clock_hz=1.98e9,
        kernels=KernelCurves("generic"),
        price=None,
        sources=(),
    )


def build_cluster(
    *,
    memory_gib: float = 79.6,
    devices: int = 8,
    nodes: int = 1,
    domain: int | None = None,
    name: str = "h100-test",
    network: bool = True,
) -> Cluster:
    link = Link("nvlink-test", "NVLink", 450e9, 450e9, 3e-6, 0.8, "switch")
    nic = Link("nic-test", "NIC", 50e9, 50e9, 8e-6, 0.9, "nic")
    node = Node(
        name="node-test",
        title="node",
        device=make_device(memory_gib, name=name),
        n_devices=devices,
        link=link if devices > 1 or (domain or 1) > 1 else None,
        domain=domain or devices,
        torus=None,
        nic=nic if network else None,
        sources=(),
    )
    return Cluster(
        name="test",
        node=node,
        n_nodes=nodes,
        devices_per_node=devices,
        oversubscription=1.0,
        rails=True,
        usd_per_device_hour=None,
        price_source="",
    )


@pytest.fixture(scope="session")
def make_cluster() -> MakeCluster:
    """A function that makes a cluster of given memory, devices and nodes."""
    return build_cluster


@pytest.fixture(scope="session")
def engine() -> EngineSpec:
    """The default engine profile."""
    return load_engine("vllm")
