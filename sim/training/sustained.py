"""What a device sustains over a whole training step, relative to the kernel curves of its short benchmarks.

A step runs for seconds at the power limit, with other kernels around each one, on shapes that benchmarks of inference
kernels do not cover. One small file per device holds these few factors; a device without one takes its family's, then
the generic file, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from sim.core import Frac, Sourced, Spec, data_names, load_data
from sim.hardware import Device

FOLDER = "hardware_profiles/sustained"


class ErrorFactors(Spec):
    """Factors on a predicted step time between which measured ones fall, 90 % of the time.

    Attributes:
        low: Measured over predicted, lower end.
        high: Measured over predicted, upper end.
        rows: Measured rows it rests on; 0 if it is assumed.
        source: How it is known.
        ref: Where from: a key of `refs`.
    """

    low: float = Field(gt=0)
    high: float = Field(gt=0)
    rows: int = Field(ge=0)
    source: Literal["fitted", "assumed"]
    ref: str


class SustainedSpec(Spec):
    """Factors of one device.

    Attributes:
        name: Device or family of kernel curves; `generic` for all others.
        linear: Rate of matrix products over that of the curves.
        attention: The same for attention kernels, forward.
        attention_backward: Rate of the backward kernel over the forward one's.
        stream: Rate of element-wise kernels over that of the curves.
        local_comm: Rate of collectives inside a scale-up domain over the measured ones.
        network: Rate of collectives across the network over the link's achieved rate.
        errors: How far off predicted step times are.
        refs: Sources by key.
        note: What a reader must know.
    """

    name: str
    linear: Sourced[Frac]
    attention: Sourced[Frac]
    attention_backward: Sourced[Frac]
    stream: Sourced[Frac]
    local_comm: Sourced[Frac]
    network: Sourced[Frac]
    errors: ErrorFactors
    refs: dict[str, str] = Field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Sustained:
    """The factors as plain numbers; see `SustainedSpec`."""

    linear: float = 1.0
    attention: float = 1.0
    attention_backward: float = 0.9
    stream: float = 1.0
    local_comm: float = 1.0
    network: float = 1.0
    error_low: float = 1.0
    error_high: float = 1.0
    source: str = "assumed"


def sustained_of(device: Device) -> Sustained:
    """The factors of the device: its own file, else its family's, else the generic one."""
    known = data_names(FOLDER)
    name = next(name for name in (device.name, device.kernels.name, "generic") if name in known or name == "generic")
    spec = load_data(FOLDER, name, SustainedSpec, kind="sustained_profile")
    stand_in = "" if name != "generic" else f" (stands in for {device.name})"
    return Sustained(
        linear=spec.linear.value,
        attention=spec.attention.value,
        attention_backward=spec.attention_backward.value,
        stream=spec.stream.value,
        local_comm=spec.local_comm.value,
        network=spec.network.value,
        error_low=spec.errors.low,
        error_high=spec.errors.high,
        source=f"{name}{stand_in}, {spec.linear.source}: {spec.refs.get(spec.linear.ref, spec.linear.ref)}",
    )
