"""Laws of the replay, whatever the schedule and the times: bounds, monotone times, symmetry, exact sums."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.testing.training import SMALL_LAYOUTS, check_replay
from sim.training import SCHEDULES, PassKind, PipelineTimes, StageTimes, replay

SECONDS = st.floats(0.1, 3.0)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[str, int, int, int]:
    """A schedule with stages, chunks and micro-batches that it accepts."""
    name = draw(st.sampled_from(SCHEDULES.names()))
    schedule = SCHEDULES.get(name)()
    valid = [
        layout
        for layout in SMALL_LAYOUTS
        if not schedule.reasons(stages=layout[0], chunks=layout[1], microbatches=layout[2])
    ]
    return name, *draw(st.sampled_from(valid))


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[str, int, int, int], StageTimes]:
    """A layout, and times that differ from stage to stage."""
    layout = draw(layouts())
    stages = layout[1] * layout[2]

    def seconds() -> np.ndarray:
        return np.array(draw(st.lists(SECONDS, min_size=stages, max_size=stages)))

    send = seconds() * draw(st.sampled_from([0.0, 0.2, 2.0]))
    extra = draw(SECONDS)
    times = StageTimes(seconds(), seconds(), seconds(), send, vocabulary_s_s=extra, vocabulary_t_s=extra / 2,
                       broadcast_s=extra / 9, exchange_s=extra / 5)  # fmt: skip
    return layout, times


def run(layout: tuple[str, int, int, int], times: StageTimes, **options: object) -> PipelineTimes:
    name, stages, chunks, microbatches = layout
    return replay(SCHEDULES.get(name)(), times, stages=stages, chunks=chunks, microbatches=microbatches, **options)


@given(cases(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_replay_keeps_order_causes_and_sums(case: tuple[tuple[str, int, int, int], StageTimes], overlap: bool) -> None:
    layout, times = case
    step = run(layout, times, overlap_p2p=overlap)
    check_replay(step, times)
    if overlap:
        assert (step.blocked_s == 0.0).all()
    kinds, counts = np.unique(step.graph.kind[: step.graph.count], return_counts=True)
    runs = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
    everything = layout[1] * layout[2] * layout[3]
    assert runs[PassKind.FORWARD] == everything
    backward = runs.get(PassKind.BACKWARD, 0) + runs.get(PassKind.BACKWARD_INPUT, 0)
    assert backward == (0 if SCHEDULES.get(layout[0]).forward_only else everything)
    assert runs.get(PassKind.BACKWARD_WEIGHT, 0) == runs.get(PassKind.BACKWARD_INPUT, 0)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_a_step_is_no_shorter_than_its_bounds(case: tuple[tuple[str, int, int, int], StageTimes]) -> None:
    layout, times = case
    step = run(layout, times)
    chain = times.forward_s.sum() + (0.0 if SCHEDULES.get(layout[0]).forward_only else times.backward_input_s.sum())
    assert step.end_s >= chain - 1e-9, "shorter than one micro-batch through all stages"
    assert step.end_s >= step.busy_s.max() - 1e-9, "shorter than the work of the slowest device"
    assert step.span_s <= step.end_s + 1e-9


@given(cases(), st.integers(0, 5), st.sampled_from(["forward_s", "backward_input_s", "backward_weight_s", "send_s"]))
@settings(max_examples=150, deadline=None)
def test_nothing_gets_slower_when_a_part_gets_faster(
    case: tuple[tuple[str, int, int, int], StageTimes], stage: int, part: str
) -> None:
    # Law 9: a fixed order of passes and transfers on exclusive links.
    layout, times = case
    faster = np.array(getattr(times, part))
    faster[stage % faster.size] *= 0.5
    before, after = run(layout, times), run(layout, replace(times, **{part: faster}))
    assert (after.finish_s <= before.finish_s + 1e-9).all()


@given(cases(), st.floats(1.0, 5.0))
@settings(max_examples=60, deadline=None)
def test_time_scales(case: tuple[tuple[str, int, int, int], StageTimes], factor: float) -> None:
    layout, times = case
    scaled = StageTimes(**{name: value * factor for name, value in vars(times).items() if name != "shared_hidden_frac"})
    np.testing.assert_allclose(run(layout, scaled).finish_s, run(layout, times).finish_s * factor, rtol=1e-9)


@given(cases(), st.integers(0, 5), st.floats(1.0, 4.0))
@settings(max_examples=60, deadline=None)
def test_a_straggler_slows_the_step_by_at_most_its_factor(
    case: tuple[tuple[str, int, int, int], StageTimes], device: int, factor: float
) -> None:
    layout, times = case
    slowdown = np.ones(layout[1])
    slowdown[device % layout[1]] = factor
    alone, slowed = run(layout, times), run(layout, times, slowdown=slowdown)
    assert alone.end_s - 1e-9 <= slowed.end_s <= alone.end_s * factor + 1e-9
    np.testing.assert_allclose(slowed.busy_s, alone.busy_s * slowdown)


@pytest.mark.parametrize(
    ("name", "chunks"), [("gpipe", 1), ("zb_h1", 1), ("zb_h2", 1), ("interleaved", 2), ("zb_v", 2)]
)
def test_transfers_beside_the_passes_cost_only_the_way_in_and_out(name: str, chunks: int) -> None:
    def end_s(microbatches: int, send_s: float, **options: bool) -> float:
        times = StageTimes(*np.ones((3, 4 * chunks)), send_s=send_s)
        return run((name, 4, chunks, microbatches), times, **options).end_s

    assert end_s(64, 0.01) - end_s(64, 0.0) == pytest.approx(end_s(32, 0.01) - end_s(32, 0.0))
    assert end_s(64, 0.01) - end_s(64, 0.0) < 16 * 0.01
    assert end_s(64, 0.01, overlap_p2p=False) - end_s(64, 0.0) > 64 * 0.01


@pytest.mark.parametrize("p", [2, 4, 8])
def test_1f1b_waits_for_the_way_there_and_back(p: int) -> None:
    # Device 0 has p micro-batches in flight and no more, so p of them take p intervals and 2(p - 1) transfers.
    def end_s(microbatches: int, send_s: float) -> float:
        return run(("1f1b", p, 1, microbatches), StageTimes(*np.ones((3, p)), send_s=send_s)).end_s

    exposed_s = (end_s(128, 0.1) - end_s(64, 0.1)) - (end_s(128, 0.0) - end_s(64, 0.0))
    assert exposed_s == pytest.approx(64 / p * 2 * (p - 1) * 0.1)


def test_transfers_queue_behind_each_other() -> None:
    # One micro-batch a second in a pipeline of two, three seconds a transfer: the link sets the pace.
    step = run(("forward_only", 2, 1, 6), StageTimes(*np.ones((3, 2)), send_s=3.0))
    assert step.end_s == pytest.approx(1 + 6 * 3 + 1)
