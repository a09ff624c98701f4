"""Defective schedules are found out when they are compiled, not when their results look odd; layouts compile once."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sim.core import PlansimError
from sim.testing.training import equal_times
from sim.training import SCHEDULES, Pass, PassKind, Schedule, pass_graph, replay
from sim.training.schedules import Orders

Change = Callable[[Orders], None]


@dataclass(frozen=True)
class Changed(Schedule):
    """1F1B, or its split form, with a defect."""

    change: Change
    base: str = "1f1b"

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        orders = SCHEDULES.get(self.base)().orders(stages=stages, chunks=chunks, microbatches=microbatches)
        self.change(orders)
        return orders


def drop_a_backward(orders: Orders) -> None:
    orders[1].pop()


def run_one_twice(orders: Orders) -> None:
    orders[0].append(orders[0][-1])


def run_elsewhere(orders: Orders) -> None:
    orders[1].append(orders[0].pop())


def backward_first(orders: Orders) -> None:
    order = orders[-1]
    order[0], order[1] = order[1], order[0]


def wait_in_a_circle(orders: Orders) -> None:
    # Device 0 wants the gradient of micro-batch 0 before it sends micro-batch 1, which the others run first.
    orders[0][:] = [Pass(kind, 0, n) for n in range(4) for kind in (PassKind.FORWARD, PassKind.BACKWARD)]


def drop_a_weight(orders: Orders) -> None:
    orders[0].remove(next(step for step in orders[0] if step.kind is PassKind.BACKWARD_WEIGHT))


@pytest.mark.parametrize(
    ("change", "base", "message"),
    [
        (drop_a_backward, "1f1b", "leaves passes out"),
        (drop_a_weight, "zb_h1", "leaves passes out"),
        (run_one_twice, "1f1b", "runs some B twice"),
        (run_elsewhere, "1f1b", "does not hold its stage"),
        (backward_first, "1f1b", "before what it needs"),
        (wait_in_a_circle, "1f1b", r"wait for each other in a circle: .*F\("),
    ],
)
def test_defects_are_named(change: Change, base: str, message: str) -> None:
    with pytest.raises(PlansimError, match=message):
        pass_graph(Changed(change, base), stages=3, chunks=1, microbatches=4)


def test_a_layout_is_compiled_once_for_all_times() -> None:
    layout = {"stages": 4, "chunks": 2, "microbatches": 8}
    first, second = (
        replay(SCHEDULES.get("interleaved")(), equal_times(8, forward_s=seconds), **layout) for seconds in (1.0, 2.0)
    )
    assert first.graph is second.graph
    assert first.end_s < second.end_s


def test_a_pipeline_without_backward_passes_keeps_nothing() -> None:
    step = replay(SCHEDULES.get("forward_only")(), equal_times(4), stages=4, microbatches=8)
    assert step.peak_activations.tolist() == [0.0] * 4
