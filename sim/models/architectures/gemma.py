"""Gemma 1 to 4: wide heads, tied embeddings; from the second on norms after each block and sliding windows."""

from __future__ import annotations

from sim.models.architectures.base import (
    ARCHITECTURES,
    ConfigReader,
    Parts,
    grouped_query,
    join,
    routed_experts,
    typed_windows,
    uniform,
    with_windows,
)
from sim.models.mixers import GQA
from sim.models.spec import Dense


@ARCHITECTURES.register("gemma")
def gemma(config: ConfigReader) -> Parts:
    """Full attention in all layers."""
    config.refuse("attention_bias")
    dense = Dense(intermediate=config.integer("intermediate"))
    return Parts(layers=uniform(config, grouped_query(config), dense), tied_embeddings=True)


@ARCHITECTURES.register("gemma2")
def gemma2(config: ConfigReader) -> Parts:
    """Every second layer, from the first on, has a window."""
    return _windowed(config, grouped_query(config), every=2)


@ARCHITECTURES.register("gemma3")
def gemma3(config: ConfigReader) -> Parts:
    """All layers but every sixth have a window; queries and keys are normed."""
    every = config.integer("sliding_window_pattern", 6)
    return _windowed(config, grouped_query(config, qk_norm=True), every=every)


@ARCHITECTURES.register("gemma4")
def gemma4(config: ConfigReader) -> Parts:
    """Full layers have wider heads, fewer of keys, and keys that serve as values; experts work beside a dense block.

    Layers with both have norms of their own around either: seven instead of four.
    """
    config.refuse("attention_bias")
    for key in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
        if config.integer(key, 0, least=0):
            raise config.error(key, "not modelled for this architecture")
    config.refuse("use_double_wide_mlp")
    for key in ("use_bidirectional_attention", "vocab_size_per_layer_input"):
        config.get(key)
    near = grouped_query(config, qk_norm=True, window=config.integer("window"))
    far = grouped_query(
        config,
        qk_norm=True,
        kv_heads=config.integer("num_global_key_value_heads", near.kv_heads),
        head_dim=config.integer("global_head_dim", near.head_dim),
        keys_as_values=config.flag("attention_k_eq_v"),
    )
    windows = typed_windows(config, lambda i: (i + 1) % 6 != 0, window=near.window)
    attentions = [far if window is None else near for window in windows]
    width = config.integer("intermediate")
    if not config.flag("enable_moe_block"):
        for key in ("experts", "top_k", "expert_intermediate_size"):
            config.get(key)
        layers = join(attentions, [Dense(intermediate=width)] * len(attentions))
        return Parts(layers=layers, norms_per_layer=4, tied_embeddings=True)
    moe = routed_experts(config, shared_intermediate=width)
    return Parts(layers=join(attentions, [moe] * len(attentions)), norms_per_layer=7, tied_embeddings=True)


def _windowed(config: ConfigReader, attention: GQA, *, every: int) -> Parts:
    config.refuse("attention_bias")
    windows = typed_windows(config, lambda i: (i + 1) % every != 0, window=config.integer("window"))
    dense = Dense(intermediate=config.integer("intermediate"))
    layers = join(with_windows(attention, windows), [dense] * len(windows))
    return Parts(layers=layers, norms_per_layer=4, tied_embeddings=True)
