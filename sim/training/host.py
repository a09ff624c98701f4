"""How far the host, which launches kernels, and the device, which runs them, get out of each other's way."""

from __future__ import annotations

from typing import Final

from sim.core import Array
from sim.costs.numeric import Value, p_norm

HOST_EXPONENT: Final = 3.0
"""Joins host and device time of a pass: fitted to the fitting half of public training runs; 2.5 to 4 do as well."""


def pass_s(device_s: Value, host_s: Value) -> Array:
    """Time [s] of a pass whose kernels take `device_s` to run and `host_s` to launch: `||device, host||_3`.

    Where one is much the longer, it alone counts. Where they are about equal, stretches of short kernels wait for the
    host and stretches of long ones for the device: the lead that the host gains in a matrix product is used up by the
    element-wise kernels behind it and cannot be saved for the next pass.
    """
    return p_norm(device_s, host_s, HOST_EXPONENT)
