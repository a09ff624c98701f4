"""Number format of a quantised checkpoint, from the several ways in which configs describe one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sim.core import InputError
from sim.models.spec import Coverage

_KEPT_KEYS: Final = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers")
_MODELOPT: Final = {
    "fp8": "fp8",
    "nvfp4": "nvfp4",
    "fp8_pb_wo": "fp8_block",
    "mxfp8": "mxfp8",
    "mxfp4": "mxfp4",
    "w4a16_awq": "int4",
    "w4a16_nvfp4": "nvfp4",
}
_KNOWN: Final = (
    "fp8, fbgemm_fp8, mxfp4, awq, gptq, bitsandbytes, compressed-tensors, "
    "modelopt (FP8, MXFP8, NVFP4, W4A16_AWQ, MIXED_PRECISION)"
)
_ATTENTION: Final = re.compile(r"attn|attention|\.mixer\.(in|out|[qkvo])_proj")
_INPUT: Final = re.compile(r"[qkv]\w*_proj|qkv|query|key|value|c_attn|in_proj|\(q\|")
"""Projections of attention's input by name; a name without one covers the output too."""
_SMALL: Final = re.compile(r"norm|indexer|bias")
"""Parts of attention that stay in 16 bit even where its projections do not."""


class Quantised(NamedTuple):
    """Formats of a quantised checkpoint.

    Attributes:
        weights_dtype: Format of the linear layers that are covered.
        coverage: Which those are.
        other_dtype: Format of the other linear layers; None if they are not quantised.
    """

    weights_dtype: str
    coverage: Coverage
    other_dtype: str | None = None


def quantised_format(quantization: Mapping[str, Any], *, file: str) -> Quantised:
    """Formats of the linear layers and which of them are quantised, from a `quantization_config`.

    Raises:
        InputError: if the method is unknown.
    """
    method = str(quantization.get("quant_method", "")).lower()
    found = _by_method(method, quantization)
    if str(quantization.get("quant_algo", "")).lower() == "mixed_precision":
        mixed = _by_layer(quantization.get("quantized_layers") or {}, file=file)
        return mixed._replace(other_dtype=mixed.other_dtype or found)
    if found is None:
        raise InputError(
            f"unknown quantization {method!r}",
            file=file,
            path="quantization_config",
            allowed=_KNOWN,
            hint="or remove the key and set plan.weights_dtype",
        )
    kept = [str(name) for key in _KEPT_KEYS for name in quantization.get(key) or ()]
    attention = [name for name in kept if _ATTENTION.search(name) and not _SMALL.search(name)]
    if not attention:
        return Quantised(found, "linears")
    if any("shared_expert" in name for name in kept):
        return Quantised(found, "experts")
    return Quantised(found, "ffn_and_output" if all(_INPUT.search(name) for name in attention) else "ffn")


def _by_layer(layers: Mapping[str, Any], *, file: str) -> Quantised:
    """Formats where each layer has its own: that of routed experts, or of feed-forward blocks where there are none, and
    that of attention for all other layers.

    Raises:
        InputError: if one of these formats is unknown.
    """
    parts: dict[str, Counter[str]] = {"experts": Counter(), "ffn": Counter(), "attention": Counter()}
    for name, layer in layers.items():
        if name == "lm_head":
            continue
        part = "attention" if _ATTENTION.search(name) else "ffn"
        if ".experts" in name:
            part = "experts"
        parts[part][str(layer.get("quant_algo", "")).lower()] += 1
    common = {part: counts.most_common(1)[0][0] for part, counts in parts.items() if counts}
    unknown = sorted({algorithm for algorithm in common.values() if algorithm not in _MODELOPT})
    if unknown or not common:
        raise InputError(
            f"unknown quantization algorithms {unknown}", file=file, path="quantized_layers", allowed=sorted(_MODELOPT)
        )
    formats = {part: _MODELOPT[algorithm] for part, algorithm in common.items()}
    if "experts" in formats:
        return Quantised(formats["experts"], "experts", formats.get("attention") or formats.get("ffn"))
    if "ffn" not in formats:
        return Quantised(formats["attention"], "linears")
    if formats["ffn"] == formats.get("attention"):
        return Quantised(formats["ffn"], "linears")
    return Quantised(formats["ffn"], "ffn", formats.get("attention"))


def _by_method(method: str, quantization: Mapping[str, Any]) -> str | None:
    bits = quantization.get("bits", 4)
    if method == "fp8":
        return "fp8_block" if quantization.get("weight_block_size") else "fp8"
    if method == "bitsandbytes":
        return "int8" if quantization.get("load_in_8bit") else "int4"
    if method == "compressed-tensors":
        return _compressed_tensors(quantization)
    if method in ("", "modelopt"):
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
