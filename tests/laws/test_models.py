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
    LayerGroup,
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
    token_operators,
    weight_bytes,
)

DTYPES = ("bf16", "fp8", "fp8_block", "int8", "int4", "mxfp4", "nvfp4")


@st.composite
def attentions(draw: st.DrawFn) -> GQA | MLA:
    heads = 8 * draw(st.integers(1, 4))
    if draw(st.booleans()):
        rank = draw(st.sampled_from([None, 96]))
        return MLA(heads=heads, q_rank=rank, kv_rank=64, nope_dim=32, rope_dim=16, v_dim=24)
    return GQA(
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
    )


@st.composite
def models(draw: st.DrawFn, **fields: Any) -> ModelSpec:
    """A model of one to three groups that share one attention, some with windows."""
    attention = draw(attentions())
    groups = []
    for _ in range(draw(st.integers(1, 3))):
        windowed = attention
        if isinstance(attention, GQA) and draw(st.booleans()):
            windowed = attention.model_copy(update={"window": 128})
        groups.append(LayerGroup(count=draw(st.integers(1, 3)), attention=windowed, ffn=draw(blocks())))
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
        **fields,
    )


def _whole_on_every_rank(model: ModelSpec) -> int:
    """Parameters that each tensor-parallel rank has besides its share; experts are divided over all ranks."""
    hidden = model.hidden_size
    norm = hidden * (2 if model.norm_bias else 1)
    count = (model.norms_per_layer * model.n_layers + 1) * norm + model.learned_positions * hidden
    for group in model.layers:
        a, ffn = group.attention, group.ffn
        if isinstance(a, MLA):
            ranks = (a.q_rank or 0) + a.kv_rank
            one = hidden * (ranks + a.rope_dim) + ranks
        else:
            one = (hidden if a.out_bias else 0) + (2 * a.head_dim if a.qk_norm else 0)
        if isinstance(ffn, MoE):
            one += ffn.experts * hidden + (ffn.experts if ffn.bias or ffn.router_bias else 0)
            one += hidden if ffn.shared_gate else 0
        else:
            one += hidden if ffn.bias else 0
        count += group.count * one
    return count


def _copied_kv_columns(attention: GQA | MLA, tp: int) -> int:
    """Columns of keys and values beyond one copy, where there are more ranks than KV heads."""
    if isinstance(attention, MLA):
        return 0
    return 2 * attention.head_dim * (max(tp, attention.kv_heads) - attention.kv_heads)


def _copied_kv(model: ModelSpec, tp: int) -> int:
    """Parameters of those columns, biases included."""
    total = 0
    for group in model.layers:
        rows = model.hidden_size + (1 if isinstance(group.attention, GQA) and group.attention.qkv_bias else 0)
        total += group.count * rows * _copied_kv_columns(group.attention, tp)
    return total


def _covered(model: ModelSpec) -> int:
    """Weights in the linear layers that the model's number format covers."""
    hidden, covered = model.hidden_size, 0
    for group in model.layers:
        a, ffn = group.attention, group.ffn
        if model.quantized == "linears" and isinstance(a, GQA):
            covered += group.count * 2 * hidden * a.head_dim * (a.heads + a.kv_heads)
        elif model.quantized == "linears" and isinstance(a, MLA):
            queries, expanded = a.heads * (a.nope_dim + a.rope_dim), a.heads * (a.nope_dim + a.v_dim)
            one = hidden * (a.kv_rank + a.rope_dim + a.heads * a.v_dim) + a.kv_rank * expanded
            covered += group.count * (one + (a.q_rank * (hidden + queries) if a.q_rank else hidden * queries))
        width = ffn.intermediate if isinstance(ffn, Dense) else ffn.shared_intermediate
        width = 0 if model.quantized == "experts" else width
        if isinstance(ffn, MoE):
            width += ffn.experts * ffn.intermediate
        covered += group.count * (3 if ffn.gated else 2) * hidden * width
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
    copied = (tp - 1) * _whole_on_every_rank(model) + _copied_kv(model, tp)
    down_biases = sum(
        g.count * g.ffn.experts * model.hidden_size
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
    whole = kv_bytes_per_token(model, kv_dtype)
    attention = model.layers[0].attention
    copies = tp if isinstance(attention, MLA) else max(1, tp // attention.kv_heads)
    assert ranks == pytest.approx(copies * whole, rel=1e-12)


def _flops(operators: list[Operator]) -> float:
    return float(sum(operator.count * operator.flops() for operator in operators))


def _whole_gemms(model: ModelSpec) -> float:
    """FLOPs per token that every tensor-parallel rank does in full: routers and MLA's down-projections."""
    total = 0.0
    for group in model.layers:
        a = group.attention
        if isinstance(a, MLA):
            total += group.count * 2.0 * model.hidden_size * ((a.q_rank or 0) + a.kv_rank + a.rope_dim)
        if isinstance(group.ffn, MoE):
            total += group.count * 2.0 * model.hidden_size * group.ffn.experts
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
    kv_copies = 2.0 * sum(_copied_kv_columns(group.attention, tp) * group.count for group in model.layers)
    kv_copies *= model.hidden_size
    once = model_flops_per_token(model)[0] + (tp - 1) * _whole_gemms(model) + kv_copies
    assert done == pytest.approx(10.0 * dp * once, rel=1e-12)
