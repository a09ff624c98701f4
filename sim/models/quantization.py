"""Number format of a quantised checkpoint, from the several ways in which configs describe one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sim.core import InputError
from sim.models.spec import Coverage

_KEPT_KEYS: Final = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers")
_MODELOPT: Final = {"fp8": "fp8", "nvfp4": "nvfp4", "fp8_pb_wo": "fp8_block", "w4a16_awq": "int4"}
_KNOWN: Final = "fp8, fbgemm_fp8, mxfp4, awq, gptq, bitsandbytes, compressed-tensors, modelopt (FP8, NVFP4, W4A16_AWQ)"


def quantised_format(quantization: Mapping[str, Any], *, file: str) -> tuple[str, Coverage]:
    """Format of the quantised linear layers and which layers they are, from a `quantization_config`.

    Raises:
        InputError: if the method is unknown.
    """
    method = str(quantization.get("quant_method", "")).lower()
    found = _by_method(method, quantization)
    if found is None:
        raise InputError(
            f"unknown quantization {method!r}",
            file=file,
            path="quantization_config",
            allowed=_KNOWN,
            hint="or remove the key and set plan.weights_dtype",
        )
    kept = [str(name) for key in _KEPT_KEYS for name in quantization.get(key) or ()]
    if not any("attn" in name or "attention" in name for name in kept):
        return found, "linears"
    return found, "experts" if any("shared_expert" in name for name in kept) else "ffn"


def _by_method(method: str, quantization: Mapping[str, Any]) -> str | None:
    bits = quantization.get("bits", 4)
    if method == "fp8":
        return "fp8_block" if quantization.get("weight_block_size") else "fp8"
    if method == "bitsandbytes":
        return "int8" if quantization.get("load_in_8bit") else "int4"
    if method == "compressed-tensors":
        return _compressed_tensors(quantization)
    if method == "modelopt":
        return _MODELOPT.get(str(quantization.get("quant_algo", "")).lower())
    if method in ("awq", "gptq"):
        return {4: "int4", 8: "int8"}.get(bits)
    return {"fbgemm_fp8": "fp8", "mxfp4": "mxfp4"}.get(method)


def _compressed_tensors(quantization: Mapping[str, Any]) -> str | None:
    """Format of the first group of weights; groups of different formats are not known."""
    groups = quantization.get("config_groups") or {}
    formats = {_weights_format(group.get("weights") or {}) for group in groups.values()}
    return formats.pop() if len(formats) == 1 else None


def _weights_format(weights: Mapping[str, Any]) -> str | None:
    bits, kind = weights.get("num_bits"), weights.get("type")
    if kind == "float" and bits == 8:
        return "fp8_block" if weights.get("strategy") == "block" else "fp8"
    if kind == "float" and bits == 4:
        return {16: "nvfp4", 32: "mxfp4"}.get(weights.get("group_size", 0))
    return {4: "int4", 8: "int8"}.get(bits or 0) if kind == "int" else None
