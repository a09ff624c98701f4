"""Factors on the kernel curves of a device: few numbers that whole runs can tell, on top of many that they cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sim.hardware.spec import ScalesSpec

_RATE_OF: Final = {
    "fp16": "bf16",
    "int4": "bf16",
    "w4a16": "bf16",
    "w8a16": "bf16",
    "fp8_block": "fp8",
    "nvfp4": "fp4",
    "mxfp4": "fp8",
}
"""Rate at which kernels of a format multiply, where it is not called like the format."""
_MEMORY: Final = ("f", "f_1")
_COMPUTE: Final = ("e", "e_128")
_LAUNCH: Final = "t0_s"


@dataclass(frozen=True)
class Scales:
    """Factors on achieved rates and latencies; 1 leaves the curves as they are.

    Attributes:
        memory: On the achieved memory bandwidth.
        link: On the achieved rate of collectives.
        launch: On the fixed latency of kernels.
        compute: On the achieved arithmetic rate, by number format; those that are absent are 1.
    """

    memory: float = 1.0
    link: float = 1.0
    launch: float = 1.0
    compute: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: ScalesSpec | None) -> Scales:
        """The factors that a device file gives."""
        if spec is None:
            return cls()
        memory, link, launch = (1.0 if one is None else one.value for one in (spec.memory, spec.link, spec.launch))
        return cls(memory, link, launch, {name: one.value for name, one in spec.compute.items()})

    @property
    def trivial(self) -> bool:
        """Whether the curves stay as they are."""
        return self == Scales() or all(one == 1.0 for one in (self.memory, self.launch, *self.compute.values()))

    def on(self, dtype: str, params: Mapping[str, float]) -> dict[str, float]:
        """Scaled parameters of a kernel in this format; fractions of a peak stay at most 1, the roofline."""
        compute = self.compute.get(_RATE_OF.get(dtype, dtype), 1.0)
        factors = {
            **dict.fromkeys(_MEMORY, self.memory),
            **dict.fromkeys(_COMPUTE, compute),
            _LAUNCH: self.launch,
        }
        scaled = {name: value * factors.get(name, 1.0) for name, value in params.items()}
        return {
            name: value if name == _LAUNCH or name not in factors else min(value, 1.0) for name, value in scaled.items()
        }

    def __str__(self) -> str:
        """The factors that are not 1, for the provenance of a curve."""
        named = {"memory": self.memory, "launch": self.launch}
        named |= {f"compute {name}": value for name, value in self.compute.items()}
        return ", ".join(f"{name} x {value:.3g}" for name, value in named.items() if value != 1.0)
