"""Expansion: FLOPs equal the closed forms, weights are those of the shard, communication is where it belongs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.core import data_names
from sim.models import (
    AbsorbedProducts,
    AttentionClass,
    Collective,
    DecodeAttention,
    Gemm,
    GroupedGemm,
    ModelSpec,
    Operator,
    Shard,
    StateScan,
    StateUpdate,
    attention_classes,
    attention_flops_per_key,
    decode_operators,
    load_model,
    model_flops_per_token,
    prefill_operators,
    sequence_operators,
    stages,
    token_operators,
)

CAUSES = {
    "attention_gemm", "ffn_gemm", "moe", "prefill_attention", "decode_attention", "elementwise", "embedding",
    "lm_head", "sampling", "tp_comm", "ep_comm", "dp_comm", "pp_comm",
}  # fmt: skip


def _by_name(operators: list[Operator]) -> dict[str, Operator]:
    return {operator.name: operator for operator in operators}


@pytest.mark.parametrize("name", data_names("workloads/models"))
def test_every_shipped_model_expands(name: str) -> None:
    model = load_model(name)
    (shard,) = stages(model)
    tokens = np.array([1.0, 64.0, 8192.0])
    operators = token_operators(model, shard, tokens)
    total = sum(op.count * op.flops() for op in operators)
    assert total == pytest.approx(model_flops_per_token(model)[0] * tokens)
    assert len(operators) < 70
    operators += sequence_operators(model, shard, tokens)
    for cls in attention_classes(model, shard):
        operators += decode_operators(model, shard, tokens, 100.0 * tokens, cls)
        operators += prefill_operators(model, shard, tokens, 0.0 * tokens, cls)
    for op in operators:
        assert op.cause in CAUSES
        assert (np.diff(np.broadcast_to(op.bytes(), tokens.shape)) >= 0).all()
        assert not isinstance(op, Collective)


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3.2", "qwen3.5-35b-a3b", "nemotron-h-56b"]
)
def test_an_fp32_model_moves_twice_the_bytes_of_a_16_bit_one(name: str) -> None:
    """All but what has a width of its own: expert indices, 8-bit index keys, recurrent states."""

    def operators(dtype: str) -> list[Operator]:
        model = load_model(name).model_copy(update={"dtype": dtype})
        shard = stages(model, pp=2, tp=2, moe_tp=2, weights_dtype=dtype, kv_dtype=dtype)[1]
        tokens = np.asarray(64.0)
        found = [*token_operators(model, shard, tokens), *sequence_operators(model, shard, tokens)]
        for cls in attention_classes(model, shard):
            found += decode_operators(model, shard, tokens, 100.0 * tokens, cls)
            found += prefill_operators(model, shard, tokens, tokens, cls)
        return found

    def moved_bytes(op: Operator) -> float:
        if isinstance(op, StateUpdate):
            return float(op.bytes() - 2.0 * op.state_bytes * op.sequences)
        if isinstance(op, StateScan):
            return float(op.bytes() - 2.0 * op.state_bytes)
        return float(op.buffer_bytes if isinstance(op, Collective) else op.bytes())

    for half, full in zip(operators("bf16"), operators("fp32"), strict=True):
        own = half.name in ("top_k", "sampling") or "index" in half.name
        if not own or isinstance(half, Gemm):
            assert moved_bytes(full) == pytest.approx(2.0 * moved_bytes(half)), half.name


def test_weights_read_are_those_of_the_shard() -> None:
    """GEMM bytes of a large dense shard, activations apart, are its weight bytes without norms and embedding."""
    model = load_model("llama-3.1-70b")
    (shard,) = stages(model, tp=8, weights_dtype="fp8")
    operators = token_operators(model, shard, np.asarray(0.0)) + sequence_operators(model, shard, np.asarray(0.0))
    read = sum(op.count * op.bytes() for op in operators)
    hidden, vocab = 8192, 128256
    linear = 80 * (2 * 8192 * 128 * (64 + 8) + 3 * 8192 * 28672) / 8
    assert read == pytest.approx(linear + 2 * vocab * hidden / 8)


def test_dense_model_over_four_ranks_and_two_stages() -> None:
    model = load_model("llama-3.1-8b")
    first, last = stages(model, tp=4, pp=2)
    tokens = np.asarray(100.0)
    head, tail = _by_name(token_operators(model, first, tokens)), _by_name(token_operators(model, last, tokens))
    assert "embedding" in head
    assert "final_norm" not in head
    assert "embedding" not in tail
    assert "final_norm" in tail
    qkv, down = head["qkv"], head["ffn_down"]
    assert isinstance(qkv, Gemm)
    assert isinstance(down, Gemm)
    assert (qkv.m, qkv.k, qkv.n, qkv.count) == (100.0, 4096, 4096 / 4 + 2 * 1024 / 4, 16)
    assert (down.k, down.n) == (14336 / 4, 4096)
    hidden_bytes = 100 * 4096 * 2
    for name in ("attention_all_reduce", "ffn_all_reduce"):
        reduce = head[name]
        assert isinstance(reduce, Collective)
        assert (reduce.kind, reduce.group, reduce.buffer_bytes, reduce.count) == ("all_reduce", "tp", hidden_bytes, 16)
    transfer, gather = tail["stage_transfer"], tail["stage_gather"]
    assert isinstance(transfer, Collective)
    assert isinstance(gather, Collective)
    assert (transfer.kind, transfer.buffer_bytes, transfer.count) == ("p2p", hidden_bytes / 4, 2)
    assert (gather.kind, gather.group, gather.buffer_bytes, gather.cause) == (
        "all_gather",
        "tp",
        hidden_bytes,
        "pp_comm",
    )
    assert sequence_operators(model, first, tokens) == []
    names = [op.name for op in sequence_operators(model, last, tokens)]
    assert names == ["lm_head", "logits_gather", "sampling"]


def test_one_rank_communicates_nothing() -> None:
    for name in ("llama-3.1-8b", "deepseek-v3", "gpt-oss-20b"):
        model = load_model(name)
        (shard,) = stages(model)
        operators = token_operators(model, shard, np.asarray(5.0)) + sequence_operators(model, shard, np.asarray(5.0))
        assert not [op for op in operators if isinstance(op, Collective)]


def test_experts_over_data_parallel_attention() -> None:
    model = load_model("deepseek-v3")
    (shard,) = stages(model, dp=8, ep=8)
    operators = _by_name(token_operators(model, shard, np.asarray(16.0)))
    experts, gather = operators["experts"], operators["experts_all_gather"]
    assert isinstance(experts, GroupedGemm)
    assert isinstance(gather, Collective)
    assert (experts.tokens, experts.experts, experts.total_experts, experts.intermediate) == (128.0, 32, 256, 2048)
    assert (gather.buffer_bytes, gather.group, gather.count) == (128 * 7168 * 2, "dp", 58)
    assert operators["experts_reduce_scatter"].count == 58
    assert not [name for name in operators if name.endswith("all_reduce")]
    assert operators["shared_up"].count == 58
    assert operators["ffn_up"].count == 3


@pytest.mark.parametrize(
    ("quantized", "attention", "shared"),
    [("linears", "nvfp4", "nvfp4"), ("ffn", "bf16", "nvfp4"), ("experts", "bf16", "bf16")],
)
def test_formats_follow_what_the_checkpoint_covers(quantized: str, attention: str, shared: str) -> None:
    model = load_model("deepseek-v3").model_copy(update={"quantized": quantized})
    (shard,) = stages(model, weights_dtype="nvfp4")
    operators = token_operators(model, shard, np.asarray(1.0))
    formats = {op.name: op.weights_dtype for op in operators if isinstance(op, Gemm | GroupedGemm)}
    assert formats["o"] == attention
    assert formats["shared_up"] == formats["ffn_up"] == shared
    assert formats["experts"] == "nvfp4"
    assert formats["router"] == "bf16"


def _attention(model: ModelSpec, shard: Shard) -> list[AttentionClass]:
    return list(attention_classes(model, shard))


@pytest.mark.parametrize("name", ["llama-3.1-70b", "gpt-oss-120b", "opt-13b"])
def test_decode_attention_flops(name: str) -> None:
    model = load_model(name)
    (shard,) = stages(model, tp=4)
    attended = np.array([100.0, 5000.0])
    done = sum(
        op.count * op.flops()
        for cls in _attention(model, shard)
        for op in decode_operators(model, shard, np.array([1.0, 4.0]), attended, cls)
    )
    assert 4 * done == pytest.approx(attention_flops_per_key(model) * attended)


def test_prefill_attention_flops_are_half_of_the_square() -> None:
    model = load_model("llama-3.1-70b")
    (shard,) = stages(model, tp=8)
    (cls,) = _attention(model, shard)
    (op,) = prefill_operators(model, shard, np.asarray(4096.0), np.asarray(0.0), cls)
    assert 8 * op.count * op.flops() == pytest.approx(attention_flops_per_key(model) * 4096 * 4097 / 2)


def test_latent_attention_decodes_absorbed_and_prefills_expanded() -> None:
    model = load_model("deepseek-v3")
    (shard,) = stages(model, tp=8)
    (cls,) = _attention(model, shard)
    assert cls.kv_bytes_per_token == 70_272
    absorbed, decode = decode_operators(model, shard, np.asarray(2.0), np.asarray(200.0), cls)
    assert isinstance(decode, DecodeAttention)
    assert (decode.q_heads, decode.kv_heads, decode.head_dim, decode.v_dim, decode.kind) == (16, 1, 576, 512, "mla")
    assert isinstance(absorbed, AbsorbedProducts)
    assert [op.n * op.k for op in absorbed.together()] == [16 * 128 * 512] * 2, "the weights that prompts expand with"
    assert absorbed.count == decode.count == 61
    (prefill,) = prefill_operators(model, shard, np.asarray(8.0), np.asarray(0.0), cls)
    assert (prefill.q_heads, prefill.kv_heads, prefill.head_dim, prefill.v_dim) == (16, 16, 192, 128)


def test_norms_and_positions_follow_the_model() -> None:
    def names(model: str) -> dict[str, float]:
        spec = load_model(model)
        counts: dict[str, float] = {}
        for op in token_operators(spec, stages(spec)[0], np.asarray(1.0)):
            counts[op.name] = counts.get(op.name, 0.0) + op.count
        return counts

    assert "rope" not in names("opt-13b")
    assert "rope" in names("llama-2-7b")
    assert names("qwen3-8b")["qk_norm"] == 2 * 36
    assert names("gemma-2-9b")["add_norm"] == 4 * 42
    assert names("deepseek-v2-lite")["latent_norm"] == 27
    assert names("deepseek-v3")["latent_norm"] == 2 * 61


@pytest.mark.parametrize("ranks", [2, 16, 64])
def test_an_all_to_all_moves_the_tokens_to_their_experts_only(ranks: int) -> None:
    """A token of k experts reaches n (1 - (1 - 1/n)^k) ranks; sent in a narrow format it takes that format's bytes."""
    model = load_model("deepseek-v3")
    tokens = np.array([7.0])

    def moved(**fields: Any) -> dict[str, float]:
        (shard,) = stages(model, dp=ranks, ep=ranks, **fields)
        found = [op for op in token_operators(model, shard, tokens) if isinstance(op, Collective) and op.group == "dp"]
        return {op.name: float(np.ravel(op.buffer_bytes)[0]) for op in found}

    gathered, sent = moved(), moved(all_to_all=True, dispatch_dtype="nvfp4")
    hidden = 7.0 * model.hidden_size
    assert gathered == {"experts_all_gather": 2 * hidden * ranks, "experts_reduce_scatter": 2 * hidden * ranks}
    reached = ranks * (1.0 - (1.0 - 1.0 / ranks) ** 8)
    assert sent["experts_dispatch"] == pytest.approx(hidden * (0.5 + 1 / 16) * reached)
    assert sent["experts_combine"] == pytest.approx(2 * hidden * reached)
    assert reached <= min(ranks, 8)


def test_traffic_says_how_unevenly_experts_are_picked_but_not_where_they_are_used_alike() -> None:
    for name, picked in (("qwen3-30b-a3b", 3.0), ("mixtral-8x7b", float("inf"))):
        model = load_model(name)
        operators = token_operators(model, replace(stages(model)[0], popularity=3.0), np.asarray(16.0))
        assert {op.popularity for op in operators if isinstance(op, GroupedGemm)} == {picked}
