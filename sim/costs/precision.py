"""Which kernel and which rate a storage format of weights gets on a device."""

from __future__ import annotations

from typing import NamedTuple

from sim.hardware import Device
from sim.models import bytes_per_element, canonical_dtype, compute_dtype


class Precision(NamedTuple):
    """How weights of one format are multiplied on one device.

    Attributes:
        kernel: Kernel name of the efficiency curves: `fp32`, `bf16`, `fp8`, `fp8_block`, `int8`, `nvfp4`,
            `mxfp4`, `w8a16`, `w4a16` or `int4` (integers of 4 bits, unpacked too, by kernels of their own).
        flops_per_s: Dense peak of the arithmetic [FLOP/s].
        arithmetic: Dtype of the arithmetic.
        weight_bytes: Bytes per stored weight, block scales included.
        weight_only: Whether weights are unpacked to 16 bit before they are multiplied.
    """

    kernel: str
    flops_per_s: float
    arithmetic: str
    weight_bytes: float
    weight_only: bool


def precision_of(device: Device, weights_dtype: str) -> Precision:
    """The kernel, rate and bytes of weights stored as `weights_dtype` on `device`.

    Formats without arithmetic (int4, mxfp4), and formats whose arithmetic the device lacks (fp8 on Ampere, nvfp4 on
    Hopper), keep their packed bytes and multiply at the 16-bit rate after dequantisation. Matrix units with FP4 take
    MXFP4 weights as they are, with 8-bit activations (MXFP4 x MXFP8, at the rate of FP8).

    Raises:
        InputError: if the format is unknown, or the device has no usable arithmetic.
    """
    stored = canonical_dtype(weights_dtype)
    width = bytes_per_element(stored)
    if stored == "mxfp4" and "fp4" in device.flops and "fp8" in device.flops:
        return Precision("mxfp4", device.flops["fp8"], "fp8", width, False)
    wanted = compute_dtype(stored)
    rate, used = device.compute_rate(wanted)
    if width >= 2.0:
        return Precision("fp32" if stored == "fp32" else "bf16", rate, used, width, False)
    if used != wanted or wanted in ("bf16", "fp16"):
        rate, used = device.compute_rate("bf16")
        kernel = stored if stored == "int4" else "w4a16" if width < 1.0 else "w8a16"
        return Precision(kernel, rate, used, width, True)
    return Precision(stored, rate, used, width, False)
