"""Gemma 1 to 3: wide heads, tied embeddings; from the second on norms after each block and sliding windows."""

from __future__ import annotations

from sim.models.architectures.base import (
    ARCHITECTURES,
    ConfigReader,
    Parts,
    grouped_query,
    join,
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


def _windowed(config: ConfigReader, attention: GQA, *, every: int) -> Parts:
    config.refuse("attention_bias")
    windows = typed_windows(config, lambda i: (i + 1) % every != 0, window=config.integer("window"))
    dense = Dense(intermediate=config.integer("intermediate"))
    layers = join(with_windows(attention, windows), [dense] * len(windows))
    return Parts(layers=layers, norms_per_layer=4, tied_embeddings=True)
