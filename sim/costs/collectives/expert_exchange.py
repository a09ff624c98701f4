"""All-to-all of the experts: one kernel of the engine writes each token into the memory of the ranks that need it."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from sim.core import Array
from sim.costs.collectives.base import COLLECTIVES, Timer, wire_factor
from sim.hardware import CommGroup


@COLLECTIVES.register("expert_exchange")
class ExpertExchange:
    """Measured one-sided exchange of an engine inside one domain (R8): `t = a0 + a1 log2 n + w S/beta`.

    `w = (n-1)/n` of what a rank sends leaves it. TensorRT-LLM's `NVLinkOneSided` on GB200 (2 to 32 ranks, one token
    to 8192) follows the form within 6 % at the median and 18 % at the 90th percentile, DeepEP's low-latency kernels
    within 6-8 % and 15-23 % (tables of NVIDIA AIConfigurator core 0.12.0).
    """

    library: ClassVar[Literal["nccl", "custom"]] = "custom"
    measured: ClassVar[bool] = True

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_to_all where the engine's kernel was measured on the group's link; otherwise None."""
        if kind != "all_to_all" or group.nodes > 1 or group.intra is None:
            return None
        curve = group.intra.curve(kind, form="R8", engine=engine)
        if curve is None:
            return None
        fixed_s = curve.params["a0_s"] + curve.params["a1_s"] * math.log2(group.ranks)
        per_byte_s = wire_factor(kind, group.ranks) / curve.params["beta_bytes_per_s"]

        def timer(size_bytes: Array) -> Array:
            return fixed_s + size_bytes * per_byte_s

        return timer
