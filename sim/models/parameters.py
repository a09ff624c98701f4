"""Parameter counts, cache bytes and FLOPs per token: closed forms of a model's shape."""

from __future__ import annotations

from dataclasses import dataclass

from sim.models.cache import layer_cache, state_elements
from sim.models.matrices import matrices, small_parameters
from sim.models.mixers import RECURRENT, GatedDelta, Mixer
from sim.models.spec import Dense, FeedForward, LayerGroup, ModelSpec, MoE


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


def expert_parameters(ffn: MoE, hidden: int) -> tuple[int, int]:
    """Weights in the matrices of one routed expert, and its biases."""
    inputs = 2 if ffn.gated else 1
    width = ffn.latent or hidden
    return (inputs + 1) * width * ffn.intermediate, (inputs * ffn.intermediate + width if ffn.bias else 0)


def latent_parameters(ffn: MoE, hidden: int) -> int:
    """Weights of the projections into and out of the width in which routed experts work."""
    return 2 * hidden * ffn.latent if ffn.latent else 0


def dense_parameters(hidden: int, intermediate: int, *, gated: bool, bias: bool = False) -> int:
    """Parameters of a dense feed-forward block."""
    inputs = 2 if gated else 1
    return (inputs + 1) * hidden * intermediate + (inputs * intermediate + hidden if bias else 0)


def router_parameters(ffn: MoE, hidden: int) -> int:
    """Parameters of the router, with its biases and the gate of the shared expert."""
    biases = ffn.experts if ffn.bias or ffn.router_bias else 0
    return ffn.experts * hidden + biases + (hidden if ffn.shared_gate else 0)


def _ffn_parameters(ffn: FeedForward | None, hidden: int) -> tuple[int, int, int]:
    """Parameters outside routed experts, of all routed experts, and of the active routed ones."""
    if ffn is None:
        return 0, 0, 0
    if isinstance(ffn, Dense):
        return dense_parameters(hidden, ffn.intermediate, gated=ffn.gated, bias=ffn.bias), 0, 0
    shared = dense_parameters(hidden, ffn.shared_intermediate, gated=ffn.gated)
    one = sum(expert_parameters(ffn, hidden))
    outside = router_parameters(ffn, hidden) + shared + latent_parameters(ffn, hidden)
    return outside, ffn.experts * one, ffn.top_k * one


def mixer_parameters(mixer: Mixer, hidden: int) -> int:
    """Parameters of one layer's attention or recurrence."""
    return sum(m.k * m.n for m in matrices(mixer, hidden)) + int(small_parameters(mixer, hidden))


def mixing_parameters(model: ModelSpec, group: LayerGroup) -> int:
    """Parameters that mix residual streams around the blocks of one layer (manifold-constrained hyper-connections).

    With n streams, each block has a matrix from all streams to n weights in, n out and n x n across, as many biases,
    and three scales (arXiv 2512.24880).
    """
    n = model.residual_streams
    weights = n * (n + 2)
    return 0 if n == 1 else group.blocks * (weights * (n * model.hidden_size + 1) + 3)


def parameter_counts(model: ModelSpec) -> ParamCounts:
    """Parameters of the whole model, by part."""
    hidden = model.hidden_size
    norm = hidden * (2 if model.norm_bias else 1)
    embedding = (model.vocab_size + model.learned_positions) * hidden
    lm_head = 0 if model.tied_embeddings else model.vocab_size * hidden
    attention = ffn = experts = active_experts = 0
    norms = norm
    for group in model.layers:
        mixing = mixing_parameters(model, group)
        attention += group.count * (mixing + (mixer_parameters(group.attention, hidden) if group.attention else 0))
        outside, routed, active = _ffn_parameters(group.ffn, hidden)
        ffn += group.count * outside
        experts += group.count * routed
        active_experts += group.count * active
        norms += group.count * model.norms_of(group) * norm
    fixed = embedding + lm_head + attention + ffn + norms
    return ParamCounts(fixed + experts, fixed + active_experts, embedding, lm_head, attention, ffn, experts, norms)


def kv_bytes_per_token(model: ModelSpec, kv_dtype: str = "bf16") -> float:
    """Cache bytes per token of the whole model, unsharded; window layers count as long as they keep a token."""
    return sum(
        g.count * layer_cache(g.attention, kv_dtype=kv_dtype).new_bytes_per_token
        for g in model.layers
        if g.attention is not None
    )


def state_bytes_per_sequence(model: ModelSpec) -> float:
    """Bytes that recurrent layers keep of a sequence, however long it is, unsharded."""
    return sum(g.count * layer_cache(g.attention).state_bytes for g in model.layers if g.attention is not None)


def state_flops_per_token(model: ModelSpec) -> float:
    """Matrix FLOPs of recurrent states per token through all layers, in their recurrent form.

    Per element of the state: two to add `k v^T`, two to read `q S`; the delta rule reads `k S` besides, two more.
    """
    total = 0.0
    for group in model.layers:
        if isinstance(group.attention, RECURRENT):
            each = 6.0 if isinstance(group.attention, GatedDelta) else 4.0
            total += group.count * each * state_elements(group.attention)
    return total


def model_flops_per_token(model: ModelSpec) -> tuple[float, float]:
    """Matrix FLOPs per token through all layers, and per row of logits; without attention scores and states.

    Two FLOPs per weight that the token passes through (PaLM, arXiv 2204.02311, appendix B).
    """
    hidden = model.hidden_size
    weights = 0.0
    for group in model.layers:
        if group.attention is not None:
            weights += group.count * sum(m.k * m.n for m in matrices(group.attention, hidden))
        weights += group.count * _ffn_weights(group.ffn, hidden)
        n = model.residual_streams
        weights += group.count * group.blocks * (n * (n + 2) * n * hidden if n > 1 else 0)
    return 2.0 * weights, 2.0 * hidden * model.vocab_size


def _ffn_weights(ffn: FeedForward | None, hidden: int) -> float:
    """Weights that a token passes through."""
    if ffn is None:
        return 0.0
    if isinstance(ffn, Dense):
        return float(dense_parameters(hidden, ffn.intermediate, gated=ffn.gated))
    routed = ffn.top_k * expert_parameters(ffn, hidden)[0]
    shared = dense_parameters(hidden, ffn.shared_intermediate, gated=ffn.gated)
    gate = hidden if ffn.shared_gate and ffn.shared_intermediate else 0
    return float(hidden * ffn.experts + gate + routed + shared + latent_parameters(ffn, hidden))
