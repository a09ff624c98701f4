"""Kimi Linear and Kimi K3: gated delta attention with a decay per key dimension, beside gated latent attention."""

from __future__ import annotations

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, latent, mixed, routed_experts
from sim.models.mixers import GatedDelta


@ARCHITECTURES.register("kimi_linear")
def kimi_linear(config: ConfigReader) -> Parts:
    """`linear_attn_config` numbers the layers from one; residuals across blocks of layers are left out."""
    chosen = ConfigReader(config.get("linear_attn_config") or {}, config.file)
    if not chosen.flag("use_full_rank_gate"):
        raise chosen.error("use_full_rank_gate", "a gate of low rank is not modelled")
    heads, width = chosen.integer("num_heads"), chosen.integer("head_dim")
    linear = GatedDelta(
        key_heads=heads,
        value_heads=heads,
        key_dim=width,
        value_dim=width,
        conv_kernel=chosen.integer("short_conv_kernel_size", 4),
        decay_rank=width,
    )
    config.get("mla_use_nope")
    full = latent(config, output_gate=config.flag("mla_use_output_gate"))
    numbers = set(chosen.sequence("kda_layers") or ())
    count = config.integer("layers")
    mixers = [linear if i + 1 in numbers else full for i in range(count)]
    moe = routed_experts(config, router_bias=config.get("topk_method") == "noaux_tc")
    return Parts(layers=mixed(config, mixers, moe))
