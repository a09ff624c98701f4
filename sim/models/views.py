"""How a layer looks back at earlier tokens: the sums over sequences that its time depends on.

A layer has one view, or two where an indexer scores all tokens so that attention may read a few. A view of the latest
`window` tokens costs no more once a sequence is longer, be it a sliding window, the tokens an indexer picks, or the
state of a recurrence (a window of one). Layers with equal views are added up in one `AttentionClass`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, assert_never

from sim.models.cache import index_bytes_per_key, layer_cache
from sim.models.mixers import GQA, MLA, CompressedAttention, GatedDelta, Indexer, Mamba2, Mixer
from sim.models.shard import Shard, layers_of
from sim.models.spec import ModelSpec

ViewKind = Literal["gqa", "mla", "indexer", "state"]


@dataclass(frozen=True)
class View:
    """One way in which a layer looks back.

    Attributes:
        kind: Which kernel: attention over keys and values, over latents, an indexer's scores, a recurrent state.
        window: Tokens looked back at, at most; None for all.
        keys_per_token: Keys read per such token; below one where tokens are merged.
        near_keys: Keys read besides, however long the sequence: the window beside merged tokens.
        flops_per_token: Matrix FLOPs per token and layer [FLOP]: scores and weighted values.
    """

    kind: ViewKind
    window: int | None = None
    keys_per_token: float = 1.0
    near_keys: float = 0.0
    flops_per_token: float = 0.0

    @property
    def label(self) -> str:
        """Short text for names of operators."""
        seen = "full" if self.window is None else f"window {self.window}"
        return seen if self.kind in ("gqa", "mla") else "index" if self.kind == "indexer" else "state"


def views_of(mixer: Mixer) -> tuple[View, ...]:
    """The views of a layer with this attention or recurrence; FLOPs are `2 h (d_k + d_v)` per key."""
    match mixer:
        case GQA():
            flops = 2.0 * mixer.heads * (mixer.head_dim + mixer.value_dim)
            seen = mixer.top_k if mixer.window is None else mixer.window
            return (View("gqa", seen, flops_per_token=flops), *_scores(mixer.indexer))
        case MLA():
            flops = 2.0 * mixer.heads * (mixer.nope_dim + mixer.rope_dim + mixer.v_dim)
            return (View("mla", mixer.top_k, flops_per_token=flops), *_scores(mixer.indexer))
        case CompressedAttention():
            return _compressed(mixer)
        case GatedDelta() | Mamba2():
            return (View("state", 1),)
        case _:
            assert_never(mixer)


def _scores(indexer: Indexer | None, keys_per_token: float = 1.0) -> tuple[View, ...]:
    if indexer is None:
        return ()
    flops = 2.0 * indexer.heads * indexer.head_dim * keys_per_token
    return (View("indexer", None, keys_per_token, flops_per_token=flops),)


def _compressed(mixer: CompressedAttention) -> tuple[View, ...]:
    flops = 4.0 * mixer.heads * mixer.head_dim
    if mixer.ratio is None:
        return (View("mla", mixer.window, flops_per_token=flops),)
    share = 1.0 / mixer.ratio
    seen = None if mixer.top_k is None else mixer.top_k * mixer.ratio
    return (View("mla", seen, share, float(mixer.window), flops * share), *_scores(mixer.indexer, share))


@dataclass(frozen=True)
class AttentionClass:
    """Layers of a shard with the same attention or recurrence, in one of their views.

    Attributes:
        view: How they look back.
        layers: How many layers.
        attention: Their shape, unsharded.
        kv_bytes_per_token: Cache bytes per token that this view of all these layers keeps on one rank [B].
    """

    view: View
    layers: int
    attention: Mixer
    kv_bytes_per_token: float

    @property
    def window(self) -> int | None:
        """Tokens looked back at, at most."""
        return self.view.window

    @property
    def key(self) -> tuple[Mixer, View]:
        """Equal for classes of the same layers in different stages."""
        return self.attention, self.view

    @property
    def flops_per_token(self) -> float:
        """Matrix FLOPs per token looked back at, over all these layers, unsharded [FLOP]."""
        return self.layers * self.view.flops_per_token

    def with_layers(self, layers: int) -> AttentionClass:
        """The same with another number of layers."""
        return replace(self, layers=layers, kv_bytes_per_token=self.kv_bytes_per_token * layers / self.layers)

    def without_window(self) -> AttentionClass:
        """The same with all tokens looked back at."""
        return replace(self, view=replace(self.view, window=None))


def attention_classes(model: ModelSpec, shard: Shard) -> tuple[AttentionClass, ...]:
    """Views of the shard's layers, equal ones added up, in order of appearance."""
    layers: dict[Mixer, int] = {}
    for group, count in layers_of(model, shard):
        if group.attention is not None:
            layers[group.attention] = layers.get(group.attention, 0) + count
    return tuple(
        AttentionClass(view, count, mixer, count * _kept_bytes(mixer, view, shard))
        for mixer, count in layers.items()
        for view in views_of(mixer)
    )


def _kept_bytes(mixer: Mixer, view: View, shard: Shard) -> float:
    """Cache bytes per token and layer of one view; the indexer's keys are a view of their own."""
    index = 0.0 if isinstance(mixer, (GatedDelta, Mamba2)) else index_bytes_per_key(mixer.indexer) * view.keys_per_token
    if view.kind == "indexer":
        return index
    return layer_cache(mixer, tp=shard.tp, kv_dtype=shard.kv_dtype).new_bytes_per_token - index


def attention_flops_per_key(model: ModelSpec) -> float:
    """Matrix FLOPs per token looked back at, through all layers: scores and weighted values [FLOP]."""
    return sum(
        group.count * view.flops_per_token
        for group in model.layers
        if group.attention is not None
        for view in views_of(group.attention)
    )
