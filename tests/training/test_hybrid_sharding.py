"""Hybrid sharding: states divided among neighbours, copied over the rest; a share of the gradients crosses."""

from __future__ import annotations

from typing import Any

import pytest

from sim.models import load_model
from sim.training import TrainingStep
from sim.training.analytic import Screen
from tests.training.builders import gpt, resolved, step_of

GIVEN: dict[str, Any] = {
    "model": gpt(layers=8, hidden=8192, heads=64),
    "node": "dgx-h100",
    "engine": "fsdp",
    "gpus": 32,
}


def test_one_replica_is_plain_sharding() -> None:
    plain, one = step_of({"zero": 3}, **GIVEN), step_of({"zero": 3, "dp_replicas": 1}, **GIVEN)
    assert one.step_s == plain.step_s


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_states_are_divided_over_the_ranks_of_one_replica(zero: int) -> None:
    whole, copied = (step_of({"zero": zero, "dp_replicas": n}, **GIVEN).memory[0] for n in (1, 4))
    assert copied.optimizer_bytes == pytest.approx(4.0 * whole.optimizer_bytes)
    assert copied.gradients_bytes == pytest.approx((4.0 if zero > 1 else 1.0) * whole.gradients_bytes)


def test_layers_are_gathered_inside_a_node_and_a_share_of_their_gradients_crosses() -> None:
    """Four nodes, a replica each: gathers and scatters on the node's links, an all-reduce of 1/8 over the network."""
    step = step_of({"zero": 3, "dp_replicas": 4, "overlap_dp": False}, **GIVEN)
    assert step.costs.groups["dp_shard"].nodes == 1
    assert (step.costs.groups["dp_replica"].ranks, step.costs.groups["dp_replica"].nodes) == (4, 4)
    layer = 12.0 * 8192**2 + 13 * 8192  # with biases of the norms
    near = 2.0 * step.costs.collective_s("all_gather", 2.0 * layer, "dp_shard")
    near += step.costs.collective_s("reduce_scatter", 2.0 * layer, "dp_shard")
    far = step.costs.collective_s("all_reduce", 2.0 * layer / 8, "dp_replica")
    expected_s = 8 * step.plan.microbatches * (near + far)
    assert step.times.parts_s["dp_comm"] == pytest.approx(expected_s, rel=1e-3)


def test_gradients_are_reduced_in_two_steps_where_only_states_are_sharded() -> None:
    step = step_of({"zero": 1, "dp_replicas": 4, "overlap_dp": False}, **GIVEN)
    total = step.parameters[0].total
    expected_s = step.costs.collective_s("reduce_scatter", 2.0 * total, "dp_shard")
    expected_s += step.costs.collective_s("all_reduce", 2.0 * total / 8, "dp_replica")
    expected_s += step.costs.collective_s("all_gather", 2.0 * total, "dp_shard")
    assert step.times.parts_s["dp_comm"] == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"zero": 3, "dp_replicas": 3}, "the nearest are 2 and 4"),
        ({"zero": 0, "dp_replicas": 4}, "zero 1, 2 or 3"),
    ],
)
def test_impossible_replicas_say_why(plan: dict[str, Any], words: str) -> None:
    reasons, _ = resolved(plan, **GIVEN)
    assert reasons[0].code == "replicas"
    assert words in reasons[0].message


@pytest.mark.parametrize(
    ("model", "plan"),
    [
        *[("llama-3-8b", {"zero": zero, "overlap_dp": overlap}) for zero in (1, 2, 3) for overlap in (True, False)],
        ("llama-3-8b", {"zero": 3, "tp": 2, "cp": 2, "recompute": "full"}),
        ("llama-3-8b", {"zero": 1, "tp": 2, "pp": 2, "rank_order": "tp-cp-pp-dp"}),
        ("mixtral-8x7b", {"zero": 3, "tp": 2, "ep": 2, "recompute": "full"}),
        ("mixtral-8x7b", {"zero": 2, "tp": 4, "ep": 2}),
    ],
)
@pytest.mark.parametrize("copies", [2, 4])
def test_the_screen_knows_replicas(model: str, plan: dict[str, Any], copies: int) -> None:
    """Time and memory of the columns are those of the replayed step, as for plain sharding."""
    given = {**GIVEN, "model": load_model(model), "batch": 64, "sequence": 4096}
    found, things = resolved({**plan, "dp_replicas": copies}, **given)
    step = TrainingStep(plan=found, **things)
    estimate = Screen(**things).estimate([found])
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.05)
    assert estimate.memory_bytes[0] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.03)
