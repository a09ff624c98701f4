"""The front of a whole space in arrays is that of its plans taken one by one: listed and judged alone.

Both sides are estimated by the same screen. So this proves that a space lists what a run accepts and nothing else, and
that an estimate does not depend on which others are worked out with it; not that the estimates are right, which
`tests/training/test_analytic.py` holds against the replay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest

from sim.core import Array
from sim.explore import front_mask
from sim.hardware import ClusterSpec, load_cluster
from sim.models import load_model
from sim.plans import TrainingPlanSpec, TrainingSpace, load_training_engine
from sim.training import (
    SCHEDULES,
    Screen,
    TrainingPlan,
    TrainingPlans,
    TrainingWorkload,
    available_bytes,
    resolve_training,
)


@dataclass(frozen=True)
class Job:
    """A training job and the values to try of its plans."""

    model: str
    node: str
    nodes: int
    batch: int
    sequence: int
    space: dict[str, list[Any]]
    engine: str = "megatron-lm"
    workload: dict[str, Any] = field(default_factory=dict)

    def things(self) -> dict[str, Any]:
        job = {"kind": "training", "global_batch": self.batch, "sequence_length": self.sequence, **self.workload}
        return {
            "model": load_model(self.model),
            "workload": TrainingWorkload.model_validate(job),
            "engine": load_training_engine(self.engine),
            "cluster": load_cluster(ClusterSpec(node=self.node, nodes=self.nodes)),
        }


DENSE = Job(
    "llama-3-8b", "dgx-h100", 4, 64, 8192,
    {
        "tp": [1, 2, 4], "pp": [1, 2, 4], "vpp": [1, 2], "cp": [1, 2], "cp_kind": ["all_gather", "ring"],
        "zero": [0, 1], "recompute": ["none", "full"], "schedule": ["1f1b", "interleaved", "gpipe"],
        "micro_batch": [1, 2], "rank_order": ["tp-cp-dp-pp"], "dp_replicas": [1],
    },
)  # fmt: skip
EXPERTS = Job(
    "mixtral-8x7b", "dgx-a100", 4, 32, 4096,
    {
        "tp": [1, 2, 4], "pp": [1, 2], "vpp": [1, 2], "ep": [1, 2, 3, 8], "zero": [0, 1, 2, 3],
        "recompute": ["none", "selective", "full"], "schedule": ["1f1b", "interleaved"], "micro_batch": [1, 3],
        "cp": [1], "cp_kind": ["ring"], "dp_replicas": [1], "rank_order": ["tp-cp-dp-pp", "tp-cp-pp-dp"],
        "sp": [True, False],
    },
)  # fmt: skip
SHARDED = Job(
    "llama-3-8b", "dgx-h100", 4, 64, 16384,
    {
        "dp_replicas": [1, 2, 4, 5], "zero": [0, 1, 2, 3], "cp": [1, 2], "tp": [1, 2], "pp": [1],
        "cp_kind": ["ring", "ulysses", "token_ring"], "recompute": ["selective", "full"], "recompute_every": [1, 2],
        "micro_batch": [1, 2], "rank_order": ["tp-cp-dp-pp"],
    },
    engine="fsdp",
)  # fmt: skip
HYBRID = Job(
    "nemotron-3-nano-30b-a3b", "dgx-h100", 4, 32, 8192,
    {
        "tp": [1, 2], "pp": [1, 2, 4], "vpp": [1], "cp": [1, 2, 4], "cp_kind": ["ring"], "ep": [1, 4], "zero": [1, 3],
        "recompute": ["none", "full"], "micro_batch": [1], "rank_order": ["tp-cp-dp-pp"], "dp_replicas": [1, 2],
        "clock": [1.0, 0.8],
    },
)  # fmt: skip
FROZEN = Job(
    "llama-3-70b", "dgx-a100", 2, 32, 2048,
    {
        "tp": [2, 4, 8], "pp": [1, 2, 4], "vpp": [1, 2, 4], "zero": [0, 1, 3], "recompute": ["none", "full"],
        "micro_batch": [1, 2, 4], "cp": [1], "cp_kind": ["ring"], "rank_order": ["tp-cp-dp-pp", "pp-tp-cp-dp"],
        "dp_replicas": [1],
    },
    workload={"lora": {"rank": 16}},
)  # fmt: skip
JOBS = {"dense": DENSE, "experts": EXPERTS, "sharded": SHARDED, "hybrid": HYBRID, "frozen": FROZEN}


def one_by_one(job: Job) -> list[TrainingPlan]:
    """Every combination of values that a run would accept; what makes no difference to a plan counts once."""
    things, found = job.things(), dict[TrainingPlan, None]()
    for values in product(*job.space.values()):
        plan = resolve_training(TrainingPlanSpec(**settled(dict(zip(job.space, values, strict=True)), job)), **things)
        if isinstance(plan, TrainingPlan):
            schedule = SCHEDULES.get(plan.schedule)()
            if not schedule.reasons(stages=plan.pp, chunks=plan.vpp, microbatches=plan.microbatches):
                found[plan] = None
    return [*found]


def settled(fields: dict[str, Any], job: Job) -> dict[str, Any]:
    """The fields, with one value for all that are alike."""
    dp = job.nodes * 8 // (fields["tp"] * fields["pp"] * fields["cp"])

    def numbering(order: str) -> list[str]:
        return [name for name in order.split("-") if fields.get(name, dp) > 1]

    fields["rank_order"] = next(o for o in job.space["rank_order"] if numbering(o) == numbering(fields["rank_order"]))
    fields["cp_kind"] = job.space["cp_kind"][0] if fields["cp"] == 1 else fields["cp_kind"]
    if fields["recompute"] != "full":
        fields.pop("recompute_every", None)
    return fields if fields["tp"] > 1 else {**fields, "sp": False}


def dominated(costs: Array, row: int) -> bool:
    return bool(((costs <= costs[row]).all(axis=1) & (costs < costs[row]).any(axis=1)).any())


def rounded(costs: Array) -> Array:
    """To ten digits: below, both ways add up in another order."""
    digits = 10 - np.ceil(np.log10(costs))
    return np.asarray(np.round(costs * 10.0**digits) / 10.0**digits)


@pytest.mark.parametrize("name", JOBS)
def test_the_front_of_the_arrays_is_that_of_brute_force(name: str) -> None:
    job = JOBS[name]
    things = job.things()
    table, rejected = TrainingPlans(TrainingSpace.model_validate(job.space), **things).listed()
    assert table is not None
    made = [table.plan(row) for row in range(len(table))]
    plans = one_by_one(job)
    place = {plan: row for row, plan in enumerate(made)}
    assert len(place) == len(made), "no plan is listed twice"
    assert place.keys() == {*plans}
    assert rejected.counts.total() > 0
    together = np.column_stack(Screen(**things).estimate_table(table))
    alone = np.array([[float(column[0]) for column in Screen(**things).estimate([plan])] for plan in plans])
    together = together[[place[plan] for plan in plans]]
    np.testing.assert_allclose(together, alone, rtol=1e-12)

    fits = alone[:, 1] <= available_bytes(things["cluster"].device, things["engine"])
    costs = rounded(alone[fits])
    expected = {row for row in range(len(costs)) if not dominated(costs, row)}
    assert {*np.flatnonzero(front_mask(rounded(together[fits]))).tolist()} == expected
    assert 2 <= len(expected) < len(costs)
