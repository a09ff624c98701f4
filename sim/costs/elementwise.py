"""Kernels bound by bytes: norms, rotary embedding, activations, residuals, embedding look-up and sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sim.core import Array
from sim.costs.numeric import Value


@dataclass(frozen=True)
class StreamCurve:
    """Fixed latency and memory efficiency of a kernel that streams its operands.

    Attributes:
        t0_s: Latency of the smallest kernel inside a CUDA graph [s].
        f: Fraction of the memory bandwidth reached.
        launches: Kernels launched one after the other.
        passes: How often the minimal bytes are moved.
        sort_launches: Further kernels of a sampler that sorts all logits.
        sort_passes: How often it moves the minimal bytes besides.
    """

    t0_s: float
    f: float
    launches: float = 1.0
    passes: float = 1.0
    sort_launches: float = 0.0
    sort_passes: float = 0.0

    def sorting(self) -> StreamCurve:
        """The same kernel where it sorts all logits."""
        return replace(self, launches=self.launches + self.sort_launches, passes=self.passes + self.sort_passes)


def stream_time_s(moved_bytes: Value, *, bytes_per_s: float, curve: StreamCurve) -> Array:
    """Time [s] to stream `moved_bytes` [B]: `launches t0 + passes bytes/(fB)`; zero where there are no bytes.

    Assumes that the arithmetic hides behind memory, which holds below some 20 FLOPs a byte on every shipped device.
    """
    moved = np.asarray(moved_bytes, dtype=np.float64)
    streaming = moved * (curve.passes / (min(curve.f, 1.0) * bytes_per_s))
    return np.where(moved > 0.0, curve.launches * curve.t0_s + streaming, 0.0)
