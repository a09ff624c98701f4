"""One rank of one pipeline stage: which layers and which slice of them, its weights and its cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from sim.models.dtypes import bytes_per_element
from sim.models.parameters import (
    attention_matrices,
    attention_small_parameters,
    dense_parameters,
    expert_parameters,
    kv_elements_per_token,
)
from sim.models.spec import GQA, MLA, Dense, LayerGroup, ModelSpec

_PLAIN_BYTES = 2.0


@dataclass(frozen=True)
class Shard:
    """A rank's part of a model.

    Attributes:
        tp: Tensor-parallel ranks: heads, feed-forward columns and vocabulary are divided.
        ep: Expert-parallel ranks.
        moe_tp: Tensor-parallel ranks inside an expert; ep x moe_tp = dp x tp.
        dp: Attention-data-parallel ranks.
        pp: Pipeline stages in all.
        layer_range: First layer and the one after the last.
        first: Whether the stage has the embedding.
        last: Whether the stage has the LM head.
        weights_dtype: Format of quantised linear layers.
        kv_dtype: Format of the cache.
    """

    tp: int = 1
    ep: int = 1
    moe_tp: int = 1
    dp: int = 1
    pp: int = 1
    layer_range: tuple[int, int] = (0, 0)
    first: bool = True
    last: bool = True
    weights_dtype: str = "bf16"
    kv_dtype: str = "bf16"


@dataclass(frozen=True)
class AttentionClass:
    """Attention layers of a shard that see the same keys.

    Attributes:
        label: For messages.
        window: Keys attended at most, or None.
        layers: How many layers.
        kind: `gqa` or `mla`.
        attention: Their shape, unsharded.
        kv_bytes_per_token: Cache bytes per token of all these layers on one rank [B].
    """

    label: str
    window: int | None
    layers: int
    kind: Literal["gqa", "mla"]
    attention: GQA | MLA
    kv_bytes_per_token: float

    def with_layers(self, layers: int) -> AttentionClass:
        """The same with another number of layers."""
        return replace(self, layers=layers, kv_bytes_per_token=self.kv_bytes_per_token * layers / self.layers)

    def without_window(self) -> AttentionClass:
        """The same with all keys attended."""
        return replace(self, window=None)


def stages(
    model: ModelSpec,
    *,
    pp: int = 1,
    tp: int = 1,
    ep: int = 1,
    moe_tp: int = 1,
    dp: int = 1,
    weights_dtype: str | None = None,
    kv_dtype: str = "bf16",
) -> tuple[Shard, ...]:
    """One rank's shard per pipeline stage, first to last.

    Layers are spread as vLLM does: an even share each, what is left over goes one each to the stages before the last,
    counted from the back, since the last stage also holds the LM head (`vllm/distributed/utils.py`, get_pp_indices).

    Raises:
        ValueError: if there are more stages than layers.
    """
    if not 1 <= pp <= model.n_layers:
        raise ValueError(f"{pp} stages for {model.n_layers} layers")
    share, left = divmod(model.n_layers, pp)
    counts = [share] * pp
    for i in range(2, left + 2):
        counts[-i] += 1
    base = Shard(tp, ep, moe_tp, dp, pp, weights_dtype=weights_dtype or model.weights_dtype, kv_dtype=kv_dtype)
    shards, start = [], 0
    for i, count in enumerate(counts):
        shards.append(replace(base, layer_range=(start, start + count), first=i == 0, last=i == pp - 1))
        start += count
    return tuple(shards)


def layers_of(model: ModelSpec, shard: Shard) -> Iterator[tuple[LayerGroup, int]]:
    """Layer groups of the shard with the number of their layers that it holds."""
    low, high = shard.layer_range
    start = 0
    for group in model.layers:
        inside = min(high, start + group.count) - max(low, start)
        if inside > 0:
            yield group, inside
        start += group.count


def kv_heads_per_rank(attention: GQA, tp: int) -> int:
    """KV heads on one rank: divided over tensor-parallel ranks, replicated when there are more ranks than heads."""
    return max(1, attention.kv_heads // tp)


def attention_classes(model: ModelSpec, shard: Shard) -> tuple[AttentionClass, ...]:
    """Attention layers of the shard grouped by window, in order of appearance."""
    found: dict[int | None, AttentionClass] = {}
    for group, count in layers_of(model, shard):
        a = group.attention
        if isinstance(a, MLA):
            elements = kv_elements_per_token(a)
        else:
            elements = 2 * kv_heads_per_rank(a, shard.tp) * a.head_dim
        per_layer = elements * bytes_per_element(shard.kv_dtype)
        label = f"window {a.window}" if a.window is not None else "full"
        known = found.get(a.window)
        layers = count + (known.layers if known is not None else 0)
        kv_bytes = per_layer * count + (known.kv_bytes_per_token if known is not None else 0.0)
        found[a.window] = AttentionClass(label, a.window, layers, a.kind, a, kv_bytes)
    return tuple(found.values())


def kv_bytes_per_token_rank(model: ModelSpec, shard: Shard) -> float:
    """Cache bytes per token on one rank of the stage [B]."""
    return sum(cls.kv_bytes_per_token for cls in attention_classes(model, shard))


def weight_bytes(model: ModelSpec, shard: Shard) -> float:
    """Weight bytes on one rank of the stage [B].

    Quantised are the linear layers that the model says (`quantized`); embeddings, norms, routers and the LM head stay
    at 2 bytes. Heads, feed-forward columns and the vocabulary are divided by tp, low-rank MLA projections are
    replicated, experts are divided over ep and moe_tp, shared experts over tp.
    """
    hidden, tp = model.hidden_size, shard.tp
    quantised = bytes_per_element(shard.weights_dtype)
    linear = quantised if model.quantized == "linears" else _PLAIN_BYTES
    norm = hidden * (2 if model.norm_bias else 1)
    total = 0.0
    for group, count in layers_of(model, shard):
        layer = _attention_bytes(group.attention, hidden, tp, linear) + 2 * norm * _PLAIN_BYTES
        layer += attention_small_parameters(group.attention, hidden) * _PLAIN_BYTES / tp
        layer += _ffn_bytes(group, hidden, shard, linear, quantised)
        total += count * layer
    vocabulary = model.vocab_size * hidden * _PLAIN_BYTES / tp
    if shard.first:
        total += vocabulary + model.learned_positions * hidden * _PLAIN_BYTES
    if shard.last:
        total += norm * _PLAIN_BYTES
        if not (model.tied_embeddings and shard.first):
            total += vocabulary
    return total


def _attention_bytes(attention: GQA | MLA, hidden: int, tp: int, linear: float) -> float:
    matrices = attention_matrices(attention, hidden)
    if isinstance(attention, MLA):
        replicated = {"q_a", "kv_a"}
        return linear * sum(a * b / (1 if name in replicated else tp) for name, (a, b) in matrices.items())
    columns = (attention.heads / tp + 2 * kv_heads_per_rank(attention, tp)) * attention.head_dim
    rows, out = matrices["o"]
    return linear * (hidden * columns + rows / tp * out)


def _ffn_bytes(group: LayerGroup, hidden: int, shard: Shard, linear: float, quantised: float) -> float:
    ffn = group.ffn
    if isinstance(ffn, Dense):
        return dense_parameters(hidden, ffn.intermediate, gated=ffn.gated, bias=ffn.bias) / shard.tp * linear
    experts = ffn.experts / (shard.ep * shard.moe_tp) * expert_parameters(ffn, hidden) * quantised
    shared = dense_parameters(hidden, ffn.shared_intermediate, gated=ffn.gated) / shard.tp * linear
    return experts + shared + ffn.experts * hidden * _PLAIN_BYTES
