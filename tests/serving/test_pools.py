"""Engines of their own for prompts: what a request's time consists of, and what waits for what."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.kernel import Kernel
from sim.serving import (
    ROUTERS,
    ClosedLoop,
    EngineLimits,
    KvTransfer,
    OpenLoop,
    PoolConfig,
    PrefillPool,
    RequestLog,
    serve,
)
from sim.serving.requests import FINISHED
from sim.serving.routers.round_robin import RoundRobin
from sim.serving.transfer import KvNetwork
from sim.testing.serving import AffineCost, check_run, random_traffic

AMPLE = EngineLimits(64, 4096, 4096, kv_blocks=4000, block_tokens=16)


def one_by_one(count: int, prompt: int, output: int) -> tuple[RequestLog, OpenLoop]:
    """Requests so far apart that none meets another."""
    return RequestLog([prompt] * count, [output] * count), OpenLoop(100.0 * np.arange(count))


def test_first_token_comes_after_prompt_and_transfer_and_the_rest_decodes_alone() -> None:
    """Without queues: TTFT = prompt alone + transfer alone, and the decode iterations are those of one engine."""
    transfer = KvTransfer(2e5, 1e9, 4e8, latency_s=2e-3)
    log, load = one_by_one(3, prompt=500, output=40)
    cost = AffineCost()
    serve(log, load, costs=[cost], limits=AMPLE, prefill=PrefillPool(PoolConfig([cost], AMPLE), transfer))
    alone, load = one_by_one(3, prompt=500, output=40)
    serve(alone, load, costs=[cost], limits=AMPLE)
    sent, first, finish = (np.asarray(getattr(log, name)) for name in ("arrival_s", "first_s", "finish_s"))
    transfer_s = 2e-3 + 500 * 2e5 / 4e8
    np.testing.assert_allclose(first - sent, np.asarray(alone.first_s) - sent + transfer_s)
    np.testing.assert_allclose(finish - first, np.asarray(alone.finish_s) - np.asarray(alone.first_s))


@given(tokens=st.integers(1, 10_000), window=st.integers(1, 4096))
def test_windows_and_states_travel_as_far_as_they_are_kept(tokens: int, window: int) -> None:
    """A window travels with its latest tokens, a state once; a window as long as the prompt is no window."""
    windowed = KvTransfer(10.0, 1.0, 1.0, windows=((window, 3.0),), state_bytes=7.0)
    assert windowed.size_bytes(tokens) == 10.0 * tokens + 3.0 * min(tokens, window) + 7.0
    whole = KvTransfer(13.0, 1.0, 1.0, state_bytes=7.0)
    assert (windowed.size_bytes(tokens) == whole.size_bytes(tokens)) == (window >= tokens)


def test_a_single_token_needs_no_transfer() -> None:
    log, load = one_by_one(2, prompt=300, output=1)
    cost, slow = AffineCost(), KvTransfer(1e9, 1.0, 1.0)
    run = serve(log, load, costs=[cost], limits=AMPLE, prefill=PrefillPool(PoolConfig([cost], AMPLE), slow))
    assert log.status == [FINISHED, FINISHED]
    assert log.replica == [0, 0]
    assert len(run.records[1]) == 0


def test_caches_of_one_group_follow_each_other() -> None:
    """Four prompts computed together leave one sending group one by one, and two groups two by two."""
    prompt, per_token, rate = 100, 1e6, 1e9
    one_s = prompt * per_token / rate
    for groups, expected in ((1, [1, 2, 3, 4]), (2, [1, 1, 2, 2])):
        log = RequestLog([prompt] * 4, [2] * 4)
        cost = AffineCost()
        transfer = KvTransfer(per_token, rate, 1e15, send_groups=groups, receive_groups=4)
        prefill = PrefillPool(PoolConfig([cost], AMPLE), transfer)
        serve(log, ClosedLoop(4), costs=[cost], limits=AMPLE, prefill=prefill)
        together_s = 5e-3 + 2e-5 * 400 + 4e-6 + 4 * prompt * 0.5 * (prompt + 1) * 2e-9
        waits = np.sort(np.asarray(log.first_s)) - together_s
        assert np.all(waits >= np.asarray(expected) * one_s - 1e-9)
        assert np.all(waits <= np.asarray(expected) * one_s + 0.02)  # at most one decode iteration more


def test_a_full_decode_engine_holds_the_prompts_blocks() -> None:
    """Back pressure: with room for one sequence in decoding, prompts stay where they were computed and block others."""
    log = RequestLog([160] * 6, [50] * 6)
    small = EngineLimits(6, 4096, 4096, kv_blocks=20, block_tokens=16)
    cost = AffineCost()
    prefill = PrefillPool(PoolConfig([cost], small), KvTransfer(1.0, 1e9, 1e9))
    one = EngineLimits(1, 4096, 4096, kv_blocks=4000, block_tokens=16)
    run = serve(log, ClosedLoop(6), costs=[cost], limits=one, prefill=prefill)
    check_run(run)
    first, finish = np.sort(log.first_s), np.sort(log.finish_s)
    assert (first[1:] >= finish[:-1] - 1e-12).all(), "one sequence decodes at a time"
    scheduled = np.sort(log.scheduled_s)
    assert scheduled[2] >= first[0] - 1e-12, "the third prompt waits for the blocks of the first"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), stop=st.floats(0.01, 30.0), leap=st.booleans())
def test_nothing_is_lost_when_the_clock_stops(seed: int, stop: float, leap: bool) -> None:
    """Law 1 with requests under way between engines."""
    log, load = random_traffic(seed, 60, rate=4.0, longest=200)
    limits = EngineLimits(8, 128, 128, kv_blocks=60, block_tokens=16)
    cost = AffineCost()
    prefill = PrefillPool(PoolConfig([cost], limits), KvTransfer(1e5, 2e7, 2e7))
    check_run(serve(log, load, costs=[cost] * 2, limits=limits, prefill=prefill, until_s=stop, leap=leap))


@pytest.mark.parametrize("replicas", [1, 3])
def test_more_links_never_delay_a_lone_request(replicas: int) -> None:
    times = []
    for rate in (1e8, 2e8, 4e8):
        log, load = one_by_one(4, prompt=200, output=20)
        cost = AffineCost()
        prefill = PrefillPool(PoolConfig([cost] * replicas, AMPLE), KvTransfer(1e6, rate, rate))
        serve(log, load, costs=[cost] * replicas, limits=AMPLE, prefill=prefill)
        times.append(np.asarray(log.finish_s))
    assert (times[0] >= times[1]).all()
    assert (times[1] >= times[2]).all()


def test_a_wide_sender_serves_narrow_receivers_side_by_side() -> None:
    """Two caches go to two engines that each take half of what the sender gives: both are there when one would be."""
    prompt, per_token, rate = 100, 1e6, 1e9
    one_s = prompt * per_token / rate
    firsts = []
    for receivers in (1, 2):
        log = RequestLog([prompt] * 2, [2] * 2)
        cost = AffineCost()
        transfer = KvTransfer(per_token, 2.0 * rate, rate)
        serve(
            log,
            ClosedLoop(2),
            costs=[cost] * receivers,
            limits=AMPLE,
            prefill=PrefillPool(PoolConfig([cost], AMPLE), transfer),
        )
        firsts.append(np.sort(log.first_s))
    (early, late), (first, second) = firsts
    assert late - early == pytest.approx(one_s, abs=0.02), "one receiver takes them one after the other"
    assert second - first == pytest.approx(one_s / 2.0, abs=0.02), "the sender turns to the second after half the time"


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=2, max_size=12), wide=st.integers(1, 4))
def test_no_end_gives_or_takes_more_than_its_links_carry(sizes: list[int], wide: int) -> None:
    """The last cache is there no sooner than all bytes can leave the one sender, or reach the receivers."""
    kernel = Kernel()
    transfer = KvTransfer(1.0, float(wide), 1.0)
    network = KvNetwork(transfer, kernel, senders=1, receivers=2)
    ends: list[float] = []
    for at, tokens in enumerate(sizes):
        network.send(tokens, sender=0, receiver=at % 2, done=lambda: ends.append(kernel.now))
    kernel.run_all()
    assert len(ends) == len(sizes)
    assert max(ends) >= sum(sizes) / wide - 1e-9
    assert max(ends) >= max(sum(sizes[0::2]), sum(sizes[1::2])) - 1e-9


def test_a_hand_over_comes_before_the_first_token_only() -> None:
    """It delays first tokens, but not those of requests that end with their prompt."""
    for output, late_s in ((40, 0.25), (1, 0.0)):
        found = []
        for handover_s in (0.0, 0.25):
            log, load = one_by_one(3, prompt=500, output=output)
            prefill = PrefillPool(PoolConfig([AffineCost()], AMPLE), KvTransfer(2e5, 1e9, 4e8), handover_s)
            serve(log, load, costs=[AffineCost()], limits=AMPLE, prefill=prefill)
            found.append((np.asarray(log.first_s), np.asarray(log.finish_s)))
        for before, after in zip(*found, strict=True):
            np.testing.assert_allclose(after - before, late_s, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 9999),
    least_s=st.sampled_from([0.004, 0.0065, 0.01, 0.02, 0.1]),
    receivers=st.integers(1, 3),
    senders=st.integers(1, 2),
    ahead=st.booleans(),
)
def test_leaps_equal_steps_where_all_engines_march_together(
    seed: int, least_s: float, receivers: int, senders: int, ahead: bool
) -> None:
    """Law 5 where a host sets one pace for all engines, so that many things happen at the very same instant."""
    rng = np.random.default_rng(seed)
    prompts, outputs = rng.integers(1, 200, 24).tolist(), rng.integers(1, 120, 24).tolist()
    blocks, users = int(rng.choice([60, 200, 4000])), int(rng.integers(2, 12))
    limits = EngineLimits(int(rng.integers(2, 12)), 256, 256, kv_blocks=blocks, block_tokens=16, schedule_ahead=ahead)
    cost, transfer = AffineCost(least_s=least_s), KvTransfer(1e4, 50e6, 80e6, latency_s=1e-4)
    ends = []
    for leap in (True, False):
        log = RequestLog(list(prompts), list(outputs))
        prefill = PrefillPool(PoolConfig([cost] * senders, limits), transfer)
        serve(log, ClosedLoop(users), costs=[cost] * receivers, limits=limits, prefill=prefill, leap=leap)
        ends.append(np.asarray(log.finish_s))
    np.testing.assert_allclose(*ends, rtol=1e-9)


class _Shut:
    """A router that never has an engine for a request."""

    def __init__(self, fleet: object, stream: object) -> None:
        pass

    def choose(self, request: int) -> None:
        """None."""


def test_requests_that_wait_for_ever_are_no_silent_end() -> None:
    """A run that ends with requests left says so, be the fault a router's or a scheduler's."""
    log, load = one_by_one(2, prompt=200, output=20)
    prefill = PrefillPool(PoolConfig([AffineCost()], AMPLE), KvTransfer(1.0, 1e9, 1e9))
    with (
        patch.object(ROUTERS, "get", lambda name: _Shut if name == "shut" else RoundRobin),
        pytest.raises(RuntimeError, match=r"2 of 2 requests wait for ever, the first of them, 0 with 200 prompt"),
    ):
        serve(log, load, costs=[AffineCost()], limits=AMPLE, router="shut", prefill=prefill)


def test_engines_that_only_decode_hold_no_prompts_back() -> None:
    log, load = one_by_one(1, prompt=10, output=2)
    limits = EngineLimits(4, 64, 64, kv_blocks=40, balance_wait=3, ranks=2)
    cost = AffineCost()
    prefill = PrefillPool(PoolConfig([cost], AMPLE), KvTransfer(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="balance_wait must be 0"):
        serve(log, load, costs=[cost], limits=limits, scheduler="trtllm", prefill=prefill)
