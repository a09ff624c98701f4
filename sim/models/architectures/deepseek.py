"""DeepSeek V2 and V3 and Kimi K2: latent attention, many narrow experts with shared ones."""

from __future__ import annotations

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, mixed, routed_experts
from sim.models.mixers import MLA


@ARCHITECTURES.register("deepseek_v2")
@ARCHITECTURES.register("deepseek_v3")
@ARCHITECTURES.register("kimi_k2")
def deepseek(config: ConfigReader) -> Parts:
    """The first layers are dense; multi-token-prediction modules are left out."""
    config.refuse("attention_bias")
    config.get("kv_heads")  # given, but latent attention has none
    attention = MLA(
        heads=config.integer("heads"),
        q_rank=config.integer("q_lora_rank", 0, least=0) or None,
        kv_rank=config.integer("kv_lora_rank"),
        nope_dim=config.integer("qk_nope_head_dim"),
        rope_dim=config.integer("qk_rope_head_dim"),
        v_dim=config.integer("v_head_dim"),
    )
    moe = routed_experts(config, router_bias=config.get("topk_method") == "noaux_tc")
    return Parts(layers=mixed(config, [attention] * config.integer("layers"), moe))
