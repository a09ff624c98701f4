"""Number formats of weights and KV caches: bytes per element with block scales, and what they multiply in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sim.core import InputError, did_you_mean


@dataclass(frozen=True)
class NumberFormat:
    """A storage format.

    Attributes:
        bytes: Bytes per element, block scales included.
        compute: Dtype of the multiplication: weight-only formats are dequantised to bf16.
    """

    bytes: float
    compute: str


FORMATS: Final = {
    "fp32": NumberFormat(4.0, "fp32"),
    "bf16": NumberFormat(2.0, "bf16"),
    "fp16": NumberFormat(2.0, "fp16"),
    "fp8": NumberFormat(1.0, "fp8"),
    "fp8_rowwise": NumberFormat(1.0, "fp8"),
    "fp8_block": NumberFormat(1.0 + 4.0 / (128 * 128), "fp8"),
    "mxfp8": NumberFormat(1.0 + 1.0 / 32, "fp8"),
    "int8": NumberFormat(1.0, "int8"),
    "int4": NumberFormat(0.5 + 2.0 / 128, "bf16"),
    "mxfp4": NumberFormat(0.5 + 1.0 / 32, "bf16"),
    "nvfp4": NumberFormat(0.5 + 1.0 / 16, "fp4"),
}
"""fp8_rowwise: one fp32 scale per row of either operand (CUTLASS, torchao); fp8_block: one fp32 scale per 128 x 128
(DeepSeek-V3); int4: one fp16 scale per group of 128 (AWQ, GPTQ); mxfp4 and mxfp8: one 8-bit scale per 32 (OCP
Microscaling 1.0); nvfp4: one fp8 scale per 16 (NVIDIA)."""

ALIASES: Final = {
    "fp4": "nvfp4",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "auto": "bf16",
    "int4_wo": "int4",
    "int8_wo": "int8",
    "w4a16": "int4",
    "awq": "int4",
    "gptq": "int4",
    "fp8_e4m3": "fp8",
    "w8a8": "int8",
}


def canonical_dtype(name: str) -> str:
    """The format's own name for `name` or an alias of it.

    Raises:
        InputError: if it is unknown.
    """
    known = ALIASES.get(name.lower(), name.lower())
    if known not in FORMATS:
        raise InputError(
            f"unknown number format {name!r}{did_you_mean(name, [*FORMATS, *ALIASES])}", allowed=sorted(FORMATS)
        )
    return known


def bytes_per_element(dtype: str) -> float:
    """Bytes that one element takes, block scales included."""
    return FORMATS[canonical_dtype(dtype)].bytes


def compute_dtype(dtype: str) -> str:
    """Dtype in which weights of this format are multiplied."""
    return FORMATS[canonical_dtype(dtype)].compute


def activation_bytes(dtype: str) -> float:
    """Bytes of an activation beside weights or a cache of this format: 4 in an fp32 model, else 2.

    Quantised formats are dequantised or multiplied with activations that arrive in 16 bit.
    """
    return 4.0 if canonical_dtype(dtype) == "fp32" else 2.0


def attention_dtype(kv_dtype: str) -> str:
    """Dtype in which attention over a cache of this format forms its products: bf16, or fp32 in an fp32 model."""
    return "fp32" if canonical_dtype(kv_dtype) == "fp32" else "bf16"
