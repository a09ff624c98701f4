"""Mixture-of-experts feed-forward (grouped GEMM): loads of the ranks and the M7 form.

Start at `grouped_gemm_terms`. How many experts a batch touches, `sim.models.routing` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.core import Array
from sim.costs.gemm import DEQUANTISE_OPS_PER_WEIGHT, DEQUANTISE_TILE_ROWS
from sim.costs.numeric import Value, p_norm, where_positive


@dataclass(frozen=True)
class MoeCurve:
    """Parameters of the M7 form for one device, dtype and kernel.

    Attributes:
        t0_s: Latency of the smallest call: permute, two grouped GEMMs, finalise [s].
        e: Fraction of the dense peak that large token counts reach.
        f: Fraction of the memory bandwidth while expert weights stream.
        p: Exponent that joins compute and memory time.
        c: Bytes per routed pair and hidden element to permute, quantise, gather and finalise.
        m_0: Padded rows per touched expert.
        i_0: Columns by which an expert is padded: narrow ones leave tiles and transfers half empty.
    """

    t0_s: float
    e: float
    f: float
    p: float
    c: float
    m_0: float
    i_0: float = 0.0


class MoeTerms(NamedTuple):
    """Parts of a grouped GEMM's time [s]; `time = overhead + gather + ||compute, memory||_p`."""

    compute_s: Array
    memory_s: Array
    gather_s: Array
    overhead_s: Array


def busiest_rank_pairs(
    tokens: Value, *, top_k: float, ep: float = 1.0, spread: float = 0.0, experts: float = np.inf
) -> Array:
    """Expected (token, expert) pairs on the busiest of `ep` ranks, which all others wait for.

    A rank's mean is `T k/ep`. Its load varies by chance, like Poisson counts, and as tokens pick ranks unequally:
    variance `mean + spread mean^2`. It is taken as gamma distributed, and the largest of `ep` such loads as the
    quantile `exp(-exp(-g)/ep)` with Euler's g, where the mean of a Gumbel law lies; never more than tokens can pick
    of one rank.

    Args:
        tokens: Tokens T, any shape.
        top_k: Experts per token k.
        ep: Ranks.
        spread: Variance of how often a rank is picked over the square of its mean (`rank_spread`).
        experts: Experts of a rank; a token picks each once at most.
    """
    tokens = np.asarray(tokens, dtype=np.float64)
    mean = tokens * (top_k / ep)
    if ep <= 1.0:
        return np.asarray(mean)
    from scipy.special import gammaincinv  # takes 0.1 s, and most plans have one rank of experts

    positive = np.where(mean > 0.0, mean, 1.0)
    shape = 1.0 / (1.0 / positive + spread)
    largest = positive / shape * gammaincinv(shape, np.exp(-np.exp(-np.euler_gamma) / ep))
    return np.asarray(np.where(mean > 0.0, np.minimum(tokens * min(top_k, experts), np.maximum(largest, mean)), 0.0))


def grouped_gemm_terms(
    pairs: Value,
    touched: Value,
    *,
    hidden: float,
    intermediate: float,
    matrices: int,
    weight_bytes: float,
    flops_per_s: float,
    bytes_per_s: float,
    curve: MoeCurve,
    dequantise_ops_per_s: float = float("inf"),
) -> MoeTerms:
    """Compute, memory, gather and fixed time [s] of one rank's experts; broadcast over `pairs` and `touched`.

    `t = t0 + c A h/B + || 2 g h j (A + m_0 U)/(eP), U g h j w/(fB) ||_p` with A pairs on this rank, U touched
    experts, g matrices an expert (3 when gated, else 2) and `j = i + i_0`: the M7 form, and columns beside its rows.
    Each curve in `hardware_profiles/kernels` has its median error and tail on tables that were not fitted: most medians
    are 3 to 15 %, tails up to 57 % where a library switches kernels.

    Args:
        pairs: Routed (token, expert) pairs on the rank.
        touched: Experts of the rank with at least one token.
        hidden: Model width h.
        intermediate: Width i of one expert on this rank.
        matrices: Weight matrices per expert.
        weight_bytes: Bytes per weight, block scales included.
        flops_per_s: Dense peak of the dtype the product is computed in [FLOP/s].
        bytes_per_s: Memory bandwidth [B/s].
        curve: Fitted parameters.
        dequantise_ops_per_s: Vector rate that unpacks weights [op/s]; inf when nothing is to be unpacked.
    """
    weights = matrices * hidden * (intermediate + curve.i_0)
    rows = pairs + curve.m_0 * np.asarray(touched)
    compute_s = 2.0 * weights * rows / (min(curve.e, 1.0) * flops_per_s)
    unpacked = weights * np.maximum(touched, np.divide(pairs, DEQUANTISE_TILE_ROWS))
    compute_s = compute_s + DEQUANTISE_OPS_PER_WEIGHT * unpacked / dequantise_ops_per_s
    memory_s = np.asarray(touched) * (weights * weight_bytes / (min(curve.f, 1.0) * bytes_per_s))
    gather_s = np.asarray(pairs) * (curve.c * hidden / bytes_per_s)
    return MoeTerms(np.asarray(compute_s), memory_s, gather_s, np.broadcast_to(curve.t0_s, np.shape(compute_s)))


def grouped_gemm_time_s(pairs: Value, terms: MoeTerms, curve: MoeCurve) -> Array:
    """Time [s] of the experts of one layer from its parts; zero where there are no pairs."""
    joined = p_norm(terms.compute_s, terms.memory_s, curve.p)
    return where_positive(pairs, terms.overhead_s + terms.gather_s + joined)
