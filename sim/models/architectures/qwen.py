"""Qwen 2 and 3, dense and with experts, and the text part of their vision models."""

from __future__ import annotations

from sim.models.architectures.base import (
    ARCHITECTURES,
    ConfigReader,
    Parts,
    grouped_query,
    join,
    mixed,
    routed_experts,
    typed_windows,
    with_windows,
)
from sim.models.mixers import GQA, Mixer
from sim.models.spec import Dense


def _attentions(config: ConfigReader, attention: GQA) -> list[Mixer]:
    """Attention of each layer; a window, where it is switched on, is for the layers from `max_window_layers` on."""
    window = config.integer("window", 0, least=0) or None
    first = config.integer("max_window_layers", 0, least=0)
    if not config.flag("use_sliding_window"):
        window = None
    return with_windows(attention, typed_windows(config, lambda i: i >= first, window=window))


def _dense(config: ConfigReader, attention: GQA) -> Parts:
    attentions = _attentions(config, attention)
    return Parts(layers=join(attentions, [Dense(intermediate=config.integer("intermediate"))] * len(attentions)))


@ARCHITECTURES.register("qwen2")
@ARCHITECTURES.register("qwen2_vl")
@ARCHITECTURES.register("qwen2_5_vl")
def qwen2(config: ConfigReader) -> Parts:
    """Biases on queries, keys and values."""
    return _dense(config, grouped_query(config, qkv_bias=True))


@ARCHITECTURES.register("qwen3")
@ARCHITECTURES.register("qwen3_vl")
def qwen3(config: ConfigReader) -> Parts:
    """Norms of queries and keys."""
    bias = config.flag("attention_bias")
    return _dense(config, grouped_query(config, qk_norm=True, qkv_bias=bias, out_bias=bias))


@ARCHITECTURES.register("qwen2_moe")
def qwen2_moe(config: ConfigReader) -> Parts:
    """Experts beside a gated shared expert."""
    attentions = _attentions(config, grouped_query(config, qkv_bias=config.flag("qkv_bias", True)))
    return Parts(layers=mixed(config, attentions, routed_experts(config, shared_gate=True)))


@ARCHITECTURES.register("qwen3_moe")
@ARCHITECTURES.register("qwen3_vl_moe")
def qwen3_moe(config: ConfigReader) -> Parts:
    """Experts without a shared one."""
    bias = config.flag("attention_bias")
    attentions = _attentions(config, grouped_query(config, qk_norm=True, qkv_bias=bias, out_bias=bias))
    return Parts(layers=mixed(config, attentions, routed_experts(config)))
