"""DeepSeek V4: windows beside merged tokens, residual streams that are mixed around each block, experts in 4 bit."""

from __future__ import annotations

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, join, routed_experts
from sim.models.mixers import CompressedAttention, Indexer

_INDEXED_RATIO = 4
"""Ratio of layers that pick entries with an indexer and draw each from two neighbouring groups of tokens; those with
another ratio attend to all entries (reference implementation published with DeepSeek-V4)."""


@ARCHITECTURES.register("deepseek_v4")
@ARCHITECTURES.register("deepseek_ref")
def deepseek_v4(config: ConfigReader) -> Parts:
    """All layers have experts; the first `num_hash_layers` choose them by the token's id, with the same work."""
    config.refuse("attention_bias")
    for key in ("kv_heads", "num_hash_layers", "hc_eps", "hc_sinkhorn_iters", "compress_rope_theta"):
        config.get(key)
    count = config.integer("layers")
    ratios = config.sequence("compress_ratios") or []
    if len(ratios) < count or not all(isinstance(ratio, int) for ratio in ratios):
        raise config.error("compress_ratios", f"expected a ratio for each of {count} layers")
    moe = routed_experts(config, router_bias=config.get("topk_method") == "noaux_tc")
    return Parts(
        layers=join((_attention(config, ratio) for ratio in ratios[:count]), [moe] * count),
        residual_streams=config.integer("hc_mult", 1),
        experts_dtype="mxfp4" if config.get("expert_dtype") == "fp4" else None,
    )


def _attention(config: ConfigReader, ratio: int) -> CompressedAttention:
    indexed = ratio == _INDEXED_RATIO
    indexer = Indexer(heads=config.integer("index_n_heads"), head_dim=config.integer("index_head_dim"))
    return CompressedAttention(
        heads=config.integer("heads"),
        q_rank=config.integer("q_lora_rank"),
        head_dim=config.integer("head_dim"),
        rope_dim=config.integer("qk_rope_head_dim"),
        window=config.integer("window"),
        ratio=ratio or None,
        overlap=indexed,
        top_k=config.integer("index_topk") if indexed else None,
        indexer=indexer if indexed else None,
        out_groups=config.integer("o_groups"),
        out_rank=config.integer("o_lora_rank"),
    )
