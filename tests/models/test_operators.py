"""Operators: FLOPs and bytes by hand, broadcasting, monotone in the work."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sim.models import (
    Collective,
    DecodeAttention,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
    PrefillAttention,
    Sampling,
)


def _experts(tokens: object, **fields: object) -> GroupedGemm:
    shape = {"experts": 8, "total_experts": 8, "top_k": 2, "hidden": 16, "intermediate": 32, "gated": True}
    return GroupedGemm(name="e", cause="moe", tokens=tokens, weights_dtype="bf16", **{**shape, **fields})  # type: ignore[arg-type]


def _prefill(chunk: object, prefix: object, **fields: object) -> PrefillAttention:
    shape = {"q_heads": 4, "kv_heads": 2, "head_dim": 8, "v_dim": 8, "kv_dtype": "bf16"}
    return PrefillAttention(name="p", cause="prefill_attention", chunk=chunk, prefix=prefix, **{**shape, **fields})  # type: ignore[arg-type]


def test_gemm() -> None:
    gemm = Gemm(name="g", cause="ffn_gemm", m=np.array([1.0, 4.0]), n=8, k=16, weights_dtype="fp8")
    assert gemm.flops().tolist() == [256.0, 1024.0]
    assert gemm.bytes().tolist() == [128.0 + 48.0, 128.0 + 192.0]
    assert gemm.compute_dtype == "fp8"


@pytest.mark.parametrize(
    ("dtype", "compute"),
    [("int4", "bf16"), ("mxfp4", "bf16"), ("nvfp4", "fp4"), ("fp8_block", "fp8"), ("fp16", "fp16")],
)
def test_what_weights_are_multiplied_in(dtype: str, compute: str) -> None:
    assert Gemm(name="g", cause="x", m=1.0, n=1, k=1, weights_dtype=dtype).compute_dtype == compute


def test_an_fp32_model_moves_twice_the_bytes_of_a_16_bit_one_and_multiplies_in_fp32() -> None:
    def operators(dtype: str) -> list[Gemm | DecodeAttention | PrefillAttention | Embedding]:
        heads = {"q_heads": 4.0, "kv_heads": 2.0, "head_dim": 8.0, "v_dim": 8.0}
        return [
            Gemm(name="g", cause="x", m=3.0, n=5, k=7, weights_dtype=dtype),
            DecodeAttention(name="d", cause="x", sequences=3.0, context=50.0, kv_dtype=dtype, **heads),
            _prefill(5.0, 9.0, kv_dtype=dtype),
            Embedding(name="e", cause="x", tokens=3.0, width=16.0, dtype=dtype),
        ]

    for half, full in zip(operators("fp16"), operators("fp32"), strict=True):
        assert full.bytes() == 2.0 * half.bytes()
        assert full.flops() == half.flops()
        assert full.compute_dtype == "fp32"


def test_grouped_gemm_with_one_token_reads_its_experts_only() -> None:
    one = _experts(1.0)
    assert one.pairs() == pytest.approx(2.0)
    assert one.touched() == pytest.approx(2.0)
    assert one.flops() == pytest.approx(2.0 * 2.0 * 3 * 16 * 32)
    assert one.bytes() == pytest.approx(2.0 * 3 * 16 * 32 * 2.0 + 2 * 2.0 * 16 * 2.0)


def test_grouped_gemm_touches_all_experts_in_the_end() -> None:
    assert _experts(1e4).touched() == pytest.approx(8.0)
    assert _experts(1e4, gated=False).flops() == pytest.approx(_experts(1e4).flops() * 2 / 3)
    half = _experts(64.0, experts=4)
    assert half.flops() == pytest.approx(_experts(64.0).flops() / 2)


def test_decode_attention() -> None:
    op = DecodeAttention(
        name="d", cause="decode_attention", sequences=2.0, context=100.0, q_heads=8, kv_heads=2, head_dim=16, v_dim=16,
        kv_dtype="fp8",
    )  # fmt: skip
    assert op.flops() == 4 * 8 * 16 * 100
    assert op.bytes() == 2 * 2 * 16 * 100 + 2 * 8 * 32 * 2
    assert op.kv_bytes_per_key() == 64.0


def test_absorbed_latent_is_read_once_for_keys_and_values() -> None:
    op = DecodeAttention(
        name="d", cause="decode_attention", sequences=1.0, context=1000.0, q_heads=128, kv_heads=1, head_dim=576,
        v_dim=512, kv_dtype="bf16", kind="mla",
    )  # fmt: skip
    assert op.kv_bytes_per_key() == 1152.0
    assert op.flops() == 2 * 128 * 1088 * 1000


@given(st.integers(0, 60), st.integers(1, 60), st.one_of(st.none(), st.integers(1, 80)))
def test_attended_keys_are_those_of_the_mask(prefix: int, chunk: int, window: int | None) -> None:
    positions = range(prefix, prefix + chunk)
    brute = sum(min(position + 1, window or position + 1) for position in positions)
    op = _prefill(float(chunk), float(prefix), window=window)
    assert op.attended() == pytest.approx(brute)
    assert op.flops() == pytest.approx(4 * 4 * 8 * brute)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 500))
def test_chunks_of_a_prompt_attend_as_the_whole(first: int, second: int, prefix: int) -> None:
    whole = _prefill(float(first + second), float(prefix)).flops()
    parts = _prefill(float(first), float(prefix)).flops() + _prefill(float(second), float(prefix + first)).flops()
    assert parts == pytest.approx(float(whole))


def test_prefill_reads_keys_of_prefix_and_chunk() -> None:
    row = 2.0 * 4 * 16  # query and result
    key = 2.0 * 2 * 16
    assert _prefill(10.0, 30.0).bytes() == pytest.approx(10 * row + 40 * key)
    assert _prefill(10.0, 30.0, window=8).bytes() == pytest.approx(10 * row + 18 * key)


def test_kernels_that_only_move_data() -> None:
    moved = np.array([0.0, 10.0])
    for op, expected in (
        (Elementwise(name="n", cause="elementwise", moved_bytes=moved), moved),
        (Embedding(name="e", cause="embedding", tokens=moved, width=3), 12.0 * moved),
        (Sampling(name="s", cause="sampling", rows=moved, vocab=5), 60.0 * moved),
    ):
        assert op.flops().tolist() == [0.0, 0.0]
        assert op.bytes().tolist() == expected.tolist()
        assert op.compute_dtype == "fp32"
    transfer = Collective(name="c", cause="tp_comm", kind="all_reduce", buffer_bytes=moved, group="tp")
    assert transfer.flops().tolist() == transfer.bytes().tolist() == [0.0, 0.0]
    assert transfer.compute_dtype == "fp32"


@given(st.floats(0, 1e6), st.floats(0, 1e6))
@example(4.5, 5.0)
def test_more_tokens_are_never_less_work(a: float, b: float) -> None:
    low, high = sorted((a, b))
    for op in (
        lambda n: Gemm(name="g", cause="x", m=n, n=8, k=16, weights_dtype="int4"),
        _experts,
        lambda n: _prefill(n, 7.0),
        lambda n: _prefill(n, 7.0, window=5),
        lambda n: _prefill(9.0, n, window=5),
        lambda n: Embedding(name="e", cause="x", tokens=n, width=3),
    ):
        assert op(low).flops() <= op(high).flops() * (1 + 1e-12)
        assert op(low).bytes() <= op(high).bytes() * (1 + 1e-12)


def test_fields_broadcast() -> None:
    op = DecodeAttention(
        name="d", cause="decode_attention", sequences=np.ones((3, 1)), context=np.ones(4), q_heads=1, kv_heads=1,
        head_dim=1, v_dim=1, kv_dtype="bf16",
    )  # fmt: skip
    assert op.bytes().shape == (3, 4)
    assert _prefill(np.ones((3, 1)), np.zeros(4)).bytes().shape == (3, 4)
