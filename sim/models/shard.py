"""One rank of one pipeline stage: which layers and which slice of them, its weights and its cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from sim.models.dtypes import activation_bytes, bytes_per_element
from sim.models.parameters import (
    attention_matrices,
    dense_parameters,
    expert_parameters,
    kv_elements_per_token,
    router_parameters,
)
from sim.models.spec import GQA, MLA, Dense, LayerGroup, ModelSpec, MoE

_WHOLE = ("q_a", "kv_a")  # MLA's down-projections are not divided over tensor-parallel ranks


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
    layers: dict[GQA | MLA, int] = {}
    for group, count in layers_of(model, shard):
        layers[group.attention] = layers.get(group.attention, 0) + count
    return tuple(_attention_class(attention, count, shard) for attention, count in layers.items())


def _attention_class(attention: GQA | MLA, layers: int, shard: Shard) -> AttentionClass:
    window = attention.window
    per_layer = _cached_elements(attention, shard.tp) * bytes_per_element(shard.kv_dtype)
    label = "full" if window is None else f"window {window}"
    return AttentionClass(label, window, layers, attention.kind, attention, layers * per_layer)


def _cached_elements(attention: GQA | MLA, tp: int) -> int:
    """Cached elements per token and layer on one rank; the latent of MLA is whole on each."""
    if isinstance(attention, MLA):
        return kv_elements_per_token(attention)
    return 2 * kv_heads_per_rank(attention, tp) * attention.head_dim


def kv_bytes_per_token_rank(model: ModelSpec, shard: Shard) -> float:
    """Cache bytes per token on one rank of the stage [B]."""
    return sum(cls.kv_bytes_per_token for cls in attention_classes(model, shard))


def weight_bytes(model: ModelSpec, shard: Shard) -> float:
    """Weight bytes on one rank of the stage [B].

    Quantised are the linear layers that the model says (`quantized`), with the scales of block formats; embeddings,
    norms, biases, routers and the LM head stay in the model's own format. Divided over tp are heads, feed-forward
    columns, shared experts and the vocabulary; over ep and moe_tp the experts. Every tp rank has the whole of norms,
    routers, low-rank MLA projections, and of the biases that are added after a reduction.
    """
    hidden = model.hidden_size
    projections = bytes_per_element(model.linear_dtype("attention", shard.weights_dtype))
    width = activation_bytes(model.dtype)
    norm = hidden * (2 if model.norm_bias else 1)
    total = 0.0
    for group, count in layers_of(model, shard):
        plain = _attention_plain(group.attention, hidden, shard.tp) + model.norms_per_layer * norm
        layer = projections * _attention_linear(group.attention, hidden, shard.tp) + width * plain
        total += count * (layer + _ffn_bytes(model, group.ffn, shard))
    vocabulary = model.vocab_size * hidden * width / shard.tp
    if shard.first:
        total += vocabulary + model.learned_positions * hidden * width
    if shard.last:
        total += norm * width
        if not (model.tied_embeddings and shard.first):
            total += vocabulary
    return total


def _attention_linear(attention: GQA | MLA, hidden: int, tp: int) -> float:
    """Weights of the attention projections on one rank."""
    matrices = attention_matrices(attention, hidden)
    if isinstance(attention, MLA):
        return sum(a * b / (1 if name in _WHOLE else tp) for name, (a, b) in matrices.items())
    rows, out = matrices["o"]
    return hidden * _qkv_columns(attention, tp) + rows / tp * out


def _qkv_columns(attention: GQA, tp: int) -> float:
    return (attention.heads / tp + 2 * kv_heads_per_rank(attention, tp)) * attention.head_dim


def _attention_plain(attention: GQA | MLA, hidden: int, tp: int) -> float:
    """Biases, norms of heads or latents, and sinks on one rank."""
    if isinstance(attention, MLA):
        return (attention.q_rank or 0) + attention.kv_rank
    count = _qkv_columns(attention, tp) if attention.qkv_bias else 0.0
    count += hidden if attention.out_bias else 0
    count += 2 * attention.head_dim if attention.qk_norm else 0
    return count + (attention.heads / tp if attention.sinks else 0.0)


def _ffn_bytes(model: ModelSpec, ffn: Dense | MoE, shard: Shard) -> float:
    hidden = model.hidden_size
    linear = bytes_per_element(model.linear_dtype("ffn", shard.weights_dtype))
    routed, width = bytes_per_element(shard.weights_dtype), activation_bytes(model.dtype)
    if isinstance(ffn, Dense):
        inputs = 2 if ffn.gated else 1
        bias = inputs * ffn.intermediate / shard.tp + hidden if ffn.bias else 0.0
        weights = dense_parameters(hidden, ffn.intermediate, gated=ffn.gated) / shard.tp
        return weights * linear + bias * width
    matrices, biases = expert_parameters(ffn, hidden)
    local = ffn.experts / shard.ep
    down_bias = hidden if ffn.bias else 0
    plain = local * ((biases - down_bias) / shard.moe_tp + down_bias) + router_parameters(ffn, hidden)
    shared = dense_parameters(hidden, ffn.shared_intermediate, gated=ffn.gated) / shard.tp
    return local * matrices / shard.moe_tp * routed + shared * linear + plain * width
