"""Defaults, reasons and round trips of single plans."""

from __future__ import annotations

import pickle

import pytest

from sim.core import InfeasibleError, InputError, YamlDocument, build_spec
from sim.models import load_model
from sim.plans import Infeasible, PlanSpec, ResolvedPlan, Resolver, default_limits, load_engine, require, resolve


def codes(plan: PlanSpec, model: str, engine, cluster) -> dict[str, str]:
    found = resolve(plan, model=load_model(model), engine=engine, cluster=cluster)
    assert isinstance(found, Infeasible), found
    assert all(reason.message for reason in found.reasons)
    return {reason.code: reason.message for reason in found.reasons}


REFUSED = [
    ("llama-3.1-70b", {"tp": 3, "replicas": 1}, "heads"),
    ("qwen2.5-7b", {"tp": 8}, "heads"),
    ("llama-3.1-8b", {"tp": 32}, "ranks"),
    ("llama-3.1-8b", {"replicas": 9}, "ranks"),
    ("llama-3.1-8b", {"pp": 33}, "layers"),
    ("llama-3.1-8b", {"cp": 2}, "context_parallel"),
    ("llama-3.1-8b", {"dp": 2}, "data_parallel"),
    ("llama-3.1-8b", {"ep": 2}, "experts"),
    ("qwen3-30b-a3b", {"dp": 2, "tp": 2, "ep": 2}, "engine"),
    ("qwen3-30b-a3b", {"dp": 2, "tp": 2, "ep": 4, "moe_tp": 2}, "expert_ranks"),
    ("qwen3-30b-a3b", {"tp": 4, "ep": 3}, "expert_ranks"),
    ("llama-3.1-405b", {"tp": 8}, "memory"),
    ("llama-3.1-70b", {"tp": 1}, "memory"),
    ("llama-3.1-8b", {"kv_memory_frac": 1.0}, "memory"),
    ("llama-3.1-8b", {"weights_dtype": "fp32"}, "dtype"),
    ("llama-3.1-8b", {"kv_dtype": "int8"}, "dtype"),
    ("llama-3.1-8b", {"max_num_seqs": 512, "max_num_batched_tokens": 256}, "budget"),
    ("llama-3.1-8b", {"max_model_len": 200_000}, "context"),
    ("llama-3.1-70b", {"tp": 2, "max_model_len": 100_000}, "context"),
    ("qwen3-235b-a22b", {"tp": 8, "weights_dtype": "fp8_block"}, "scale_blocks"),
]


@pytest.mark.parametrize(("model", "fields", "code"), REFUSED)
def test_reasons(make_cluster, engine, model, fields, code) -> None:
    assert code in codes(PlanSpec(**fields), model, engine, make_cluster())


def test_reasons_carry_their_numbers(make_cluster, engine) -> None:
    found = resolve(PlanSpec(tp=1), model=load_model("llama-3.1-70b"), engine=engine, cluster=make_cluster())
    assert isinstance(found, Infeasible)
    (reason,) = found.reasons
    assert reason.numbers["weights_bytes"] == pytest.approx(141.1e9, rel=0.01)
    assert "leave no KV block" in reason.message
    assert found.label == "tp1"


def test_replicas_that_would_straddle_nodes_are_refused(make_cluster, engine) -> None:
    cluster = make_cluster(devices=6, nodes=2)
    assert "placement" in codes(PlanSpec(tp=4, replicas=3), "llama-3.1-8b", engine, cluster)


def test_nodes_without_a_network_cannot_share_a_replica(make_cluster, engine) -> None:
    cluster = make_cluster(devices=4, nodes=2, network=False)
    assert "network" in codes(PlanSpec(tp=4, pp=2), "llama-3.1-8b", engine, cluster)


def test_all_reasons_of_a_model_are_named_once(make_cluster, engine) -> None:
    reasons = codes(PlanSpec(tp=5, replicas=3), "qwen3-30b-a3b", engine, make_cluster())
    assert {"heads", "kv_heads", "width", "vocabulary", "ranks"} <= set(reasons)


def test_require_raises_with_the_reasons(make_cluster, engine) -> None:
    with pytest.raises(InfeasibleError, match=r"cannot run llama-3\.1-70b") as caught:
        require(PlanSpec(tp=1), model=load_model("llama-3.1-70b"), engine=engine, cluster=make_cluster())
    assert caught.value.reasons[0].code == "memory"


def test_defaults_follow_the_device_as_in_vllm(make_cluster, engine) -> None:
    for memory, name, limits in (
        (79.6, "h100", (1024, 8192)),
        (79.6, "a100-80-sxm", (256, 2048)),
        (24, "l4", (256, 2048)),
    ):
        assert default_limits(engine, make_cluster(memory_gib=memory, name=name).device) == limits


def test_an_open_context_limit_is_what_fits(make_cluster, engine) -> None:
    model, cluster = load_model("llama-3.1-70b"), make_cluster()
    plan = require(PlanSpec(tp=2), model=model, engine=engine, cluster=cluster)
    assert plan.max_model_len == plan.kv_tokens < model.max_position_embeddings
    assert not plan.max_model_len_given
    assert require(PlanSpec(tp=8), model=model, engine=engine, cluster=cluster).max_model_len == 131_072


def test_notes_tell_what_is_allowed_but_odd(make_cluster, engine) -> None:
    model, cluster = load_model("llama-3.1-70b"), make_cluster(nodes=2)

    def notes(**fields: object) -> str:
        return "; ".join(require(PlanSpec(**fields), model=model, engine=engine, cluster=cluster).notes)

    assert notes(tp=8) == ""
    assert "crosses nodes: 16 ranks" in notes(tp=16)
    assert "spans nodes" in notes(tp=8, pp=2)
    assert "that the KV cache holds" in notes(tp=2)


def test_experts_take_what_is_left_open(make_cluster, engine) -> None:
    model, cluster = load_model("qwen3-30b-a3b"), make_cluster()
    for fields, wanted in (
        ({"dp": 2, "tp": 2}, (1, 4)),
        ({"dp": 2, "tp": 2, "ep": 4}, (4, 1)),
        ({"dp": 2, "tp": 2, "moe_tp": 1}, (4, 1)),
    ):
        plan = require(PlanSpec(**fields), model=model, engine=engine, cluster=cluster)
        assert (plan.ep, plan.moe_tp) == wanted
        assert plan.shards[0].ep * plan.shards[0].moe_tp == plan.dp * plan.tp


def test_a_resolved_plan_can_be_written_back(make_cluster, engine) -> None:
    model, cluster = load_model("qwen3-30b-a3b"), make_cluster()
    plan = require(PlanSpec(dp=4, tp=2, ep=8, clock=0.8), model=model, engine=engine, cluster=cluster)
    again = require(PlanSpec(**plan.to_dict()), model=model, engine=engine, cluster=cluster)
    assert again.to_dict() == plan.to_dict()
    assert again.kv_blocks == plan.kv_blocks
    assert plan.n_gpus == 8


def test_a_resolved_plan_travels_between_processes(make_cluster, engine) -> None:
    plan = require(PlanSpec(tp=4, pp=2), model=load_model("llama-3.1-70b"), engine=engine, cluster=make_cluster())
    copy = pickle.loads(pickle.dumps(plan))
    assert copy.to_dict() == plan.to_dict()
    assert copy.cost_key == plan.cost_key
    assert copy.stage_groups == plan.stage_groups


def test_labels_say_what_differs_from_the_defaults(make_cluster, engine) -> None:
    resolver = Resolver(model=load_model("llama-3.1-70b"), engine=engine, cluster=make_cluster())
    plan = PlanSpec(replicas=2, tp=4, weights_dtype="fp8", kv_dtype="bf16", max_num_seqs=1024)
    found = resolver.resolve(plan)
    assert isinstance(found, ResolvedPlan)
    assert found.label == "2x tp4 fp8"
    assert PlanSpec(replicas=2, tp=4, weights_dtype="fp8").label == "2x tp4 fp8"
    assert PlanSpec(dp=8, ep=8, kv_dtype="fp8", clock=0.7).label == "dp8 tp1 ep8 kv-fp8 clock 0.7"


def test_clock_is_part_of_the_cost_but_replicas_are_not(make_cluster, engine) -> None:
    resolver = Resolver(model=load_model("llama-3.1-8b"), engine=engine, cluster=make_cluster())
    plain, more, slow = (resolver.resolve(PlanSpec(**f)) for f in ({}, {"replicas": 4}, {"clock": 0.5}))
    assert isinstance(plain, ResolvedPlan)
    assert isinstance(more, ResolvedPlan)
    assert isinstance(slow, ResolvedPlan)
    assert plain.cost_key == more.cost_key
    assert plain.shape_key != slow.shape_key
    assert plain.shape is more.shape is slow.shape


@pytest.mark.parametrize("fields", [{"graph_sizes": (512,)}, {"fuse_all_reduce": False}])
def test_plans_that_engines_are_told_to_run_otherwise_neither_cost_nor_behave_the_same(
    make_cluster, engine, fields
) -> None:
    resolver = Resolver(model=load_model("llama-3.1-8b"), engine=engine, cluster=make_cluster())
    plain, padded = (resolver.resolve(PlanSpec(**f)) for f in ({}, fields))
    assert isinstance(plain, ResolvedPlan)
    assert isinstance(padded, ResolvedPlan)
    for key in ("shape_key", "cost_key", "behaviour_key"):
        assert getattr(plain, key) != getattr(padded, key)
    assert plain.shape is padded.shape


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"tp": 0}, "plan.yaml"),
        ({"clock": 1.5}, "clock"),
        ({"graph_sizes": [8, 4]}, "rising batch sizes"),
        ({"graph_sizes": []}, "rising batch sizes"),
        ({"weights_dtype": "fp9"}, "unknown number format 'fp9'"),
        ({"tensor_parallel": 4}, "tensor_parallel"),
    ],
)
def test_mistakes_in_a_plan_are_explained(data: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_spec(PlanSpec, YamlDocument(data, "plan.yaml", {}))


def test_formats_have_aliases() -> None:
    assert PlanSpec(weights_dtype="w4a16", kv_dtype="bfloat16") == PlanSpec(weights_dtype="int4", kv_dtype="bf16")


def test_engine_profiles_say_where_every_number_is_from(engine) -> None:
    assert engine.scheduler == "vllm-v1"
    assert engine.graph_sizes == tuple(sorted(set(engine.graph_sizes)))
    assert engine.graph_sizes[-1] == 512
    for _, value in (*engine, *engine.activation):
        if hasattr(value, "ref"):
            assert value.ref in engine.refs
    assert all(entry.ref in engine.refs for entry in engine.limits)


def test_unknown_engine() -> None:
    with pytest.raises(InputError, match="unknown engine 'vlm'; did you mean 'vllm'"):
        load_engine("vlm")
