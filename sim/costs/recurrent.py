"""Recurrent layers on one device: one token per sequence (S1), and a scan over a prompt (S2).

Start at `state_update_terms` and `state_scan_terms`. Each describes one layer: its causal convolution and its state.
Both forms were fitted to kernels of the gated delta rule; those of Mamba-2 have the same structure and take the same
curves (assumed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from sim.core import Array
from sim.costs.attention import PrefillTerms
from sim.costs.numeric import Value, p_norm, where_positive

SCAN_LAUNCHES: Final = 11
"""Kernels of one layer's scan in flash-linear-attention's chunked gated delta rule, as vLLM and SGLang run it: the
convolution, gating, two norms, the cumulated decay, products of keys, two of the triangular inverse, the updates, the
states and the outputs."""


@dataclass(frozen=True)
class UpdateCurve:
    """Parameters of the S1 form for one device and engine.

    Attributes:
        t0_s: Latency of the smallest call, convolution and update, measured inside a CUDA graph [s].
        f: Fraction of the memory bandwidth that many states reach.
        p: Exponent that joins memory and block time.
        tau_s: Time of one (sequence, head) block on one multiprocessor [s].
    """

    t0_s: float
    f: float
    p: float
    tau_s: float


@dataclass(frozen=True)
class ScanCurve:
    """Parameters of the S2 form for one device and engine.

    Attributes:
        t0_s: Latency of the smallest call, convolution and scan, measured inside a CUDA graph [s].
        e: Fraction of the dense 16-bit peak that many heads and sequences reach.
        tau_s: Serial time per token of one sequence [s].
        p: Exponent that joins the work and the walk.
        c: Passes over the rows that are not hidden behind compute.
    """

    t0_s: float
    e: float
    tau_s: float
    p: float
    c: float


class UpdateTerms(NamedTuple):
    """Parts of one update [s]; `time = overhead + ||memory, blocks||_p`."""

    memory_s: Array
    blocks_s: Array
    overhead_s: Array


def state_update_terms(
    moved_bytes: Value, blocks: Value, *, units: float, bytes_per_s: float, curve: UpdateCurve
) -> UpdateTerms:
    """Parts [s] of one token per sequence through one layer; broadcast over arrays.

    `t = t0 + || bytes/(fB), tau blocks/N ||_p`, the S1 form. Every state is read and written once, whatever the length
    of its sequence; arithmetic, six FLOPs per element of 4 bytes, hides behind that.

    Args:
        moved_bytes: States read and written, inputs and results [B].
        blocks: Sequences x heads x tokens of each.
        units: Multiprocessors of the device.
        bytes_per_s: Memory bandwidth [B/s].
        curve: Fitted parameters.
    """
    memory_s = np.asarray(moved_bytes) / (min(curve.f, 1.0) * bytes_per_s)
    blocks_s = np.asarray(blocks) * (curve.tau_s / units)
    return UpdateTerms(memory_s, blocks_s, np.broadcast_to(curve.t0_s, np.shape(memory_s)))


def state_update_time_s(sequences: Value, terms: UpdateTerms, curve: UpdateCurve) -> Array:
    """Time [s] of one update from its parts; zero where there are no sequences."""
    return where_positive(sequences, terms.overhead_s + p_norm(terms.memory_s, terms.blocks_s, curve.p))


def state_scan_terms(
    chunk: Value,
    *,
    flops_per_token: float,
    bytes_per_row: float,
    state_bytes: float,
    flops_per_s: float,
    bytes_per_s: float,
    curve: ScanCurve,
) -> PrefillTerms:
    """Parts [s] of the scan of one prompt chunk through one layer; broadcast.

    `t = t0 + || F/(eP), tau chunk ||_p + (c rows + 2 state)/B`, the S2 form. The walk is serial: one state after the
    other along the sequence, all heads and sequences side by side. Sequences of one launch are joined as chunks of
    prefill attention are: work and bytes add, the longest walk counts.

    Args:
        chunk: New tokens.
        flops_per_token: Matrix FLOPs of a token over all heads of the device [FLOP].
        bytes_per_row: Inputs and results of one token [B].
        state_bytes: State of one sequence on the device [B].
        flops_per_s: Dense 16-bit peak [FLOP/s].
        bytes_per_s: Memory bandwidth [B/s].
        curve: Fitted parameters.
    """
    chunk = np.asarray(chunk, dtype=np.float64)
    work_s = chunk * (flops_per_token / (min(curve.e, 1.0) * flops_per_s))
    moved_s = (max(curve.c, 1.0) * chunk * bytes_per_row + 2.0 * state_bytes) / bytes_per_s
    return PrefillTerms(*(where_positive(chunk, part) for part in (work_s, curve.tau_s * chunk, moved_s)))
