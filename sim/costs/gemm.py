"""Dense matrix multiplication on one device: the G8 form, for 16-bit, quantised and weight-only weights.

Start at `gemm_terms`; `gemm_time_s` adds its parts up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.core import Array
from sim.costs.numeric import Value, p_norm, where_positive

DEQUANTISE_OPS_PER_WEIGHT = 4.0
"""Vector operations that turn one packed weight into a 16-bit one: extract, convert, scale, store (assumed)."""

DEQUANTISE_TILE_ROWS = 128.0
"""Rows of activations that share one dequantisation of a weight tile (tile height of Marlin-like kernels)."""


@dataclass(frozen=True)
class GemmCurve:
    """Parameters of the G8 form for one device, dtype and engine.

    Attributes:
        t0_s: Latency of the smallest kernel, measured inside a CUDA graph [s].
        e: Fraction of the dense peak that large shapes reach.
        f: Fraction of the memory bandwidth that a streaming shape reaches.
        f_1: The same for a single row, where it differs: a matrix-vector kernel reads the weights as they lie, where
            the matrix kernels of CPU libraries copy them into panels first. None: `f`.
        p: Exponent that joins compute and memory time.
        tau_s: Time of one thread block per element of its walk over k [s].
        k_s: Length of k at which split-K saturates the walk (inf: no split-K).
        c: Bytes moved to quantise one element of the activations.
    """

    t0_s: float
    e: float
    f: float
    p: float
    tau_s: float
    k_s: float = float("inf")
    c: float = 0.0
    f_1: float | None = None


class GemmTerms(NamedTuple):
    """Parts of a GEMM's time [s]; `time = overhead + quantise + ||compute, memory||_p`."""

    compute_s: Array
    memory_s: Array
    quantise_s: Array
    overhead_s: Array


def gemm_terms(
    m: Value,
    n: Value,
    k: Value,
    *,
    moved_bytes: Value,
    flops_per_s: float,
    bytes_per_s: float,
    curve: GemmCurve,
    dequantise_ops_per_s: float = float("inf"),
) -> GemmTerms:
    """Compute, memory, quantisation and fixed time [s] of an `(m, k) x (k, n)` product; broadcast over its inputs.

    `t = t0 + c m k / B + || 2mnk/(eP) + tau k/(1 + k/k_s) + dequantise, bytes/(fB) ||_p`, the G8 form: a roofline
    with the serial walk of one thread block over k, which cuts the 90th percentile of the error from 25-40 % to
    15-24 % on the kernel tables of NVIDIA AIConfigurator core 0.12.0 (bf16, A100 to GB200; median 5-8 %).

    Assumptions: weights come from memory, never from a warm cache (g = 0). Weight-only formats move packed bytes and
    multiply at the 16-bit rate; where the curve was not fitted to such kernels, every tile of
    `DEQUANTISE_TILE_ROWS` rows converts the weights again on the vector units (`dequantise_ops_per_s` finite).

    Args:
        m: Rows (tokens).
        n: Columns of the weights.
        k: Inner size.
        moved_bytes: Activations read, packed weights with scales, result written [B].
        flops_per_s: Dense peak of the dtype the product is computed in [FLOP/s].
        bytes_per_s: Memory bandwidth [B/s].
        curve: Fitted parameters.
        dequantise_ops_per_s: Vector rate that unpacks weights [op/s]; inf when nothing is to be unpacked.
    """
    walk_s = curve.tau_s * k / (1.0 + np.divide(k, curve.k_s))
    unpack = DEQUANTISE_OPS_PER_WEIGHT * n * k * np.maximum(1.0, np.divide(m, DEQUANTISE_TILE_ROWS))
    compute_s = 2.0 * m * n * k / (min(curve.e, 1.0) * flops_per_s) + walk_s + unpack / dequantise_ops_per_s
    reached = curve.f if curve.f_1 is None else np.where(np.asarray(m) <= 1.0, curve.f_1, curve.f)
    memory_s = moved_bytes / (np.minimum(reached, 1.0) * bytes_per_s)
    quantise_s = curve.c * m * k / bytes_per_s
    overhead_s = np.broadcast_to(curve.t0_s, np.shape(compute_s))
    return GemmTerms(np.asarray(compute_s), np.asarray(memory_s), np.asarray(quantise_s), overhead_s)


def gemm_time_s(m: Value, terms: GemmTerms, curve: GemmCurve) -> Array:
    """Time [s] of one GEMM from its parts; zero where `m` is zero."""
    joined = p_norm(terms.compute_s, terms.memory_s, curve.p)
    return where_positive(m, terms.overhead_s + terms.quantise_s + joined)


def headwise_gemm_time_s(
    m: Value,
    n: Value,
    k: Value,
    *,
    heads: Value,
    ends_bytes: float,
    weight_bytes: float,
    flops_per_s: float,
    bytes_per_s: float,
    curve: GemmCurve,
) -> Array:
    """Time [s] of one `(m, k) x (k, n)` product per head in one kernel, each with weights and inputs of its own.

    The G8 form without its walk over k, which is short: `t = t0 + c h m k/B + || 2 h m n k/(eP), h bytes/(fB) ||_p`.
    Fitted to the tables of absorbed projections in NVIDIA AIConfigurator core 0.12.0 (`mla_bmm`, 1 to 128 heads).

    Args:
        m: Rows (tokens).
        n: Columns of a head's weights.
        k: Their inner size.
        heads: Heads.
        ends_bytes: Bytes of an element of inputs and results [B].
        weight_bytes: Bytes of a weight [B].
        flops_per_s: Dense peak of the dtype the products are computed in [FLOP/s].
        bytes_per_s: Memory bandwidth [B/s].
        curve: Fitted parameters.
    """
    rows = np.asarray(m, dtype=np.float64) * heads
    moved_bytes = heads * k * n * weight_bytes + ends_bytes * rows * (k + n)
    terms = gemm_terms(
        rows, n, k, moved_bytes=moved_bytes, flops_per_s=flops_per_s, bytes_per_s=bytes_per_s, curve=curve
    )
    return gemm_time_s(m, terms, curve)
