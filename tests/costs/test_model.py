"""The cost model's choices: precision, eager mode, groups, bounds and what it reports about its sources."""

from __future__ import annotations

import numpy as np
import pytest

from sim.core import InputError
from sim.costs import CostModel, precision_of
from sim.hardware import ClusterSpec, load_cluster, load_device
from sim.models import Collective, DecodeAttention, Elementwise, Gemm, GroupedGemm, Operator, PrefillAttention
from sim.models.routing import EVEN


def gemm(m: float, weights_dtype: str = "bf16") -> Gemm:
    return Gemm(name="x", cause="gemm", m=m, n=8192, k=8192, weights_dtype=weights_dtype)


def seconds(device: str, operator: Operator, **options: float) -> float:
    return float(CostModel(load_device(device), groups={}, **options).cost(operator).time_s)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "stored", "kernel", "arithmetic", "weight_only"),
    [
        ("h100-sxm", "bf16", "bf16", "bf16", False),
        ("h100-sxm", "fp8", "fp8", "fp8", False),
        ("h100-sxm", "fp8_block", "fp8_block", "fp8", False),
        ("h100-sxm", "int4", "int4", "bf16", True),
        ("h100-sxm", "nvfp4", "w4a16", "bf16", True),
        ("b200-sxm", "nvfp4", "nvfp4", "fp4", False),
        ("b200-sxm", "mxfp4", "mxfp4", "fp8", False),
        ("h100-sxm", "mxfp4", "w4a16", "bf16", True),
        ("a100-80-sxm", "fp8", "w8a16", "bf16", True),
        ("a100-80-sxm", "int8", "int8", "int8", False),
    ],
)
def test_precision(device: str, stored: str, kernel: str, arithmetic: str, weight_only: bool) -> None:
    found = precision_of(load_device(device), stored)
    assert (found.kernel, found.arithmetic, found.weight_only) == (kernel, arithmetic, weight_only)
    assert found.flops_per_s == load_device(device).flops[arithmetic]


def test_weight_only_weights_help_decode_not_prefill() -> None:
    assert seconds("h100-sxm", gemm(1, "int4")) < 0.6 * seconds("h100-sxm", gemm(1))
    assert seconds("h100-sxm", gemm(8192, "int4")) > 0.95 * seconds("h100-sxm", gemm(8192))


def test_fp8_on_ampere_computes_in_bf16() -> None:
    assert seconds("a100-80-sxm", gemm(8192, "fp8")) > 0.95 * seconds("a100-80-sxm", gemm(8192))
    assert seconds("a100-80-sxm", gemm(1, "fp8")) < seconds("a100-80-sxm", gemm(1))


def test_eager_mode_adds_launches_to_short_kernels_only() -> None:
    norm = Elementwise(name="n", cause="norm", moved_bytes=1e4)
    assert seconds("h100-sxm", norm, eager_launch_s=6e-6) == pytest.approx(6e-6)
    assert seconds("h100-sxm", gemm(8192), eager_launch_s=6e-6) == seconds("h100-sxm", gemm(8192))


def test_bound_names_what_limits() -> None:
    costs = CostModel(load_device("h100-sxm"), groups={})
    cost = costs.cost(Gemm(name="x", cause="gemm", m=np.array([1.0, 16384.0]), n=8192, k=8192, weights_dtype="bf16"))
    assert cost.bound().tolist() == ["memory", "compute"]
    assert costs.cost(Elementwise(name="n", cause="norm", moved_bytes=64.0)).bound() == "launch"


def test_collectives_need_their_group() -> None:
    reduce = Collective(name="r", cause="communication", kind="all_reduce", buffer_bytes=1e6, group="tp")
    with pytest.raises(InputError, match="'tp'"):
        CostModel(load_device("h100-sxm"), groups={}).cost(reduce)


def test_collectives_are_network_time_and_name_their_source() -> None:
    cluster = load_cluster(ClusterSpec(node="dgx-h100"))
    costs = CostModel(cluster.device, groups={"tp": cluster.group(range(8))})
    cost = costs.cost(
        Collective(name="r", cause="communication", kind="all_reduce", buffer_bytes=1e8, group="tp", count=10)
    )
    assert cost.bound() == "network"
    assert float(cost.time_s) == pytest.approx(float(cost.network_s + cost.overhead_s))
    assert "measured" in costs.sources["all_reduce over tp"]


def test_a_group_of_one_is_free() -> None:
    cluster = load_cluster(ClusterSpec(node="dgx-h100"))
    costs = CostModel(cluster.device, groups={"tp": cluster.group([0])})
    reduce = Collective(name="r", cause="communication", kind="all_reduce", buffer_bytes=1e8, group="tp")
    assert float(costs.cost(reduce).time_s) == 0.0


def test_sources_name_kernels_used_and_no_others() -> None:
    costs = CostModel(load_device("h100-sxm"), groups={})
    costs.total_s([gemm(1), Elementwise(name="n", cause="norm", moved_bytes=1e6)])
    assert set(costs.sources) == {"gemm bf16", "elementwise bf16"}
    assert all(costs.sources.values())


def test_experts_picked_evenly_cost_more_until_all_are_touched() -> None:
    def time_s(tokens: float, popularity: float) -> float:
        return float(CostModel(load_device("h100-sxm"), groups={}).cost(experts(tokens, popularity)).time_s)

    def experts(tokens: float, popularity: float) -> GroupedGemm:
        return GroupedGemm(
            name="e",
            cause="experts",
            tokens=tokens,
            experts=128,
            total_experts=128,
            top_k=8,
            hidden=4096,
            intermediate=1536,
            gated=True,
            weights_dtype="bf16",
            popularity=popularity,
        )

    assert time_s(1, 0.5) == pytest.approx(time_s(1, EVEN))
    assert time_s(16, 0.5) < time_s(16, 2.0) < time_s(16, EVEN)
    assert time_s(1e6, 2.0) == pytest.approx(time_s(1e6, EVEN), rel=1e-3)


def test_prefill_terms_make_up_the_cost_of_a_single_chunk() -> None:
    costs = CostModel(load_device("h100-sxm"), groups={})
    attention = PrefillAttention(
        name="p",
        cause="attention",
        chunk=np.array([100.0, 4000.0]),
        prefix=1000.0,
        q_heads=8,
        kv_heads=1,
        head_dim=128,
        v_dim=128,
        kv_dtype="bf16",
        count=80,
    )
    terms = costs.prefill_terms(attention)
    t0_s, p = costs.prefill_curve(attention)
    expected = 80 * (t0_s + (terms.work_s**p + terms.walk_s**p) ** (1 / p) + terms.moved_s)
    np.testing.assert_allclose(costs.cost(attention).time_s, expected)


def test_decode_attention_of_a_device_with_one_wide_core_is_not_ruled_by_blocks() -> None:
    """A TPU v6e has one core; 64 sequences of 2 k tokens stay within a few times the time of their bytes."""
    chip = load_device("tpu-v6e")
    attention = DecodeAttention(
        name="d",
        cause="attention",
        sequences=64.0,
        context=64.0 * 2048,
        q_heads=32,
        kv_heads=8,
        head_dim=128,
        v_dim=128,
        kv_dtype="bf16",
    )
    assert seconds("tpu-v6e", attention) < 2.0 * float(attention.bytes()) / chip.memory_bytes_per_s
