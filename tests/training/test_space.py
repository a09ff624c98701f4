"""The plans of a space: each row is what `resolve_training` makes of its fields, and refused where that refuses."""

from __future__ import annotations

from itertools import permutations, product
from math import factorial
from typing import Any

import pytest

from sim.hardware import ClusterSpec, load_cluster
from sim.models import load_model
from sim.plans import TrainingPlanSpec, TrainingSpace, load_training_engine
from sim.plans.training import RANK_DIMENSIONS
from sim.training import (
    SCHEDULES,
    PlanTable,
    TrainingPlan,
    TrainingPlans,
    TrainingStep,
    TrainingWorkload,
    resolve_training,
)
from sim.training.analytic import Screen


def plans_of(space: dict[str, Any], *, model: str = "llama-3-8b", nodes: int = 1, batch: int = 24) -> TrainingPlans:
    return TrainingPlans(
        TrainingSpace(**space),
        load_model(model),
        TrainingWorkload(kind="training", global_batch=batch, sequence_length=2048),
        load_training_engine("megatron-lm"),
        load_cluster(ClusterSpec(node="dgx-h100", nodes=nodes)),
    )


def resolved(plans: TrainingPlans, **fields: Any) -> Any:
    """The plan, or the reasons why it cannot run, those of its schedule included."""
    found = resolve_training(
        TrainingPlanSpec(**fields),
        workload=plans.workload,
        model=plans.model,
        engine=plans.engine,
        cluster=plans.cluster,
    )
    if isinstance(found, tuple):
        return found
    schedule = SCHEDULES.get(found.schedule)()
    reasons = schedule.reasons(stages=found.pp, chunks=found.vpp, microbatches=found.microbatches)
    return tuple(reasons) or found


def test_listed_values_are_all_tried_and_judged_as_a_run_judges_them() -> None:
    """Every combination of listed values is a row, equal to the plan of a run, or counted as one that cannot run."""
    lists: dict[str, list[Any]] = {
        "tp": [1, 2, 3, 8],
        "pp": [1, 2, 4],
        "rank_order": ["tp-cp-dp-pp"],
        "vpp": [1, 2, 3],
        "micro_batch": [1, 2, 5],
        "zero": [0, 1],
        "recompute": ["none", "full"],
    }
    plans = plans_of(lists)
    table, rejected = plans.listed()
    assert table is not None
    expected, refused = [], 0
    ranks_refused: set[tuple[int, int]] = set()
    for values in product(*lists.values()):
        found = resolved(plans, **dict(zip(lists, values, strict=True)))
        alone = resolved(plans, tp=values[0], pp=values[1])
        if isinstance(alone, tuple) and not isinstance(found, TrainingPlan):
            ranks_refused.add(values[:2])
        elif isinstance(found, TrainingPlan):
            expected.append(found)
        else:
            refused += 1
    made = [table.plan(row) for row in range(len(table))]
    assert sorted(map(repr, made)) == sorted(map(repr, expected))
    assert rejected.counts.total() == refused + len(ranks_refused)
    assert {"ranks", "batch", "schedule"} <= set(rejected.counts)
    assert all(reason.message for _, reasons in rejected.examples for reason in reasons)


@pytest.mark.parametrize(("model", "nodes", "batch"), [("llama-3-8b", 2, 64), ("mixtral-8x7b", 1, 32)])
def test_every_plan_of_the_default_ranges_can_run(model: str, nodes: int, batch: int) -> None:
    plans = plans_of({}, model=model, nodes=nodes, batch=batch)
    table, rejected = plans.listed()
    assert table is not None
    seen = set()
    names = [*(TrainingSpace.model_fields.keys() - {"power_cap"}), "layers_per_stage"]
    for row in range(0, len(table), 7):
        plan = table.plan(row)
        assert plan.n_gpus == plans.cluster.n_devices
        again = resolved(plans, **{name: getattr(plan, name) for name in names if name != "recompute_every"})
        assert again == plan
        seen.add(plan)
    assert len(seen) == len(range(0, len(table), 7)), "no plan is listed twice"
    assert {plan.ep for plan in seen} == ({1} if model == "llama-3-8b" else {1, 2, 4, 8})
    assert {plan.recompute for plan in seen} == {"none", "selective", "full"}
    assert set(rejected.counts) <= {"multiple"}


def test_rank_orders_that_number_the_ranks_alike_count_once() -> None:
    orders = [[*order] for order in permutations(RANK_DIMENSIONS)]
    listed, _ = plans_of({"rank_order": orders, "zero": 0, "recompute": "full", "cp": 1}, nodes=2, batch=32).listed()
    default, _ = plans_of({"zero": 0, "recompute": "full", "cp": 1}, nodes=2, batch=32).listed()
    assert listed is not None
    assert default is not None

    def numberings(table: PlanTable) -> dict[tuple[int, ...], int]:
        """How many orders each layout has; each numbers the ranks in its own way."""
        seen: dict[tuple[Any, ...], set[tuple[str, ...]]] = {}
        for row in range(len(table)):
            plan = table.plan(row)
            own = tuple(name for name in plan.rank_order if getattr(plan, name) > 1)
            orders = seen.setdefault((plan.dp, plan.tp, plan.pp, plan.vpp, plan.micro_batch), set())
            assert own not in orders
            orders.add(own)
        return {key: len(orders) for key, orders in seen.items()}

    for key, count in numberings(listed).items():
        assert count == factorial(sum(degree > 1 for degree in key[:3]))
    for key, count in numberings(default).items():
        assert count == (2 if key[0] > 1 and key[2] > 1 else 1)


def test_copies_of_sharded_states_are_tried_where_they_keep_gathers_on_fast_links() -> None:
    """Left open, one copy, and with everything sharded one a node and one a few nodes; listed, all that share."""
    fixed = {"tp": 2, "pp": 1, "cp": 1, "recompute": "full", "micro_batch": 1, "rank_order": "tp-cp-dp-pp"}
    open_, _ = plans_of(fixed, nodes=4, batch=64).listed()
    listed, rejected = plans_of({**fixed, "dp_replicas": [1, 2, 3], "zero": [0, 1, 3]}, nodes=4, batch=64).listed()
    assert open_ is not None
    assert listed is not None
    assert {(p.zero, p.dp_replicas) for p in map(open_.plan, range(len(open_)))} == {
        *((zero, 1) for zero in range(4)),
        (3, 2),
        (3, 4),
    }
    assert {(p.zero, p.dp_replicas) for p in map(listed.plan, range(len(listed)))} == {
        *((zero, 1) for zero in (0, 1, 3)),
        *((zero, 2) for zero in (1, 3)),
    }
    assert rejected.counts == {"replicas": 2}, "3 does not divide, and 2 copies of nothing share nothing"
    assert "zero 1, 2 or 3" in next(r.message for label, (r, *_) in rejected.examples if label.endswith("zero0"))
    one_node, _ = plans_of(fixed, nodes=1).listed()
    assert one_node is not None
    assert {*one_node.columns.dp_replicas.tolist()} == {1}


def test_what_context_parallel_ranks_exchange_is_a_range_only_where_there_are_any() -> None:
    fixed = {"tp": 4, "pp": 1, "zero": 1, "recompute": "full", "micro_batch": 1, "rank_order": "tp-cp-dp-pp"}
    plans = plans_of({**fixed, "cp": [1, 4, 16]}, nodes=8, batch=64)
    table, _ = plans.listed()
    assert table is not None
    kinds: dict[int, list[str]] = {}
    for plan in map(table.plan, range(len(table))):
        kinds.setdefault(plan.cp, []).append(plan.cp_kind)
    assert kinds[1] == ["ring"]
    assert sorted(kinds[4]) == ["all_gather", "ring", "ulysses"]
    assert sorted(kinds[16]) == ["all_gather", "ring"], "8 query heads do not divide over 16 ranks"
    table, rejected = plans_of({**fixed, "cp": [16], "cp_kind": ["token_ring", "ulysses"]}, nodes=8, batch=64).listed()
    assert table is not None
    assert [table.plan(row).cp_kind for row in range(len(table))] == ["token_ring"]
    assert rejected.counts == {"context_parallel": 1}


def test_context_parallel_ranks_of_a_hybrid_model_divide_its_recurrences() -> None:
    plans = TrainingPlans(
        TrainingSpace.model_validate({"pp": 1, "tp": [1, 8], "zero": 3, "recompute": "full", "micro_batch": 1}),
        load_model("qwen3.5-27b"),
        TrainingWorkload(kind="training", global_batch=64, sequence_length=65536),
        load_training_engine("megatron-lm"),
        load_cluster(ClusterSpec(node="dgx-h100", nodes=8)),
    )
    table, rejected = plans.listed()
    assert table is not None
    found = {(plan.tp, plan.cp) for plan in map(table.plan, range(len(table)))}
    assert found == {*((1, cp) for cp in (1, 2, 4, 8, 16)), (8, 1), (8, 2)}, "16 key heads of a recurrence"
    assert rejected.counts.total() == 0


def test_tensor_parallel_overlap_is_tried_with_sequence_parallelism_alone() -> None:
    """Listed without it, it is counted as what cannot run; without tensor parallelism it is nothing."""
    fixed = {"pp": 1, "zero": 1, "recompute": "full", "micro_batch": 1, "rank_order": "tp-cp-dp-pp"}
    table, rejected = plans_of({**fixed, "tp": [1, 4], "sp": [True, False], "overlap_tp": [True, False]}).listed()
    assert table is not None
    made = [table.plan(row) for row in range(len(table))]
    assert sorted((p.tp, p.sp, p.overlap_tp) for p in made) == [
        *((1, False, on) for on in (False, True)),
        *((4, *switches) for switches in ((False, False), (True, False), (True, True))),
    ]
    assert rejected.counts == {"sequence_parallel": 1}
    assert "overlap_tp" in rejected.examples[0][0]
    none, rejected = plans_of({**fixed, "tp": 4, "sp": False, "overlap_tp": True}).listed()
    assert none is None
    assert rejected.counts == {"sequence_parallel": 1}


def test_a_listed_schedule_gets_the_chunks_that_it_can_have() -> None:
    table, _ = plans_of({"schedule": ["1f1b", "interleaved", "zb_v", "dualpipe"], "pp": [4]}).listed()
    assert table is not None
    made = [table.plan(row) for row in range(len(table))]
    chunks = {name: {plan.vpp for plan in made if plan.schedule == name} for name in table.schedules}
    assert chunks == {"1f1b": {1}, "interleaved": {2, 4, 8}, "zb_v": {2}, "dualpipe": {1}}


def test_a_space_without_any_plan_says_why_in_numbers() -> None:
    table, rejected = plans_of({"tp": 3}).listed()
    assert table is None
    (label, reasons), *_ = rejected.examples
    assert "tp3" in label
    assert "8 GPUs" in reasons[0].message
    assert reasons[0].numbers["tp"] == 3


def test_power_caps_are_clocks_and_a_cap_that_no_clock_keeps_is_refused() -> None:
    """Each cap is what a run with it makes of it; none below the lowest, and without any other there are no plans."""
    given: dict[str, Any] = {"tp": 8, "pp": 1, "zero": 1, "recompute": "none", "micro_batch": 1}
    plans = plans_of({**given, "power_cap": ["500 W", 900.0, "100 W"]})
    table, rejected = plans.listed()
    assert table is not None
    made = {table.plan(row) for row in range(len(table))}
    assert {plan.clock for plan in made} == {1.0, resolved(plans, **given, power_cap=500.0).clock}
    assert rejected.counts["power"] == 1
    assert "100 W" in rejected.examples[0][1][0].message
    both, _ = plans_of({**given, "clock": [0.5, 1.0], "power_cap": 500.0}).listed()
    assert both is not None
    assert sorted(both.columns.clock.tolist())[:1] == [0.5]
    assert max(both.columns.clock) < 1.0
    assert plans_of({**given, "power_cap": 100.0}).listed()[0] is None


@pytest.mark.parametrize("graphs", [None, True, False])
def test_all_plans_of_a_space_have_its_cuda_graphs(graphs: bool | None) -> None:
    plans = plans_of({"tp": 8, "cuda_graphs": graphs})
    table, _ = plans.listed()
    assert table is not None
    assert table.plan(0).cuda_graphs == bool(graphs)
    estimate = Screen(plans.model, plans.workload, plans.engine, plans.cluster).estimate_table(table)
    step = TrainingStep(plans.model, table.plan(0), workload=plans.workload, engine=plans.engine, cluster=plans.cluster)
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.12)
