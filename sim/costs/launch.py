"""Host side: what launching kernels one by one adds to the time on the device.

The t0 of the kernel forms was measured inside CUDA graphs, so with graphs nothing is added here. In eager mode the
host enqueues every kernel, and an operator cannot take less than that; the two overlap, hence the maximum.
"""

from __future__ import annotations

import numpy as np

from sim.core import Array
from sim.costs.numeric import Value

EAGER_LAUNCH_S = 6.0e-6
"""Host time to dispatch one kernel from PyTorch without CUDA graphs (assumed; published traces show 4-10 us)."""


def eager_time_s(device_s: Value, *, launches: Value, launch_s: float = EAGER_LAUNCH_S) -> Array:
    """Time [s] of kernels launched one by one: the longer of device work and host dispatch.

    The host runs ahead while kernels are long (prefill) and is waited for while they are short (decode).
    """
    return np.maximum(device_s, np.asarray(launches) * launch_s)
