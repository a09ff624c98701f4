"""Layers expanded into operators, as an inference engine runs them.

Kernels are those of vLLM: one query-key-value projection, one gate-and-up projection, norms fused with the residual
add, activation fused with the multiplication, one kernel that writes the cache. Latent attention (MLA) runs in its
absorbed form, whose two projections stay in the model's own format as engines keep them; a prompt's expansion of keys
and values has the same FLOPs per token. Not counted is that expansion of tokens computed in earlier chunks of the same
prompt.

Communication. Attention and the feed-forward block each end in an all-reduce over the tensor-parallel ranks. With
attention data parallelism the tokens of all data-parallel ranks are gathered before the experts and the results
reduce-scattered after them: vLLM's default for experts, `--all2all-backend allgather_reducescatter` (vLLM
documentation, "Expert Parallel Deployment"). Between pipeline stages each rank sends its share of every tensor and the
receivers gather the whole (`vllm/distributed/parallel_state.py`, send_tensor_dict with `all_gather_group`).

Four functions separate what an iteration's cost depends on: tokens, logits rows, decode contexts, prompt chunks.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from sim.core import Array
from sim.models.dtypes import activation_bytes, bytes_per_element
from sim.models.operators import (
    Collective,
    DecodeAttention,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
    Operator,
    PrefillAttention,
    Sampling,
    repeated,
)
from sim.models.parameters import attention_matrices
from sim.models.shard import AttentionClass, Shard, kv_heads_per_rank, layers_of
from sim.models.spec import GQA, MLA, Dense, ModelSpec, MoE

_EXPERT_CHOICE_BYTES = 8.0  # index and weight of a chosen expert, 4 bytes each


def token_operators(model: ModelSpec, shard: Shard, tokens: Array) -> list[Operator]:
    """Operators that depend only on the tokens of this rank's batch, over all layers of the stage.

    Layers that differ only in their window are one entry with a higher count.

    Args:
        model: The model.
        shard: The stage's rank.
        tokens: Tokens per attention-data-parallel rank, any shape.
    """
    hidden_bytes = _hidden_bytes(model, tokens)
    operators = _entry(model, shard, tokens)
    for (attention, ffn), count in _distinct_layers(model, shard).items():
        one = [
            *_attention(model, shard, attention, tokens),
            *_feed_forward(model, shard, ffn, tokens),
            _stream(model, "add_norm", 4.0 * hidden_bytes, model.norms_per_layer),
        ]
        operators += [repeated(operator, operator.count * count) for operator in one]
    if shard.last:
        operators.append(_stream(model, "final_norm", 2.0 * hidden_bytes))
    return operators


def _distinct_layers(model: ModelSpec, shard: Shard) -> dict[tuple[GQA | MLA, Dense | MoE], int]:
    """Layers of the shard by what their token-wise work depends on, and how many there are."""
    layers: dict[tuple[GQA | MLA, Dense | MoE], int] = {}
    for group, count in layers_of(model, shard):
        attention = group.attention
        if isinstance(attention, GQA):
            attention = attention.model_copy(update={"window": None})
        layers[attention, group.ffn] = layers.get((attention, group.ffn), 0) + count
    return layers


def _entry(model: ModelSpec, shard: Shard, tokens: Array) -> list[Operator]:
    """How the batch enters the stage: embedding, or the transfer from the stage before.

    Models with RMS norms pass the residual on apart from the hidden states: two tensors.
    """
    hidden_bytes = _hidden_bytes(model, tokens)
    operators: list[Operator]
    if shard.first:
        width = model.hidden_size
        operators = [Embedding(name="embedding", cause="embedding", tokens=tokens, width=width, dtype=model.dtype)]
        return [*operators, _reduce("embedding", hidden_bytes)] if shard.tp > 1 else operators
    tensors = 1.0 if model.norm_bias else 2.0
    share = hidden_bytes / shard.tp
    operators = [
        Collective(name="stage_transfer", cause="pp_comm", kind="p2p", buffer_bytes=share, group="pp", count=tensors)
    ]
    if shard.tp > 1:
        operators.append(
            Collective(
                name="stage_gather",
                cause="pp_comm",
                kind="all_gather",
                buffer_bytes=hidden_bytes,
                group="tp",
                count=tensors,
            )
        )
    return operators


def _hidden_bytes(model: ModelSpec, tokens: Array) -> Array:
    """Bytes of the residual stream of so many tokens [B]."""
    return np.asarray(activation_bytes(model.dtype) * model.hidden_size * tokens)


def _stream(model: ModelSpec, name: str, moved_bytes: Array, count: float = 1.0) -> Elementwise:
    return Elementwise(name=name, cause="elementwise", moved_bytes=moved_bytes, dtype=model.dtype, count=count)


def _reduce(name: str, buffer_bytes: Array) -> Collective:
    return Collective(
        name=f"{name}_all_reduce", cause="tp_comm", kind="all_reduce", buffer_bytes=buffer_bytes, group="tp"
    )


def _attention(model: ModelSpec, shard: Shard, attention: GQA | MLA, tokens: Array) -> list[Operator]:
    """Everything in an attention block but the attention itself."""
    operators = (
        _latent_projections(model, shard, attention, tokens)
        if isinstance(attention, MLA)
        else _projections(model, shard, attention, tokens)
    )
    return [*operators, _reduce("attention", _hidden_bytes(model, tokens))] if shard.tp > 1 else operators


def _projections(model: ModelSpec, shard: Shard, a: GQA, tokens: Array) -> list[Operator]:
    hidden, dtype = model.hidden_size, model.linear_dtype("attention", shard.weights_dtype)
    queries, keys = a.heads / shard.tp * a.head_dim, float(kv_heads_per_rank(a, shard.tp) * a.head_dim)
    operators: list[Operator] = [_attention_gemm("qkv", tokens, hidden, queries + 2.0 * keys, dtype)]
    rotated = 2.0 * activation_bytes(model.dtype) * (queries + keys) * tokens
    if a.qk_norm:
        operators.append(_stream(model, "qk_norm", rotated / 2.0, 2))
    if not model.learned_positions:
        operators.append(_stream(model, "rope", rotated))
    return [
        *operators,
        _cache_write(model, shard, 2.0 * keys, tokens),
        _attention_gemm("o", tokens, queries, hidden, dtype),
    ]


def _latent_projections(model: ModelSpec, shard: Shard, a: MLA, tokens: Array) -> list[Operator]:
    hidden, tp, dtype = model.hidden_size, shard.tp, model.linear_dtype("attention", shard.weights_dtype)
    heads, latent = a.heads / tp, float(a.kv_rank + a.rope_dim)
    sizes, width = attention_matrices(a, hidden), activation_bytes(model.dtype)
    operators: list[Operator] = [_attention_gemm("qkv_down", tokens, hidden, latent + (a.q_rank or 0), dtype)]
    norms = 2.0 * width * (a.kv_rank + (a.q_rank or 0)) * tokens
    if a.q_rank is None:
        operators += [
            _attention_gemm("q", tokens, hidden, sizes["q"][1] / tp, dtype),
            _stream(model, "latent_norm", norms),
        ]
    else:
        operators += [_stream(model, "latent_norm", norms / 2.0, 2)]
        operators += [_attention_gemm("q_up", tokens, a.q_rank, sizes["q_b"][1] / tp, dtype)]
    return [
        *operators,
        _stream(model, "rope", 2.0 * width * (heads + 1.0) * a.rope_dim * tokens),
        _attention_gemm("k_up", tokens, a.kv_rank, heads * a.nope_dim, model.dtype),
        _cache_write(model, shard, latent, tokens),
        _attention_gemm("v_up", tokens, a.kv_rank, heads * a.v_dim, model.dtype),
        _attention_gemm("o", tokens, heads * a.v_dim, hidden, dtype),
    ]


def _attention_gemm(name: str, m: Array, k: float, n: float, weights_dtype: str) -> Gemm:
    return Gemm(name=name, cause="attention_gemm", m=m, n=n, k=k, weights_dtype=weights_dtype)


def _cache_write(model: ModelSpec, shard: Shard, elements: float, tokens: Array) -> Elementwise:
    return _stream(
        model, "cache_write", (activation_bytes(model.dtype) + bytes_per_element(shard.kv_dtype)) * elements * tokens
    )


def _feed_forward(model: ModelSpec, shard: Shard, ffn: Dense | MoE, tokens: Array) -> list[Operator]:
    if isinstance(ffn, MoE):
        operators = _experts(model, shard, ffn, tokens)
    else:
        operators = _dense_block(model, shard, ffn.intermediate, tokens, gated=ffn.gated, name="ffn")
    return [*operators, _reduce("ffn", _hidden_bytes(model, tokens))] if shard.tp > 1 else operators


def _dense_block(
    model: ModelSpec, shard: Shard, intermediate: float, tokens: Array, *, gated: bool, name: str
) -> list[Operator]:
    dtype, hidden = model.linear_dtype("ffn", shard.weights_dtype), model.hidden_size
    width = intermediate / shard.tp
    inputs = 2.0 if gated else 1.0
    return [
        Gemm(name=f"{name}_up", cause="ffn_gemm", m=tokens, n=inputs * width, k=hidden, weights_dtype=dtype),
        _stream(model, f"{name}_act", activation_bytes(model.dtype) * (inputs + 1.0) * width * tokens),
        Gemm(name=f"{name}_down", cause="ffn_gemm", m=tokens, n=hidden, k=width, weights_dtype=dtype),
    ]


def _experts(model: ModelSpec, shard: Shard, ffn: MoE, tokens: Array) -> list[Operator]:
    hidden = model.hidden_size
    hidden_bytes = _hidden_bytes(model, tokens)
    choice = (activation_bytes(model.dtype) * ffn.experts + _EXPERT_CHOICE_BYTES * ffn.top_k) * tokens
    routed = GroupedGemm(
        name="experts",
        cause="moe",
        tokens=tokens * float(shard.dp),
        experts=ffn.experts / shard.ep,
        total_experts=ffn.experts,
        top_k=ffn.top_k,
        hidden=hidden,
        intermediate=ffn.intermediate / shard.moe_tp,
        gated=ffn.gated,
        weights_dtype=shard.weights_dtype,
    )
    operators: list[Operator] = [
        Gemm(name="router", cause="moe", m=tokens, n=ffn.experts, k=hidden, weights_dtype=model.dtype),
        Elementwise(name="top_k", cause="moe", moved_bytes=choice, dtype=model.dtype),
        *_across_data_parallel("all_gather", shard, hidden_bytes),
        routed,
        *_across_data_parallel("reduce_scatter", shard, hidden_bytes),
    ]
    if ffn.shared_intermediate:
        operators += _dense_block(model, shard, ffn.shared_intermediate, tokens, gated=ffn.gated, name="shared")
        operators.append(_stream(model, "shared_add", 3.0 * hidden_bytes))
    return operators


def _across_data_parallel(
    kind: Literal["all_gather", "reduce_scatter"], shard: Shard, hidden_bytes: Array
) -> list[Operator]:
    """Tokens of all data-parallel ranks to each of them, or their results back."""
    if shard.dp == 1:
        return []
    whole = hidden_bytes * float(shard.dp)
    return [Collective(name=f"experts_{kind}", cause="ep_comm", kind=kind, buffer_bytes=whole, group="dp")]


def sequence_operators(model: ModelSpec, shard: Shard, rows: Array) -> list[Operator]:
    """Operators that depend on the rows of logits: LM head, its gather over tensor-parallel ranks, sampling.

    Only the last stage has any.

    Args:
        model: The model.
        shard: The stage's rank.
        rows: Sequences whose next token is computed, any shape.
    """
    if not shard.last:
        return []
    vocab = model.vocab_size
    operators: list[Operator] = [
        Gemm(
            name="lm_head", cause="lm_head", m=rows, n=vocab / shard.tp, k=model.hidden_size, weights_dtype=model.dtype
        )
    ]
    if shard.tp > 1:
        operators.append(
            Collective(
                name="logits_gather",
                cause="tp_comm",
                kind="all_gather",
                buffer_bytes=activation_bytes(model.dtype) * vocab * rows,
                group="tp",
            )
        )
    return [*operators, Sampling(name="sampling", cause="sampling", rows=rows, vocab=vocab)]


def decode_operators(
    model: ModelSpec, shard: Shard, sequences: Array, attended: Array, cls: AttentionClass
) -> list[Operator]:
    """Decode attention of all layers of one class.

    Args:
        model: The model.
        shard: The stage's rank.
        sequences: Decoding sequences per attention-data-parallel rank, any shape.
        attended: Keys attended, summed over these sequences, same shape.
        cls: The attention class.
    """
    a = cls.attention
    return [
        DecodeAttention(
            name=f"decode_attention_{cls.label}",
            cause="decode_attention",
            sequences=sequences,
            context=attended,
            q_heads=a.heads / shard.tp,
            kv_heads=1.0 if isinstance(a, MLA) else float(kv_heads_per_rank(a, shard.tp)),
            head_dim=float(a.kv_rank + a.rope_dim if isinstance(a, MLA) else a.head_dim),
            v_dim=float(a.kv_rank if isinstance(a, MLA) else a.head_dim),
            kv_dtype=shard.kv_dtype,
            kind=a.kind,
            count=cls.layers,
        )
    ]


def prefill_operators(
    model: ModelSpec, shard: Shard, chunk: Array, prefix: Array, cls: AttentionClass
) -> list[PrefillAttention]:
    """Prefill attention of all layers of one class for one prompt chunk each.

    Args:
        model: The model.
        shard: The stage's rank.
        chunk: New tokens, any shape.
        prefix: Tokens cached before, same shape.
        cls: The attention class.
    """
    a = cls.attention
    width = a.nope_dim + a.rope_dim if isinstance(a, MLA) else a.head_dim
    values = a.v_dim if isinstance(a, MLA) else a.head_dim
    kv_heads = a.heads / shard.tp if isinstance(a, MLA) else float(kv_heads_per_rank(a, shard.tp))
    return [
        PrefillAttention(
            name=f"prefill_attention_{cls.label}",
            cause="prefill_attention",
            chunk=np.asarray(chunk, dtype=np.float64),
            prefix=np.asarray(prefix, dtype=np.float64),
            q_heads=a.heads / shard.tp,
            kv_heads=kv_heads,
            head_dim=float(width),
            v_dim=float(values),
            kv_dtype=shard.kv_dtype,
            window=cls.window,
            kind=cls.kind,
            count=cls.layers,
        )
    ]
