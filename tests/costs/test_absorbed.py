"""Absorbed projections of latent attention: one small product per head, in 16 bit or in FP8 blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.costs import CostModel, Fusion
from sim.costs.gemm import GemmCurve, headwise_gemm_time_s
from sim.hardware import load_device
from sim.models import AbsorbedProducts, DecodeAttention, attention_classes, decode_operators, load_model, stages
from sim.testing.scenarios import plan_runner, resolved_plan, small_scenario

DEVICE = load_device("h200-sxm")
PEAK, BANDWIDTH = 989e12, 4.8e12
CURVE = GemmCurve(t0_s=4e-6, e=0.4, f=0.9, p=8.0, tau_s=0.0)


def headwise_s(m: float, heads: float, curve: GemmCurve = CURVE) -> float:
    shape = {"ends_bytes": 2.0, "weight_bytes": 2.0, "flops_per_s": PEAK, "bytes_per_s": BANDWIDTH}
    return float(headwise_gemm_time_s(m, 512.0, 128.0, heads=heads, curve=curve, **shape))  # type: ignore[arg-type]


def products(tokens: float, heads: float = 128.0, weights_dtype: str = "fp8_block") -> AbsorbedProducts:
    return AbsorbedProducts(
        name="absorbed_products",
        cause="decode_attention",
        tokens=np.asarray(tokens),
        heads=heads,
        kv_rank=512.0,
        nope_dim=128.0,
        v_dim=128.0,
        weights_dtype=weights_dtype,
        dtype="bf16",
    )


@given(st.floats(1.0, 1e5), st.integers(1, 128))
def test_no_product_beats_the_roofline_and_none_of_no_tokens_takes_time(m: float, heads: int) -> None:
    flops, moved = 2.0 * m * heads * 512 * 128, 2.0 * heads * (512 * 128 + m * (512 + 128))
    assert headwise_s(m, heads) >= CURVE.t0_s + max(flops / PEAK, moved / BANDWIDTH)
    assert headwise_s(0.0, heads) == 0.0


@given(st.floats(1.0, 1e4), st.integers(1, 64))
def test_twice_the_heads_are_twice_the_work(m: float, heads: int) -> None:
    one, two = (headwise_s(m, h) - CURVE.t0_s for h in (heads, 2 * heads))
    assert two == pytest.approx(2.0 * one)


def test_quantised_inputs_are_a_pass_over_all_heads() -> None:
    added_s = headwise_s(64.0, 16.0, replace(CURVE, c=3.0)) - headwise_s(64.0, 16.0)
    assert added_s == pytest.approx(3.0 * 16 * 64 * 128 / BANDWIDTH)


@pytest.mark.parametrize("tokens", [1.0, 64.0, 512.0])
def test_with_the_products_of_all_heads_they_take_the_time_of_products_head_by_head(tokens: float) -> None:
    costs, op = CostModel(DEVICE, engine="vllm"), products(tokens)
    whole_s = float(costs.cost(op).time_s + costs.total_s(op.together()))
    curve = DEVICE.kernels.get("headwise_gemm", "bf16", "vllm")
    floor_s = sum(op.heads * 2.0 * (512 * 128 + tokens * (512 + 128)) for _ in range(2)) / DEVICE.memory_bytes_per_s
    assert whole_s >= 2.0 * curve["t0_s"] + 0.99 * floor_s
    assert float(op.flops()) == 0.0, "counted with the products of all heads"


def test_fp8_blocks_stay_only_where_the_engine_keeps_them() -> None:
    kept, turned = (CostModel(DEVICE, engine="trtllm", fusion=Fusion(absorbed_fp8=on)) for on in (True, False))
    for tokens in (8.0, 256.0):
        assert float(kept.cost(products(tokens)).time_s) > float(turned.cost(products(tokens)).time_s)
    assert kept.launches([products(8.0)]) == 4.0
    assert turned.launches([products(8.0)]) == 0.0
    plain = products(8.0, weights_dtype="nvfp4")
    assert float(kept.cost(plain).time_s) == float(turned.cost(plain).time_s)


@pytest.mark.parametrize(("node", "kept"), [("dgx-h200", True), ("hgx-b200", False)])
def test_tensorrt_llm_keeps_them_on_hopper(node: str, kept: bool) -> None:
    runner = plan_runner(small_scenario({"engine": "trtllm", "model": "deepseek-v3", "cluster": {"node": node}}))
    (stage,) = runner._stages(resolved_plan(runner, tp=8, kv_dtype="fp8"))
    assert stage.costs.fusion.absorbed_fp8 is kept


def test_latent_decodes_rotate_in_a_kernel_of_their_own_where_that_is_part_of_attention() -> None:
    model = load_model("deepseek-v3")
    (shard,) = stages(model, tp=8)
    (cls,) = attention_classes(model, shard)
    decodes = [
        op for op in decode_operators(model, shard, np.array([4.0]), np.array([400.0]), cls)
        if isinstance(op, DecodeAttention)
    ]  # fmt: skip
    within = CostModel(DEVICE, fusion=Fusion(within_attention=frozenset({"rope"})))
    assert within.launches(decodes) == 2 * CostModel(DEVICE).launches(decodes) == 2 * model.n_layers
