"""Power of a device from how busy its arithmetic and its memory are."""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.core import Array
from sim.hardware.device import VOLTAGE_FLOOR, Device

COMPUTE_SHARE: Final = 1.3
"""Share of the dynamic range per share of the dense peak (assumed): the best matrix products reach about 0.77 of the
peak (maximum achievable matmul FLOPs, S. Bekman, Machine Learning Engineering) and then draw the whole range, as the
prompt phase of serving does on A100 and H100 (POLCA, arXiv 2308.12908; Splitwise, arXiv 2311.18677)."""

MEMORY_SHARE: Final = 0.6
"""Share of the dynamic range that full memory bandwidth draws with idle matrix units (assumed): the token phase of
serving, bound by memory, then draws some 40 to 65 % of the limit, as the same papers show. Both terms together are cut
at the limit, as boards throttle."""

CONTEXT_SHARE: Final = 0.05
"""Share of the limit that a device with a model loaded draws above bare idle (26 to 66 W on data-centre GPUs, arXiv
2605.23918)."""


LOWEST_CLOCK: Final = 0.2
"""Share of the highest clock down to which a power cap is followed (assumed): boards list clocks down to 0.15 of theirs
(A100: 210 of 1,410 MHz), and close to resting power what a cap leaves to work is less than resting power is known."""


def resting_w(device: Device) -> float:
    """Power [W] of a device that has a model loaded and no work."""
    return min(device.idle_w + CONTEXT_SHARE * device.peak_w, device.peak_w)


def lowest_cap_w(device: Device) -> float:
    """Power [W] that products at full rate draw at the lowest clock that a cap may set (`LOWEST_CLOCK`)."""
    rest_w = resting_w(device)
    return rest_w + (device.peak_w - rest_w) * LOWEST_CLOCK * VOLTAGE_FLOOR**2


def clock_within(device: Device, cap_w: float | None) -> float:
    """Share of the device's clock at which products at full rate draw no more than a cap, 1 without or above the limit.

    Products at full rate draw the whole dynamic range at the highest clock (`COMPUTE_SHARE`), and `f V^2` of it at a
    clock share f, where the voltage V falls with f down to its floor. Memory traffic does not follow the clock here:
    under a low cap a kernel bound by memory draws more than it (H100 at 200 W: up to 460 W), where a board would slow
    memory too, or throttle. So what a step draws can exceed the cap, and is not cut at it.

    Raises:
        ValueError: if the cap is below that of the lowest clock (`lowest_cap_w`).
    """
    if cap_w is None or cap_w >= device.peak_w:
        return 1.0
    rest_w = resting_w(device)
    if cap_w < (least_w := lowest_cap_w(device)):
        raise ValueError(f"a cap of {cap_w} W, but caps on {device.name} are followed down to {least_w} W only")
    share = (cap_w - rest_w) / (device.peak_w - rest_w)
    together = share ** (1.0 / 3.0)
    return together if together >= VOLTAGE_FLOOR else share / VOLTAGE_FLOOR**2


def power_w(device: Device, *, compute_frac: Array, memory_frac: Array) -> Array:
    """Power [W] at these shares of the device's peak FLOP rate and of its peak bandwidth, broadcast.

    `rest + (peak - rest) min(1, COMPUTE_SHARE c s + MEMORY_SHARE m)` with `rest` from `resting_w`, where `s` is the
    clock share times the square of the voltage with its floor (arithmetic at a lower clock does less per second at
    less energy each). Only the device: no host, network or cooling.

    Args:
        device: The device, at its clock.
        compute_frac: FLOP rate over the dense peak at this clock, in [0, 1].
        memory_frac: Memory traffic over peak bandwidth, in [0, 1].
    """
    voltage = max(device.clock_frac, VOLTAGE_FLOOR)
    dynamic = COMPUTE_SHARE * np.asarray(compute_frac) * device.clock_frac * voltage**2
    dynamic = dynamic + MEMORY_SHARE * np.asarray(memory_frac)
    rest_w = resting_w(device)
    return np.asarray(rest_w + (device.peak_w - rest_w) * np.minimum(1.0, dynamic))
