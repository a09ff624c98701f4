"""What a layer keeps of a sequence on one rank: a cache that grows with it, one of its latest tokens, or a state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from sim.models.dtypes import bytes_per_element
from sim.models.matrices import conv_channels
from sim.models.mixers import GQA, MLA, CompressedAttention, GatedDelta, Indexer, Mamba2, Mixer

_INDEX_SCALE_BYTES = 4.0  # one fp32 scale per 8-bit index key (DeepSeek-V3.2)
_CONV_STATE_BYTES = 2.0
_MERGE_STATE_BYTES = 4.0


@dataclass(frozen=True)
class LayerCache:
    """What one layer keeps per sequence on one rank.

    Attributes:
        bytes_per_token: For every token [B].
        window: The latest tokens of which more is kept, or None.
        window_bytes_per_token: For each of those besides [B].
        state_bytes: For the sequence as a whole, however long [B].
    """

    bytes_per_token: float = 0.0
    window: int | None = None
    window_bytes_per_token: float = 0.0
    state_bytes: float = 0.0

    @property
    def new_bytes_per_token(self) -> float:
        """Written when a token is computed, averaged over tokens [B]; states apart."""
        return self.bytes_per_token + self.window_bytes_per_token


def layer_cache(mixer: Mixer, *, tp: int = 1, kv_dtype: str = "bf16") -> LayerCache:
    """What a layer with this attention or recurrence keeps per sequence on one of `tp` ranks."""
    element = bytes_per_element(kv_dtype)
    match mixer:
        case GQA():
            kept = kv_heads_per_rank(mixer, tp) * (mixer.head_dim + mixer.value_dim) * element
            if mixer.window is not None:
                return LayerCache(window=mixer.window, window_bytes_per_token=kept)
            return LayerCache(kept + index_bytes_per_key(mixer.indexer))
        case MLA():  # the latent is whole on every rank
            return LayerCache((mixer.kv_rank + mixer.rope_dim) * element + index_bytes_per_key(mixer.indexer))
        case CompressedAttention():
            return _compressed(mixer, element)
        case GatedDelta() | Mamba2():
            return LayerCache(state_bytes=recurrent_state_bytes(mixer, tp))
        case _:
            assert_never(mixer)


def _compressed(mixer: CompressedAttention, element: float) -> LayerCache:
    """Entries, index keys, a window, and the group of tokens that is being merged (values and weights in fp32)."""
    if mixer.ratio is None:
        return LayerCache(window=mixer.window, window_bytes_per_token=mixer.head_dim * element)
    entry = mixer.head_dim * element + index_bytes_per_key(mixer.indexer)
    width = mixer.head_dim + (mixer.indexer.head_dim if mixer.indexer else 0)
    spread = 2 if mixer.overlap else 1
    pending = mixer.ratio * spread * 2 * spread * width * _MERGE_STATE_BYTES
    return LayerCache(entry / mixer.ratio, mixer.window, mixer.head_dim * element, pending)


def kv_heads_per_rank(attention: GQA, tp: int) -> int:
    """KV heads on one rank: divided over tensor-parallel ranks, replicated when there are more ranks than heads."""
    return max(1, attention.kv_heads // tp)


def index_bytes_per_key(indexer: Indexer | None) -> float:
    """Cached bytes of one key of an indexer [B]: 8 bit an element and a scale."""
    return 0.0 if indexer is None else indexer.head_dim + _INDEX_SCALE_BYTES


def recurrent_state_bytes(mixer: GatedDelta | Mamba2, tp: int = 1) -> float:
    """State of one sequence in one layer on one rank [B]: matrices of all heads, and the convolution's last inputs."""
    matrices = state_elements(mixer) / tp * bytes_per_element(mixer.state_dtype)
    return matrices + (mixer.conv_kernel - 1) * conv_channels(mixer, tp) * _CONV_STATE_BYTES


def state_elements(mixer: GatedDelta | Mamba2) -> int:
    """Elements of a layer's state matrices for one sequence, unsharded."""
    if isinstance(mixer, GatedDelta):
        return mixer.value_heads * mixer.key_dim * mixer.value_dim
    return mixer.heads * mixer.head_dim * mixer.state_dim
