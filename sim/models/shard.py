"""One rank of one pipeline stage: which layers and which slice of them, its weights and its cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sim.models.cache import LayerCache, layer_cache
from sim.models.dtypes import activation_bytes, bytes_per_element
from sim.models.matrices import matrices, small_parameters
from sim.models.mixers import Mixer
from sim.models.parameters import (
    dense_parameters,
    expert_parameters,
    latent_parameters,
    mixing_parameters,
    router_parameters,
)
from sim.models.spec import Dense, FeedForward, LayerGroup, ModelSpec


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
        all_to_all: Whether a token goes only to the data-parallel ranks that hold experts of its own; otherwise every
            rank gets all tokens.
        dispatch_dtype: Format in which tokens go to the experts of other ranks; None, the model's own.
        balanced: Whether experts are placed and copied so that tokens pick ranks alike.
        inputs_apart: Whether gates and decays of a recurrent layer are products of their own, if its checkpoints have
            them so.
        experts_padded_to: Multiple to which the inputs of experts are widened.
        popularity: How evenly tokens pick experts where traffic says so; None, as the model has it, and so where that
            is even whatever the traffic. How evenly they pick ranks stays the model's, which is measured.
        packed_apart: Weight formats for which a gated dense block's activation is quantised in a kernel of its own.
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
    all_to_all: bool = False
    dispatch_dtype: str | None = None
    balanced: bool = False
    inputs_apart: bool = False
    experts_padded_to: int = 1
    popularity: float | None = None
    packed_apart: tuple[str, ...] = ()


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
    all_to_all: bool = False,
    dispatch_dtype: str | None = None,
    balanced: bool = False,
    inputs_apart: bool = False,
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
    base = Shard(
        tp,
        ep,
        moe_tp,
        dp,
        pp,
        weights_dtype=weights_dtype or model.weights_dtype,
        kv_dtype=kv_dtype,
        all_to_all=all_to_all,
        dispatch_dtype=dispatch_dtype,
        balanced=balanced,
        inputs_apart=inputs_apart,
    )
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


def kv_bytes_per_token_rank(model: ModelSpec, shard: Shard) -> float:
    """Cache bytes per token on one rank of the stage [B]; window layers count as long as they keep a token."""
    return sum(count * cache.new_bytes_per_token for cache, count in layer_caches(model, shard).items())


def state_bytes_rank(model: ModelSpec, shard: Shard) -> float:
    """Bytes that the stage keeps of a sequence on one rank, however long it is [B]."""
    return sum(count * cache.state_bytes for cache, count in layer_caches(model, shard).items())


def layer_caches(model: ModelSpec, shard: Shard) -> dict[LayerCache, int]:
    """What the shard's layers keep of a sequence on one rank, and how many layers keep the same."""
    caches: dict[LayerCache, int] = {}
    for group, count in layers_of(model, shard):
        if group.attention is not None:
            cache = layer_cache(group.attention, tp=shard.tp, kv_dtype=shard.kv_dtype)
            caches[cache] = caches.get(cache, 0) + count
    return caches


def weight_bytes(model: ModelSpec, shard: Shard) -> float:
    """Weight bytes on one rank of the stage [B].

    Quantised are the linear layers that the model says (`quantized`), with the scales of block formats; embeddings,
    norms, biases, routers and the LM head stay in the model's own format. Divided over tp are heads, feed-forward
    columns, shared experts and the vocabulary; over ep and moe_tp the experts. Every tp rank has the whole of norms,
    routers, low-rank MLA projections, indexers, projections of latent experts, and of the biases that are added after
    a reduction.
    """
    hidden, width = model.hidden_size, activation_bytes(model.dtype)
    norm = hidden * (2 if model.norm_bias else 1)
    total = 0.0
    for group, count in layers_of(model, shard):
        plain = model.norms_of(group) * norm + mixing_parameters(model, group)
        mixer = 0.0 if group.attention is None else _mixer_bytes(model, group.attention, shard)
        total += count * (mixer + width * plain + _ffn_bytes(model, group.ffn, shard))
    vocabulary = model.vocab_size * hidden * width / shard.tp
    if shard.first:
        total += vocabulary + model.learned_positions * hidden * width
    if shard.last:
        total += norm * width
        if not (model.tied_embeddings and shard.first):
            total += vocabulary
    return total


def _mixer_bytes(model: ModelSpec, mixer: Mixer, shard: Shard) -> float:
    """Weight bytes of one layer's attention or recurrence on one rank."""
    width = activation_bytes(model.dtype)
    total = width * small_parameters(mixer, model.hidden_size, shard.tp)
    for matrix in matrices(mixer, model.hidden_size):
        k, n = matrix.on_rank(shard.tp)
        linear = bytes_per_element(model.linear_dtype(matrix.part, shard.weights_dtype))
        total += k * n * (linear if matrix.quantised else width)
    return total


def _ffn_bytes(model: ModelSpec, ffn: FeedForward | None, shard: Shard) -> float:
    if ffn is None:
        return 0.0
    hidden = model.hidden_size
    linear = bytes_per_element(model.linear_dtype("ffn", shard.weights_dtype))
    routed, width = bytes_per_element(shard.weights_dtype), activation_bytes(model.dtype)
    if isinstance(ffn, Dense):
        inputs = 2 if ffn.gated else 1
        bias = inputs * ffn.intermediate / shard.tp + hidden if ffn.bias else 0.0
        weights = dense_parameters(hidden, ffn.intermediate, gated=ffn.gated) / shard.tp
        return weights * linear + bias * width
    weights, biases = expert_parameters(ffn, hidden)
    local = ffn.experts / shard.ep
    down_bias = (ffn.latent or hidden) if ffn.bias else 0
    plain = local * ((biases - down_bias) / shard.moe_tp + down_bias) + router_parameters(ffn, hidden)
    shared = dense_parameters(hidden, ffn.shared_intermediate, gated=ffn.gated) / shard.tp
    shared += latent_parameters(ffn, hidden)
    return local * weights / shard.moe_tp * routed + shared * linear + plain * width
