"""DeepSeek V2 to V3.2, Kimi K2 and GLM-5: latent attention, many narrow experts with shared ones.

The later ones add an indexer that picks the tokens attended to; in GLM-5.2 some layers take the choice of one before.
"""

from __future__ import annotations

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, latent, mixed, routed_experts
from sim.models.mixers import MLA, Indexer


@ARCHITECTURES.register("deepseek_v2")
@ARCHITECTURES.register("deepseek_v3")
@ARCHITECTURES.register("kimi_k2")
def deepseek(config: ConfigReader) -> Parts:
    """The first layers are dense; multi-token-prediction modules are left out."""
    return _layers(config, [latent(config)] * config.integer("layers"))


@ARCHITECTURES.register("deepseek_v32")
@ARCHITECTURES.register("glm_moe_dsa")
def sparse(config: ConfigReader) -> Parts:
    """As DeepSeek V3, with an indexer in all layers, or in those that `indexer_types` calls `full`."""
    count = config.integer("layers")
    plain = latent(config, top_k=config.integer("index_topk"))
    indexer = Indexer(heads=config.integer("index_n_heads"), head_dim=config.integer("index_head_dim"))
    types = config.sequence("indexer_types", length=count) or ["full"] * count
    if not set(types) <= {"full", "shared"}:
        raise config.error("indexer_types", "known types are full and shared")
    config.get("mlp_layer_types")  # says again what first_k_dense_replace says
    full = plain.model_copy(update={"indexer": indexer})
    return _layers(config, [full if kind == "full" else plain for kind in types])


def _layers(config: ConfigReader, attentions: list[MLA]) -> Parts:
    config.refuse("attention_bias")
    moe = routed_experts(config, router_bias=config.get("topk_method") == "noaux_tc")
    return Parts(layers=mixed(config, attentions, moe))
