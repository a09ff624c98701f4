"""FLOPs of a training step by the definitions in use: closed forms of a model's shape."""

from __future__ import annotations

from typing import Literal

from sim.models import (
    MLA,
    LayerGroup,
    Mixer,
    ModelSpec,
    attention_flops_per_key,
    model_flops_per_token,
    parameter_counts,
    state_flops_per_token,
)
from sim.plans.training import Recompute
from sim.training.adapters import Adapters, adapter_parameters
from sim.training.blocks import blocks_of
from sim.training.encoder import encoder_model
from sim.training.spec import EncoderSpec

AttentionCount = Literal["full", "causal"]


def forward_flops(model: ModelSpec, *, sequence: float, attention: AttentionCount = "full") -> float:
    """Matrix FLOPs of one sequence through the model, LM head included, embedding look-up not.

    Two FLOPs per active weight and token, plus `4 h d` per layer, token and attended key; a query attends to the
    whole sequence (`full`, as most sources count) or to half of it (`causal`), and to its window at most. Recurrences
    count in their recurrent form, whatever chunks a kernel computes.
    """
    per_token, per_logit = model_flops_per_token(model)
    per_token += state_flops_per_token(model)
    return sequence * (per_token + per_logit) + attention_forward_flops(model, sequence=sequence, attention=attention)


def attention_forward_flops(model: ModelSpec, *, sequence: float, attention: AttentionCount = "full") -> float:
    """Matrix FLOPs of scores and weighted values of one sequence, all layers."""
    share = 1.0 if attention == "full" else 0.5
    total = 0.0
    for group in model.layers:
        window = _window(group)
        keys = sequence * share if window is None else min(sequence * share, float(window))
        one = model.model_copy(update={"layers": (group,)})
        total += attention_flops_per_key(one) * sequence * keys
    return total


def _window(group: LayerGroup) -> int | None:
    attention = blocks_of(group).attention
    return None if attention is None else attention.window


def training_flops(
    model: ModelSpec,
    *,
    sequence: float,
    attention: AttentionCount = "full",
    adapters: Adapters | None = None,
    encoder: EncoderSpec | None = None,
) -> float:
    """Model FLOPs of one sequence: forward, and twice that backward; no recomputation (PaLM, arXiv 2204.02311).

    Of frozen weights there is no gradient: once forward, once backward. Adapters come on top, attention stays.
    """
    forward = forward_flops(model, sequence=sequence, attention=attention)
    forward += 0.0 if encoder is None else encoder_forward_flops(encoder, model)
    if adapters is None:
        return 3.0 * forward
    cores = attention_forward_flops(model, sequence=sequence, attention=attention)
    cores += sequence * state_flops_per_token(model)
    trained = sum(group.count * adapter_parameters(model, group, adapters, tp=1) for group in model.layers)
    return 2.0 * (forward - cores) + 3.0 * (cores + 2.0 * trained * sequence)


def encoder_forward_flops(encoder: EncoderSpec, model: ModelSpec) -> float:
    """Matrix FLOPs of the items of one sequence through an encoder and its projector."""
    inner, tokens = encoder_model(encoder), float(encoder.tokens)
    one = tokens * model_flops_per_token(inner)[0] + attention_forward_flops(inner, sequence=tokens)
    one += 2.0 * tokens * encoder.patch_width * encoder.hidden_size
    projector = model.hidden_size * (encoder.hidden_size * encoder.merge + model.hidden_size)
    return encoder.items_per_sequence * (one + 2.0 * tokens / encoder.merge * projector)


def recomputed_flops(
    model: ModelSpec, *, sequence: float, kind: Recompute, every: int = 1, attention: AttentionCount = "full"
) -> float:
    """Matrix FLOPs of one sequence that recomputation adds, attention counted as in the model's own FLOPs.

    Full: the layers' forward pass, of one layer in `every`. Selective: the attention core. Cheap: up-projections of
    latent attention. Operators: every second product.
    """
    per_token, per_logit = model_flops_per_token(model)
    if kind == "full":
        return (forward_flops(model, sequence=sequence, attention=attention) - sequence * per_logit) / every
    if kind == "selective":
        return attention_forward_flops(model, sequence=sequence, attention=attention)
    if kind == "cheap":
        return 2.0 * sequence * sum(group.count * _up_weights(group.attention) for group in model.layers)
    return 0.5 * sequence * per_token if kind == "operators" else 0.0


def _up_weights(mixer: Mixer | None) -> float:
    """Weights of the up-projections of latent attention; zero for other mixers."""
    if not isinstance(mixer, MLA):
        return 0.0
    queries = mixer.heads * (mixer.nope_dim + mixer.rope_dim)
    return float((mixer.q_rank or 0) * queries + mixer.kv_rank * mixer.heads * (mixer.nope_dim + mixer.v_dim))


def palm_flops_per_token(model: ModelSpec, *, sequence: float, parameters: float | None = None) -> float:
    """`6N + 12 L H Q T` FLOPs per token (PaLM, arXiv 2204.02311, appendix B) for N active parameters."""
    count = float(parameter_counts(model).active) if parameters is None else parameters
    return 6.0 * count + 3.0 * attention_flops_per_key(model) * sequence


def megatron_flops(
    *, batch: float, sequence: float, layers: float, hidden: float, vocab: float, recompute: bool
) -> float:
    """FLOPs of a step of a GPT by Megatron-LM's formula (Narayanan et al., SC'21, arXiv 2104.04473, equation 3).

    `96 B s l h^2 (1 + s/6h + V/16lh)` with full recomputation; without, `72 B s l h^2 (1 + s/6h + V/12lh)` (Korthikanti
    et al., arXiv 2205.05198, appendix A).
    """
    base, head = (96.0, 16.0) if recompute else (72.0, 12.0)
    terms = 1.0 + sequence / (6.0 * hidden) + vocab / (head * layers * hidden)
    return base * batch * sequence * layers * hidden * hidden * terms
