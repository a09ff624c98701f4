"""Laws 8 and 9 for every kind of operator, number format and shipped device.

Law 8: no analytic cost beats the roofline of its FLOPs and bytes; collectives respect their bandwidth bounds.
Law 9: more FLOPs or bandwidth never makes an operator slower, and more work never makes it faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.core import Array, data_names
from sim.costs import CostModel, lower_bound_s_per_byte
from sim.hardware import ClusterSpec, CommGroup, Device, load_cluster, load_device, load_node
from sim.models import (
    Collective,
    DecodeAttention,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
    Operator,
    PrefillAttention,
    Sampling,
    StateScan,
    StateUpdate,
)

DEVICES = data_names("hardware_profiles/devices")
NODES = data_names("hardware_profiles/nodes")
FORMATS = ["bf16", "fp8", "fp8_block", "int8", "int4", "mxfp4", "nvfp4"]
ENGINES = ["vllm", "sglang", "trtllm"]
KINDS = ["gemm", "moe", "decode", "mla_decode", "prefill", "mla_prefill", "stream"]
KINDS += ["state_update", "state_scan", "indexer_decode", "indexer_prefill"]
TOKENS = np.array([1, 2, 7, 16, 17, 64, 65, 100, 128, 500, 1000, 1024, 4096, 8191, 32768], dtype=np.float64)
dims = st.sampled_from([64, 128, 200, 1024, 2880, 4096, 8192, 14336, 28672])
heads = st.sampled_from([(1, 1), (8, 1), (32, 32), (64, 8), (16, 2)])
devices = st.sampled_from(DEVICES)
engines = st.sampled_from(ENGINES)
formats = st.sampled_from(FORMATS)


@cache
def device(name: str) -> Device:
    return load_device(name)


@st.composite
def operators(draw: st.DrawFn, tokens: Array = TOKENS) -> Operator:
    """Any operator with `tokens` tokens, rows or sequences along its axis."""
    common = {"name": "x", "cause": "x", "count": float(draw(st.integers(1, 80)))}
    kind = draw(st.sampled_from(KINDS))
    q_heads, kv_heads = draw(heads)
    cache_format = draw(st.sampled_from(["bf16", "fp8"]))
    if kind == "gemm":
        return Gemm(m=tokens, n=draw(dims), k=draw(dims), weights_dtype=draw(formats), **common)
    if kind == "moe":
        total = draw(st.sampled_from([8, 128, 256]))
        return GroupedGemm(
            tokens=tokens,
            experts=total / draw(st.sampled_from([1, 2, 8])),
            total_experts=total,
            top_k=draw(st.sampled_from([1, 2, 8])),
            hidden=draw(dims),
            intermediate=draw(dims),
            gated=draw(st.booleans()),
            weights_dtype=draw(formats),
            **common,
        )
    if kind == "stream":
        return draw(
            st.sampled_from(
                [
                    Elementwise(moved_bytes=tokens * 16384.0, **common),
                    Embedding(tokens=tokens, width=8192, **common),
                    Sampling(rows=tokens, vocab=128256, **common),
                ]
            )
        )
    if kind.startswith("state"):
        return draw(recurrences(kind, tokens, common))
    if kind.startswith("indexer"):
        return draw(indexers(kind, tokens, common))
    latent = kind.startswith("mla")
    if kind.endswith("decode"):
        return DecodeAttention(
            sequences=tokens,
            context=tokens * draw(st.floats(1, 1e5)),
            q_heads=q_heads,
            kv_heads=1 if latent else kv_heads,
            head_dim=576 if latent else draw(st.sampled_from([64, 128, 256])),
            v_dim=512 if latent else 128,
            kv_dtype=cache_format,
            kind="mla" if latent else "gqa",
            **common,
        )
    return PrefillAttention(
        chunk=tokens,
        prefix=draw(st.sampled_from([0.0, 100.0, 30000.0])),
        q_heads=q_heads,
        kv_heads=q_heads if latent else kv_heads,
        head_dim=192 if latent else 128,
        v_dim=128,
        kv_dtype=cache_format,
        window=None if latent else draw(st.sampled_from([None, 128, 4096])),
        kind=draw(st.sampled_from(["mla", "sparse"])) if latent else "gqa",
        **common,
    )


@st.composite
def recurrences(draw: st.DrawFn, kind: str, tokens: Array, common: dict[str, Any]) -> Operator:
    """A state update of `tokens` sequences, or a scan of as many tokens."""
    count, recurrence = draw(st.sampled_from([1, 8, 64])), draw(st.sampled_from(["gated_delta", "mamba2"]))
    shape = {"heads": float(count), "state_bytes": 65536.0 * count + 6.0 * 192 * count, "channels": 192.0 * count}
    if kind == "state_update":
        each = draw(st.sampled_from([1, 4]))
        return StateUpdate(sequences=tokens, elements=16384.0 * count, kind=recurrence, tokens=each, **shape, **common)
    return StateScan(chunk=tokens, flops_per_token=139264.0 * count, kind=recurrence, **shape, **common)


@st.composite
def indexers(draw: st.DrawFn, kind: str, tokens: Array, common: dict[str, Any]) -> Operator:
    """Scores of an indexer, some over merged tokens."""
    shape = {"q_heads": draw(st.sampled_from([4.0, 64.0])), "kv_heads": 1.0, "head_dim": 128.0, "v_dim": 0.0}
    shape = {**shape, "kv_dtype": "fp8", "kind": "indexer", **common}
    if kind == "indexer_decode":
        return DecodeAttention(sequences=tokens, context=tokens * draw(st.floats(1, 1e5)), **shape)
    prefix, share = draw(st.sampled_from([0.0, 30000.0])), draw(st.sampled_from([1.0, 0.25]))
    return PrefillAttention(chunk=tokens, prefix=prefix, keys_per_token=share, **shape)


@settings(max_examples=400, deadline=None)
@given(devices, engines, operators())
def test_no_operator_beats_the_roofline(name: str, engine: str, operator: Operator) -> None:
    cost = CostModel(device(name), engine=engine, groups={}).cost(operator)
    flops_s = operator.count * operator.flops() / peak(device(name), operator)
    bytes_s = operator.count * operator.bytes() / device(name).memory_bytes_per_s
    assert np.all(cost.time_s >= np.maximum(flops_s, bytes_s) * (1 - 1e-9))
    for part in (cost.compute_s, cost.memory_s, cost.network_s, cost.overhead_s):
        assert np.all(part >= 0.0)
        assert np.all(np.isfinite(part))


def peak(chip: Device, operator: Operator) -> float:
    """Dense peak of the arithmetic an operator uses, by the device's documented fall-back [FLOP/s].

    Devices with FP4 units take MXFP4 weights as they are and multiply at the rate of FP8.
    """
    if not np.any(operator.flops()):
        return 1.0
    if isinstance(operator, StateUpdate):
        return chip.vector_flops
    if getattr(operator, "weights_dtype", "") == "mxfp4" and {"fp4", "fp8"} <= chip.flops.keys():
        return chip.flops["fp8"]
    return chip.compute_rate(operator.compute_dtype)[0]


@settings(max_examples=300, deadline=None)
@given(devices, engines, operators(), st.floats(1.0, 8.0), st.sampled_from(["flops", "memory", "both"]))
def test_a_faster_device_is_never_slower(name: str, engine: str, operator: Operator, by: float, what: str) -> None:
    before = CostModel(device(name), engine=engine, groups={}).cost(operator).time_s
    after = CostModel(faster(device(name), by, what), engine=engine, groups={}).cost(operator).time_s
    assert np.all(after <= before * (1 + 1e-9))


def faster(chip: Device, by: float, what: str) -> Device:
    changes: dict[str, object] = {}
    if what != "memory":
        flops: Mapping[str, float] = {dtype: rate * by for dtype, rate in chip.flops.items()}
        changes |= {"flops": flops, "vector_flops": chip.vector_flops * by}
    if what != "flops":
        changes["memory_bytes_per_s"] = chip.memory_bytes_per_s * by
    return replace(chip, **changes)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(devices, engines, operators(np.arange(1.0, 1500.0)))
def test_more_tokens_are_never_faster(name: str, engine: str, operator: Operator) -> None:
    time_s = CostModel(device(name), engine=engine, groups={}).cost(operator).time_s
    assert np.all(np.diff(time_s) >= -1e-9 * time_s[1:])


@cache
def communication_group(node: str, nodes: int, ranks: int) -> CommGroup:
    return load_cluster(ClusterSpec(node=node, nodes=nodes)).group(range(ranks))


def shapes(node: str) -> list[tuple[int, int]]:
    """(nodes, ranks) of groups inside one node and over two."""
    devices_per_node = load_node(node).n_devices
    inside = [(1, ranks) for ranks in (2, 3, 4, 8, 16) if ranks <= devices_per_node]
    return [*inside, (2, 2 * devices_per_node)] if load_node(node).nic is not None else inside


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("engine", ENGINES)
def test_collectives_respect_their_bandwidth_bounds(node: str, engine: str) -> None:
    sizes = np.geomspace(1, 1e10, 41)
    for nodes, ranks in shapes(node):
        group = communication_group(node, nodes, ranks)
        costs = CostModel(load_device(load_node(node).device.name), engine=engine, groups={"tp": group})
        for kind in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p"):
            operator = Collective(name="x", cause="x", kind=kind, buffer_bytes=sizes, group="tp", count=2.0)
            cost = costs.cost(operator)
            assert np.all(cost.time_s >= 2.0 * sizes * lower_bound_s_per_byte(kind, group) * (1 - 1e-9)), kind
            assert np.all(cost.time_s > 1e-6), kind
            assert np.all(np.diff(cost.time_s) >= 0.0), kind


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([node for node in NODES if load_node(node).n_devices > 1]),
    st.sampled_from(["all_reduce", "all_gather", "all_to_all"]),
    st.floats(1, 8),
)
def test_faster_links_are_never_slower(node: str, kind: str, by: float) -> None:
    group = communication_group(node, 1, load_node(node).n_devices)
    assert group.intra is not None
    link = replace(
        group.intra,
        bytes_per_s=group.intra.bytes_per_s * by,
        p2p_bytes_per_s=group.intra.p2p_bytes_per_s * by,
        collectives={},
    )
    slow = replace(group, intra=replace(group.intra, collectives={}))
    fast = replace(group, intra=link, bytes_per_s=group.bytes_per_s * by)
    chip = load_device(load_node(node).device.name)
    operator = Collective(name="x", cause="x", kind=kind, buffer_bytes=np.geomspace(1, 1e9, 30), group="tp")
    before, after = (CostModel(chip, groups={"tp": g}).cost(operator).time_s for g in (slow, fast))
    assert np.all(after <= before * (1 + 1e-9))


def test_breakdown_adds_up_and_counts_repeat() -> None:
    costs = CostModel(device(DEVICES[0]), groups={})
    one = Gemm(name="a", cause="gemm", m=TOKENS, n=4096, k=4096, weights_dtype="bf16")
    other = Elementwise(name="b", cause="norm", moved_bytes=TOKENS * 8192.0, count=2.0)
    parts = costs.breakdown([one, other, replace(one, count=3.0)])
    assert list(parts) == ["gemm", "norm"]
    np.testing.assert_allclose(parts["gemm"], 4.0 * costs.cost(one).time_s)
    np.testing.assert_allclose(sum(parts.values()), costs.total_s([one, other, replace(one, count=3.0)]))
