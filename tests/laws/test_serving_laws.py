"""Laws 1, 2, 3 and 5 on random traffic, for every registered scheduler and router."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plans import KvLayout, WindowGroup
from sim.serving import ROUTERS, SCHEDULERS, ClosedLoop, ConstantCost, EngineLimits, OpenLoop, serve
from sim.serving.requests import FINISHED
from sim.testing.serving import (
    AffineCost,
    blocks_counted,
    check_router,
    check_run,
    check_scheduler,
    random_traffic,
)


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_scheduler_keeps_the_laws(name: str) -> None:
    check_scheduler(name)


@pytest.mark.parametrize("name", ROUTERS.names())
def test_router_keeps_the_laws(name: str) -> None:
    check_router(name)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    rate=st.floats(0.2, 30.0),
    longest=st.integers(2, 300),
    sequences=st.integers(1, 24),
    extra_blocks=st.integers(0, 80),
    block=st.sampled_from([1, 4, 16]),
    window=st.sampled_from([None, 8, 100]),
    pieces=st.integers(2, 60),
    least_s=st.sampled_from([0.0, 5.5e-3, 7e-3]),
    gap_s=st.sampled_from([0.0, 3e-4]),
    ahead=st.booleans(),
    interval=st.sampled_from([1, 3, 10]),
    full=st.integers(0, 2),
    windows=st.lists(st.builds(WindowGroup, st.integers(1, 9), st.integers(1, 3)), max_size=2).map(tuple),
    fixed=st.integers(0, 4),
)
def test_leap_equals_step(
    seed: int,
    rate: float,
    longest: int,
    sequences: int,
    extra_blocks: int,
    block: int,
    window: int | None,
    pieces: int,
    least_s: float,
    gap_s: float,
    ahead: bool,
    interval: int,
    full: int,
    windows: tuple[WindowGroup, ...],
    fixed: int,
) -> None:
    """Law 5, with preemptions, windows, states, odd block sizes, slow hosts, asynchronous scheduling, rare looks."""
    layout = KvLayout(block, full, windows, fixed)
    blocks = layout.blocks_for(2 * longest) + extra_blocks
    limits = EngineLimits(
        sequences,
        max(32, sequences),
        64,
        kv_blocks=blocks,
        block_tokens=block,
        kv_layout=layout,
        schedule_ahead=ahead,
        queue_interval=interval,
    )
    cost = AffineCost((None, window) if window else (None,), pieces, least_s=least_s, gap_s=gap_s)
    runs = []
    for leap in (True, False):
        log, load = random_traffic(seed, 40, rate=rate, longest=longest)
        runs.append(serve(log, load, costs=[cost], limits=limits, leap=leap))
        check_run(runs[-1])
    for column in ("scheduled_s", "first_s", "finish_s"):
        a, b = (np.asarray(getattr(run.log, column)) for run in runs)
        np.testing.assert_allclose(a, b, rtol=1e-9)
    assert runs[0].log.preemptions == runs[1].log.preemptions
    assert len(runs[0].records[0]) <= len(runs[1].records[0])


def check_leap_equals_step(limits: EngineLimits, *, seed: int, rate: float) -> None:
    """All requests finish, at the same times with leaps and without."""
    runs = []
    for leap in (True, False):
        log, load = random_traffic(seed, 40, rate=rate, longest=200)
        runs.append(serve(log, load, costs=[AffineCost()], limits=limits, scheduler="trtllm", leap=leap))
        check_run(runs[-1])
        assert all(status == FINISHED for status in log.status)
    a, b = (np.asarray(run.log.finish_s) for run in runs)
    np.testing.assert_allclose(a, b, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    rate=st.floats(0.5, 40.0),
    ranks=st.integers(2, 5),
    wait=st.integers(1, 30),
    extra_blocks=st.integers(0, 60),
    ahead=st.booleans(),
)
def test_leap_equals_step_where_prompts_wait_for_each_other(
    seed: int, rate: float, ranks: int, wait: int, extra_blocks: int, ahead: bool
) -> None:
    """Law 5 with attention data parallelism whose prompts are held back."""
    limits = EngineLimits(
        12, 64 * ranks, 64, kv_blocks=26 + extra_blocks, schedule_ahead=ahead, balance_wait=wait, ranks=ranks
    )
    check_leap_equals_step(limits, seed=seed, rate=rate)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    rate=st.floats(0.5, 40.0),
    wait=st.integers(1, 30),
    fill=st.integers(1, 200),
    extra_blocks=st.integers(0, 60),
    ahead=st.booleans(),
)
def test_leap_equals_step_where_prompts_wait_to_fill_an_iteration(
    seed: int, rate: float, wait: int, fill: int, extra_blocks: int, ahead: bool
) -> None:
    """Law 5 with prompts that are held back until they are many."""
    limits = EngineLimits(
        12, 128, 64, kv_blocks=26 + extra_blocks, schedule_ahead=ahead, batch_wait=wait, batch_fill_tokens=fill
    )
    check_leap_equals_step(limits, seed=seed, rate=rate)


@pytest.mark.parametrize(("fill", "waited"), [(10, 0), (100, 7)])
def test_a_prompt_waits_beside_decoding_until_it_fills_an_iteration_or_its_time_is_up(fill: int, waited: int) -> None:
    """Decoding goes on for `batch_wait` iterations while a prompt of 20 tokens waits to fill 100; 10 it fills."""
    limits = EngineLimits(8, 512, 512, kv_blocks=1000, batch_wait=7, batch_fill_tokens=fill)
    log, _ = random_traffic(0, 2, rate=1.0, longest=200)
    log.prompt[:], log.output[:], log.asked[:] = [20, 20], [200, 5], [200, 5]
    run = serve(log, OpenLoop(np.array([0.0, 0.105])), costs=[ConstantCost(1e-2)], limits=limits, scheduler="trtllm")
    check_run(run)
    assert log.scheduled_s[0] == 0.0, "nothing decodes: no waiting"
    assert log.scheduled_s[1] == pytest.approx(0.11 + waited * 1e-2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), stop=st.floats(0.01, 40.0), leap=st.booleans())
def test_nothing_is_lost_when_the_clock_stops(seed: int, stop: float, leap: bool) -> None:
    """Law 1 for runs that are cut short: what is not finished is running or queued, with its tokens counted."""
    log, load = random_traffic(seed, 80, rate=3.0, longest=200)
    limits = EngineLimits(8, 128, 128, kv_blocks=60, block_tokens=16)
    run = serve(log, load, costs=[AffineCost()], limits=limits, until_s=stop, leap=leap)
    check_run(run)
    arrived = int(np.searchsorted(load.arrival_s, stop, side="right"))
    assert len(log.to_frame()) in {arrived, arrived - 1}


def test_blocks_balance_at_every_event() -> None:
    """Law 2: after each wake the blocks used are those of the sequences and prompts present, recounted from scratch."""
    with blocks_counted() as events:
        log, load = random_traffic(5, 200, rate=5.0, longest=300)
        run = serve(log, load, costs=[AffineCost()], limits=EngineLimits(16, 256, 256, 64, 16))
    assert len(events) > 300
    assert run.replicas[0].record.preemptions > 0
    check_run(run)


def test_closed_loop_keeps_its_concurrency() -> None:
    """Little's law in a closed loop: concurrency = throughput x time in system, while all slots are in use."""
    log, _ = random_traffic(2, 400, rate=1.0, longest=60)
    run = serve(log, ClosedLoop(7), costs=[AffineCost()], limits=EngineLimits(16, 512, 512, 2000, 16))
    frame = log.to_frame()
    in_system = float(frame["e2e_s"].sum()) / run.duration_s
    assert 6.5 < in_system <= 7.0 + 1e-9


def test_asynchronous_scheduling_admits_one_iteration_later() -> None:
    """A request that comes while iteration n runs is in n + 1, or in n + 2 if n + 1 was scheduled when n began."""
    starts = {}
    for ahead in (False, True):
        limits = EngineLimits(8, 512, 512, kv_blocks=1000, block_tokens=16, schedule_ahead=ahead)
        log, _ = random_traffic(0, 3, rate=1.0, longest=200)
        log.output[0] = log.asked[0] = 200
        run = serve(log, OpenLoop(np.array([0.0, 0.105, 0.505])), costs=[ConstantCost(1e-2)], limits=limits)
        check_run(run)
        starts[ahead] = np.asarray(log.scheduled_s)
    assert starts[False][0] == starts[True][0] == 0.0, "an idle engine begins at once"
    assert starts[True][2] - starts[False][2] == pytest.approx(1e-2)
