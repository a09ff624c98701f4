"""Xiaomi MiMo: a dense model like Qwen 2, and MiMo-V2 with short windows, sinks and narrow values."""

from __future__ import annotations

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, grouped_query, mixed, routed_experts
from sim.models.architectures.qwen import qwen2


@ARCHITECTURES.register("mimo")
def mimo(config: ConfigReader) -> Parts:
    """Qwen 2 with a multi-token-prediction layer, which is left out."""
    config.get("attention_bias")
    config.get("use_mrope")
    return qwen2(config)


@ARCHITECTURES.register("mimo_v2_flash")
def mimo_v2_flash(config: ConfigReader) -> Parts:
    """Five layers with a window, and more KV heads, to one with full attention; the first layer is dense."""
    config.refuse("attention_bias")
    count = config.integer("layers")
    for key in ("attention_value_scale", "layernorm_epsilon", "swa_rope_theta", "attention_chunk_size"):
        config.get(key)
    full = grouped_query(config, v_dim=config.integer("v_head_dim"), sinks=config.flag("add_full_attention_sink_bias"))
    config.get("sliding_window_size")
    window = grouped_query(
        config,
        heads=config.integer("swa_num_attention_heads"),
        kv_heads=config.integer("swa_num_key_value_heads"),
        head_dim=config.integer("swa_head_dim"),
        v_dim=config.integer("swa_v_head_dim"),
        window=config.integer("window"),
        sinks=config.flag("add_swa_attention_sink_bias"),
    )
    pattern = config.sequence("hybrid_layer_pattern", length=count) or [0] * count
    attentions = [window if one else full for one in pattern]
    return Parts(layers=mixed(config, attentions, routed_experts(config, router_bias=True)))
