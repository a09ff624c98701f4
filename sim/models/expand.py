"""Layers expanded into operators, as an inference engine runs them.

Kernels are those of vLLM: one query-key-value projection, one gate-and-up projection, norms fused with the residual
add, activation fused with the multiplication, one kernel that writes the cache. Latent attention (MLA) runs in its
absorbed form, whose two projections stay in the model's own format as engines keep them; a prompt's expansion of keys
and values has the same FLOPs per token. Not counted is that expansion of tokens computed in earlier chunks of the same
prompt. What looks back at earlier tokens is in `looking_back`.

Communication. Attention and the feed-forward block each end in an all-reduce over the tensor-parallel ranks. With
attention data parallelism the tokens of all data-parallel ranks are gathered before the experts and the results
reduce-scattered after them: vLLM's default for experts, `--all2all-backend allgather_reducescatter` (vLLM
documentation, "Expert Parallel Deployment"); or each token goes only to the ranks that hold experts of its own
(`Shard.all_to_all`: DeepEP, TensorRT-LLM's NVLink exchange). Between pipeline stages each rank sends its share of every
tensor and the receivers gather the whole (`vllm/distributed/parallel_state.py`, send_tensor_dict with
`all_gather_group`).

Two functions separate what an iteration's cost depends on: tokens and rows of logits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from sim.core import Array
from sim.models.dtypes import activation_bytes, bytes_per_element
from sim.models.matrices import matrices
from sim.models.mixers import GQA, Mixer
from sim.models.operators import (
    Collective,
    CollectiveKind,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
    Operator,
    Sampling,
    repeated,
)
from sim.models.routing import EVEN, rank_spread, reached_ranks
from sim.models.shard import Shard, layers_of
from sim.models.spec import FeedForward, LayerGroup, ModelSpec, MoE
from sim.models.streams import mixer_streams

NORM_PASSES = 4.0
"""How often a norm with a residual add moves its tokens: it reads both and writes both."""

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
    for layer, count in _distinct_layers(model, shard).items():
        one = [
            *([] if layer.attention is None else _mixer(model, shard, layer.attention, tokens)),
            *([] if layer.ffn is None else _feed_forward(model, shard, layer.ffn, tokens)),
            *_reduced(model, shard, layer, hidden_bytes),
            *_norms(model, shard, layer, hidden_bytes),
            *([_stream(model, "branch_add", 3.0 * hidden_bytes)] if layer.parallel else []),
            *_stream_mixing(model, tokens, layer.blocks),
        ]
        operators += [repeated(operator, operator.count * count) for operator in one]
    if shard.last:
        operators.append(_stream(model, "final_norm", 2.0 * hidden_bytes))
    return operators


def _distinct_layers(model: ModelSpec, shard: Shard) -> dict[LayerGroup, int]:
    """Layers of the shard by what their token-wise work depends on, and how many there are."""
    layers: dict[LayerGroup, int] = {}
    for group, count in layers_of(model, shard):
        mixer = group.attention
        if isinstance(mixer, GQA):
            mixer = mixer.model_copy(update={"window": None})
        one = group.model_copy(update={"count": 1, "attention": mixer, "kept_16bit": False})
        layers[one] = layers.get(one, 0) + count
    return layers


def _reduced(model: ModelSpec, shard: Shard, layer: LayerGroup, hidden_bytes: Array) -> list[Collective]:
    """What tensor-parallel ranks sum up: the result of every branch, or of both together where they are parallel.

    What follows is the residual add and an RMS norm, but for models with LayerNorm or several residual streams.
    """
    if shard.tp == 1:
        return []
    add_norm = model.residual_streams == 1 and not model.norm_bias
    if layer.parallel:
        return [_reduce("branches", hidden_bytes, before_norm=add_norm)]
    found: list[Collective] = []
    if layer.attention is not None:
        found.append(_reduce("attention", hidden_bytes, before_norm=add_norm))
    if layer.ffn is not None:
        widened = _widened(model, shard, layer)
        found.append(_reduce("ffn", widened * hidden_bytes, before_norm=add_norm and widened == 1.0))
    return found


def _widened(model: ModelSpec, shard: Shard, layer: LayerGroup) -> float:
    """Width of what a layer's feed-forward returns over the model's: experts may work on padded inputs."""
    if not isinstance(layer.ffn, MoE) or layer.ffn.latent:
        return 1.0
    multiple = shard.experts_padded_to
    return -(-model.hidden_size // multiple) * multiple / model.hidden_size


def _entry(model: ModelSpec, shard: Shard, tokens: Array) -> list[Operator]:
    """How the batch enters the stage: embedding, or the transfer from the stage before.

    Models with RMS norms pass the residual on apart from the hidden states: two tensors; with several residual
    streams those are all that is passed.
    """
    hidden_bytes = _hidden_bytes(model, tokens)
    operators: list[Operator]
    if shard.first:
        width = model.hidden_size
        operators = [Embedding(name="embedding", cause="embedding", tokens=tokens, width=width, dtype=model.dtype)]
        return [*operators, _reduce("embedding", hidden_bytes)] if shard.tp > 1 else operators
    tensors = float(model.residual_streams) if model.residual_streams > 1 else 1.0 if model.norm_bias else 2.0
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


def _norms(model: ModelSpec, shard: Shard, layer: LayerGroup, hidden_bytes: Array) -> list[Operator]:
    """Norms of a layer, each with the residual add; behind an all-reduce an engine may have it do their work."""
    count = model.norms_per_layer * layer.blocks / 2
    behind = min(count, float(sum(op.before_norm for op in _reduced(model, shard, layer, hidden_bytes))))
    norms = [("reduced_norm", behind), ("add_norm", count - behind)]
    return [_stream(model, name, NORM_PASSES * hidden_bytes, count) for name, count in norms if count]


def _reduce(name: str, buffer_bytes: Array, *, before_norm: bool = False) -> Collective:
    return Collective(
        name=f"{name}_all_reduce",
        cause="tp_comm",
        kind="all_reduce",
        buffer_bytes=buffer_bytes,
        group="tp",
        before_norm=before_norm,
    )


def _mixer(model: ModelSpec, shard: Shard, mixer: Mixer, tokens: Array) -> list[Operator]:
    """Everything in an attention or recurrent block but the attention or the state itself.

    Neighbouring matrices of one kernel and input are multiplied at once, if the engine joins them.
    """
    columns: dict[tuple[str, float, str], float] = {}
    for matrix in matrices(mixer, model.hidden_size):
        k, n = matrix.on_rank(shard.tp)
        covered = model.linear_dtype(matrix.part, shard.weights_dtype)
        name = (shard.inputs_apart and matrix.alone) or matrix.gemm
        key = (name, k, covered if matrix.quantised and not matrix.plain else model.dtype)
        columns[key] = columns.get(key, 0.0) + n
    operators: list[Operator] = [
        Gemm(name=name, cause="attention_gemm", m=tokens, n=n, k=k, weights_dtype=dtype)
        for (name, k, dtype), n in columns.items()
    ]
    element = activation_bytes(model.dtype)
    for name, moved_bytes in mixer_streams(mixer, shard, element, rotary=not model.learned_positions):
        operators.append(_stream(model, name, moved_bytes * tokens))
    return operators


def _stream_mixing(model: ModelSpec, tokens: Array, blocks: int) -> list[Operator]:
    """Residual streams merged into a block's input and its output spread over them (hyper-connections).

    All streams are read for the weights and for the merge; the block's output is added to all of them.
    """
    n = model.residual_streams
    if n == 1:
        return []
    wide = activation_bytes(model.dtype) * n * model.hidden_size
    weights = Gemm(
        name="stream_weights",
        cause="elementwise",
        m=tokens,
        n=n * (n + 2),
        k=n * model.hidden_size,
        weights_dtype=model.dtype,
        count=blocks,
    )
    return [
        weights,
        _stream(model, "stream_merge", (wide + wide / n) * tokens, blocks),
        _stream(model, "stream_spread", (2.0 * wide + wide / n) * tokens, blocks),
    ]


def _feed_forward(model: ModelSpec, shard: Shard, ffn: FeedForward, tokens: Array) -> list[Operator]:
    if isinstance(ffn, MoE):
        return _experts(model, shard, ffn, tokens)
    return _dense_block(model, shard, ffn.intermediate, tokens, gated=ffn.gated, name="ffn")


def _dense_block(
    model: ModelSpec, shard: Shard, intermediate: float, tokens: Array, *, gated: bool, name: str
) -> list[Operator]:
    dtype, hidden = model.linear_dtype("ffn", shard.weights_dtype), model.hidden_size
    width = intermediate / shard.tp
    inputs = 2.0 if gated else 1.0
    element, packs = activation_bytes(model.dtype), gated and dtype in shard.packed_apart
    return [
        Gemm(name=f"{name}_up", cause="ffn_gemm", m=tokens, n=inputs * width, k=hidden, weights_dtype=dtype),
        _stream(model, f"{name}_act", element * (inputs + 1.0) * width * tokens),
        *([_stream(model, f"{name}_pack", (element + bytes_per_element(dtype)) * width * tokens)] if packs else []),
        Gemm(name=f"{name}_down", cause="ffn_gemm", m=tokens, n=hidden, k=width, weights_dtype=dtype),
    ]


def _experts(model: ModelSpec, shard: Shard, ffn: MoE, tokens: Array) -> list[Operator]:
    hidden = model.hidden_size
    width = ffn.latent or hidden
    element = activation_bytes(model.dtype)
    sent_as = element if shard.dispatch_dtype is None else bytes_per_element(shard.dispatch_dtype)
    to_experts = _across_data_parallel("dispatch", shard, sent_as * width * tokens, ffn.top_k)
    back = _across_data_parallel("combine", shard, element * width * tokens, ffn.top_k)
    choice = (element * ffn.experts + _EXPERT_CHOICE_BYTES * ffn.top_k) * tokens
    routed = GroupedGemm(
        name="experts",
        cause="moe",
        tokens=tokens * float(shard.dp),
        experts=ffn.experts / shard.ep,
        total_experts=ffn.experts,
        top_k=ffn.top_k,
        hidden=width,
        intermediate=ffn.intermediate / shard.moe_tp,
        gated=ffn.gated,
        weights_dtype=shard.weights_dtype,
        popularity=EVEN if ffn.popularity_shape == EVEN else shard.popularity or ffn.popularity_shape,
        spread=0.0 if shard.balanced else rank_spread(ffn.experts / shard.ep, popularity=ffn.popularity_shape),
    )
    routed_path: list[Operator] = [
        Gemm(name="router", cause="moe", m=tokens, n=ffn.experts, k=hidden, weights_dtype=model.dtype),
        Elementwise(name="top_k", cause="moe", moved_bytes=choice, dtype=model.dtype),
        *_latent(model, shard, ffn, tokens, into=True),
        *to_experts,
        routed,
        *back,
        *_latent(model, shard, ffn, tokens, into=False),
    ]
    if not ffn.shared_intermediate:
        return routed_path
    shared = _dense_block(model, shard, ffn.shared_intermediate, tokens, gated=ffn.gated, name="shared")
    if ffn.shared_gate:
        shared += [
            Gemm(name="shared_gate", cause="ffn_gemm", m=tokens, n=1, k=hidden, weights_dtype=model.dtype),
            _stream(model, "shared_gating", 2.0 * _hidden_bytes(model, tokens)),
        ]
    return [
        *(replace(operator, stream="main") for operator in routed_path),
        *(replace(operator, stream="side") for operator in shared),
        _stream(model, "shared_add", 3.0 * _hidden_bytes(model, tokens)),
    ]


def _latent(model: ModelSpec, shard: Shard, ffn: MoE, tokens: Array, *, into: bool) -> list[Operator]:
    """The projection into the width in which routed experts work, or out of it; every rank has the whole."""
    if not ffn.latent:
        return []
    k, n = (model.hidden_size, ffn.latent) if into else (ffn.latent, model.hidden_size)
    dtype = model.linear_dtype("ffn", shard.weights_dtype)
    name = "latent_in" if into else "latent_out"
    return [Gemm(name=name, cause="moe", m=tokens, n=n, k=k, weights_dtype=dtype)]


def _across_data_parallel(
    way: Literal["dispatch", "combine"], shard: Shard, hidden_bytes: Array, top_k: int
) -> list[Operator]:
    """Tokens of all data-parallel ranks to their experts, or the results back.

    By an all-gather every rank gets every token, by an all-to-all only the ranks that hold experts of its own do. Under
    even routing those are `n (1 - (1 - 1/n)^k)` of n ranks for k experts a token; each returns the sum of what its
    experts made of the token.
    """
    if shard.dp == 1:
        return []
    kind: CollectiveKind
    if shard.all_to_all:
        name, kind, whole = f"experts_{way}", "all_to_all", hidden_bytes * reached_ranks(shard.dp, top_k=top_k)
    else:
        kind = "all_gather" if way == "dispatch" else "reduce_scatter"
        name, whole = f"experts_{kind}", hidden_bytes * float(shard.dp)
    back = way == "combine"
    return [Collective(name=name, cause="ep_comm", kind=kind, buffer_bytes=whole, group="dp", returns=back)]


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
