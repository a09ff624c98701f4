"""Operators that look back at earlier tokens: attention, indexers, recurrent states; for decoding and for prompts.

Both functions give the work of one class of equal layers, see `views`. Merged tokens and the window beside them
(`CompressedAttention`) are keys of one kernel; that window counts in full, also in sequences shorter than it.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np

from sim.core import Array
from sim.models.cache import kv_heads_per_rank, recurrent_state_bytes, state_elements
from sim.models.matrices import conv_channels
from sim.models.mixers import GQA, MLA, CompressedAttention, GatedDelta, Indexer, Mamba2
from sim.models.operators import (
    AbsorbedProducts,
    AttentionKind,
    DecodeAttention,
    Operator,
    PrefillAttention,
    StateScan,
    StateUpdate,
    Value,
)
from sim.models.shard import Shard
from sim.models.spec import ModelSpec
from sim.models.views import AttentionClass

_SCAN_CHUNK = {GatedDelta: 64, Mamba2: 128}
"""Tokens of one chunk of a scan: flash-linear-attention's kernels, and `chunk_size` of Nemotron's configs."""


def decode_operators(
    model: ModelSpec, shard: Shard, sequences: Array, attended: Array, cls: AttentionClass
) -> list[Operator]:
    """Work of one decoding iteration in all layers of one class.

    Args:
        model: The model.
        shard: The stage's rank.
        sequences: Decoding sequences per attention-data-parallel rank, any shape.
        attended: Tokens looked back at, summed over these sequences, same shape.
        cls: The class.
    """
    mixer, view = cls.attention, cls.view
    if isinstance(mixer, (GatedDelta, Mamba2)):
        return [
            StateUpdate(
                name="state_update",
                cause="decode_attention",
                sequences=sequences,
                heads=mixer.heads / shard.tp,
                state_bytes=recurrent_state_bytes(mixer, shard.tp),
                elements=state_elements(mixer) / shard.tp,
                channels=conv_channels(mixer, shard.tp),
                kind=mixer.kind,
                dtype=model.dtype,
                count=cls.layers,
            )
        ]
    q_heads, kv_heads, width, values = _decode_shape(cls, shard)
    operators: list[Operator] = []
    if isinstance(mixer, MLA) and view.kind == "mla":
        operators.append(_absorbed(model, shard, mixer, sequences, cls.layers))
    operators.append(
        DecodeAttention(
            name=f"decode_attention_{view.label}",
            cause="decode_attention",
            sequences=sequences,
            context=view.keys_per_token * attended + view.near_keys * sequences,
            q_heads=q_heads,
            kv_heads=kv_heads,
            head_dim=width,
            v_dim=values,
            kv_dtype="fp8" if view.kind == "indexer" else shard.kv_dtype,
            window=cls.window,
            kind=_attention_kind(cls),
            own_keys=_has_own_keys(cls),
            count=cls.layers,
        )
    )
    return operators


def _absorbed(model: ModelSpec, shard: Shard, mixer: MLA, sequences: Array, layers: float) -> AbsorbedProducts:
    """What absorbed projections take for decodes beyond what they take for as many tokens of prompts."""
    return AbsorbedProducts(
        name="absorbed_products",
        cause="decode_attention",
        tokens=sequences,
        heads=mixer.heads / shard.tp,
        kv_rank=float(mixer.kv_rank),
        nope_dim=float(mixer.nope_dim),
        v_dim=float(mixer.v_dim),
        weights_dtype=model.linear_dtype("attention", shard.weights_dtype),
        dtype=model.dtype,
        count=layers,
    )


def _attention_kind(cls: AttentionClass) -> AttentionKind:
    kind = cls.view.kind
    assert kind != "state"
    return kind


def _has_own_keys(cls: AttentionClass) -> bool:
    """Whether attention is over keys that an indexer picks or tokens were merged into."""
    mixer = cls.attention
    picked = isinstance(mixer, (GQA, MLA)) and mixer.top_k is not None
    return cls.view.kind != "indexer" and (picked or isinstance(mixer, CompressedAttention))


def _index_of(cls: AttentionClass) -> Indexer | None:
    """The indexer whose view this is."""
    mixer = cls.attention
    return mixer.indexer if cls.view.kind == "indexer" and not isinstance(mixer, (GatedDelta, Mamba2)) else None


def _decode_shape(cls: AttentionClass, shard: Shard) -> tuple[float, float, float, float]:
    """Query heads, KV heads, and widths of keys and values of a decode kernel on one rank; latents are absorbed."""
    index, a = _index_of(cls), cls.attention
    if index is not None:
        return float(index.heads), 1.0, float(index.head_dim), 0.0
    match a:
        case GQA():
            return a.heads / shard.tp, float(kv_heads_per_rank(a, shard.tp)), float(a.head_dim), float(a.value_dim)
        case MLA():
            return a.heads / shard.tp, 1.0, float(a.kv_rank + a.rope_dim), float(a.kv_rank)
        case CompressedAttention():
            return a.heads / shard.tp, 1.0, float(a.head_dim), float(a.head_dim)
        case GatedDelta() | Mamba2():
            raise ValueError("a recurrence has no attention")
        case _:
            assert_never(a)


def prefill_operators(
    model: ModelSpec, shard: Shard, chunk: Array, prefix: Array, cls: AttentionClass
) -> list[PrefillAttention | StateScan]:
    """Work of one prompt chunk each in all layers of one class.

    Prompts in full MLA run with expanded keys and values; those of which an indexer picks tokens run absorbed, as
    decoding does, since every query has keys of its own (FlashMLA's sparse kernels). Some engines fall back to full MLA
    while a prompt is shorter than what the indexer may pick; it is taken to run absorbed over the tokens there are.

    Args:
        model: The model.
        shard: The stage's rank.
        chunk: New tokens, any shape.
        prefix: Tokens computed before, same shape.
        cls: The class.
    """
    a, view = cls.attention, cls.view
    chunk, prefix = np.asarray(chunk, dtype=np.float64), np.asarray(prefix, dtype=np.float64)
    if isinstance(a, (GatedDelta, Mamba2)):
        return [state_scan(a, tp=shard.tp, chunk=chunk, dtype=model.dtype, count=cls.layers)]
    q_heads, kv_heads, width, values = _decode_shape(cls, shard)
    kind = _attention_kind(cls)
    if kind == "mla" and isinstance(a, MLA) and a.top_k is None:
        kv_heads, width, values = a.heads / shard.tp, float(a.nope_dim + a.rope_dim), float(a.v_dim)
    elif kind == "mla":
        kind = "sparse"
    return [
        PrefillAttention(
            name=f"prefill_attention_{view.label}",
            cause="prefill_attention",
            chunk=chunk,
            prefix=prefix,
            q_heads=q_heads,
            kv_heads=kv_heads,
            head_dim=width,
            v_dim=values,
            kv_dtype="fp8" if view.kind == "indexer" else shard.kv_dtype,
            window=cls.window,
            keys_per_token=view.keys_per_token,
            near_keys=view.near_keys,
            kind=kind,
            own_keys=_has_own_keys(cls),
            count=cls.layers,
        )
    ]


def state_scan(
    a: GatedDelta | Mamba2, *, tp: int, chunk: Value, dtype: str, count: float = 1.0, cause: str = "prefill_attention"
) -> StateScan:
    """Chunks of C tokens computed at once, with the state carried from each to the next; one of `tp` ranks.

    FLOPs per token and head with d_k x d_v states: `2 d_k d_v` each to read and to add to the state; within a chunk,
    of which half is masked, `C d_k` for scores and `C d_v` for weighted values. The delta rule corrects values by what
    the state holds (`2 d_k d_v` more), for which it solves a triangular system over the chunk (`C (2 d_k + d_v)` more;
    arXiv 2412.06464, section 3.3).
    """
    size = float(_SCAN_CHUNK[type(a)])
    if isinstance(a, GatedDelta):
        one = 6.0 * a.key_dim * a.value_dim + size * (3.0 * a.key_dim + 2.0 * a.value_dim)
    else:
        one = 4.0 * a.state_dim * a.head_dim + size * (a.state_dim + a.head_dim)
    return StateScan(
        name="state_scan",
        cause=cause,
        chunk=chunk,
        heads=a.heads / tp,
        state_bytes=recurrent_state_bytes(a, tp),
        flops_per_token=one * a.heads / tp,
        channels=conv_channels(a, tp),
        kind=a.kind,
        dtype=dtype,
        count=count,
    )
