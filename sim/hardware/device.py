"""Devices and links as plain SI numbers, resolved from their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Literal

from sim.core import InputError, Sourced, load_data, named_in
from sim.hardware.curves import KernelCurves
from sim.hardware.scales import Scales
from sim.hardware.spec import DeviceSpec, LinkSpec

_FALL_BACKS: Final = {
    "bf16": ("fp16", "fp32"),
    "fp16": ("bf16", "fp32"),
    "fp8": ("bf16", "fp16"),
    "int8": ("bf16", "fp16"),
    "fp4": ("fp8", "bf16", "fp16"),
    "int4": ("int8", "bf16", "fp16"),
    "fp32": (),
}
"""What multiplies operands of a dtype that the device lacks: they are converted to the first of these it has."""

VOLTAGE_FLOOR: Final = 0.6
"""Share of the top clock below which the voltage, and so the energy per operation, no longer falls (assumed; shape of
the frequency-voltage curves measured for NVIDIA GPUs by Guerreiro et al., HPCA 2018)."""


@dataclass(frozen=True)
class Device:
    """A device in SI units.

    Attributes:
        name: Short name.
        title: Name as sold.
        vendor: Maker.
        kind: Kind of device.
        flops: Dense rate by dtype [FLOP/s].
        vector_flops: Rate of fp32 arithmetic outside the matrix units [FLOP/s].
        units: Multiprocessors.
        llc_bytes: Last-level on-chip cache [B].
        memory_bytes: Memory that software sees [B].
        memory_bytes_per_s: Peak memory bandwidth [B/s].
        host_bytes_per_s: To the host, per direction [B/s].
        idle_w: Idle power [W].
        peak_w: Power limit [W].
        clock_hz: Highest clock [Hz].
        clock_frac: Clock in use over the highest.
        kernels: Efficiency curves.
        price: Name of the default price.
        sources: Where the figures come from.
    """

    name: str
    title: str
    vendor: str
    kind: str
    flops: Mapping[str, float]
    vector_flops: float
    units: int
    llc_bytes: float
    memory_bytes: float
    memory_bytes_per_s: float
    host_bytes_per_s: float
    idle_w: float
    peak_w: float
    clock_hz: float
    kernels: KernelCurves
    price: str | None
    sources: tuple[str, ...]
    clock_frac: float = 1.0

    def compute_rate(self, dtype: str) -> tuple[float, str]:
        """Dense rate [FLOP/s] for operands of `dtype`, and the dtype that is really multiplied.

        Raises:
            InputError: if the device has neither the dtype nor one it converts to.
        """
        for candidate in (dtype, *_FALL_BACKS.get(dtype, ())):
            if candidate in self.flops:
                return self.flops[candidate], candidate
        raise InputError(f"{self.name} cannot multiply {dtype}", allowed=sorted(self.flops))

    def scaled(self, scales: Scales) -> Device:
        """The device with these factors on its kernel curves instead of its own."""
        return replace(self, kernels=replace(self.kernels, scales=scales))

    def at_clock(self, frac: float) -> Device:
        """The device at `frac` of its highest clock: arithmetic slows in proportion, memory does not.

        The power that arithmetic adds falls with `f V^2`, where the voltage falls in proportion to the clock down to
        `VOLTAGE_FLOOR` (dynamic CMOS power; Guerreiro et al., HPCA 2018); see `power.power_w`.

        Raises:
            InputError: if `frac` is not in (0, 1].
        """
        if not 0.0 < frac <= 1.0:
            raise InputError("the clock must be above 0 and at most 1", path="plan.clock", value=frac)
        if frac == 1.0:
            return self
        flops = {dtype: rate * frac for dtype, rate in self.flops.items()}
        return replace(
            self,
            flops=flops,
            vector_flops=self.vector_flops * frac,
            clock_hz=self.clock_hz * frac,
            clock_frac=self.clock_frac * frac,
        )


@dataclass(frozen=True)
class CollectiveCurve:
    """A fitted collective: parameters in SI units and their error; see `sim.costs.collectives.measured`."""

    kind: str
    form: Literal["R3", "R5", "R7", "R8"]
    engine: str | None
    ranks: int | None
    params: Mapping[str, float]
    error: tuple[float, float] | None
    source: str


@dataclass(frozen=True)
class Link:
    """A link as one device sees it, in SI units, per direction.

    Attributes:
        name: Short name.
        title: Name as sold.
        bytes_per_s: Per device, summed over its links [B/s].
        p2p_bytes_per_s: What one pair gets [B/s].
        latency_s: Of a small message [s].
        achieved_frac: Achieved over listed rate.
        topology: How devices hang together over it.
        in_network_reduction: Whether the switch can reduce.
        collectives: Fitted collectives by kind.
        in_tables: Whether tables of measured kernels were timed over it.
        sources: Where the figures come from.
    """

    name: str
    title: str
    bytes_per_s: float
    p2p_bytes_per_s: float
    latency_s: float
    achieved_frac: float
    topology: Literal["switch", "mesh", "pcie", "torus", "nic"]
    in_network_reduction: bool = False
    collectives: Mapping[str, tuple[CollectiveCurve, ...]] = field(default_factory=dict)
    in_tables: bool = True
    sources: tuple[str, ...] = ()

    def curve(
        self, kind: str, *, form: str | None = None, engine: str | None = None, ranks: int | None = None
    ) -> CollectiveCurve | None:
        """The fitted curve of `kind` for this form, engine and number of ranks; None if there is none."""
        for curve in self.collectives.get(kind, ()):
            fits = (form is None or curve.form == form) and (engine is None or curve.engine == engine)
            if fits and (ranks is None or curve.ranks == ranks):
                return curve
        return None

    def with_rate(self, bytes_per_s: float) -> Link:
        """The same link at another rate per device [B/s]."""
        return replace(self, bytes_per_s=bytes_per_s, p2p_bytes_per_s=min(self.p2p_bytes_per_s, bytes_per_s))


def _sources(refs: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(refs.values())


def value_or(sourced: Sourced[float] | None, default: float) -> float:
    """The number without its source, or `default` where the file has none."""
    return default if sourced is None else sourced.value


@lru_cache(maxsize=256)
def load_device(name: str) -> Device:
    """The device with this name, or in this YAML file.

    Raises:
        InputError: if there is none.
    """
    spec = load_data("hardware_profiles/devices", name, DeviceSpec, kind="device")
    return device_of(spec, kernels=named_in(name, spec.kernels))


def device_of(spec: DeviceSpec, *, kernels: str | None = None) -> Device:
    """The device that `spec` describes, with the curves of the file `kernels` (default: the one that it names)."""
    flops = {dtype: rate.value for dtype, rate in spec.flops.items()}
    return Device(
        name=spec.name,
        title=spec.title,
        vendor=spec.vendor,
        kind=spec.kind,
        flops=flops,
        vector_flops=flops.get("fp32", max(flops.values()) / 16.0),
        units=spec.units.value,
        llc_bytes=value_or(spec.cache, 0.0),
        memory_bytes=spec.memory.value,
        memory_bytes_per_s=spec.memory_bandwidth.value,
        host_bytes_per_s=value_or(spec.host_bandwidth, 0.0),
        idle_w=spec.idle_power.value,
        peak_w=spec.peak_power.value,
        clock_hz=value_or(spec.clock, 1.0),
        kernels=KernelCurves(kernels or spec.kernels, scales=Scales.of(spec.scales)),
        price=spec.price,
        sources=_sources(spec.refs),
    )


@lru_cache(maxsize=256)
def load_link(name: str) -> Link:
    """The link with this name, or in this YAML file.

    Raises:
        InputError: if there is none.
    """
    spec = load_data("hardware_profiles/links", name, LinkSpec, kind="link")
    collectives: dict[str, tuple[CollectiveCurve, ...]] = {}
    for c in spec.collectives:
        error = None if c.median_error is None or c.p90_error is None else (c.median_error, c.p90_error)
        curve = CollectiveCurve(c.kind, c.form, c.engine, c.ranks, c.params, error, spec.refs.get(c.ref, c.ref))
        collectives[c.kind] = (*collectives.get(c.kind, ()), curve)
    return Link(
        name=spec.name,
        title=spec.title,
        bytes_per_s=spec.bandwidth.value,
        p2p_bytes_per_s=value_or(spec.pair_bandwidth, spec.bandwidth.value),
        latency_s=spec.latency.value,
        achieved_frac=spec.achieved.value,
        topology=spec.topology,
        in_network_reduction=spec.in_network_reduction,
        in_tables=spec.in_tables,
        collectives=collectives,
        sources=_sources(spec.refs),
    )
