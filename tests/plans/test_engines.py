"""Shipped engine profiles: they resolve, mean by their memory fraction what the engines do, and can be launched."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml

from sim.core import data_names
from sim.hardware import load_cluster
from sim.models import load_model
from sim.plans import Infeasible, PlanSpec, ResolvedPlan, launch_command, load_engine, resolve
from sim.serving import SCHEDULERS

NAMES = data_names("hardware_profiles/engines")


def plan_of(name: str, cluster, model: str = "llama-3.1-70b", **fields: object) -> ResolvedPlan:
    found = resolve(PlanSpec(**fields), model=load_model(model), engine=load_engine(name), cluster=cluster)
    assert not isinstance(found, Infeasible), found
    return found


@pytest.mark.parametrize("name", NAMES)
def test_profiles_resolve_and_launch(name: str, make_cluster) -> None:
    engine, model = load_engine(name), load_model("llama-3.1-70b")
    plan = plan_of(name, make_cluster(), tp=4, replicas=2)
    assert plan.scheduler in SCHEDULERS.names()
    text = launch_command(plan, model=model, engine=engine)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert text.count(model.hf_id or "") == 2
    assert "CUDA_VISIBLE_DEVICES=4,5,6,7" in text


def test_memory_fractions_mean_different_things(make_cluster) -> None:
    cluster = make_cluster()
    same = {"tp": 4, "kv_memory_frac": 0.8, "max_num_seqs": 256, "max_num_batched_tokens": 2048}
    kv, rest = {}, {}
    for rule in ("device", "static", "free"):
        engine = load_engine("vllm").model_copy(update={"kv_memory_of": rule})
        found = resolve(PlanSpec(**same), model=load_model("llama-3.1-70b"), engine=engine, cluster=cluster)
        assert isinstance(found, ResolvedPlan)
        memory = found.memory
        kv[rule] = memory.kv_cache_bytes
        rest[rule] = memory.weights_bytes + memory.activations_bytes + memory.runtime_bytes
        runtime, weights = memory.runtime_bytes, memory.weights_bytes
    visible = cluster.device.memory_bytes * 0.995
    block = 16 * 81920
    assert kv["device"] == pytest.approx(0.8 * visible - rest["device"], abs=block)
    assert kv["static"] == pytest.approx(0.8 * (visible - runtime) - weights, abs=block)
    assert kv["free"] == pytest.approx(0.8 * (visible - rest["free"]), abs=block)


def test_the_first_engine_splits_prompts_only_above_a_long_context(make_cluster) -> None:
    long = plan_of("vllm-0.6", make_cluster(), tp=4)
    short = plan_of("vllm-0.6", make_cluster(), tp=4, max_model_len=20000)
    assert (long.chunked_prefill, long.max_num_batched_tokens) == (True, 512)
    assert (short.chunked_prefill, short.max_num_batched_tokens) == (False, 20000)
    command = launch_command(short, model=load_model("llama-3.1-70b"), engine=load_engine("vllm-0.6"))
    assert "--enable-chunked-prefill=False" in command
    assert "--no-" not in command


def test_attention_data_parallel_in_the_engines_words(make_cluster) -> None:
    model = load_model("qwen3-30b-a3b")
    fields = {"dp": 4, "ep": 4, "kv_dtype": "fp8"}
    sglang = launch_command(
        plan_of("sglang", make_cluster(), "qwen3-30b-a3b", **fields), model=model, engine=load_engine("sglang")
    )
    assert "--tp-size 4 --dp-size 4 --enable-dp-attention --ep-size 4 --kv-cache-dtype fp8_e4m3" in sglang
    trtllm = launch_command(
        plan_of("trtllm", make_cluster(), "qwen3-30b-a3b", **fields), model=model, engine=load_engine("trtllm")
    )
    assert "--tp_size 4 --ep_size 4" in trtllm
    options = yaml.safe_load(trtllm.split("<<'END'\n")[1].split("\nEND")[0])
    assert options["enable_attention_dp"] is True
    assert options["kv_cache_config"]["dtype"] == "fp8"


def test_an_engine_runs_on_the_devices_it_has_software_for() -> None:
    """TensorRT-LLM is NVIDIA's alone."""
    model, engine = load_model("llama-3.1-8b"), load_engine("trtllm")
    for cluster, fits in (("dgx-h100-1", True), ("mi300x-1", False), ("tpu-v6e-8", False)):
        found = resolve(PlanSpec(tp=4), model=model, engine=engine, cluster=load_cluster(cluster))
        assert isinstance(found, ResolvedPlan) == fits
        if isinstance(found, Infeasible):
            assert any("trtllm runs on devices of NVIDIA" in reason.message for reason in found.reasons)


def test_wide_expert_parallelism_exchanges_all_to_all_where_the_engine_does() -> None:
    """More ranks than experts a token picks, in one domain; otherwise only if asked for, and not without experts."""
    model, cluster = load_model("deepseek-v3"), load_cluster("gb200-nvl72-1")

    def exchange(engine: str, **ranks: Any) -> str:
        plan = PlanSpec(weights_dtype="nvfp4", **ranks)
        found = resolve(plan, model=model, engine=load_engine(engine), cluster=cluster)
        assert isinstance(found, ResolvedPlan), found
        return found.expert_exchange

    assert exchange("trtllm", dp=16, ep=16) == "all_to_all"
    assert exchange("trtllm", dp=8, ep=8) == "all_gather"
    assert exchange("trtllm", dp=16, ep=8, moe_tp=2) == "all_gather"
    assert exchange("sglang", dp=16, ep=16) == "all_gather"
    assert exchange("sglang", dp=16, ep=16, expert_exchange="all_to_all") == "all_to_all"
    sent = {
        (weights, each): load_engine("sglang").expert_exchange.sent_as(weights, all_to_all=each)
        for weights in ("nvfp4", "fp8_block", "bf16")
        for each in (False, True)
    }
    assert sent == {
        ("nvfp4", False): "nvfp4", ("nvfp4", True): "nvfp4", ("fp8_block", False): None, ("fp8_block", True): "fp8",
        ("bf16", False): None, ("bf16", True): None,
    }  # fmt: skip
    refused = PlanSpec(tp=8, ep=8, weights_dtype="nvfp4", expert_exchange="all_to_all")
    found = resolve(refused, model=model, engine=load_engine("sglang"), cluster=cluster)
    assert isinstance(found, Infeasible)
    assert any("data-parallel ranks with experts of their own" in reason.message for reason in found.reasons)


def test_a_balancer_of_experts_needs_ranks_to_balance() -> None:
    """It makes the busiest rank, and so the iteration, no slower; one rank has nothing to balance."""
    things = {
        "model": load_model("qwen3-30b-a3b"),
        "engine": load_engine("vllm"),
        "cluster": load_cluster("dgx-h100-1"),
    }
    found = resolve(PlanSpec(tp=4, ep=4, expert_balancer=True), **things)
    assert isinstance(found, ResolvedPlan)
    assert found.expert_balancer
    assert "experts balanced" in found.label
    refused = resolve(PlanSpec(tp=4, expert_balancer=True), **things)
    assert isinstance(refused, Infeasible)
    assert any("expert_balancer needs ep of 2 or more" in reason.message for reason in refused.reasons)
