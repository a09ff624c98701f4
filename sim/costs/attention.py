"""Attention kernels on one device: decode (D8, and L7 for MLA) and prefill (A7, and C6 for MLA); indexers likewise.

Start at `decode_attention_terms` and `prefill_attention_terms`. Each describes one launch, that is one layer. KV is
read from memory, never from a warm cache: kernel benchmarks repeat one small KV, serving does not (g = 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.core import Array
from sim.costs.numeric import Value, p_norm, where_positive

KEYS_PER_SPLIT = 128.0
"""Keys of one block of a split-KV kernel, in the logarithm of its reduction."""

QUERY_ROWS_PER_TILE = 64.0
"""Query rows to which prefill kernels pad."""

SPLIT_BELOW = 1.6
"""Blocks per multiprocessor from which FlashAttention 2 no longer splits sequences: 0.8 of two (`flash_api.cpp`)."""

MLA_HEADS_PER_BLOCK = 64.0
"""Query heads that one thread block of an MLA decode kernel serves."""

REFERENCE_UNITS = 132
"""Multiprocessors that a device counts as where its units are no GPU multiprocessors (H100's)."""


def block_units(kind: str, units: int) -> int:
    """Multiprocessors over which the thread blocks of a kernel spread, on a device of this kind.

    The block time tau was fitted per GPU multiprocessor. Other devices are cut differently (a TPU has one or two
    cores, each as wide as dozens of multiprocessors), so they count as `REFERENCE_UNITS` (assumed).
    """
    return units if kind in ("gpu", "edge") else REFERENCE_UNITS


@dataclass(frozen=True)
class DecodeCurve:
    """Parameters of the D8 (or L7) form for one device, KV dtype and engine.

    Attributes:
        t0_s: Latency of the smallest kernel, measured inside a CUDA graph [s].
        f: Fraction of the memory bandwidth that a large KV reaches.
        p: Exponent that joins memory, block and compute time.
        tau_s: Time of one (sequence, KV head) block on one multiprocessor [s].
        lam_s: Time per doubling of the mean context, the split-KV reduction [s].
        a: Exponent of the head dimension in the block time.
        e: Fraction of the dense peak reached.
        walk_s: Time per key of the mean context in which each sequence's block walks its scores, to pick the best [s].
        tail: Where sequences are whole blocks, not split: how far multiprocessors end apart, since lengths differ, in
            times of a mean block. Kernels that balance their work have none.
        mixed_rows: Rows to which the query of a decode is padded, per query head, in a launch with prompts; 0 where the
            query heads of a KV head share a tile there, as they do without prompts.
    """

    t0_s: float
    f: float
    p: float
    tau_s: float
    lam_s: float
    a: float = 0.0
    e: float = 1.0
    walk_s: float = 0.0
    tail: float = 0.0
    mixed_rows: float = 0.0


@dataclass(frozen=True)
class PrefillCurve:
    """Parameters of the A7 (or C6) form for one device, dtype and engine.

    Attributes:
        t0_s: Latency of the smallest kernel, measured inside a CUDA graph [s].
        e_128: Fraction of the dense peak that long sequences reach at head dimension 128.
        a_h: Mean attended keys at which half of the work is useful (diagonal tiles, prologue).
        d_h: Head dimension at which the softmax takes as long as the products.
        tau_s: Serial time of one block per key that it walks [s].
        p: Exponent that joins the work and the walk.
        c: Passes over q, k, v and o of the new rows that are not hidden behind compute.
        block_heads: Query heads to which a kernel pads.
    """

    t0_s: float
    e_128: float
    a_h: float
    d_h: float
    tau_s: float
    p: float
    c: float
    block_heads: float = 1.0


class DecodeTerms(NamedTuple):
    """Parts of one decode launch [s]; `time = overhead + || ||memory, blocks||_p, compute ||_p`."""

    compute_s: Array
    memory_s: Array
    blocks_s: Array
    overhead_s: Array


class PrefillTerms(NamedTuple):
    """Parts of one prefill launch or of one chunk in it [s]; `time = t0 + ||work, walk||_p + moved`.

    Chunks that share a launch are joined by `join_chunks`: work and moved bytes add, the longest walk counts.
    """

    work_s: Array
    walk_s: Array
    moved_s: Array


def decode_attention_terms(
    sequences: Value,
    attended: Value,
    *,
    flops: Value,
    moved_bytes: Value,
    blocks: Value,
    head_dim: float,
    units: float,
    flops_per_s: float,
    bytes_per_s: float,
    curve: DecodeCurve,
    whole: bool = False,
) -> DecodeTerms:
    """Parts [s] of one decode-attention launch over `sequences` new tokens; broadcast over arrays.

    `t = t0 + lam log2(1 + kv/128) + || bytes/(fB), tau (blocks/N) (d/128)^a, F/(eP) ||_p` with `kv` the mean context,
    the D8 form: 4-8 % median error on the decode tables of NVIDIA AIConfigurator core 0.12.0 (TensorRT-LLM on Hopper
    10-12 %). MLA is the same form (L7) with one block per 64 heads and a = 0. The block term rules big batches of
    short contexts. An indexer's scores have no blocks; the selection that follows adds `walk kv`. Blocks of whole
    sequences end apart by `tail` times what a mean one takes: `tail bytes/(fB) N/blocks`.

    Args:
        sequences: Sequences in the launch.
        attended: Keys attended, summed over the sequences (already cut to the window where there is one).
        flops: Matrix FLOPs of the launch.
        moved_bytes: KV read, queries and results [B].
        blocks: Thread blocks: sequences x KV heads, or for MLA sequences x ceil(heads/64).
        head_dim: Head dimension.
        units: Multiprocessors of the device.
        flops_per_s: Dense 16-bit peak [FLOP/s].
        bytes_per_s: Memory bandwidth [B/s].
        curve: Fitted parameters.
        whole: Whether every sequence is one block in any case, not only from `SPLIT_BELOW` blocks per multiprocessor.
    """
    mean_context = np.divide(attended, np.maximum(sequences, 1e-9))
    overhead_s = curve.t0_s + curve.lam_s * np.log2(1.0 + mean_context / KEYS_PER_SPLIT)
    overhead_s = overhead_s + curve.walk_s * mean_context
    blocks_s = np.asarray(blocks) * (curve.tau_s / units * (head_dim / 128.0) ** curve.a)
    memory_s = np.asarray(moved_bytes) / (min(curve.f, 1.0) * bytes_per_s)
    compute_s = np.asarray(flops) / (min(curve.e, 1.0) * flops_per_s)
    if curve.tail:
        unsplit = whole | (np.asarray(blocks) >= SPLIT_BELOW * units)
        tail_s = curve.tail * np.divide(memory_s * units, np.maximum(blocks, 1e-9))
        overhead_s = overhead_s + np.where(unsplit, tail_s, 0.0)
    return DecodeTerms(compute_s, memory_s, blocks_s, np.asarray(overhead_s))


def decode_attention_time_s(sequences: Value, terms: DecodeTerms, curve: DecodeCurve) -> Array:
    """Time [s] of one decode-attention launch from its parts; zero where there are no sequences."""
    joined = p_norm(p_norm(terms.memory_s, terms.blocks_s, curve.p), terms.compute_s, curve.p)
    return where_positive(sequences, terms.overhead_s + joined)


def mean_attended_keys(chunk: Value, prefix: Value = 0.0, window: float | None = None) -> Array:
    """Mean number of keys that a query of a causal chunk attends to.

    Query j of the chunk (from 0) sees `prefix + j + 1` keys, at most `window`. Without window that is
    `prefix + (chunk + 1)/2`; with no prefix and a binding window `(w (w+1)/2 + (s-w) w)/s`.
    """
    chunk = np.asarray(chunk, dtype=np.float64)
    if window is None:
        return np.asarray(prefix + (chunk + 1.0) / 2.0)
    growing = np.clip(window - np.asarray(prefix), 0.0, chunk)
    total = growing * prefix + growing * (growing + 1.0) / 2.0 + (chunk - growing) * window
    return np.asarray(total / np.maximum(chunk, 1e-9))


def prefill_attention_terms(
    chunk: Value,
    prefix: Value = 0.0,
    *,
    q_heads: float,
    flops_per_key: float,
    head_dim: float | None,
    bytes_per_row: float,
    prefix_bytes: Value = 0.0,
    units: float,
    flops_per_s: float,
    bytes_per_s: float,
    curve: PrefillCurve,
    window: float | None = None,
    keys_per_token: float = 1.0,
    near_keys: float = 0.0,
) -> PrefillTerms:
    """Parts [s] of the attention of one causal chunk of `chunk` tokens after `prefix` cached ones; broadcast.

    `t = t0 + || F pad (1 + a_h/a)(1 + d_h/d)/(eP), tau walk ||_p + (c bytes + prefix bytes)/B`, the A7 form, with a
    the mean attended keys, query rows in F rounded up to 64 (pad), and `e/(1 + d_h/128) = e_128`. Fitted to the context
    tables of NVIDIA AIConfigurator core 0.12.0 with 2-11 % median error (1-10 % above 1 TFLOP). MLA (C6) is the same
    without the softmax share d_h. Where every query has keys of its own, all query heads of a row share a block and are
    padded to its size: 3 % median error on the sparse tables, with neither half length nor walk.

    Assumptions: the walk is that of the last query tile over all its keys, or over the window and the tile itself
    where one binds. The tables have no prefix rows; the walk over the prefix is taken to be split over idle
    multiprocessors as FlashAttention's split-KV does, so it counts by `min(1, tiles/N)`. Cached keys and values are
    read from memory once: c is about the new rows, whose passes it was fitted to. Fully masked tiles are skipped, so
    work follows a, not the whole square.

    Args:
        chunk: New tokens.
        prefix: Tokens already in the cache.
        q_heads: Query heads on the device.
        flops_per_key: FLOPs of one (query, key) pair over all query heads: `4 q_heads d`, for MLA `2 q_heads 320`.
        head_dim: Head dimension; None leaves out the softmax share (MLA).
        bytes_per_row: q, k, v and o of one new token [B].
        prefix_bytes: Cached keys and values read once [B].
        units: Multiprocessors of the device.
        flops_per_s: Dense peak of the attention dtype [FLOP/s].
        bytes_per_s: Memory bandwidth [B/s].
        curve: Fitted parameters.
        window: Tokens a query may look back at, at most, or None.
        keys_per_token: Keys per such token.
        near_keys: Keys that a query attends to besides.
    """
    chunk = np.asarray(chunk, dtype=np.float64)
    tiles = np.ceil(chunk / QUERY_ROWS_PER_TILE)
    attended = keys_per_token * mean_attended_keys(chunk, prefix, window) + near_keys
    softmax = 1.0 if head_dim is None else (1.0 + curve.d_h / head_dim) / (1.0 + curve.d_h / 128.0)
    rate = min(curve.e_128, 1.0) * flops_per_s / softmax
    rows = tiles * QUERY_ROWS_PER_TILE
    padding = np.ceil(q_heads / curve.block_heads) * curve.block_heads / q_heads
    work_s = flops_per_key * padding * rows * (attended + curve.a_h) / rate
    split = np.minimum(1.0, tiles * q_heads / units)
    walk = chunk + split * prefix
    walk = walk if window is None else np.minimum(walk, window + QUERY_ROWS_PER_TILE)
    walk = keys_per_token * walk + near_keys
    moved_s = (curve.c * chunk * bytes_per_row + prefix_bytes) / bytes_per_s
    return PrefillTerms(*(where_positive(chunk, part) for part in (work_s, curve.tau_s * walk, moved_s)))


def join_chunks(terms: PrefillTerms, *, axis: int = -1) -> PrefillTerms:
    """The parts of one launch that holds all chunks along `axis`: work and bytes add, walks run side by side."""
    return PrefillTerms(terms.work_s.sum(axis=axis), terms.walk_s.max(axis=axis), terms.moved_s.sum(axis=axis))


def prefill_attention_time_s(terms: PrefillTerms, curve: PrefillCurve) -> Array:
    """Time [s] of one prefill-attention launch from its parts; zero where there is no work."""
    return where_positive(terms.work_s, curve.t0_s + p_norm(terms.work_s, terms.walk_s, curve.p) + terms.moved_s)
