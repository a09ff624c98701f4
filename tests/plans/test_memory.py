"""Memory of a plan: parts add up, KV blocks shrink with everything else, and published figures come out."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.models import load_model
from sim.plans import EngineSpec, Infeasible, PlanSpec, ResolvedPlan, resolve

GIB = 2**30


def resolved(plan: PlanSpec, model: str, engine: EngineSpec, cluster) -> ResolvedPlan:
    found = resolve(plan, model=load_model(model), engine=engine, cluster=cluster)
    assert isinstance(found, ResolvedPlan), found
    return found


@given(
    tp=st.sampled_from([2, 4, 8]),
    pp=st.sampled_from([1, 2, 4]),
    seqs=st.integers(1, 1024),
    tokens=st.integers(1024, 32768),
    frac=st.floats(0.6, 0.98),
    kv=st.sampled_from(["bf16", "fp8"]),
)
def test_parts_add_up_to_the_device(make_cluster, engine, tp, pp, seqs, tokens, frac, kv) -> None:
    plan = PlanSpec(tp=tp, pp=pp, max_num_seqs=seqs, max_num_batched_tokens=tokens, kv_memory_frac=frac, kv_dtype=kv)
    cluster = make_cluster(nodes=4)
    found = resolve(plan, model=load_model("llama-3.1-70b"), engine=engine, cluster=cluster)
    if isinstance(found, Infeasible):
        assert {reason.code for reason in found.reasons} == {"memory"}
        return
    memory = found.memory
    assert sum(memory.to_dict().values()) == pytest.approx(cluster.device.memory_bytes)
    assert min(memory.to_dict().values()) >= 0
    inside = memory.weights_bytes + memory.kv_cache_bytes + memory.activations_bytes + memory.runtime_bytes
    assert inside <= frac * cluster.device.memory_bytes
    assert memory.kv_cache_bytes == pytest.approx(found.kv_tokens * found.tightest.kv_bytes_per_token, rel=1e-12)


@given(tp=st.sampled_from([1, 2, 4, 8]), tokens=st.integers(1024, 65536), seqs=st.integers(1, 1024))
def test_kv_blocks_fall_when_anything_else_grows(make_cluster, engine, tp, tokens, seqs) -> None:
    cluster = make_cluster()

    def blocks(**fields: object) -> int:
        plan = PlanSpec(**{"tp": tp, "max_num_seqs": seqs, "max_num_batched_tokens": tokens, **fields})
        return resolved(plan, "llama-3.1-8b", engine, cluster).kv_blocks

    here = blocks()
    assert blocks(weights_dtype="fp8") > here
    assert blocks(max_num_batched_tokens=tokens + 8192) <= here
    assert blocks(max_num_batched_tokens=tokens, max_num_seqs=max(1, seqs // 2)) >= here
    assert blocks(kv_memory_frac=0.95) > here
    assert blocks(kv_dtype="fp8") in {2 * here, 2 * here + 1}


@given(st.lists(st.floats(16, 192), min_size=2, max_size=6), st.sampled_from([1, 2, 4, 8]))
def test_feasibility_is_monotone_in_device_memory(make_cluster, engine, sizes, tp) -> None:
    model = load_model("llama-3.1-70b")
    found = [
        resolve(PlanSpec(tp=tp), model=model, engine=engine, cluster=make_cluster(memory_gib=size, name="a100-test"))
        for size in sorted(sizes)
    ]
    blocks = [plan.kv_blocks if isinstance(plan, ResolvedPlan) else 0 for plan in found]
    assert blocks == sorted(blocks)


# Start-up logs of vLLM 0.19.0 on H100-80GB with --gpu-memory-utilization 0.95, from the capacity planner accuracy
# report of llm-d (github.com/llm-d-incubation/llm-d-planner): weights and peak activation [GiB], KV cache [tokens].
PUBLISHED = [
    ("llama-3.1-8b", {"tp": 1}, 14.99, 1.89, 476_016),
    ("llama-3.1-8b", {"tp": 1, "kv_dtype": "fp8"}, 14.99, 1.89, 952_032),
    ("llama-3.1-8b", {"tp": 1, "weights_dtype": "fp8"}, 8.49, 1.89, None),
    ("llama-3.1-8b", {"tp": 2}, 7.51, 1.89, None),
    ("llama-3.1-8b", {"tp": 4}, 3.77, 1.89, None),
    ("qwen2.5-7b", {"tp": 1}, 14.25, 2.21, 1_096_000),
    ("qwen2.5-7b", {"tp": 2}, 7.12, 2.21, None),
    ("qwen2.5-72b", {"tp": 4}, None, 2.29, None),
    ("qwen3-8b", {"tp": 1}, None, 2.21, None),
    ("qwen3-30b-a3b", {"tp": 1}, None, 2.68, None),
    ("deepseek-v2-lite", {"tp": 1}, None, 1.93, None),
    ("mixtral-8x7b", {"tp": 2}, None, 1.21, None),
]


@pytest.mark.parametrize(("model", "fields", "weights_gib", "activation_gib", "kv_tokens"), PUBLISHED)
def test_published_start_up_logs(make_cluster, engine, model, fields, weights_gib, activation_gib, kv_tokens) -> None:
    plan = resolved(PlanSpec(**fields, kv_memory_frac=0.95), model, engine, make_cluster(memory_gib=79.65))
    assert plan.memory.activations_bytes / GIB == pytest.approx(activation_gib, rel=0.12)
    if weights_gib is not None:
        assert plan.memory.weights_bytes / GIB == pytest.approx(weights_gib, rel=0.01)
    if kv_tokens is not None:
        assert plan.kv_tokens == pytest.approx(kv_tokens, rel=0.01)


def test_llama_2_7b_on_an_a100(make_cluster, engine) -> None:
    # 7,351 blocks of 16 tokens with early vLLM (vllm-project/vllm pull request 2031).
    plan = resolved(PlanSpec(), "llama-2-7b", engine, make_cluster(memory_gib=79.65, name="a100-80-sxm"))
    assert (plan.max_num_seqs, plan.max_num_batched_tokens) == (256, 2048)
    assert plan.kv_blocks == pytest.approx(7351, rel=0.03)
    assert plan.tightest.kv_bytes_per_token == 524_288


def test_llama_70b_on_eight_h100(make_cluster, engine) -> None:
    plan = resolved(PlanSpec(tp=8, kv_memory_frac=0.9), "llama-3.1-70b", engine, make_cluster())
    assert (plan.max_num_seqs, plan.max_num_batched_tokens) == (1024, 8192)
    assert plan.memory.weights_bytes / GIB == pytest.approx(16.4, rel=0.01)
    assert plan.tightest.kv_bytes_per_token == 327_680 / 8
    assert plan.max_model_len == 131_072
    assert plan.kv_tokens == pytest.approx(1.33e6, rel=0.02)


def test_pipeline_stages_with_the_logits_set_the_blocks(make_cluster, engine) -> None:
    plan = resolved(PlanSpec(pp=2), "llama-3.1-8b", engine, make_cluster())
    first, last = plan.shape.memory.stages
    assert first.activation_bytes(tokens=8192, rows=1024, moe_tokens=8192) / GIB == pytest.approx(1.10, rel=0.06)
    assert plan.tightest is last


def measured(name: str) -> list[dict[str, str]]:
    folder = os.environ.get("PLANSIM_DATA")
    path = Path(folder or "") / "measured" / name
    if not folder or not path.is_file():
        pytest.skip(f"PLANSIM_DATA has no measured/{name}")
    with path.open() as file:
        return list(csv.DictReader(file))


def test_measured_kv_blocks_on_an_rtx_4090(make_cluster, engine) -> None:
    rows = [row for row in measured("vllm019_runs.csv") if row["num_gpu_blocks"]]
    assert rows
    for row in rows:
        assert row["gpu"] == "RTX4090"
        plan = resolved(
            PlanSpec(
                tp=int(row["tp"]),
                max_num_seqs=int(row["max_num_seqs"]),
                max_num_batched_tokens=int(row["max_num_batched_tokens"]),
                max_model_len=int(row["max_model_len"]),
            ),
            row["model"],
            engine,
            make_cluster(memory_gib=23.6, devices=1, name="rtx-4090"),
        )
        error = plan.kv_blocks / int(row["num_gpu_blocks"]) - 1
        print(f"{row['model']}: {plan.kv_blocks} KV blocks, measured {row['num_gpu_blocks']}, error {error:+.1%}")
        assert abs(error) < 0.12


def test_measured_plans_of_70b_on_h100_are_feasible(make_cluster, engine) -> None:
    rows = measured("vllm060_h100_runs.csv")
    for replicas, tp in {(int(row["dp"]), int(row["tp"])) for row in rows}:
        short = {"max_model_len": 24272} if tp == 2 else {}
        plan = PlanSpec(
            replicas=replicas, tp=tp, kv_memory_frac=0.97, max_num_seqs=256, max_num_batched_tokens=512, **short
        )
        found = resolved(plan, "llama-3.1-70b", engine, make_cluster(memory_gib=79.65))
        print(f"{found.label}: {found.kv_tokens} KV tokens")
        assert found.n_gpus == replicas * tp
