"""Early verdicts, and runs that are known to be alike without being simulated again."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.results import SloSpec
from sim.serving import ROUTERS, SCHEDULERS, EngineLimits, OpenLoop, RequestLog, ServingRun, serve, slo_breaker
from sim.serving.requests import FINISHED, REJECTED
from sim.testing.serving import AffineCost, random_traffic

AMPLE = EngineLimits(64, 512, 512, kv_blocks=5000, block_tokens=16)


def finished_log(latencies: list[tuple[float, float]], tokens: int = 11) -> RequestLog:
    """Requests sent at time 0 with `(first token, finish)` times."""
    log = RequestLog([10] * len(latencies), [tokens] * len(latencies))
    for i, (first, finish) in enumerate(latencies):
        log.arrival_s[i], log.first_s[i], log.finish_s[i] = 0.0, first, finish
        log.emitted[i], log.status[i] = tokens, FINISHED
    return log


def verdicts(log: RequestLog, attainment: float, **limits: float) -> list[bool]:
    ended = slo_breaker(log, limits, attainment=attainment, count=len(log))
    return [ended(i) for i in range(len(log))]


def test_it_stops_with_the_first_miss_too_many() -> None:
    """Of ten, two may miss at 80 %: the third miss ends the run."""
    late, good = (3.0, 4.0), (1.0, 2.0)
    log = finished_log([late, good, late, good, good, late, good, good, late, good])
    assert verdicts(log, 0.8, ttft_s=2.0) == [False] * 5 + [True] * 5
    assert verdicts(log, 0.6, ttft_s=2.0) == [False] * 10
    assert verdicts(log, 1.0, ttft_s=2.0)[0]


def test_shares_that_floats_cannot_hold_are_counted_exactly() -> None:
    """0.9 of 10 lets one miss, though 10 * (1 - 0.9) is less than 1 in floating point."""
    log = finished_log([(3.0, 4.0)] + [(1.0, 2.0)] * 9)
    assert not any(verdicts(log, 0.9, ttft_s=2.0))


def test_each_limit_counts_and_limits_themselves_are_kept() -> None:
    log = finished_log([(1.0, 2.0)])
    for limit, value in (("ttft_s", 1.0), ("e2e_s", 2.0), ("tpot_s", 0.1)):
        assert verdicts(log, 1.0, **{limit: value}) == [False]
        assert verdicts(log, 1.0, **{limit: value * 0.999}) == [True]


def test_one_token_has_no_token_time_and_a_rejection_misses() -> None:
    assert verdicts(finished_log([(1.0, 1.0)], tokens=1), 1.0, tpot_s=1e-9) == [False]
    log = finished_log([(1.0, 2.0)])
    log.status[0] = REJECTED
    assert verdicts(log, 1.0, ttft_s=9.0) == [True]


@settings(max_examples=25)
@given(seed=st.integers(0, 999), rate=st.floats(1.0, 40.0), attainment=st.sampled_from([0.5, 0.9, 0.99]))
def test_stopping_early_tells_what_the_whole_run_would(seed: int, rate: float, attainment: float) -> None:
    slo = SloSpec(ttft=0.1, tpot=0.012, attainment=attainment)
    limits = EngineLimits(8, 256, 256, kv_blocks=400, block_tokens=16)
    log, load = random_traffic(seed, 60, rate=rate, longest=200)
    serve(log, load, costs=[AffineCost()], limits=limits)
    attained = float(np.mean(slo.satisfied(log.to_frame()))) >= attainment
    log, load = random_traffic(seed, 60, rate=rate, longest=200)
    breaker = slo_breaker(log, slo.limits_s, attainment=attainment, count=60)
    run = serve(log, load, costs=[AffineCost()], limits=limits, stop_when=breaker)
    assert run.stopped == (not attained)


def run_of(seed: int, rate: float, limits: EngineLimits, *, replicas: int = 1, **policies: str) -> ServingRun:
    log, load = random_traffic(seed, 60, rate=rate, longest=200)
    return serve(log, load, costs=[AffineCost()] * replicas, limits=limits, seed=seed, **policies)  # type: ignore[arg-type]


def largest_blocks(run: ServingRun) -> int:
    log = run.log
    return max(-(-(p + o) // AMPLE.block_tokens) for p, o in zip(log.prompt, log.output, strict=True))


def assert_same(one: ServingRun, other: ServingRun) -> None:
    for column in ("scheduled_s", "first_s", "finish_s"):
        a, b = (np.asarray(getattr(run.log, column)) for run in (one, other))
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert one.log.replica == other.log.replica
    assert one.log.preemptions == other.log.preemptions


@pytest.mark.parametrize("scheduler", SCHEDULERS.names())
@settings(max_examples=40)
@given(
    seed=st.integers(0, 9999),
    rate=st.floats(0.5, 20.0),
    sequences=st.integers(2, 24),
    blocks=st.integers(26, 400),
    watermark=st.integers(0, 8),
    router=st.sampled_from(ROUTERS.names()),
    replicas=st.integers(1, 3),
)
def test_limits_with_headroom_give_the_very_same_run(
    scheduler: str, seed: int, rate: float, sequences: int, blocks: int, watermark: int, router: str, replicas: int
) -> None:
    """If slots and blocks were to spare in a run, any other limits that would have spared them too give the same."""
    policies = {"router": router, "scheduler": scheduler}
    ample = run_of(seed, rate, AMPLE, replicas=replicas, **policies)
    largest = largest_blocks(ample)
    assert ample.headroom().within(AMPLE, largest_blocks=largest)
    blocks = max(blocks, largest + watermark)
    tight = EngineLimits(sequences, 512, 512, kv_blocks=blocks, block_tokens=16, watermark_blocks=watermark)
    run = run_of(seed, rate, tight, replicas=replicas, **policies)
    known = ample.headroom().within(tight, largest_blocks=largest)
    if known or run.headroom().within(tight, largest_blocks=largest):
        assert_same(run, ample)


@pytest.mark.parametrize("seed", range(12))
def test_a_scheduler_that_looks_ahead_needs_blocks_that_nobody_uses_yet(seed: int) -> None:
    """One that admits only what can run to its end waits for blocks which are promised, though they are free."""
    ample = run_of(seed, 20.0, AMPLE, scheduler="trtllm")
    used, largest = ample.replicas[0].kv.peak, largest_blocks(ample)
    promised = ample.headroom().blocks
    assert promised > used
    just = replace(AMPLE, kv_blocks=promised + largest)
    assert_same(run_of(seed, 20.0, just, scheduler="trtllm"), ample)
    assert not ample.headroom().within(replace(just, kv_blocks=used + largest), largest_blocks=largest)


def test_what_was_used_up_is_not_headroom() -> None:
    run = run_of(1, 12.0, EngineLimits(6, 512, 512, kv_blocks=5000, block_tokens=16))
    used = run.headroom()
    assert used.slots == 6
    assert not used.within(EngineLimits(6, 512, 512, 5000, 16), largest_blocks=1)
    assert used.within(AMPLE, largest_blocks=1)
    just = EngineLimits(64, 512, 512, kv_blocks=used.blocks + 5, block_tokens=16)
    assert used.within(just, largest_blocks=5)
    assert not used.within(just, largest_blocks=6)
    assert not used.within(replace(just, watermark_blocks=1), largest_blocks=5)
    scarce = run_of(1, 12.0, EngineLimits(64, 512, 512, kv_blocks=30, block_tokens=16)).headroom()
    assert scarce.preempted
    assert not scarce.within(AMPLE, largest_blocks=1)


@pytest.mark.parametrize("router", ROUTERS.names())
def test_a_narrow_fleet_differs_where_it_says_so(router: str) -> None:
    """The guard is needed: under load, fewer slots do change the times, and then headroom denies the likeness."""
    narrow_limits = EngineLimits(2, 512, 512, kv_blocks=5000, block_tokens=16)
    wide = run_of(3, 20.0, AMPLE, replicas=2, router=router)
    narrow = run_of(3, 20.0, narrow_limits, replicas=2, router=router)
    assert narrow.log.finish_s != wide.log.finish_s
    assert not wide.headroom().within(narrow_limits, largest_blocks=largest_blocks(wide))
    assert not narrow.headroom().within(narrow_limits, largest_blocks=largest_blocks(wide))


@pytest.mark.parametrize("replicas", [1, 2])
def test_where_the_router_looks_at_slots_waiting_requests_count(replicas: int) -> None:
    """One running slot was always free, and yet more slots send a held request elsewhere: prompts fill the budget."""
    rng = np.random.default_rng(3)
    prompts, arrival_s = rng.choice([64, 128, 256], 12), np.cumsum(rng.exponential(0.004, 12))
    narrow_limits, wide_limits = (EngineLimits(n, 64, 64, kv_blocks=5000, block_tokens=16) for n in (2, 64))
    runs = []
    for limits in (narrow_limits, wide_limits):
        log = RequestLog(prompts, np.ones(12, dtype=np.int64))
        costs = [AffineCost()] * replicas
        runs.append(serve(log, OpenLoop(arrival_s), costs=costs, limits=limits, router="central_queue"))
    narrow, wide = runs
    assert all(replica.peak_running == 1 for run in runs for replica in run.replicas)
    assert (narrow.log.replica != wide.log.replica) == (replicas > 1)
    assert not narrow.headroom().within(narrow_limits, largest_blocks=16)
    assert not wide.headroom().within(narrow_limits, largest_blocks=16)
    assert wide.headroom().within(wide_limits, largest_blocks=16)
