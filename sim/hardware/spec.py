"""What hardware files say: devices, links, nodes, clusters, prices. Data only, every number with its source."""

from __future__ import annotations

from math import prod
from typing import Final, Literal

from pydantic import Field, model_validator

from sim.core import (
    BandwidthBytesPerS,
    ComputeFlops,
    DataBytes,
    Frac,
    FrequencyHz,
    PowerW,
    PriceUsdPerH,
    Sourced,
    Spec,
    TimeS,
)

SCALED_RATES: Final = ("bf16", "fp8", "fp4", "int8", "fp32")
"""Arithmetic rates that a calibration may scale; those of other formats go with the one that multiplies them."""

TopologyKind = Literal["switch", "mesh", "pcie", "torus", "single"]


class ScalesSpec(Spec):
    """Factors on what the kernel curves of a device say, as `plansim calibrate` fits them to whole runs.

    Attributes:
        memory: On the achieved memory bandwidth of all kernels.
        link: On the achieved rate of collectives of serving, inside a domain and between domains.
        launch: On the fixed latency of kernels.
        compute: On the achieved arithmetic rate, by number format (`bf16`, `fp8`, `fp4`, `int8`, `fp32`).
    """

    memory: Sourced[float] | None = None
    link: Sourced[float] | None = None
    launch: Sourced[float] | None = None
    compute: dict[str, Sourced[float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _positive(self) -> ScalesSpec:
        factors = [self.memory, self.link, self.launch, *self.compute.values()]
        if any(factor is not None and not 0.0 < factor.value < float("inf") for factor in factors):
            raise ValueError("factors on the curves must be positive")
        if unknown := sorted(set(self.compute) - set(SCALED_RATES)):
            raise ValueError(f"no rate is called {unknown[0]!r}; there are {', '.join(SCALED_RATES)}")
        return self


class DeviceSpec(Spec):
    """A GPU, NPU, TPU or other accelerator.

    Attributes:
        name: Short name, equal to the file's.
        title: Name as sold.
        vendor: Maker.
        kind: Kind of device.
        year: Year of release.
        units: Streaming multiprocessors, compute units or cores.
        clock: Highest clock.
        flops: Dense rate per dtype, without structured sparsity; a dtype that is absent is not supported.
        memory: Capacity that software sees.
        memory_sold: Capacity as sold.
        memory_bandwidth: Peak bandwidth.
        memory_type: For people.
        cache: Last-level on-chip cache.
        host_bandwidth: To the host, per direction.
        peak_power: Board or package limit.
        idle_power: Bare idle.
        memory_efficiency: Best copy over listed bandwidth, where measured.
        kernels: Name of the kernel-efficiency file.
        scales: Factors on its curves; absent, they stand as they are.
        price: Name of the default price.
        refs: Sources by key.
        note: What a reader must know.
    """

    name: str
    title: str
    vendor: str
    kind: Literal["gpu", "npu", "tpu", "cpu", "edge", "dataflow"]
    year: int | None = None
    units: Sourced[int]
    clock: Sourced[FrequencyHz] | None = None
    flops: dict[str, Sourced[ComputeFlops]]
    memory: Sourced[DataBytes]
    memory_sold: Sourced[DataBytes] | None = None
    memory_bandwidth: Sourced[BandwidthBytesPerS]
    memory_type: str = ""
    cache: Sourced[DataBytes] | None = None
    host_bandwidth: Sourced[BandwidthBytesPerS] | None = None
    peak_power: Sourced[PowerW]
    idle_power: Sourced[PowerW]
    memory_efficiency: Sourced[Frac] | None = None
    kernels: str = "generic"
    scales: ScalesSpec | None = None
    price: str | None = None
    refs: dict[str, str] = Field(default_factory=dict)
    note: str = ""


class CurveSpec(Spec):
    """Parameters of one fitted form, for a kernel, dtype and engine.

    Attributes:
        kernel: Which kernel.
        dtype: Dtype of weights (GEMM, experts), cache (attention) or elements (streaming kernels).
        engine: Engine family measured, or `any`.
        library: Library of kernels, where an engine has several for one format; absent, the one it takes by itself.
        default_library: Name of the one that it takes by itself, where it can be asked for by name.
        params: Parameters: text with a time unit, or a plain number.
        source: How they are known.
        ref: Where from: a key of `refs`.
        median_error: Median absolute relative error on shapes not used in the fit.
        p90_error: The same at the 90th percentile.
    """

    kernel: Literal[
        "gemm",
        "headwise_gemm",
        "decode_attention",
        "prefill_attention",
        "moe",
        "mla_decode",
        "mla_prefill",
        "elementwise",
        "embedding",
        "sampling",
        "sparse_prefill",
        "indexer_decode",
        "indexer_prefill",
        "state_update",
        "state_scan",
    ]
    dtype: str
    engine: str = "any"
    library: str = ""
    default_library: str = ""
    params: dict[str, float | str]
    source: Literal["measured", "fitted", "assumed"]
    ref: str
    median_error: Frac | None = None
    p90_error: Frac | None = None


class KernelsSpec(Spec):
    """A kernel-efficiency file: fitted curves of one device family."""

    name: str
    refs: dict[str, str] = Field(default_factory=dict)
    curves: tuple[CurveSpec, ...]
    note: str = ""


class CollectiveSpec(Spec):
    """Parameters of a fitted collective on a link; see `sim.costs.collectives.measured` for the forms."""

    kind: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
    form: Literal["R3", "R5", "R7", "R8"]
    engine: str | None = None
    ranks: int | None = None
    params: dict[str, float]
    ref: str
    median_error: Frac | None = None
    p90_error: Frac | None = None


class LinkSpec(Spec):
    """A link as one device sees it.

    Attributes:
        name: Short name, equal to the file's.
        title: Name as sold.
        bandwidth: Per direction and device, summed over the device's links.
        pair_bandwidth: What one pair of devices gets, per direction; absent, all of `bandwidth` (behind a switch).
        latency: Of a small message through the communication library.
        achieved: Achieved over listed rate for large messages.
        topology: How devices of a node hang together over it; `nic` for a network interface.
        in_network_reduction: Whether the switch can reduce (NVLink SHARP).
        collectives: Fitted collectives.
        in_tables: Whether tables of measured kernels were timed over it, where there are any of its devices.
        refs: Sources by key.
        note: What a reader must know.
    """

    name: str
    title: str
    bandwidth: Sourced[BandwidthBytesPerS]
    pair_bandwidth: Sourced[BandwidthBytesPerS] | None = None
    latency: Sourced[TimeS]
    achieved: Sourced[Frac]
    topology: Literal["switch", "mesh", "pcie", "torus", "nic"]
    in_network_reduction: bool = False
    collectives: tuple[CollectiveSpec, ...] = ()
    in_tables: bool = True
    refs: dict[str, str] = Field(default_factory=dict)
    note: str = ""


class NodeSpec(Spec):
    """A server.

    Attributes:
        name: Short name, equal to the file's.
        title: Name as sold.
        device: Name of its devices.
        devices: How many.
        topology: How they hang together.
        link: Name of the link between them.
        domain: Devices that share the scale-up fabric; more than `devices` where it spans nodes (NVL72).
        torus: Shape of the torus of a whole domain, where there is one.
        nic_link: Name of the network link.
        nic_bandwidth: Network bandwidth per device and direction.
        host_bandwidth: From a device to the host, per direction, where slower than the device's own.
        host_memory: DRAM of the node.
        host_memory_bandwidth: Of the DRAM of all sockets, theoretical.
        nvme: Capacity of the local disks.
        nvme_read_bandwidth: Of all local disks together.
        max_power: Highest power of the node, devices included.
        refs: Sources by key.
        note: What a reader must know.
    """

    name: str
    title: str
    device: str
    devices: Sourced[int]
    topology: TopologyKind
    link: str | None = None
    domain: int | None = Field(default=None, gt=0)
    torus: tuple[int, ...] | None = None
    nic_link: str | None = None
    nic_bandwidth: Sourced[BandwidthBytesPerS] | None = None
    host_bandwidth: Sourced[BandwidthBytesPerS] | None = None
    host_memory: Sourced[DataBytes] | None = None
    host_memory_bandwidth: Sourced[BandwidthBytesPerS] | None = None
    nvme: Sourced[DataBytes] | None = None
    nvme_read_bandwidth: Sourced[BandwidthBytesPerS] | None = None
    max_power: Sourced[PowerW] | None = None
    refs: dict[str, str] = Field(default_factory=dict)
    note: str = ""

    @model_validator(mode="after")
    def _linked(self) -> NodeSpec:
        devices = self.devices.value
        if (self.topology == "single") != (devices == 1):
            raise ValueError("`topology: single` is for a node of one device, and the only one for it")
        if devices > 1 and self.link is None:
            raise ValueError("a node with several devices needs `link`")
        if self.domain is not None and self.domain % devices:
            raise ValueError(f"`domain` must be a multiple of the {devices} devices of a node")
        if self.torus is not None and prod(self.torus) != (self.domain or devices):
            raise ValueError(f"`torus` must have a place for each of the {self.domain or devices} devices of a domain")
        return self


class PriceSpec(Spec):
    """A price per device and hour.

    Attributes:
        name: Short name, equal to the file's.
        device: Device it is for.
        provider: Who asks it.
        product: For what.
        kind: Kind of contract.
        date: When it was read.
        price: Per device and hour.
        refs: Sources by key.
        note: What a reader must know.
    """

    name: str
    device: str
    provider: str
    product: str = ""
    kind: Literal["on_demand", "spot", "capacity_block", "reserved_1y", "reserved_3y"]
    date: str
    price: Sourced[PriceUsdPerH]
    refs: dict[str, str] = Field(default_factory=dict)
    note: str = ""


class ClusterSpec(Spec):
    """A cluster of equal nodes.

    Attributes:
        name: Short name; absent for one written inline.
        node: Name of the node.
        nodes: How many.
        devices_per_node: Use only so many devices of each node.
        topology: Network between nodes: a fat tree whose leaves join equal device positions (rails), or one whose
            leaves join the devices of a node (`switch`).
        oversubscription: Leaf downlinks over uplinks, 1 is non-blocking.
        price: Name of a price, or a price per device and hour; absent, the device's default.
        refs: Sources by key.
    """

    name: str = ""
    node: str
    nodes: int = Field(default=1, ge=1, le=100_000)
    devices_per_node: int | None = Field(default=None, ge=1)
    topology: Literal["rail_fat_tree", "switch"] = "rail_fat_tree"
    oversubscription: float = Field(default=1.0, ge=1.0)
    price: str | None = None
    refs: dict[str, str] = Field(default_factory=dict)
