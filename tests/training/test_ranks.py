"""Rank orders: which ranks communicate, over which links, and what that does to the time of a step."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from pydantic import ValidationError

from sim.hardware import ClusterSpec, load_cluster
from sim.models import load_model
from sim.plans import TrainingPlanSpec, TrainingSpace
from sim.plans.training import RANK_DIMENSIONS
from sim.training import Screen, TrainingStep, megatron_command
from sim.training.ranks import lattices, rank_steps
from tests.training.builders import gpt, resolved

ORDERS = [*permutations(RANK_DIMENSIONS)]
MODEL = gpt(layers=16, hidden=4096, heads=32)


def step_of(plan: dict[str, Any], **given: Any) -> tuple[TrainingStep, dict[str, Any]]:
    found, things = resolved(plan, **{"model": MODEL, "gpus": 32, "batch": 64, "sequence": 2048, **given})
    assert not isinstance(found, tuple), found
    return TrainingStep(plan=found, **things), things


@pytest.mark.parametrize("order", ORDERS)
def test_groups_of_a_kind_part_all_ranks(order: tuple[str, ...]) -> None:
    """Every rank is in one group of each kind; tensor, data (with context) and pipeline ranks together are all."""
    degrees, ep = {"tp": 2, "cp": 3, "dp": 4, "pp": 5}, 2
    found = lattices(order, degrees, ep=ep, replicas=2)
    step = rank_steps(order, degrees)
    assert sorted(step.values())[0] == 1
    every = {a + b + c for a in found["tp"].devices for b in found["dp"].devices for c in found["stages"].devices}
    assert every == set(range(120))
    assert {a + b for a in found["expert_dp"].devices for b in found["ep"].devices} == {*found["dp"].devices}
    assert {a + b for a in found["dp_shard"].devices for b in found["dp_replica"].devices} == {*found["dp"].devices}
    assert {*found["cp"].devices} <= {*found["expert_dp"].devices}
    assert [*found["ends"].devices] == [0, 4 * step["pp"]]
    shares = {"dp_shard": 6, "dp_replica": 2, "expert_shard": 3}
    sizes = {name: len(lattice.devices) for name, lattice in found.items()}
    assert sizes == {"tp": 2, "cp": 3, "cp_hop": 2, "ep": 2, "dp": 12, "expert_dp": 6, "stages": 5, "ends": 2, **shares}


@pytest.mark.parametrize(("gpus", "node"), [(8, "dgx-a100"), (32, "flat")])
def test_on_a_flat_network_the_order_changes_nothing(gpus: int, node: str) -> None:
    """All ranks in one domain, or each alone in its own: no link is faster than another."""
    plan = {"tp": 2, "pp": 2, "cp": 2, "zero": 1, "overlap_dp": True}
    times = set()
    for order in ORDERS:
        found, things = resolved({**plan, "rank_order": order}, model=MODEL, gpus=gpus, batch=64, sequence=8192)
        if node == "flat":
            things["cluster"] = load_cluster(ClusterSpec(node="dgx-a100", nodes=gpus, devices_per_node=1))
        step = TrainingStep(plan=found, **things)
        times.add((step.step_s, float(Screen(**things).estimate([found]).step_s[0])))
    assert len(times) == 1


def test_tensor_ranks_across_nodes_are_slower_and_the_screen_says_so() -> None:
    plan = {"tp": 8, "pp": 2, "zero": 1}
    steps = {order: step_of({**plan, "rank_order": order})[0] for order in ("tp-cp-dp-pp", "dp-pp-cp-tp")}
    near, far = steps.values()
    assert near.costs.groups["tp"].nodes == 1
    assert far.costs.groups["tp"].nodes == 4
    assert far.step_s > 1.5 * near.step_s
    assert far.times.parts_s["tp_comm"] > 3.0 * near.times.parts_s["tp_comm"]
    assert far.times.parts_s["linear"] == pytest.approx(near.times.parts_s["linear"])


def test_data_ranks_inside_a_node_or_stages() -> None:
    """With 4 stages of tp 2 in a node, stages send over fast links and gradients cross the network; else vice versa."""
    plan = {"tp": 2, "pp": 4, "zero": 1}
    inside, _ = step_of({**plan, "rank_order": "tp-pp-cp-dp"})
    outside, _ = step_of({**plan, "rank_order": "tp-cp-dp-pp"})
    assert inside.costs.groups["stages"].nodes == 1
    assert inside.costs.groups["dp"].nodes == 4
    assert outside.costs.groups["stages"].nodes == 4
    assert outside.costs.groups["dp"].nodes == 1
    assert inside.times.parts_s["pp_comm"] < outside.times.parts_s["pp_comm"]
    assert inside.times.parts_s["dp_comm"] > outside.times.parts_s["dp_comm"]


@pytest.mark.parametrize("order", ["tp-cp-dp-pp", "tp-cp-pp-dp", "dp-tp-cp-pp", "pp-dp-cp-tp"])
@pytest.mark.parametrize(
    ("model", "plan"),
    [
        ("llama-3-8b", {"tp": 4, "pp": 4, "cp": 2}),
        ("mixtral-8x7b", {"tp": 2, "ep": 4, "pp": 2, "zero": 1}),
        ("llama-3-8b", {"tp": 2, "pp": 2, "zero": 3, "recompute": "full"}),
    ],
)
def test_the_screen_agrees_with_the_replay_in_every_order(model: str, plan: dict[str, Any], order: str) -> None:
    step, things = step_of({**plan, "rank_order": order}, model=load_model(model), node="dgx-h100", sequence=8192)
    estimate = Screen(**{k: v for k, v in things.items() if k != "sustained"}).estimate([step.plan])
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.06)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("tp-pp", ["tp-pp-cp-dp", "not tp-pp"]),
        ("tp-cp-dp-pp-ep", ["right before dp", "tp-cp-dp-pp"]),
        (["tp", "tp", "dp", "pp"], ["tp-dp-pp-cp"]),
        ("tp-cp-dq-pp", ["tp-cp-pp-dp"]),
        (3, ["list of dimensions"]),
    ],
)
def test_an_order_that_is_none_names_the_nearest_that_is(given: Any, words: list[str]) -> None:
    with pytest.raises(ValidationError) as failure:
        TrainingPlanSpec(rank_order=given)
    assert all(word in str(failure.value) for word in words)


def test_orders_are_written_as_lists_or_as_megatron_writes_them() -> None:
    assert TrainingPlanSpec(rank_order="tp-cp-ep-dp-pp").rank_order == RANK_DIMENSIONS
    pair = TrainingSpace.model_validate({"rank_order": ["tp-cp-pp-ep-dp", ["tp", "cp", "dp", "pp"]]})
    assert pair.rank_order == (("tp", "cp", "pp", "dp"), RANK_DIMENSIONS)
    assert TrainingSpace.model_validate({"rank_order": ["tp", "cp", "dp", "pp"]}).rank_order == (RANK_DIMENSIONS,)


@pytest.mark.parametrize(
    ("order", "words"),
    [("tp-cp-pp-dp", "--use-tp-pp-dp-mapping"), ("pp-dp-cp-tp", "# no argument numbers ranks pp-dp-cp-tp")],
)
def test_what_starts_it_says_the_order(order: str, words: str) -> None:
    step, things = step_of({"tp": 2, "pp": 2, "rank_order": order})
    text = megatron_command(step.plan, model=MODEL, workload=things["workload"], cluster=things["cluster"])
    assert words in text
    assert "-".join(name for name in order.split("-") if name != "cp") in step.plan.label
