"""Kernels around attention and recurrences that only move data: norms, positions, gates, cache writes."""

from __future__ import annotations

from typing import assert_never

from sim.models.cache import index_bytes_per_key, kv_heads_per_rank
from sim.models.dtypes import bytes_per_element
from sim.models.mixers import GQA, MLA, CompressedAttention, GatedDelta, Indexer, Mamba2, Mixer
from sim.models.shard import Shard

Streams = list[tuple[str, float]]
"""Names of kernels, and the bytes that each moves per token [B]."""


def mixer_streams(mixer: Mixer, shard: Shard, element: float, *, rotary: bool) -> Streams:
    """Data-moving kernels of one layer's attention or recurrence on one rank, beside the attention itself.

    Args:
        mixer: The attention or recurrence.
        shard: The rank.
        element: Bytes of an activation [B].
        rotary: Whether positions are rotated in.
    """
    match mixer:
        case GQA():
            return _grouped_query(mixer, shard, element, rotary=rotary)
        case MLA():
            return _latent(mixer, shard, element)
        case CompressedAttention():
            return _compressed(mixer, shard, element)
        case GatedDelta():
            return [("gated_norm", 3.0 * element * mixer.value_heads / shard.tp * mixer.value_dim)]
        case Mamba2():
            return [("gated_norm", 3.0 * element * mixer.heads / shard.tp * mixer.head_dim)]
        case _:
            assert_never(mixer)


def _grouped_query(a: GQA, shard: Shard, element: float, *, rotary: bool) -> Streams:
    queries, heads = a.heads / shard.tp, float(kv_heads_per_rank(a, shard.tp))
    rotated = 2.0 * element * (queries + heads) * a.head_dim
    streams: Streams = []
    if a.qk_norm:
        streams += [("qk_norm", rotated / 2.0)] * 2
    if rotary:
        streams.append(("rope", rotated))
    if a.output_gate:
        streams.append(("output_gate", 3.0 * element * queries * a.value_dim))
    return [
        *streams,
        _cache_write(shard, element, heads * (a.head_dim + a.value_dim)),
        *_index_write(a.indexer, element),
    ]


def _latent(a: MLA, shard: Shard, element: float) -> Streams:
    heads, norms = a.heads / shard.tp, 2.0 * element * (a.kv_rank + (a.q_rank or 0))
    streams: Streams = [("latent_norm", norms)] if a.q_rank is None else [("latent_norm", norms / 2.0)] * 2
    streams.append(("rope", 2.0 * element * (heads + 1.0) * a.rope_dim))
    if a.output_gate:
        streams.append(("output_gate_act", 3.0 * element * heads * a.v_dim))
    return [*streams, _cache_write(shard, element, float(a.kv_rank + a.rope_dim)), *_index_write(a.indexer, element)]


def _compressed(a: CompressedAttention, shard: Shard, element: float) -> Streams:
    """The merge reads values and weights of every token that an entry is drawn from."""
    norms = 2.0 * element * (a.q_rank + a.head_dim)
    streams: Streams = [
        *[("latent_norm", norms / 2.0)] * 2,
        ("rope", 2.0 * element * (a.heads / shard.tp + 1.0) * a.rope_dim),
    ]
    if a.ratio is not None:
        spread = 2.0 if a.overlap else 1.0
        width = a.head_dim + (a.indexer.head_dim if a.indexer else 0)
        streams.append(("merge", element * width * (2.0 * spread + 1.0 / a.ratio)))
    return [*streams, _cache_write(shard, element, float(a.head_dim)), *_index_write(a.indexer, element)]


def _cache_write(shard: Shard, element: float, elements: float) -> tuple[str, float]:
    return "cache_write", (element + bytes_per_element(shard.kv_dtype)) * elements


def _index_write(indexer: Indexer | None, element: float) -> Streams:
    """Queries and the key quantised to 8 bit, the key cached."""
    if indexer is None:
        return []
    quantised = (element + 1.0) * indexer.heads * indexer.head_dim
    return [("index_write", quantised + element * indexer.head_dim + index_bytes_per_key(indexer))]
