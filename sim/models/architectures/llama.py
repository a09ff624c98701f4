"""Llama and the models that share its shape: Mistral, Granite, Phi-3; and Llama 4."""

from __future__ import annotations

from sim.models.architectures.base import (
    ARCHITECTURES,
    ConfigReader,
    Parts,
    grouped_query,
    join,
    routed_experts,
    typed_windows,
    with_windows,
)
from sim.models.spec import Dense


@ARCHITECTURES.register("llama")
@ARCHITECTURES.register("granite")
def llama(config: ConfigReader) -> Parts:
    """Gated feed-forward; one bias switch for all attention projections, one for the feed-forward block."""
    bias = config.flag("attention_bias")
    attention = grouped_query(config, qkv_bias=bias, out_bias=bias)
    dense = Dense(intermediate=config.integer("intermediate"), bias=config.flag("mlp_bias"))
    count = config.integer("layers")
    return Parts(layers=join([attention] * count, [dense] * count))


@ARCHITECTURES.register("mistral")
@ARCHITECTURES.register("ministral")
@ARCHITECTURES.register("phi3")
def mistral(config: ConfigReader) -> Parts:
    """No biases; a sliding window on all layers, or on those that `layer_types` names."""
    window = config.integer("window", 0, least=0) or None
    attentions = with_windows(grouped_query(config), typed_windows(config, lambda _: True, window=window))
    dense = Dense(intermediate=config.integer("intermediate"))
    return Parts(layers=join(attentions, [dense] * len(attentions)))


@ARCHITECTURES.register("llama4")
def llama4(config: ConfigReader) -> Parts:
    """Experts in every n-th layer; layers with rotary positions attend within a chunk, taken as a window.

    Where queries and keys are normed, they are in these layers alone, without weights.
    """
    count = config.integer("layers")
    chunk = config.integer("attention_chunk_size", 0, least=0) or None
    rotary = config.sequence("no_rope_layers", length=count) or [(i + 1) % 4 != 0 for i in range(count)]
    attentions = with_windows(grouped_query(config), typed_windows(config, lambda i: bool(rotary[i]), window=chunk))
    normed = config.flag("use_qk_norm")
    attentions = [
        attention.model_copy(update={"qk_norm": normed and bool(near)})
        for attention, near in zip(attentions, rotary, strict=True)
    ]
    width = config.integer("intermediate")
    moe = routed_experts(config).model_copy(update={"shared_intermediate": width})
    every = config.integer("interleave_moe_layer_step", 1)
    chosen = set(config.sequence("moe_layers") or range(every - 1, count, every))
    dense = Dense(intermediate=config.integer("intermediate_size_mlp", width))
    return Parts(layers=join(attentions, [moe if i in chosen else dense for i in range(count)]))
