"""Launch commands, as a shell reads them."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from sim.core import InfeasibleError, InputError
from sim.hardware import load_cluster
from sim.models import load_model
from sim.plans import LAUNCHERS, Infeasible, PlanSpec, launch_command, load_engine, require, resolve

_DRAFTS = {"method": "ngram", "draft_tokens": 3, "acceptance": 0.5}


def command(fields: dict[str, object], model: str, engine, cluster) -> str:
    spec = load_model(model)
    plan = require(PlanSpec(**fields), model=spec, engine=engine, cluster=cluster)
    text = launch_command(plan, model=spec, engine=engine)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    return text


def test_one_replica_on_a_whole_node(make_cluster, engine) -> None:
    assert command({"tp": 8}, "llama-3.1-70b", engine, make_cluster()) == (
        "# vLLM 0.19: tp8, 8 GPUs\n"
        "vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 8 --kv-cache-dtype auto "
        "--gpu-memory-utilization 0.9 --block-size 16 --max-model-len 131072 --max-num-seqs 1024 "
        "--max-num-batched-tokens 8192"
    )


def test_replicas_have_their_own_devices_and_ports(make_cluster, engine) -> None:
    text = command({"replicas": 2, "tp": 4, "weights_dtype": "fp8"}, "llama-3.1-70b", engine, make_cluster())
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line.split()[0] for line in lines] == ["CUDA_VISIBLE_DEVICES=0,1,2,3", "CUDA_VISIBLE_DEVICES=4,5,6,7"]
    assert [shlex.split(line)[-2:] for line in lines] == [["--port", "8000"], ["--port", "8001"]]
    assert "--quantization fp8" in text
    assert "router (round_robin)" in text


def test_experts_and_attention_data_parallel(make_cluster, engine) -> None:
    text = command({"dp": 4, "tp": 2, "ep": 8, "kv_dtype": "fp8"}, "qwen3-30b-a3b", engine, make_cluster())
    assert "--data-parallel-size 4 --enable-expert-parallel" in text
    assert "--kv-cache-dtype fp8" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vllm", """--compilation-config '{"cudagraph_capture_sizes": [8, 64]}'"""),
        ("sglang", "--cuda-graph-bs 8 64"),
        ("trtllm", "cuda_graph_config:\n  batch_sizes:\n  - 8\n  - 64"),
    ],
)
def test_graphs_other_than_the_engine_s_are_asked_for(make_cluster, name: str, words: str) -> None:
    graphs = {"graph_sizes": [8, 64]}
    assert words in command(graphs, "llama-3.1-8b", load_engine(name), make_cluster())
    assert words.split()[0] not in command({}, "llama-3.1-8b", load_engine(name), make_cluster())


@pytest.mark.parametrize(
    ("asked", "told"), [({}, False), ({"prompt_graphs": True}, False), ({"prompt_graphs": False}, True)]
)
def test_prompts_can_be_kept_out_of_vllm_s_graphs(make_cluster, engine, asked: dict[str, bool], told: bool) -> None:
    words = """--compilation-config '{"cudagraph_mode": "FULL_DECODE_ONLY"}'"""
    assert (words in command(asked, "llama-3.1-8b", engine, make_cluster())) is told


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vllm", """--compilation-config '{"cudagraph_capture_sizes": [8, 64]}'"""),
        ("sglang", "--cuda-graph-bs 2 16"),
        ("trtllm", "cuda_graph_config:\n  batch_sizes:\n  - 2\n  - 16"),
    ],
)
def test_graphs_of_sequences_with_drafts_are_asked_for_in_sequences(make_cluster, name: str, words: str) -> None:
    """Three drafts: a sequence has four tokens. vLLM counts its graphs in tokens."""
    limits = {"max_num_seqs": 64, "max_num_batched_tokens": 2048}
    fields = {"graph_sizes": [8, 64], "speculation": _DRAFTS, **limits}
    assert words in command(fields, "llama-3.1-8b", load_engine(name), make_cluster(memory_gib=140))


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("vllm", {"graph_sizes": [8, 4096]}, "4096 tokens, beyond max_num_batched_tokens 2048: .* up to 2048"),
        ("sglang", {"graph_sizes": [8, 65]}, "65 tokens, beyond max_num_seqs 64: graph_sizes may go up to 64"),
        ("trtllm", {"graph_sizes": [8, 512]}, "512 tokens, beyond max_num_seqs 64: graph_sizes may go up to 64"),
        (
            "trtllm",
            {"graph_sizes": [260], "speculation": _DRAFTS},
            "beyond max_num_seqs 64 of 4 tokens each: .* up to 256",
        ),
        ("sglang", {"graph_sizes": [8, 10], "speculation": _DRAFTS}, "graph_sizes has 10, the nearest is 8 or 12"),
        ("trtllm", {"graph_sizes": [2, 8], "speculation": _DRAFTS}, "graph_sizes has 2, the nearest is 4$"),
    ],
)
def test_graphs_that_an_engine_does_not_capture_are_refused(
    make_cluster, name: str, fields: dict[str, object], why: str
) -> None:
    limits = {"max_num_seqs": 64, "max_num_batched_tokens": 2048}
    plan = PlanSpec(**limits, **fields)
    found = resolve(plan, model=load_model("llama-3.1-8b"), engine=load_engine(name), cluster=make_cluster())
    assert isinstance(found, Infeasible)
    assert [bool(re.search(why, reason.message)) for reason in found.reasons] == [True], found.reasons


@pytest.mark.parametrize("name", ["vllm", "sglang", "trtllm"])
def test_an_engine_s_own_graphs_may_be_written_out(make_cluster, name: str) -> None:
    """A resolved plan names them, also those that its limits leave unused."""
    drafts = {"method": "ngram", "draft_tokens": 2, "acceptance": 0.5}
    plan = PlanSpec(max_num_seqs=8, max_num_batched_tokens=64, speculation=drafts, max_model_len=64)
    things = {"model": load_model("llama-3.1-8b"), "engine": load_engine(name), "cluster": make_cluster()}
    found = require(plan, **things)
    again = require(PlanSpec(**{k: v for k, v in found.to_dict().items() if k != "prefill"}), **things)
    assert again.graph_sizes == found.graph_sizes
    sequences = [8 * (1 if name == "vllm" else 3), 256 * (1 if name == "vllm" else 3)]
    assert set(sequences) <= set(found.graph_sizes), "SGLang and TensorRT-LLM count sequences, of three tokens here"


@pytest.mark.parametrize(
    ("name", "words"),
    [("sglang", "--moe-runner-backend flashinfer_trtllm"), ("trtllm", "moe_config:\n  backend: TRTLLM")],
)
def test_kernels_of_the_experts_are_asked_for(make_cluster, name: str, words: str) -> None:
    fields, cluster = {"tp": 2, "moe_backend": "trtllm-gen"}, make_cluster(name="b200-test")
    assert words in command(fields, "qwen3-30b-a3b", load_engine(name), cluster)
    assert words not in command({"tp": 2}, "qwen3-30b-a3b", load_engine(name), cluster)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vllm", "--enable-eplb"),
        ("sglang", "--enable-eplb"),
        ("trtllm", "moe_config:\n  load_balancer:\n    num_slots: 128\n    layer_updates_per_iter: 2"),
    ],
)
def test_a_balancer_of_experts_is_asked_for(make_cluster, name: str, words: str) -> None:
    fields, engine = {"tp": 2, "ep": 2}, load_engine(name)
    assert words in command({**fields, "expert_balancer": True}, "qwen3-30b-a3b", engine, make_cluster())
    assert words not in command(fields, "qwen3-30b-a3b", engine, make_cluster())


def test_tensorrt_llm_can_be_told_to_take_triton_s_experts(make_cluster) -> None:
    """As the public script for gpt-oss on H200 does."""
    fields = {"tp": 2, "moe_backend": "triton"}
    text = command(fields, "gpt-oss-120b", load_engine("trtllm"), make_cluster(name="h200-test"))
    assert "moe_config:\n  backend: TRITON" in text


def test_marlin_is_asked_for_by_a_variable(make_cluster, engine) -> None:
    text = command({"tp": 2, "moe_backend": "marlin"}, "gpt-oss-120b", engine, make_cluster())
    assert "VLLM_MXFP4_USE_MARLIN=1 vllm serve" in text


def test_a_library_that_an_engine_cannot_be_told_to_take_is_refused(make_cluster, engine) -> None:
    with pytest.raises(InfeasibleError, match="vllm cannot be told to take experts of triton"):
        command({"tp": 2, "moe_backend": "triton"}, "qwen3-30b-a3b", engine, make_cluster())


@pytest.mark.parametrize(
    ("model", "fields", "why"),
    [
        ("llama-3.1-8b", {}, "llama-3.1-8b has no experts: leave moe_backend trtllm-gen out"),
        ("qwen3-30b-a3b", {}, r"on h100-test, whose kernels exist for b200, .* \(it knows cutlass, deepgemm, triton\)"),
        (
            "qwen3-30b-a3b",
            {"device": "a100-test"},
            r"experts of trtllm-gen on a100-test.* \(it knows cutlass, triton\)",
        ),
    ],
)
def test_kernels_of_experts_that_cannot_run_are_refused(
    make_cluster, model: str, fields: dict[str, str], why: str
) -> None:
    cluster = make_cluster(name=fields.get("device", "h100-test"))
    with pytest.raises(InfeasibleError, match=why):
        command({"moe_backend": "trtllm-gen"}, model, load_engine("trtllm"), cluster)


@pytest.mark.parametrize(
    ("cluster", "engine", "model", "library", "noted"),
    [
        ("hgx-b200-1", "trtllm", "qwen3-30b-a3b", "cutlass", False),
        ("hgx-b200-1", "trtllm", "deepseek-v3", "deepgemm", False),
        ("hgx-b200-1", "trtllm", "qwen3-30b-a3b", "triton", True),
        ("hgx-b200-1", "vllm", "gpt-oss-120b", "marlin", True),
        ("dgx-h200-1", "vllm", "gpt-oss-120b", "marlin", False),
        ("dgx-h200-1", "trtllm", "gpt-oss-120b", "cutlass", True),
        ("dgx-h200-1", "trtllm", "gpt-oss-120b", "triton", False),
    ],
)
def test_a_library_without_times_of_its_own_is_noted(
    cluster: str, engine: str, model: str, library: str, noted: bool
) -> None:
    things = {"model": load_model(model), "engine": load_engine(engine), "cluster": load_cluster(cluster)}
    notes = require(PlanSpec(tp=8, moe_backend=library), **things).notes
    assert any(f"no times are known of {library} experts" in note for note in notes) is noted


def test_what_no_flag_can_say_is_noted(make_cluster, engine) -> None:
    text = command(
        {"tp": 8, "pp": 2, "clock": 0.7, "weights_dtype": "int4"}, "llama-3.1-405b", engine, make_cluster(nodes=2)
    )
    assert "--pipeline-parallel-size 2" in text
    assert "--distributed-executor-backend ray" in text
    assert "take a checkpoint of this model in int4" in text
    assert "lock the GPU clock at 0.7" in text


def test_flags_follow_the_version(make_cluster, engine) -> None:
    old = engine.model_copy(update={"version": "0.11.2"})
    sync = engine.model_copy(update={"async_scheduling": False})
    assert "--async-scheduling" in command({}, "llama-3.1-8b", old, make_cluster())
    assert "--no-async-scheduling" in command({}, "llama-3.1-8b", sync, make_cluster())


def test_prefix_caching_is_switched_where_it_differs_from_the_default(make_cluster, engine) -> None:
    v0 = engine.model_copy(update={"version": "0.6"})
    said = {
        (version.version, on): "enable-prefix-caching" in command({"prefix_caching": on}, "llama-3.1-8b", version, node)
        for node in [make_cluster()]
        for version in (engine, v0)
        for on in (False, True)
    }
    assert said == {("0.19", False): True, ("0.19", True): False, ("0.6", False): False, ("0.6", True): True}
    assert "--no-enable-prefix-caching" in command({"prefix_caching": False}, "llama-3.1-8b", engine, make_cluster())


@pytest.mark.parametrize(
    ("name", "off"), [("sglang", "--disable-radix-cache"), ("trtllm", "enable_block_reuse: false")]
)
def test_other_engines_switch_prefix_caching_too(name: str, off: str, make_cluster) -> None:
    profile = load_engine(name)
    assert off not in command({}, "llama-3.1-8b", profile, make_cluster())
    assert off in command({"prefix_caching": False}, "llama-3.1-8b", profile, make_cluster())


def test_many_replicas_are_summed_up(make_cluster, engine) -> None:
    text = command({"replicas": 40}, "llama-3.1-8b", engine, make_cluster(nodes=5))
    assert text.splitlines()[-1].startswith("# and so on for replicas 17 to 40")


def test_launchers_are_plugins(make_cluster, engine) -> None:
    assert "vllm" in LAUNCHERS.names()
    with pytest.raises(InputError, match="unknown launcher 'vlm'"):
        command({}, "llama-3.1-8b", engine.model_copy(update={"launcher": "vlm"}), make_cluster())
