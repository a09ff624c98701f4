"""The Gantt chart of a pipelined step: every pass once, to scale, none over another."""

import numpy as np
import pytest

from sim.report import pipeline_gantt
from sim.testing.training import equal_times
from sim.training import SCHEDULES, PipelineTimes, StageTimes, replay


def step(name: str, stages: int, chunks: int, microbatches: int, hidden: float = 0.0) -> PipelineTimes:
    base = equal_times(stages * chunks, forward_s=2e-3, input_s=2e-3, weight_s=2e-3, send_s=1e-4)
    times = StageTimes(base.forward_s, base.backward_input_s, base.backward_weight_s, base.send_s, hidden)
    return replay(SCHEDULES.get(name)(), times, stages=stages, chunks=chunks, microbatches=microbatches)


@pytest.mark.parametrize(
    ("name", "chunks", "hidden"), [("interleaved", 2, 0.0), ("dualpipe", 1, 0.5), ("zb_v", 2, 0.0)]
)
def test_bars_fill_the_devices_but_for_the_bubble(name: str, chunks: int, hidden: float) -> None:
    run = step(name, 4, chunks, 8, hidden)
    figure = pipeline_gantt(run.frame(), title=name)
    area = np.zeros(4)
    for bar in figure.data:
        np.add.at(area, np.asarray(bar.y), np.asarray(bar.x) * np.asarray(bar.width))
    area /= np.asarray(figure.data[0].width).max()
    # Passes that share the device have half the height each, so the area is its time.
    np.testing.assert_allclose(area / 1e3, run.end_s - run.idle_s)
    assert sum(len(bar.x) for bar in figure.data) == run.graph.count
    shown = [bar.name for bar in figure.data if bar.showlegend]
    assert len(shown) == len(set(shown)) == len({bar.name for bar in figure.data})
    assert figure.layout.title.text == name
    assert figure.layout.xaxis.title.text == "time [ms]"


def test_passes_side_by_side_do_not_cover_each_other() -> None:
    frame = step("dualpipe", 4, 1, 8, hidden=0.5).frame()
    assert frame["beside"].any()
    bars = [
        (y, x0, x0 + length, y + low, y + low + width)
        for bar in pipeline_gantt(frame).data
        for y, x0, length, low, width in zip(bar.y, bar.base, bar.x, bar.offset, bar.width, strict=True)
    ]
    for at, (y, begin, end, low, high) in enumerate(bars):
        for other in bars[at + 1 :]:
            apart = other[0] != y or other[1] >= end - 1e-9 or other[2] <= begin + 1e-9
            assert apart or other[3] >= high - 1e-9 or other[4] <= low + 1e-9


def test_passes_too_many_to_read_have_no_numbers() -> None:
    small, large = (pipeline_gantt(step("1f1b", 8, 1, count).frame()) for count in (8, 128))
    assert small.data[0].text is not None
    assert large.data[0].text is None
