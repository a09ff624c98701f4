"""Power of a device from how busy its arithmetic and its memory are."""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.core import Array
from sim.hardware.device import VOLTAGE_FLOOR, Device

COMPUTE_SHARE: Final = 0.6
"""Share of the dynamic range that full matrix units draw with idle memory (assumed)."""

MEMORY_SHARE: Final = 0.45
"""Share of the dynamic range that full memory bandwidth draws with idle matrix units (assumed).

Both together exceed the range and are cut at the power limit, as boards throttle; decode-bound serving then draws about
half of the limit, as POLCA (arXiv 2308.12908) and Splitwise (arXiv 2311.18677) measured on A100 and H100."""


def power_w(device: Device, *, compute_frac: Array, memory_frac: Array) -> Array:
    """Power [W] at these shares of the device's peak FLOP rate and of its peak bandwidth, broadcast.

    `idle + (peak - idle) min(1, COMPUTE_SHARE c s + MEMORY_SHARE m)`, where `s` is the clock share squared with the
    voltage floor (the rate already holds one factor of the clock).

    Args:
        device: The device, at its clock.
        compute_frac: FLOP rate over the dense peak at this clock, in [0, 1].
        memory_frac: Memory traffic over peak bandwidth, in [0, 1].
    """
    voltage = max(device.clock_frac, VOLTAGE_FLOOR)
    dynamic = COMPUTE_SHARE * np.asarray(compute_frac) * device.clock_frac * voltage**2
    dynamic = dynamic + MEMORY_SHARE * np.asarray(memory_frac)
    return np.asarray(device.idle_w + (device.peak_w - device.idle_w) * np.minimum(1.0, dynamic))
