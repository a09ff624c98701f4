"""GLM-4.5: grouped-query attention with many narrow experts and a shared one."""

from __future__ import annotations

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, grouped_query, mixed, routed_experts


@ARCHITECTURES.register("glm4_moe")
def glm4_moe(config: ConfigReader) -> Parts:
    """The first layers are dense; routers have a selection bias."""
    attention = grouped_query(config, qkv_bias=config.flag("attention_bias"), qk_norm=config.flag("use_qk_norm"))
    return Parts(layers=mixed(config, [attention] * config.integer("layers"), routed_experts(config, router_bias=True)))
