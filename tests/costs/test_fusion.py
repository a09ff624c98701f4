"""Kernels that do the work of others, and streams beside each other: bounds and limiting cases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.costs import CostModel, Fusion, OpCost, side_by_side_share
from sim.hardware import load_cluster, load_device
from sim.hardware.spec import ClusterSpec
from sim.models import Collective, Elementwise, Gemm, Operator, load_model, sequence_operators, stages, token_operators
from sim.testing.scenarios import plan_runner, resolved_plan, small_scenario

DEVICE = load_device("h100-sxm")
BESIDE = Fusion(side_stream=True)
PARTS = st.floats(0.0, 1e-3)


def cost(compute_s: float, memory_s: float, overhead_s: float = 0.0) -> OpCost:
    parts = (compute_s, memory_s, 0.0, overhead_s)
    return OpCost(np.asarray(max(parts)), *(np.asarray(part) for part in parts))


@given(st.lists(st.tuples(st.booleans(), PARTS, PARTS, PARTS), min_size=1, max_size=6))
def test_a_block_takes_no_less_than_its_longer_stream_or_any_resource_and_no_more_than_all_in_turn(
    parts: list[tuple[bool, float, float, float]],
) -> None:
    members = [(aside, cost(*rest)) for aside, *rest in parts]
    serial_s = sum(float(one.time_s) for _, one in members)
    joint_s = serial_s * float(side_by_side_share(members))
    streams = [sum(float(one.time_s) for aside, one in members if aside is side) for side in (False, True)]
    compute_s, memory_s = (sum(float(getattr(one, name)) for _, one in members) for name in ("compute_s", "memory_s"))
    assert max(*streams, compute_s, memory_s) * (1 - 1e-9) <= joint_s <= serial_s * (1 + 1e-9)


def test_streams_bound_by_one_resource_gain_nothing_and_launches_hide_whole() -> None:
    assert side_by_side_share([(False, cost(0.0, 2e-5)), (True, cost(0.0, 1e-5))]) == pytest.approx(1.0)
    assert side_by_side_share([(False, cost(0.0, 0.0, 3e-5)), (True, cost(0.0, 0.0, 1e-5))]) == pytest.approx(0.75)


def _block(m: float) -> list[Operator]:
    main = Gemm(name="a", cause="moe", m=m, n=4096, k=4096, weights_dtype="bf16", stream="main")
    side = Gemm(name="b", cause="ffn_gemm", m=m, n=512, k=4096, weights_dtype="bf16", stream="side")
    return [main, side]


def test_only_neighbours_on_two_streams_overlap_and_the_breakdown_still_adds_up() -> None:
    alone, beside = CostModel(DEVICE), CostModel(DEVICE, fusion=BESIDE)
    block, other = _block(8.0), Elementwise(name="n", cause="norm", moved_bytes=1e6)
    assert beside.total_s(block) < alone.total_s(block)
    assert beside.total_s([block[0], other, block[1]]) == alone.total_s([block[0], other, block[1]])
    assert sum(beside.breakdown([*block, other]).values()) == pytest.approx(float(beside.total_s([*block, other])))
    large = _block(16384.0)
    assert beside.total_s(large) > 0.9 * alone.total_s(large)


def test_streams_of_many_tokens_run_one_after_the_other() -> None:
    alone, beside = CostModel(DEVICE), CostModel(DEVICE, fusion=Fusion(side_stream=True, side_tokens=256))
    few_s, many_s = (float(beside.total_s(_block(m))) for m in (256.0, 257.0))
    assert few_s < float(alone.total_s(_block(256.0)))
    assert many_s == pytest.approx(float(alone.total_s(_block(257.0))))
    both = beside.total_s(_block(np.array([256.0, 257.0])))  # type: ignore[arg-type]
    assert both == pytest.approx([few_s, many_s])


def test_shared_experts_are_beside_the_routed_ones_and_nothing_else_is() -> None:
    model = load_model("deepseek-v3")
    shard = stages(model, tp=8, ep=8)[0]
    operators = token_operators(model, shard, np.asarray(16.0))
    streams = {
        name: {op.stream for op in operators if op.name == name} for name in ("experts", "shared_up", "qkv_down")
    }
    assert streams == {"experts": {"main"}, "shared_up": {"side"}, "qkv_down": {None}}
    dense = load_model("llama-3.1-8b")
    assert {op.stream for op in token_operators(dense, stages(dense)[0], np.asarray(16.0))} == {None}


def test_work_within_other_kernels_costs_no_launch() -> None:
    cluster = load_cluster(ClusterSpec(node="dgx-h100"))
    model = load_model("llama-3.1-8b")
    shard = stages(model, tp=2)[0]
    tokens = np.asarray(16.0)
    operators = [*token_operators(model, shard, tokens), *sequence_operators(model, shard, tokens)]
    groups = {"tp": cluster.group(range(2))}

    def total_s(fusion: Fusion) -> float:
        return float(CostModel(cluster.device, groups=groups, fusion=fusion).total_s(operators))

    stream_s = float(CostModel(cluster.device).cost(Elementwise(name="x", cause="x", moved_bytes=1.0)).time_s)
    saved_s = total_s(Fusion()) - total_s(Fusion(within_attention=frozenset({"rope", "cache_write"})))
    assert saved_s >= 2 * model.n_layers * stream_s
    saved_s = total_s(Fusion()) - total_s(Fusion(norm_bytes=math.inf, norm_kernel="vllm"))
    assert saved_s == pytest.approx(2 * model.n_layers * stream_s, rel=1e-3)


def test_an_all_reduce_takes_in_its_norm_as_far_as_its_buffers_reach() -> None:
    """By the kernel of another engine below the limit, by the engine's own and a norm apart above it."""
    cluster, model = load_cluster(ClusterSpec(node="dgx-h100")), load_model("llama-3.1-70b")
    groups = {"tp": cluster.group(range(8))}
    tokens = np.array([1.0, 32.0, 33.0, 4096.0])  # 16 KiB of a token: 512 KiB are 32
    operators = token_operators(model, stages(model, tp=8)[0], tokens)
    reductions = [op for op in operators if isinstance(op, Collective) and op.before_norm]
    norms = [op for op in operators if op.name == "reduced_norm"]
    fused = CostModel(cluster.device, groups=groups, fusion=Fusion(norm_bytes=2.0**19, norm_kernel="trtllm"))
    apart, lender = (CostModel(cluster.device, groups=groups, engine=engine) for engine in ("vllm", "trtllm"))
    assert fused.total_s(reductions)[:2] == pytest.approx(lender.total_s(reductions)[:2])
    assert fused.total_s(reductions)[2:] == pytest.approx(apart.total_s(reductions)[2:])
    assert fused.total_s(norms)[2:] == pytest.approx(apart.total_s(norms)[2:])
    launch_s = 2 * model.n_layers * cluster.device.kernels.get("elementwise", "bf16", "vllm")["t0_s"]
    assert (apart.total_s(norms) - fused.total_s(norms))[:2] == pytest.approx(launch_s)


def test_padded_experts_keep_the_norm_out_of_their_all_reduce() -> None:
    """gpt-oss works on 2880 columns, its experts in vLLM on 3072: the result is cut before the norm."""
    model, tokens = load_model("gpt-oss-120b"), np.asarray(1.0)
    for multiple, width, behind in ((1, 2880, 2.0), (256, 3072, 1.0)):
        operators = token_operators(model, replace(stages(model, tp=8)[0], experts_padded_to=multiple), tokens)
        counts = {op.name: op.count for op in operators}
        assert counts["reduced_norm"] == behind * model.n_layers
        assert counts["reduced_norm"] + counts.get("add_norm", 0.0) == 2 * model.n_layers
        (reduced,) = (op for op in operators if op.name == "ffn_all_reduce")
        assert reduced.buffer_bytes == 2 * width  # type: ignore[union-attr]
    even = load_model("deepseek-v3")
    shard = replace(stages(even, tp=8)[0], experts_padded_to=256)
    assert all(op.name != "add_norm" for op in token_operators(even, shard, tokens))


@pytest.mark.parametrize(
    ("node", "backend", "to"), [("dgx-h100", None, 1), ("dgx-h100", "marlin", 256), ("hgx-b200", None, 256)]
)
def test_libraries_of_experts_pad_and_triton_does_not(node: str, backend: str | None, to: int) -> None:
    scenario = {"engine": "vllm", "model": "gpt-oss-120b", "cluster": {"node": node}}
    runner = plan_runner(small_scenario(scenario))
    (stage,) = runner._stages(resolved_plan(runner, tp=8, moe_backend=backend))
    assert stage.shard.experts_padded_to == to


@pytest.mark.parametrize(
    ("engine", "node", "weights", "packs"),
    [
        ("trtllm", "hgx-b200", "nvfp4", True),
        ("trtllm", "hgx-b200", "fp8", False),
        ("trtllm", "dgx-h100", "nvfp4", False),
        ("trtllm", "8x-rtx-pro-6000", "nvfp4", False),
        ("vllm", "hgx-b200", "nvfp4", False),
    ],
)
def test_activations_are_packed_in_a_kernel_of_their_own_before_a_product_that_wants_them_so(
    engine: str, node: str, weights: str, packs: bool
) -> None:
    """On Hopper NVFP4 is of weights alone, on RTX PRO the curve is of another engine, which packs within its products.

    Each packing reads 16 bits and writes 4.5, scales and all.
    """
    model, tokens = load_model("llama-3.1-8b"), np.asarray(64.0)
    runner = plan_runner(small_scenario({"engine": engine, "model": model.name, "cluster": {"node": node}}))
    (stage,) = runner._stages(resolved_plan(runner, tp=2, weights_dtype=weights))
    packing = [op for op in token_operators(model, stage.shard, tokens) if op.name == "ffn_pack"]
    assert sum(op.count for op in packing) == packs * model.n_layers
    assert all(op.bytes() == 64 * 14336 / 2 * (2 + 4.5 / 8) for op in packing)
    assert stage.costs.launches(packing) == packs * model.n_layers


@pytest.mark.parametrize("model", ["deepseek-v4-flash", "opt-30b"])
def test_nothing_but_an_add_and_an_rms_norm_goes_into_an_all_reduce(model: str) -> None:
    """Several residual streams are spread and merged between, and LayerNorm has no such kernel."""
    spec = load_model(model)
    operators = token_operators(spec, stages(spec, tp=8)[0], np.asarray(1.0))
    assert not any(op.before_norm for op in operators if isinstance(op, Collective))
    assert "reduced_norm" not in {op.name for op in operators}


def test_norms_of_their_own_are_calls_of_the_host() -> None:
    model = load_model("llama-3.1-8b")
    operators = token_operators(model, stages(model, tp=2)[0], np.asarray(1.0))
    apart, within = (CostModel(DEVICE, fusion=Fusion(norm_bytes=most)).host_calls(operators) for most in (0.0, 1e6))
    assert apart - within == 2 * model.n_layers


def test_queries_and_keys_normed_in_one_kernel_save_its_launch_alone() -> None:
    model = load_model("qwen3-32b")
    norms = [op for op in token_operators(model, stages(model)[0], np.asarray(4096.0)) if op.name == "qk_norm"]
    apart, one = (CostModel(DEVICE, fusion=Fusion(one_qk_norm=on)) for on in (False, True))
    curve = DEVICE.kernels.get("elementwise", "bf16", "vllm")
    saved_s = float(apart.total_s(norms) - one.total_s(norms))
    assert saved_s == pytest.approx(model.n_layers * curve["t0_s"])
    assert apart.launches(norms) == 2 * one.launches(norms)


@pytest.mark.parametrize(
    ("engine", "model", "apart"),
    [
        ("trtllm", "qwen3-32b", True),
        ("trtllm", "qwen3-235b-a22b", False),
        ("trtllm", "llama-3.1-8b", False),
        ("vllm", "qwen3-32b", False),
    ],
)
def test_only_dense_models_with_normed_queries_keep_norms_out_of_all_reduces(
    engine: str, model: str, apart: bool
) -> None:
    """As TensorRT-LLM's `modeling_qwen3.py` has it; its experts' twin fuses them."""
    runner = plan_runner(small_scenario({"engine": engine, "model": model, "cluster": {"node": "dgx-h100"}}))
    plan = resolved_plan(runner, tp=8, kv_dtype="bf16")
    (stage,) = runner._stages(plan)
    tokens = np.asarray(8.0)
    norms = [op for op in token_operators(runner.things.model, stage.shard, tokens) if op.name == "reduced_norm"]
    assert (stage.costs.launches(norms) > 0.0) is apart


def test_norms_follow_an_all_reduce_only_where_ranks_share_a_layer() -> None:
    model = load_model("gemma-2-9b")
    for tp, reduced in ((1, 0.0), (2, 2.0 * model.n_layers)):
        counts = {op.name: op.count for op in token_operators(model, stages(model, tp=tp)[0], np.asarray(1.0))}
        assert counts.get("reduced_norm", 0.0) == reduced
        assert counts.get("reduced_norm", 0.0) + counts["add_norm"] == 4.0 * model.n_layers


@pytest.mark.parametrize(("engine", "apart"), [("sglang", True), ("sglang-0.5.10", False), ("vllm", False)])
def test_sglang_joined_the_inputs_of_recurrent_layers_in_the_spring_of_2026(engine: str, apart: bool) -> None:
    scenario = {"engine": engine, "model": "qwen3.5-35b-a3b", "cluster": {"node": "dgx-h100"}}
    runner = plan_runner(small_scenario(scenario))
    (stage,) = runner._stages(resolved_plan(runner, tp=1, kv_dtype="bf16"))
    names = {op.name for op in token_operators(runner.things.model, stage.shard, np.asarray(8.0))}
    assert {"qkv", "decay"} <= names
    assert {"gate", "rate"} & names == ({"gate", "rate"} if apart else set())
