"""Parameter counts, cache bytes and FLOPs per token: closed forms of a model's shape."""

from __future__ import annotations

from dataclasses import dataclass

from sim.models.dtypes import bytes_per_element
from sim.models.spec import GQA, MLA, Dense, ModelSpec, MoE


@dataclass(frozen=True)
class ParamCounts:
    """Numbers of parameters.

    Attributes:
        total: All.
        active: Those that a token passes through: without unchosen experts; embeddings and LM head counted once each.
        embedding: Token and position embeddings.
        lm_head: Output projection; 0 if tied to the embedding.
        attention: Attention projections, biases and per-head norms.
        ffn: Dense blocks, shared experts and routers.
        experts: Routed experts.
        norms: Norms of layers and the last one.
    """

    total: int
    active: int
    embedding: int
    lm_head: int
    attention: int
    ffn: int
    experts: int
    norms: int


def attention_matrices(attention: GQA | MLA, hidden: int) -> dict[str, tuple[int, int]]:
    """Weight matrices `(in, out)` of one attention block by name, unsharded."""
    if isinstance(attention, MLA):
        query_width = attention.heads * (attention.nope_dim + attention.rope_dim)
        query = (
            {"q": (hidden, query_width)}
            if attention.q_rank is None
            else {"q_a": (hidden, attention.q_rank), "q_b": (attention.q_rank, query_width)}
        )
        return {
            **query,
            "kv_a": (hidden, attention.kv_rank + attention.rope_dim),
            "kv_b": (attention.kv_rank, attention.heads * (attention.nope_dim + attention.v_dim)),
            "o": (attention.heads * attention.v_dim, hidden),
        }
    return {
        "qkv": (hidden, (attention.heads + 2 * attention.kv_heads) * attention.head_dim),
        "o": (attention.heads * attention.head_dim, hidden),
    }


def attention_small_parameters(attention: GQA | MLA, hidden: int) -> int:
    """Biases, per-head norms and sinks of one attention block."""
    if isinstance(attention, MLA):
        return (attention.q_rank or 0) + attention.kv_rank
    count = 0
    if attention.qkv_bias:
        count += (attention.heads + 2 * attention.kv_heads) * attention.head_dim
    if attention.out_bias:
        count += hidden
    if attention.qk_norm:
        count += 2 * attention.head_dim
    return count + (attention.heads if attention.sinks else 0)


def expert_parameters(ffn: MoE, hidden: int) -> tuple[int, int]:
    """Weights in the matrices of one routed expert, and its biases."""
    inputs = 2 if ffn.gated else 1
    return (inputs + 1) * hidden * ffn.intermediate, (inputs * ffn.intermediate + hidden if ffn.bias else 0)


def dense_parameters(hidden: int, intermediate: int, *, gated: bool, bias: bool = False) -> int:
    """Parameters of a dense feed-forward block."""
    inputs = 2 if gated else 1
    return (inputs + 1) * hidden * intermediate + (inputs * intermediate + hidden if bias else 0)


def router_parameters(ffn: MoE, hidden: int) -> int:
    """Parameters of the router, with its biases and the gate of the shared expert."""
    biases = ffn.experts if ffn.bias or ffn.router_bias else 0
    return ffn.experts * hidden + biases + (hidden if ffn.shared_gate else 0)


def _ffn_parameters(ffn: Dense | MoE, hidden: int) -> tuple[int, int, int]:
    """Parameters outside routed experts, of all routed experts, and of the active routed ones."""
    if isinstance(ffn, Dense):
        return dense_parameters(hidden, ffn.intermediate, gated=ffn.gated, bias=ffn.bias), 0, 0
    shared = dense_parameters(hidden, ffn.shared_intermediate, gated=ffn.gated)
    one = sum(expert_parameters(ffn, hidden))
    return router_parameters(ffn, hidden) + shared, ffn.experts * one, ffn.top_k * one


def parameter_counts(model: ModelSpec) -> ParamCounts:
    """Parameters of the whole model, by part."""
    hidden = model.hidden_size
    norm = hidden * (2 if model.norm_bias else 1)
    embedding = (model.vocab_size + model.learned_positions) * hidden
    lm_head = 0 if model.tied_embeddings else model.vocab_size * hidden
    attention = ffn = experts = active_experts = 0
    for group in model.layers:
        matrices = attention_matrices(group.attention, hidden)
        attention += group.count * (
            sum(rows * columns for rows, columns in matrices.values())
            + attention_small_parameters(group.attention, hidden)
        )
        outside, routed, active = _ffn_parameters(group.ffn, hidden)
        ffn += group.count * outside
        experts += group.count * routed
        active_experts += group.count * active
    norms = (model.norms_per_layer * model.n_layers + 1) * norm
    fixed = embedding + lm_head + attention + ffn + norms
    return ParamCounts(fixed + experts, fixed + active_experts, embedding, lm_head, attention, ffn, experts, norms)


def kv_elements_per_token(attention: GQA | MLA) -> int:
    """Cached elements per token and layer, unsharded."""
    if isinstance(attention, MLA):
        return attention.kv_rank + attention.rope_dim
    return 2 * attention.kv_heads * attention.head_dim


def kv_bytes_per_token(model: ModelSpec, kv_dtype: str = "bf16") -> float:
    """Cache bytes per token of the whole model, unsharded; window layers count as long as they keep a token."""
    return sum(g.count * kv_elements_per_token(g.attention) for g in model.layers) * bytes_per_element(kv_dtype)


def model_flops_per_token(model: ModelSpec) -> tuple[float, float]:
    """Matrix FLOPs per token through all layers, and per row of logits; without attention scores.

    Two FLOPs per weight that the token passes through (PaLM, arXiv 2204.02311, appendix B).
    """
    hidden = model.hidden_size
    weights = 0.0
    for group in model.layers:
        weights += group.count * sum(a * b for a, b in attention_matrices(group.attention, hidden).values())
        ffn = group.ffn
        if isinstance(ffn, Dense):
            weights += group.count * (3 if ffn.gated else 2) * hidden * ffn.intermediate
        else:
            width = ffn.top_k * ffn.intermediate + ffn.shared_intermediate
            weights += group.count * (hidden * ffn.experts + (3 if ffn.gated else 2) * hidden * width)
    return 2.0 * weights, 2.0 * hidden * model.vocab_size


def attention_flops_per_key(model: ModelSpec) -> float:
    """Matrix FLOPs per attended key through all layers: scores and weighted values, `2 h (d_k + d_v)` each layer."""
    total = 0.0
    for group in model.layers:
        a = group.attention
        width = 2 * a.head_dim if isinstance(a, GQA) else a.nope_dim + a.rope_dim + a.v_dim
        total += group.count * 2.0 * a.heads * width
    return total
