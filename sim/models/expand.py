"""Layers expanded into operators, as an inference engine runs them.

Fusion follows vLLM: one query-key-value projection, one gate-and-up projection, norms fused with the residual add,
activation fused with the multiplication. Communication: an all-reduce after attention and after the feed-forward block
when they are tensor-parallel. With attention data parallelism the tokens of all ranks are gathered before the experts
and their results reduce-scattered after them (vLLM's default all2all backend, `allgather_reducescatter`).

Four functions separate what an iteration's cost depends on: tokens, logits rows, decode contexts, prompt chunks.
"""

from __future__ import annotations

import numpy as np

from sim.core import Array
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

_BYTES = 2.0


def token_operators(model: ModelSpec, shard: Shard, tokens: Array) -> list[Operator]:
    """Operators that depend only on the tokens of this rank's batch, over all layers of the stage.

    Args:
        model: The model.
        shard: The stage's rank.
        tokens: Tokens per attention-data-parallel rank, any shape.
    """
    operators: list[Operator] = []
    hidden_bytes = _BYTES * model.hidden_size * tokens
    if shard.first:
        operators.append(Embedding(name="embedding", cause="embedding", tokens=tokens, width=model.hidden_size))
        if shard.tp > 1:
            operators.append(_reduce("embedding", hidden_bytes, 1))
    else:
        operators.append(
            Collective(name="stage_transfer", cause="pp_comm", kind="p2p", buffer_bytes=hidden_bytes, group="pp")
        )
    for group, count in layers_of(model, shard):
        one = [
            *_attention_projections(model, shard, group.attention, tokens),
            *_feed_forward(model, shard, group.ffn, tokens),
            Elementwise(name="add_norm", cause="elementwise", moved_bytes=4.0 * hidden_bytes, count=2),
        ]
        operators += [repeated(op, op.count * count) for op in one]
    if shard.last:
        operators.append(Elementwise(name="final_norm", cause="elementwise", moved_bytes=2.0 * hidden_bytes))
    return operators


def _reduce(name: str, buffer_bytes: Array, count: float) -> Collective:
    return Collective(
        name=f"{name}_all_reduce",
        cause="tp_comm",
        kind="all_reduce",
        buffer_bytes=buffer_bytes,
        group="tp",
        count=count,
    )


def _linear_dtype(model: ModelSpec, shard: Shard) -> str:
    return shard.weights_dtype if model.quantized == "linears" else model.dtype


def _attention_projections(model: ModelSpec, shard: Shard, attention: GQA | MLA, tokens: Array) -> list[Operator]:
    hidden, tp = model.hidden_size, shard.tp
    dtype = _linear_dtype(model, shard)

    def gemm(name: str, k: float, n: float) -> Gemm:
        return Gemm(name=name, cause="attention_gemm", m=tokens, n=n, k=k, weights_dtype=dtype)

    operators: list[Operator] = []
    if isinstance(attention, MLA):
        sizes = attention_matrices(attention, hidden)
        down = sizes["kv_a"][1] + (attention.q_rank or 0)
        operators.append(gemm("qkv_down", hidden, down))
        if attention.q_rank is None:
            operators.append(gemm("q", hidden, sizes["q"][1] / tp))
        else:
            operators.append(gemm("q_up", attention.q_rank, sizes["q_b"][1] / tp))
        operators.append(gemm("kv_up", attention.kv_rank, sizes["kv_b"][1] / tp))
        heads, width = attention.heads / tp, attention.nope_dim + attention.rope_dim
        out = attention.heads * attention.v_dim / tp
        cached = float(attention.kv_rank + attention.rope_dim)
    else:
        heads, width = attention.heads / tp, attention.head_dim
        kv_width = 2.0 * kv_heads_per_rank(attention, tp) * attention.head_dim
        operators.append(gemm("qkv", hidden, heads * width + kv_width))
        out = heads * width
        cached = kv_width
    rope = _BYTES * (2.0 * heads * width + 2.0 * cached) * tokens
    operators.append(Elementwise(name="rope_and_cache", cause="elementwise", moved_bytes=rope))
    operators.append(gemm("o", out, hidden))
    if tp > 1:
        operators.append(_reduce("attention", _BYTES * hidden * tokens, 1))
    return operators


def _dense_block(
    model: ModelSpec, shard: Shard, intermediate: float, tokens: Array, *, gated: bool, name: str
) -> list[Operator]:
    dtype = _linear_dtype(model, shard)
    width = intermediate / shard.tp
    inputs = 2.0 if gated else 1.0
    return [
        Gemm(name=f"{name}_up", cause="ffn_gemm", m=tokens, n=inputs * width, k=model.hidden_size, weights_dtype=dtype),
        Elementwise(name=f"{name}_act", cause="elementwise", moved_bytes=_BYTES * (inputs + 1.0) * width * tokens),
        Gemm(name=f"{name}_down", cause="ffn_gemm", m=tokens, n=model.hidden_size, k=width, weights_dtype=dtype),
    ]


def _feed_forward(model: ModelSpec, shard: Shard, ffn: Dense | MoE, tokens: Array) -> list[Operator]:
    hidden = model.hidden_size
    hidden_bytes = _BYTES * hidden * tokens
    if isinstance(ffn, Dense):
        operators = _dense_block(model, shard, ffn.intermediate, tokens, gated=ffn.gated, name="ffn")
        return [*operators, _reduce("ffn", hidden_bytes, 1)] if shard.tp > 1 else operators
    operators = [
        Gemm(name="router", cause="moe", m=tokens, n=ffn.experts, k=hidden, weights_dtype=model.dtype),
        GroupedGemm(
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
        ),
    ]
    if ffn.shared_intermediate:
        operators += _dense_block(model, shard, ffn.shared_intermediate, tokens, gated=ffn.gated, name="shared")
    if shard.dp > 1:
        whole = hidden_bytes * float(shard.dp)
        for kind in ("all_gather", "reduce_scatter"):
            operators.append(
                Collective(name=f"experts_{kind}", cause="ep_comm", kind=kind, buffer_bytes=whole, group="dp")  # type: ignore[arg-type]
            )
    if shard.tp > 1:
        operators.append(_reduce("experts", hidden_bytes, 1))
    return operators


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
                name="logits_gather", cause="tp_comm", kind="all_gather", buffer_bytes=_BYTES * vocab * rows, group="tp"
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
    if isinstance(a, MLA):
        operator = DecodeAttention(
            name=f"decode_attention_{cls.label}",
            cause="decode_attention",
            sequences=sequences,
            context=attended,
            q_heads=a.heads / shard.tp,
            kv_heads=1.0,
            head_dim=float(a.kv_rank + a.rope_dim),
            v_dim=float(a.kv_rank),
            kv_dtype=shard.kv_dtype,
            kind="mla",
            count=cls.layers,
        )
    else:
        operator = DecodeAttention(
            name=f"decode_attention_{cls.label}",
            cause="decode_attention",
            sequences=sequences,
            context=attended,
            q_heads=a.heads / shard.tp,
            kv_heads=float(kv_heads_per_rank(a, shard.tp)),
            head_dim=float(a.head_dim),
            v_dim=float(a.head_dim),
            kv_dtype=shard.kv_dtype,
            count=cls.layers,
        )
    return [operator]


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
