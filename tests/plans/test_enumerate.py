"""The space of plans: complete, without repetition, and inside the cluster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import InputError, YamlDocument, build_spec
from sim.models import load_model
from sim.plans import Infeasible, PlanSpace, PlanSpec, ResolvedPlan, Resolver, enumerate_plans

MODELS = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "mixtral-8x7b", "deepseek-v3")


@given(st.sampled_from(MODELS), st.sampled_from([(1, 1), (8, 1), (4, 2), (8, 4), (6, 2)]))
def test_plans_are_distinct_and_multiply_out(make_cluster, engine, name, size) -> None:
    model, cluster = load_model(name), make_cluster(devices=size[0], nodes=size[1])
    plans = list(enumerate_plans(model, engine, cluster))
    assert len({tuple(plan.__dict__.values()) for plan in plans}) == len(plans) > 0
    for plan in plans:
        ranks = plan.dp * plan.tp
        assert plan.replicas * ranks * plan.pp <= cluster.n_devices
        assert plan.ep * plan.moe_tp == (ranks if model.is_moe else 1)
        assert plan.ep in {1, ranks}
        assert plan.max_num_seqs <= plan.max_num_batched_tokens
        assert model.is_moe or plan.dp == 1


@pytest.mark.parametrize("name", MODELS)
def test_what_is_listed_equals_what_validates(make_cluster, engine, name) -> None:
    model, cluster = load_model(name), make_cluster(nodes=2)
    resolver = Resolver(model=model, engine=engine, cluster=cluster)
    for plan in enumerate_plans(model, engine, cluster, PlanSpace(max_num_seqs=[64], max_num_batched_tokens=[2048])):
        assert PlanSpec.model_validate(plan.model_dump()) == plan
        found = resolver.resolve(plan)
        if isinstance(found, Infeasible):
            assert {r.code for r in found.reasons} <= {
                "memory",
                "heads",
                "kv_heads",
                "width",
                "scale_blocks",
                "experts",
            }
        else:
            assert found.n_gpus <= cluster.n_devices
            assert found.kv_blocks > 0


def test_part_of_the_cluster_is_enough(make_cluster, engine) -> None:
    model = load_model("llama-3.1-70b")
    plans = list(enumerate_plans(model, engine, make_cluster()))
    gpus = {plan.replicas * plan.tp * plan.pp for plan in plans}
    assert gpus == {1, 2, 3, 4, 5, 6, 7, 8}
    assert {plan.replicas for plan in plans if plan.tp == 2 and plan.pp == 1} == {1, 2, 3, 4}
    assert {plan.weights_dtype for plan in plans} == {"bf16"}


def test_many_replicas_are_thinned(make_cluster, engine) -> None:
    cluster = make_cluster(nodes=5)
    plans = enumerate_plans(load_model("llama-3.1-8b"), engine, cluster, PlanSpace(tp=1, pp=1))
    assert {plan.replicas for plan in plans} == {1, 2, 4, 8, 16, 32, 40}


def test_listed_values_are_tried_even_where_they_cannot_run(make_cluster, engine) -> None:
    model, cluster = load_model("llama-3.1-70b"), make_cluster()
    space = PlanSpace(tp=[3, 16], max_num_seqs=512, max_num_batched_tokens=256)
    resolver = Resolver(model=model, engine=engine, cluster=cluster)
    found = [resolver.resolve(plan) for plan in enumerate_plans(model, engine, cluster, space)]
    codes = {reason.code for plan in found if isinstance(plan, Infeasible) for reason in plan.reasons}
    assert not any(isinstance(plan, ResolvedPlan) for plan in found)
    assert {"heads", "ranks"} <= codes


def test_attention_and_experts_are_divided_apart(make_cluster, engine) -> None:
    plans = enumerate_plans(load_model("qwen3-30b-a3b"), engine, make_cluster(), PlanSpace(replicas=1, pp=1))
    kinds = {(plan.dp, plan.tp, plan.ep, plan.moe_tp) for plan in plans}
    assert {(8, 1, 8, 1), (8, 1, 1, 8), (2, 4, 8, 1), (1, 8, 1, 8), (1, 1, 1, 1)} <= kinds


def test_a_space_takes_single_values_and_names_mistakes() -> None:
    space = build_spec(PlanSpace, YamlDocument({"tp": 4, "kv_dtype": ["fp8", "bfloat16", "bf16"]}, "s.yaml", {}))
    assert space.tp == (4,)
    assert space.kv_dtype == ("fp8", "bf16")
    for wrong in ({"tp": []}, {"tp": [0]}, {"tp": ["many"]}, {"clock": [2]}, {"weights_dtype": "fp9"}, {"tpp": [1]}):
        with pytest.raises(InputError, match=r"s\.yaml"):
            build_spec(PlanSpace, YamlDocument(wrong, "s.yaml", {}))
