"""MiniMax M2, and M3 with an indexer that picks blocks of keys."""

from __future__ import annotations

from sim.models.architectures.base import (
    ARCHITECTURES,
    ConfigReader,
    Parts,
    grouped_query,
    join,
    mixed,
    routed_experts,
    uniform,
)
from sim.models.mixers import GQA, Indexer
from sim.models.spec import Dense


@ARCHITECTURES.register("minimax_m2")
def minimax_m2(config: ConfigReader) -> Parts:
    """Experts in every layer; multi-token-prediction modules are left out."""
    attention = grouped_query(config, qk_norm=_norm(config))
    for key in ("use_mtp", "mtp_transformer_layers", "num_mtp_modules", "rotary_dim"):
        config.get(key)
    return Parts(layers=uniform(config, attention, routed_experts(config, router_bias=config.flag("use_routing_bias"))))


@ARCHITECTURES.register("minimax_m3")
@ARCHITECTURES.register("minimax_m3_vl")
def minimax_m3(config: ConfigReader) -> Parts:
    """The first layers are dense and attend to all keys; the others to the blocks with the best scores."""
    config.refuse("attention_output_gate")
    for key in ("num_mtp_modules", "rotary_dim", "swiglu_alpha", "use_gemma_norm", "moe_every"):
        config.get(key)
    full = grouped_query(config, qk_norm=_norm(config))
    sparse = _sparse(config, full)
    chosen = ConfigReader(config.get("sparse_attention_config") or {}, config.file)
    count = config.integer("layers")
    frequency = chosen.sequence("sparse_attention_freq", length=count) or [1] * count
    attentions = [sparse if one else full for one in frequency]
    moe = routed_experts(config, router_bias=config.flag("use_routing_bias"))
    dense = config.integer("dense_intermediate_size", config.integer("intermediate"))
    layers = mixed(config, attentions, moe)
    blocks = [group.ffn for group in layers for _ in range(group.count)]
    return Parts(layers=join(attentions, [Dense(intermediate=dense) if block != moe else moe for block in blocks]))


def _sparse(config: ConfigReader, full: GQA) -> GQA:
    chosen = ConfigReader(config.get("sparse_attention_config") or {}, config.file)
    if not chosen.flag("use_sparse_attention"):
        return full
    indexer = Indexer(
        heads=chosen.integer("sparse_num_index_heads"), head_dim=chosen.integer("sparse_index_dim"), weighted=False
    )
    keys = chosen.integer("sparse_topk_blocks") * chosen.integer("sparse_block_size")
    return full.model_copy(update={"indexer": indexer, "top_k": keys})


def _norm(config: ConfigReader) -> bool | str:
    """Norm of queries and keys: none, per head, or over all heads of a layer together."""
    kind = config.get("qk_norm_type")
    return config.flag("use_qk_norm") and ("width" if kind == "per_layer" else True)
