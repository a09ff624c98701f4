"""Laws of models: shards add up to the whole, operators do the FLOPs of the closed forms, nothing shrinks with work."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.models import (
    GQA,
    MLA,
    Dense,
    GatedDelta,
    Indexer,
    LayerGroup,
    Mamba2,
    Mixer,
    ModelSpec,
    MoE,
    Operator,
    bytes_per_element,
    kv_bytes_per_token,
    kv_bytes_per_token_rank,
    layers_of,
    model_flops_per_token,
    parameter_counts,
    sequence_operators,
    stages,
    state_bytes_per_sequence,
    state_bytes_rank,
    token_operators,
    weight_bytes,
)

DTYPES = ("bf16", "fp8", "fp8_block", "int8", "int4", "mxfp4", "nvfp4")


@st.composite
def attentions(draw: st.DrawFn) -> Mixer:
    heads = 8 * draw(st.integers(1, 4))
    indexer = draw(st.sampled_from([None, Indexer(heads=4, head_dim=32), Indexer(heads=2, head_dim=64)]))
    kind = draw(st.sampled_from(["gqa", "mla", "gated_delta", "mamba2"]))
    if kind == "mla":
        rank = draw(st.sampled_from([None, 96]))
        return MLA(heads=heads, q_rank=rank, kv_rank=64, nope_dim=32, rope_dim=16, v_dim=24, indexer=indexer)
    if kind == "gated_delta":
        decay = draw(st.sampled_from([None, 16]))
        return GatedDelta(key_heads=8, value_heads=heads, key_dim=32, value_dim=16, decay_rank=decay)
    if kind == "mamba2":
        return Mamba2(heads=heads, head_dim=16, state_dim=32, groups=draw(st.sampled_from([1, 2, 8])))
    return GQA(
        output_gate=draw(st.booleans()),
        v_dim=draw(st.sampled_from([None, 16])),
        indexer=indexer,
        heads=heads,
        kv_heads=draw(st.sampled_from([1, 2, 4, 8])),
        head_dim=draw(st.sampled_from([32, 64])),
        qkv_bias=draw(st.booleans()),
        out_bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        sinks=draw(st.booleans()),
    )


@st.composite
def blocks(draw: st.DrawFn) -> Dense | MoE:
    gated = draw(st.booleans())
    if draw(st.booleans()):
        return Dense(intermediate=64 * draw(st.integers(1, 6)), gated=gated, bias=draw(st.booleans()))
    return MoE(
        experts=8 * draw(st.integers(1, 4)),
        top_k=draw(st.integers(1, 4)),
        intermediate=64 * draw(st.integers(1, 3)),
        shared_intermediate=draw(st.sampled_from([0, 64])),
        shared_gate=draw(st.booleans()),
        gated=gated,
        bias=draw(st.booleans()),
        router_bias=draw(st.booleans()),
        latent=draw(st.sampled_from([None, 48])),
    )


@st.composite
def models(draw: st.DrawFn, **fields: Any) -> ModelSpec:
    """A model of one to three groups that share one attention, some with windows."""
    attention = draw(attentions())
    groups = []
    for _ in range(draw(st.integers(1, 3))):
        windowed = attention
        if isinstance(attention, GQA) and draw(st.booleans()):
            windowed = attention.model_copy(update={"window": 128, "indexer": None})
        ffn = draw(st.one_of(blocks(), st.none()))
        mixer = windowed if ffn is None or draw(st.integers(0, 3)) else None
        groups.append(LayerGroup(count=draw(st.integers(1, 3)), attention=mixer, ffn=ffn))
    tied, norm_bias = draw(st.booleans()), draw(st.booleans())
    return ModelSpec(
        name="random",
        hidden_size=64 * draw(st.integers(1, 8)),
        vocab_size=1024,
        max_position_embeddings=4096,
        layers=tuple(groups),
        tied_embeddings=tied,
        norm_bias=norm_bias,
        learned_positions=draw(st.sampled_from([0, 128])),
        norms_per_layer=draw(st.sampled_from([2, 4])),
        residual_streams=draw(st.sampled_from([1, 1, 2])),
        **fields,
    )


def _indexer(attention: Mixer | None, hidden: int) -> tuple[int, int, int]:
    """Weights of an indexer that a quantised checkpoint covers, those that it does not, and its norm."""
    index = attention.indexer if isinstance(attention, (GQA, MLA)) else None
    if index is None:
        return 0, 0, 0
    inputs = attention.q_rank or hidden if isinstance(attention, MLA) else hidden
    return index.head_dim * (inputs * index.heads + hidden), hidden * index.heads, 2 * index.head_dim


def _stream_mixing(model: ModelSpec, group: LayerGroup) -> tuple[int, int]:
    """Weights and small parameters that mix residual streams around the blocks of a layer."""
    n = model.residual_streams
    blocks = (group.attention is not None) + (group.ffn is not None)
    return (0, 0) if n == 1 else (blocks * n * (n + 2) * n * model.hidden_size, blocks * (n * (n + 2) + 3))


def _whole_on_every_rank(model: ModelSpec) -> int:
    """Parameters that each tensor-parallel rank has besides its share; experts are divided over all ranks."""
    hidden = model.hidden_size
    norm = hidden * (2 if model.norm_bias else 1)
    count = norm + model.learned_positions * hidden
    for group in model.layers:
        a, ffn = group.attention, group.ffn
        one = model.norms_per_layer // 2 * ((a is not None) + (ffn is not None)) * norm
        one += sum(_indexer(a, hidden)) + sum(_stream_mixing(model, group))
        if isinstance(a, MLA):
            ranks = (a.q_rank or 0) + a.kv_rank
            one += hidden * (ranks + a.rope_dim) + ranks
        elif isinstance(a, GQA):
            one += (hidden if a.out_bias else 0) + (2 * a.head_dim if a.qk_norm else 0)
        elif isinstance(a, GatedDelta):
            one += a.value_dim + hidden * (a.decay_rank or 0)
        if isinstance(ffn, MoE):
            one += ffn.experts * hidden + (ffn.experts if ffn.bias or ffn.router_bias else 0)
            one += (hidden if ffn.shared_gate else 0) + 2 * hidden * (ffn.latent or 0)
        elif ffn is not None:
            one += hidden if ffn.bias else 0
        count += group.count * one
    return count


def _copied_columns(mixer: Mixer | None, tp: int) -> int:
    """Columns beyond one copy, where there are more ranks than KV heads, or than groups of a state-space layer."""
    if isinstance(mixer, GQA):
        values = mixer.v_dim or mixer.head_dim
        return (mixer.head_dim + values) * (max(tp, mixer.kv_heads) - mixer.kv_heads)
    if isinstance(mixer, Mamba2):
        return 2 * mixer.state_dim * (max(tp, mixer.groups) - mixer.groups)
    return 0


def _copied(model: ModelSpec, tp: int) -> int:
    """Parameters of those columns, biases and convolutions included."""
    total = 0
    for group in model.layers:
        a, rows = group.attention, model.hidden_size
        if isinstance(a, Mamba2):
            rows += a.conv_kernel + 1
        elif isinstance(a, GQA) and a.qkv_bias:
            rows += 1
        total += group.count * rows * _copied_columns(a, tp)
    return total


def _covered_mixer(a: Mixer | None, hidden: int) -> int:
    """Weights of attention or a recurrence that a quantised checkpoint covers."""
    if isinstance(a, GQA):
        values = a.v_dim or a.head_dim
        queries = a.heads * a.head_dim * (2 if a.output_gate else 1)
        return hidden * (queries + a.heads * values + a.kv_heads * (a.head_dim + values)) + _indexer(a, hidden)[0]
    if isinstance(a, MLA):
        queries, expanded = a.heads * (a.nope_dim + a.rope_dim), a.heads * (a.nope_dim + a.v_dim)
        one = hidden * (a.kv_rank + a.rope_dim + a.heads * a.v_dim) + a.kv_rank * expanded + _indexer(a, hidden)[0]
        return one + (a.q_rank * (hidden + queries) if a.q_rank else hidden * queries)
    if isinstance(a, GatedDelta):
        return hidden * (2 * a.key_heads * a.key_dim + 3 * a.value_heads * a.value_dim)
    if isinstance(a, Mamba2):
        return hidden * (3 * a.heads * a.head_dim + 2 * a.groups * a.state_dim + a.heads)
    return 0


def _covered(model: ModelSpec) -> int:
    """Weights in the linear layers that the model's number format covers."""
    hidden, covered = model.hidden_size, 0
    for group in model.layers:
        ffn = group.ffn
        if model.quantized == "linears":
            covered += group.count * _covered_mixer(group.attention, hidden)
        if ffn is None:
            continue
        matrices = 3 if ffn.gated else 2
        width = ffn.intermediate if isinstance(ffn, Dense) else ffn.shared_intermediate
        one = 0 if model.quantized == "experts" else matrices * hidden * width
        if isinstance(ffn, MoE):
            inner = ffn.latent or hidden
            one += matrices * inner * ffn.experts * ffn.intermediate
            one += 0 if model.quantized == "experts" else 2 * hidden * (ffn.latent or 0)
        covered += group.count * one
    return covered


@given(models(), st.data())
def test_stages_cover_every_layer_once(model: ModelSpec, data: st.DataObject) -> None:
    pp = data.draw(st.integers(1, model.n_layers))
    shards = stages(model, pp=pp)
    assert [s.first for s in shards] == [i == 0 for i in range(pp)]
    assert [s.last for s in shards] == [i == pp - 1 for i in range(pp)]
    covered = [layer for s in shards for layer in range(*s.layer_range)]
    assert covered == list(range(model.n_layers))
    sizes = [s.layer_range[1] - s.layer_range[0] for s in shards]
    assert max(sizes) - min(sizes) <= 1
    for shard, size in zip(shards, sizes, strict=True):
        assert sum(count for _, count in layers_of(model, shard)) == size


@given(models(), st.data())
def test_weights_of_the_stages_add_up(model: ModelSpec, data: st.DataObject) -> None:
    """Without tensor parallelism nothing is copied, but the embedding of a tied LM head on another stage."""
    pp = data.draw(st.integers(1, model.n_layers))
    shards = stages(model, pp=pp, weights_dtype="bf16")
    copied = model.vocab_size * model.hidden_size if model.tied_embeddings and pp > 1 else 0
    expected = 2.0 * (parameter_counts(model).total + copied)
    assert sum(weight_bytes(model, shard) for shard in shards) == pytest.approx(expected, rel=1e-12)


@given(models(), st.sampled_from([2, 4, 8]), st.booleans())
def test_weights_of_the_ranks_add_up(model: ModelSpec, tp: int, by_expert: bool) -> None:
    """All ranks together hold the model once, and what is not divided once more per further rank."""
    ep, moe_tp = (tp, 1) if by_expert else (1, tp)
    (shard,) = stages(model, tp=tp, ep=ep, moe_tp=moe_tp, weights_dtype="bf16")
    copied = (tp - 1) * _whole_on_every_rank(model) + _copied(model, tp)
    down_biases = sum(
        g.count * g.ffn.experts * (g.ffn.latent or model.hidden_size)
        for g in model.layers
        if isinstance(g.ffn, MoE) and g.ffn.bias and not by_expert
    )
    expected = 2.0 * (parameter_counts(model).total + copied + (tp - 1) * down_biases)
    assert tp * weight_bytes(model, shard) == pytest.approx(expected, rel=1e-12)


@given(models(), st.sampled_from(DTYPES), st.sampled_from(["linears", "ffn", "experts"]))
def test_quantisation_saves_on_covered_linears_only(model: ModelSpec, dtype: str, coverage: str) -> None:
    model = model.model_copy(update={"quantized": coverage})
    (plain,) = stages(model, weights_dtype="bf16")
    (small,) = stages(model, weights_dtype=dtype)
    saved = _covered(model) * (2.0 - bytes_per_element(dtype))
    assert weight_bytes(model, plain) - weight_bytes(model, small) == pytest.approx(saved, rel=1e-9, abs=1e-3)


@given(models(), st.sampled_from([1, 2, 4, 8]), st.sampled_from(["bf16", "fp8"]), st.data())
def test_cache_of_the_ranks_adds_up(model: ModelSpec, tp: int, kv_dtype: str, data: st.DataObject) -> None:
    """Never less than the whole; equal where KV heads divide, and a whole latent on every rank with MLA."""
    pp = data.draw(st.integers(1, model.n_layers))
    shards = stages(model, pp=pp, tp=tp, kv_dtype=kv_dtype)
    ranks = tp * sum(kv_bytes_per_token_rank(model, shard) for shard in shards)
    expected = 0.0
    for group in model.layers:
        a = group.attention
        copies = max(1, tp // a.kv_heads) if isinstance(a, GQA) else tp
        one = LayerGroup(count=group.count, attention=a, ffn=group.ffn)
        index = _indexer(a, 0)[2] // 2
        keys = group.count * (index + 4 if index else 0)
        expected += tp * keys + copies * (
            kv_bytes_per_token(model.model_copy(update={"layers": (one,)}), kv_dtype) - keys
        )
    assert ranks == pytest.approx(expected, rel=1e-12)


@given(models(), st.sampled_from([1, 2, 4, 8]))
def test_states_of_the_ranks_add_up(model: ModelSpec, tp: int) -> None:
    """States are divided by heads; the convolution of a state-space layer is copied where there are few groups."""
    (shard,) = stages(model, tp=tp)
    copied = sum(
        g.count * _copied_columns(g.attention, tp) * (g.attention.conv_kernel - 1) * 2
        for g in model.layers
        if isinstance(g.attention, Mamba2)
    )
    assert tp * state_bytes_rank(model, shard) == pytest.approx(state_bytes_per_sequence(model) + copied, rel=1e-12)


def _flops(operators: list[Operator]) -> float:
    return float(sum(operator.count * operator.flops() for operator in operators))


def _whole_gemms(model: ModelSpec) -> float:
    """FLOPs per token that every tensor-parallel rank does in full."""
    total = 0.0
    for group in model.layers:
        a, ffn = group.attention, group.ffn
        covered, plain, _ = _indexer(a, model.hidden_size)
        one = covered + plain + _stream_mixing(model, group)[0]
        if isinstance(a, MLA):
            one += model.hidden_size * ((a.q_rank or 0) + a.kv_rank + a.rope_dim)
        if isinstance(a, GatedDelta):
            one += model.hidden_size * (a.decay_rank or 0)
        if isinstance(ffn, MoE):
            gate = ffn.shared_gate and ffn.shared_intermediate > 0
            one += model.hidden_size * (ffn.experts + gate + 2 * (ffn.latent or 0))
        total += group.count * 2.0 * one
    return total


@given(models(), st.integers(1, 5000), st.data())
def test_token_flops_are_two_per_active_weight(model: ModelSpec, tokens: int, data: st.DataObject) -> None:
    pp = data.draw(st.integers(1, model.n_layers))
    done = sum(_flops(token_operators(model, shard, np.asarray(float(tokens)))) for shard in stages(model, pp=pp))
    per_token, per_row = model_flops_per_token(model)
    assert done == pytest.approx(per_token * tokens, rel=1e-12)
    rows = [_flops(sequence_operators(model, shard, np.asarray(3.0))) for shard in stages(model, pp=pp)]
    assert rows == [*[0.0] * (pp - 1), pytest.approx(3.0 * per_row)]


@given(models(), st.sampled_from([2, 4, 8]), st.booleans(), st.integers(1, 4))
def test_ranks_share_the_flops(model: ModelSpec, tp: int, by_expert: bool, dp: int) -> None:
    """Together all ranks do the work of all tokens once, and what is not divided once more per further rank."""
    if not model.is_moe:
        dp = 1
    ranks = tp * dp
    if any(isinstance(g.ffn, MoE) and g.ffn.experts % ranks for g in model.layers):
        by_expert = False
    ep, moe_tp = (ranks, 1) if by_expert else (1, ranks)
    (shard,) = stages(model, tp=tp, dp=dp, ep=ep, moe_tp=moe_tp)
    done = ranks * _flops(token_operators(model, shard, np.asarray(10.0)))
    kv_copies = 2.0 * sum(_copied_columns(group.attention, tp) * group.count for group in model.layers)
    kv_copies *= model.hidden_size
    once = model_flops_per_token(model)[0] + (tp - 1) * _whole_gemms(model) + kv_copies
    assert done == pytest.approx(10.0 * dp * once, rel=1e-12)
