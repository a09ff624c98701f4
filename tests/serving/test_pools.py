"""Engines of their own for prompts: what a request's time consists of, and what waits for what."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.serving import ClosedLoop, EngineLimits, KvTransfer, OpenLoop, PoolConfig, PrefillPool, RequestLog, serve
from sim.serving.requests import FINISHED
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


def test_engines_that_only_decode_hold_no_prompts_back() -> None:
    log, load = one_by_one(1, prompt=10, output=2)
    limits = EngineLimits(4, 64, 64, kv_blocks=40, balance_wait=3, ranks=2)
    cost = AffineCost()
    prefill = PrefillPool(PoolConfig([cost], AMPLE), KvTransfer(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="balance_wait must be 0"):
        serve(log, load, costs=[cost], limits=limits, scheduler="trtllm", prefill=prefill)
