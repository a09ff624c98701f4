"""KV blocks by layer: groups as vLLM's hybrid allocator forms them, and never fewer bytes than the layers keep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.models import layer_caches, load_model, stages, state_bytes_rank
from sim.plans import KvLayout, PlanSpec, WindowGroup, kv_pool, load_engine, resolve

HYBRIDS = ("gpt-oss-120b", "gemma-3-27b", "llama-4-scout", "qwen3.5-397b-a17b", "nemotron-3-nano-30b-a3b")
HYBRIDS += ("deepseek-v4-flash", "mimo-v2-flash", "mistral-7b", "llama-3.1-8b")


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        ("llama-3.1-8b", KvLayout(16)),
        ("gpt-oss-120b", KvLayout(16, 1, (WindowGroup(9, 1),))),  # 18 layers each
        ("gemma-3-27b", KvLayout(16, 1, (WindowGroup(65, 6),))),  # 10 full layers, 52 with a window
        ("llama-4-scout", KvLayout(16, 1, (WindowGroup(513, 3),))),  # 12 and 36
        ("mistral-7b", KvLayout(16, 0, (WindowGroup(257, 1),))),  # a window in all layers
    ],
)
def test_groups_of_layers(model: str, layout: KvLayout) -> None:
    spec = load_model(model)
    caches = layer_caches(spec, stages(spec)[0]).items()
    assert kv_pool(caches, block_tokens=16, frees_windows=True).layout == layout
    assert kv_pool(caches, block_tokens=16, frees_windows=False).layout.windows == ()


@given(st.sampled_from(HYBRIDS), st.sampled_from([1, 2, 4]), st.sampled_from([1, 16, 64]), st.integers(1, 40000))
def test_blocks_hold_what_the_layers_keep(name: str, tp: int, block: int, tokens: int) -> None:
    model = load_model(name)
    caches = layer_caches(model, stages(model, tp=tp)[0]).items()
    pool = kv_pool(caches, block_tokens=block, frees_windows=True)
    kept = sum(
        layers
        * (
            cache.bytes_per_token * tokens
            + cache.window_bytes_per_token * min(tokens, cache.window or 0)
            + cache.state_bytes
        )
        for cache, layers in caches
    )
    assert pool.layout.blocks_for(tokens) * pool.block_bytes >= kept * (1 - 1e-9)


def test_a_state_takes_the_blocks_that_hold_it() -> None:
    model = load_model("qwen3.5-397b-a17b")
    (shard,) = stages(model, tp=8)
    pool = kv_pool(layer_caches(model, shard).items(), block_tokens=16, frees_windows=True)
    state = state_bytes_rank(model, shard)
    assert state <= pool.layout.fixed * pool.block_bytes < state + pool.block_bytes


def test_long_sequences_fit_twice_where_half_of_the_layers_have_a_window(make_cluster) -> None:
    """And the capacity that vLLM reports, in tokens of all groups, is the same with and without."""
    plans = {}
    for engine in ("vllm", "trtllm"):
        profile = load_engine("vllm").model_copy(update={"frees_windows": engine == "vllm"})
        found = resolve(PlanSpec(), model=load_model("gpt-oss-20b"), engine=profile, cluster=make_cluster())
        plans[engine] = found
    hybrid, plain = plans["vllm"], plans["trtllm"]
    assert hybrid.kv_tokens == pytest.approx(plain.kv_tokens, abs=16)
    fits = [plan.kv_blocks // plan.kv_layout.blocks_for(32768) for plan in (hybrid, plain)]
    assert fits[0] == pytest.approx(2 * fits[1], rel=0.05)
    assert not load_engine("trtllm").frees_windows
