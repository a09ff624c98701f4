"""A step folded to few micro-batches takes what the whole replay takes, whatever the times."""

from __future__ import annotations

import numpy as np
import pytest

from sim.core import stream
from sim.testing.training import equal_times, random_times
from sim.training import SCHEDULES, StageTimes, replay
from sim.training.folding import folded

LAYOUTS = [("1f1b", 4, 1, 61), ("1f1b", 7, 1, 40), ("interleaved", 4, 3, 64), ("interleaved", 5, 2, 60)]


def slow_stage(virtual_stages: int, at: int) -> StageTimes:
    """Stages alike but for one that takes 30 % longer."""
    times = np.ones(virtual_stages)
    times[at] = 1.3
    return StageTimes(times, 1.5 * times, 0.5 * times, 0.1)


def cases(virtual_stages: int) -> dict[str, StageTimes]:
    return {
        "equal": equal_times(virtual_stages, send_s=0.05),
        "first slow": slow_stage(virtual_stages, 0),
        "last slow": slow_stage(virtual_stages, -1),
        "drifting": random_times(virtual_stages, 3),
        "jammed": equal_times(virtual_stages, send_s=3.5),
    }


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize(("name", "stages", "chunks", "microbatches"), LAYOUTS)
def test_the_fold_is_the_whole(name: str, stages: int, chunks: int, microbatches: int, overlap: bool) -> None:
    schedule = SCHEDULES.get(name)()
    layout = {"stages": stages, "chunks": chunks, "microbatches": microbatches, "overlap_p2p": overlap}
    activation = stream(0, "activation").uniform(1.0, 2.0, stages * chunks)
    short = 0
    for label, times in cases(stages * chunks).items():
        whole, fold = replay(schedule, times, **layout), folded(schedule, times, **layout)  # type: ignore[arg-type]
        assert fold.end_s == pytest.approx(whole.end_s, rel=1e-9), label
        for key in ("device_start_s", "device_end_s", "span_s", "busy_s", "blocked_s", "idle_s"):
            np.testing.assert_allclose(getattr(fold, key), getattr(whole, key), rtol=1e-9, atol=1e-6, err_msg=label)
        np.testing.assert_allclose(fold.graph.peak(activation, activation), whole.peak(activation, activation))
        short += fold.graph.microbatches < microbatches
    assert short >= 2, "equal stages repeat, and so do others"


def test_orders_repeat_after_the_period_that_a_schedule_names() -> None:
    """What `period` promises: with one period more, the orders have its passes more in the middle, and no other."""
    found = 0
    for name in SCHEDULES.names():
        schedule = SCHEDULES.get(name)()
        period = schedule.period(stages=4)
        if not period:
            continue
        found += 1
        layout = {"stages": 4, "chunks": 3 if schedule.reasons(stages=4, chunks=1, microbatches=16) else 1}
        short = schedule.tables(**layout, microbatches=16)
        long = schedule.tables(**layout, microbatches=16 + period)
        for few, many in zip(short, long, strict=True):
            turns = period * layout["chunks"]
            warmup = int(np.argmax(few[:, 0])) - 1
            assert len(many) == len(few) + 2 * turns
            np.testing.assert_array_equal(many[: len(few) - 2 * warmup - 2], few[: len(few) - 2 * warmup - 2])
            again = many[warmup + 2 * turns :, :2]
            np.testing.assert_array_equal(again, few[warmup:, :2])
    assert found >= 2
