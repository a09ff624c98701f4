"""Efficiency parameters of a device, as the typed curves that the forms take; looked up once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from sim.costs.attention import DecodeCurve, PrefillCurve
from sim.costs.elementwise import StreamCurve
from sim.costs.gemm import GemmCurve
from sim.costs.moe import MoeCurve
from sim.costs.precision import precision_of
from sim.costs.recurrent import ScanCurve, UpdateCurve
from sim.hardware import Device
from sim.models import AttentionKind, attention_dtype, bytes_per_element

INFINITE = float("inf")
DECODE_KERNELS: Final[Mapping[AttentionKind, str]] = {
    "gqa": "decode_attention",
    "mla": "mla_decode",
    "sparse": "mla_decode",
    "indexer": "indexer_decode",
}
PREFILL_KERNELS: Final[Mapping[AttentionKind, str]] = {
    "gqa": "prefill_attention",
    "mla": "mla_prefill",
    "sparse": "sparse_prefill",
    "indexer": "indexer_prefill",
}


class GemmSetup(NamedTuple):
    """What `gemm_terms` needs for one weight format: curve, rate [FLOP/s] and unpacking rate [op/s]."""

    curve: GemmCurve
    flops_per_s: float
    dequantise_ops_per_s: float


class MoeSetup(NamedTuple):
    """What `grouped_gemm_terms` needs for one weight format: curve, rate [FLOP/s], bytes a weight, unpacking rate.

    `library` is that of the kernels, empty where it is not known; `by_default` says whether the curve is that of the
    library which the engine takes by itself.
    """

    curve: MoeCurve
    flops_per_s: float
    weight_bytes: float
    dequantise_ops_per_s: float
    by_default: bool
    library: str


class Curves:
    """Curves of one device and engine.

    Args:
        device: The device.
        engine: Family of the software stack.
        sources: Where each curve that gets used is noted, by kernel and dtype.
        moe_library: Library of the experts' kernels; empty, the one that the engine takes by itself.
    """

    def __init__(self, device: Device, engine: str, sources: dict[str, str], moe_library: str = "") -> None:
        self._device = device
        self._moe_library = moe_library
        self._engine = engine
        self._sources = sources
        self._gemm: dict[str, GemmSetup] = {}
        self._headwise: dict[str, GemmSetup] = {}
        self._moe: dict[str, MoeSetup] = {}
        self._decode: dict[tuple[str, AttentionKind], DecodeCurve] = {}
        self._prefill: dict[tuple[str, AttentionKind], PrefillCurve] = {}
        self._streams: dict[tuple[str, str], StreamCurve] = {}
        self._update: dict[str, UpdateCurve] = {}
        self._scan: dict[str, ScanCurve] = {}

    def gemm(self, weights_dtype: str) -> GemmSetup:
        """Curve and rates of a dense GEMM with weights of this format."""
        if weights_dtype not in self._gemm:
            precision = precision_of(self._device, weights_dtype)
            raw = self._read("gemm", precision.kernel)
            curve = GemmCurve(
                t0_s=raw["t0_s"],
                e=raw["e"],
                f=raw["f"],
                p=raw["p"],
                tau_s=raw["tau_s"],
                k_s=raw["k_sat"],
                c=raw["c"],
                f_1=raw.get("f_1"),
            )
            unpack = self._unpack_rate("gemm", precision.kernel, precision.weight_only)
            self._gemm[weights_dtype] = GemmSetup(curve, precision.flops_per_s, unpack)
        return self._gemm[weights_dtype]

    def headwise(self, weights_dtype: str) -> GemmSetup:
        """Curve and rates of one small product per head, with weights of this format."""
        if weights_dtype not in self._headwise:
            precision = precision_of(self._device, weights_dtype)
            raw = self._read("headwise_gemm", precision.kernel)
            curve = GemmCurve(t0_s=raw["t0_s"], e=raw["e"], f=raw["f"], p=raw["p"], tau_s=0.0, c=raw["c"])
            self._headwise[weights_dtype] = GemmSetup(curve, precision.flops_per_s, INFINITE)
        return self._headwise[weights_dtype]

    def moe(self, weights_dtype: str) -> MoeSetup:
        """Curve and rates of the experts' grouped GEMM with weights of this format."""
        if weights_dtype not in self._moe:
            precision = precision_of(self._device, weights_dtype)
            raw = self._read("moe", precision.kernel, self._moe_library)
            by_default = raw == self._device.kernels.get("moe", precision.kernel, self._engine)
            curve = MoeCurve(**raw)
            unpack = self._unpack_rate("moe", precision.kernel, precision.weight_only)
            library = self._moe_library or self._device.kernels.library("moe", precision.kernel, self._engine)
            self._moe[weights_dtype] = MoeSetup(
                curve, precision.flops_per_s, precision.weight_bytes, unpack, by_default, library
            )
        return self._moe[weights_dtype]

    def decode(self, kv_dtype: str, kind: AttentionKind) -> DecodeCurve:
        """Curve of decode attention over a cache of this format, or of an indexer's scores."""
        key = (kv_dtype, kind)
        if key not in self._decode:
            raw = self._read(DECODE_KERNELS[kind], cache_kernel(kv_dtype))
            self._decode[key] = DecodeCurve(
                t0_s=raw["t0_s"],
                f=raw["f"],
                p=raw["p"],
                tau_s=raw["tau_s"],
                lam_s=raw["lam_s"],
                a=raw["a"] if kind == "gqa" else 0.0,
                e=raw["e"],
                walk_s=raw.get("walk_s", 0.0),
                tail=raw.get("tail", 0.0),
                mixed_rows=raw.get("mixed_rows", 0.0),
            )
        return self._decode[key]

    def prefill(self, kv_dtype: str, kind: AttentionKind) -> PrefillCurve:
        """Curve of prefill attention, products in 16 bit or fp32 by the cache, or of an indexer's 8-bit scores."""
        key = ("fp8" if kind == "indexer" else attention_dtype(kv_dtype), kind)
        if key not in self._prefill:
            raw = self._read(PREFILL_KERNELS[kind], key[0])
            self._prefill[key] = PrefillCurve(
                t0_s=raw["t0_s"],
                e_128=raw["e_128"] if kind == "gqa" else raw["e"],
                a_h=raw.get("a_h", 0.0),
                d_h=raw["d_h"] if kind == "gqa" else 0.0,
                tau_s=raw.get("tau_s", 0.0),
                p=raw.get("p", 1.0),
                c=raw.get("c", 0.0),
                block_heads=raw.get("block_heads", 1.0),
            )
        return self._prefill[key]

    def matrix_rate(self, dtype: str) -> float:
        """Dense peak [FLOP/s] of products that follow a cache or activations of this format: 16 bit, or fp32."""
        return self._device.compute_rate(attention_dtype(dtype))[0]

    def attention_rate(self, kv_dtype: str, kind: AttentionKind) -> float:
        """Dense peak [FLOP/s] of the products of this kind of attention over a cache of this format."""
        if kind == "indexer" and "fp8" in self._device.flops:
            return self._device.flops["fp8"]
        return self.matrix_rate("bf16" if kind == "indexer" else kv_dtype)

    def update(self, dtype: str) -> UpdateCurve:
        """Curve of a recurrence's update, one token per sequence, in a model of this format."""
        key = attention_dtype(dtype)
        if key not in self._update:
            raw = self._read("state_update", key)
            self._update[key] = UpdateCurve(t0_s=raw["t0_s"], f=raw["f"], p=raw["p"], tau_s=raw["tau_s"])
        return self._update[key]

    def scan(self, dtype: str) -> ScanCurve:
        """Curve of a recurrence's scan over a prompt in a model of this format."""
        key = attention_dtype(dtype)
        if key not in self._scan:
            raw = self._read("state_scan", key)
            self._scan[key] = ScanCurve(t0_s=raw["t0_s"], e=raw["e"], tau_s=raw["tau_s"], p=raw["p"], c=raw["c"])
        return self._scan[key]

    def stream(self, kernel: str, dtype: str) -> StreamCurve:
        """Curve of a kernel that streams its operands: `elementwise`, `embedding` or `sampling`."""
        key = (kernel, dtype)
        if key not in self._streams:
            raw = self._read(kernel, dtype)
            self._streams[key] = StreamCurve(
                t0_s=raw["t0_s"],
                f=raw["f"],
                launches=raw.get("launches", 1.0),
                passes=raw.get("passes", 1.0),
                sort_launches=raw.get("sort_launches", 0.0),
                sort_passes=raw.get("sort_passes", 0.0),
            )
        return self._streams[key]

    def _read(self, kernel: str, dtype: str, library: str = "") -> Mapping[str, float]:
        kernels = self._device.kernels
        self._sources[f"{kernel} {dtype}"] = kernels.provenance(kernel, dtype, self._engine, library)
        return kernels.get(kernel, dtype, self._engine, library)

    def _unpack_rate(self, kernel: str, dtype: str, weight_only: bool) -> float:
        """Rate of dequantisation [op/s]; inf if nothing is packed or the curve was fitted to unpacking kernels.

        Where the device has no curve of such kernels, its 16-bit one stands in and unpacking comes on top.
        """
        kernels = self._device.kernels
        if not weight_only or kernels.get(kernel, dtype, self._engine) != kernels.get(kernel, "bf16", self._engine):
            return INFINITE
        return self._device.vector_flops


def cache_kernel(kv_dtype: str) -> str:
    """Number format of the kernels that read a cache of this format."""
    return attention_dtype(kv_dtype) if bytes_per_element(kv_dtype) >= 2.0 else "fp8"
