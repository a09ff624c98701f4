"""Laws 2, 3 and 5 where requests share KV blocks of equal prefixes, and what a prefix cache may find."""

from itertools import takewhile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sim.serving import SCHEDULERS, ClosedLoop, EngineLimits, RequestLog, ServingRun, serve
from sim.testing.serving import AffineCost, blocks_counted, check_run, random_traffic, shared_traffic
from sim.workloads import PromptBlocks

GRAINS = st.sampled_from([3, 8, 16, 40])
BLOCKS = st.sampled_from([1, 8, 16])


def limits(blocks: int, block: int, *, sequences: int = 12, caching: bool = True) -> EngineLimits:
    return EngineLimits(sequences, 96, 96, kv_blocks=blocks, block_tokens=block, prefix_caching=caching)


@pytest.mark.parametrize("scheduler", SCHEDULERS.names())
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16), rate=st.floats(0.3, 30.0), grain=GRAINS, block=BLOCKS, extra_tokens=st.integers(0, 1500)
)
@example(seed=15881, rate=29.0, grain=40, block=16, extra_tokens=705)  # what the head finds is evicted within a leap
def test_blocks_balance_and_leaps_equal_steps(
    scheduler: str, seed: int, rate: float, grain: int, block: int, extra_tokens: int
) -> None:
    """Laws 2, 3 and 5 with sharing, from hardly room for one request to room for all."""
    longest = 120
    bounds = limits(-(-(2 * longest + extra_tokens) // block), block)
    runs = []
    for leap in (True, False):
        log, load = shared_traffic(seed, 40, rate=rate, longest=longest, grain=grain)
        with blocks_counted():
            runs.append(serve(log, load, costs=[AffineCost()], limits=bounds, scheduler=scheduler, leap=leap))
        check_run(runs[-1])
    for column in ("scheduled_s", "first_s", "finish_s"):
        a, b = (np.asarray(getattr(run.log, column)) for run in runs)
        np.testing.assert_allclose(a, b, rtol=1e-9)
    assert runs[0].log.cached == runs[1].log.cached
    if scheduler == "trtllm":
        assert not any(runs[0].log.preemptions), "who is admitted can run to the end"


def common_tokens(log: RequestLog, one: int, other: int) -> int:
    """Tokens at the head of both prompts that are known to be equal."""
    assert log.blocks is not None
    pairs = zip(log.blocks.of(one).tolist(), log.blocks.of(other).tolist(), strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return min(alike * log.blocks.size, log.prompt[one], log.prompt[other])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), rate=st.floats(0.3, 30.0), grain=GRAINS, block=BLOCKS, room=st.integers(0, 2000))
def test_only_full_blocks_of_earlier_prompts_are_found(
    seed: int, rate: float, grain: int, block: int, room: int
) -> None:
    """A hit is a whole number of blocks, leaves a token to compute, and was computed for a request begun before."""
    log, load = shared_traffic(seed, 40, rate=rate, longest=120, grain=grain)
    serve(log, load, costs=[AffineCost()], limits=limits(-(-(240 + room) // block), block))
    order = sorted(range(len(log)), key=lambda request: (log.scheduled_s[request], request))
    for place, request in enumerate(order):
        found = log.cached[request]
        assert found % block == 0
        assert found <= log.prompt[request] - 1
        assert found <= max((common_tokens(log, request, other) for other in order[:place]), default=0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), grain=GRAINS, block=BLOCKS)
def test_with_room_for_all_everything_seen_is_found(seed: int, grain: int, block: int) -> None:
    """The counterpart: with an endless cache, a request finds whatever an earlier one has computed."""
    log, _ = shared_traffic(seed, 40, rate=1.0, longest=120, grain=grain)
    serve(log, ClosedLoop(1), costs=[AffineCost()], limits=limits(20_000, block))
    for request in range(len(log)):
        seen = max((common_tokens(log, request, other) for other in range(request)), default=0)
        assert log.cached[request] == min(seen, log.prompt[request] - 1) // block * block


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), grain=GRAINS, block=BLOCKS, steps=st.lists(st.integers(0, 900), min_size=2))
def test_a_larger_cache_never_finds_less(seed: int, grain: int, block: int, steps: list[int]) -> None:
    """Stack property of LRU: with requests one after the other, each finds at least as much in a larger cache."""
    found = []
    for tokens in sorted(steps):
        log, _ = shared_traffic(seed, 40, rate=1.0, longest=120, grain=grain)
        serve(log, ClosedLoop(1), costs=[AffineCost()], limits=limits(-(-(240 + tokens) // block), block))
        found.append(log.cached)
    assert (np.diff(np.array(found), axis=0) >= 0).all()


def times(run: ServingRun) -> list[list[float]]:
    return [run.log.scheduled_s, run.log.first_s, run.log.finish_s]


@pytest.mark.parametrize("scheduler", SCHEDULERS.names())
@pytest.mark.parametrize("blocks", [20, 60, 4000])
def test_without_known_content_or_caching_nothing_changes(scheduler: str, blocks: int) -> None:
    """Byte for byte: caching without ids, ids without caching, and neither."""
    runs = []
    for ids, caching in ((False, False), (False, True), (True, False)):
        log, load = random_traffic(3, 60, rate=4.0, longest=140)
        if ids:
            log.blocks = PromptBlocks.from_lists(16, [list(range(-(-tokens // 16))) for tokens in log.prompt])
        bounds = limits(blocks, 16, caching=caching)
        runs.append(serve(log, load, costs=[AffineCost()], limits=bounds, scheduler=scheduler))
    assert times(runs[0]) == times(runs[1]) == times(runs[2])
    assert [run.log.cached for run in runs] == [[0] * 60] * 3


@pytest.mark.parametrize("scheduler", SCHEDULERS.names())
def test_prompts_that_share_nothing_gain_nothing(scheduler: str) -> None:
    """With room for all, ids that never repeat give the same times as no caching."""
    runs = []
    for caching in (False, True):
        log, load = shared_traffic(4, 60, rate=4.0, longest=140, grain=16)
        assert log.blocks is not None
        log.blocks = PromptBlocks(16, np.arange(log.blocks.ids.size), log.blocks.offsets)
        bounds = limits(4000, 16, caching=caching)
        runs.append(serve(log, load, costs=[AffineCost()], limits=bounds, scheduler=scheduler))
    assert times(runs[0]) == times(runs[1])
