"""Laws of speculative decoding: tokens per step, blocks for drafts, leaps equal to single steps."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plans import KvLayout, WindowGroup
from sim.serving import SCHEDULERS, ClosedLoop, ConstantCost, EngineLimits, OpenLoop, serve
from sim.serving.pace import Pace
from sim.serving.requests import FINISHED
from sim.testing.serving import AffineCost, check_run, random_traffic


def _limits(drafts: int, emitted: Fraction, **others: int) -> EngineLimits:
    return EngineLimits(
        **{
            "max_sequences": 12,
            "token_budget": 256,
            "chunk_limit": 256,
            "kv_blocks": 10_000,
            **others,
            "step_tokens": 1 + drafts,
            "emitted_tokens": emitted,
        }
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    rate=st.floats(0.2, 30.0),
    drafts=st.integers(1, 5),
    accepted=st.fractions(0, 1, max_denominator=1000),
    scheduler=st.sampled_from(SCHEDULERS.names()),
    extra_blocks=st.integers(0, 60),
    block=st.sampled_from([1, 4, 16]),
    window=st.sampled_from([None, 8, 100]),
    windows=st.lists(st.builds(WindowGroup, st.integers(1, 9), st.integers(1, 3)), max_size=2).map(tuple),
    ahead=st.booleans(),
)
def test_leap_equals_step(
    seed: int,
    rate: float,
    drafts: int,
    accepted: Fraction,
    scheduler: str,
    extra_blocks: int,
    block: int,
    window: int | None,
    windows: tuple[WindowGroup, ...],
    ahead: bool,
) -> None:
    """Laws 1, 2, 3 and 5 where a step emits a fraction of its drafts, with preemptions and windows."""
    layout = KvLayout(block, 1, windows, 0)
    limits = EngineLimits(
        12,
        256,
        256,
        kv_blocks=layout.blocks_for(400 + drafts) + extra_blocks,
        block_tokens=block,
        kv_layout=layout,
        schedule_ahead=ahead,
        step_tokens=1 + drafts,
        emitted_tokens=1 + drafts * accepted,
    )
    cost = AffineCost((None, window) if window else (None,), 7)
    runs = []
    for leap in (True, False):
        log, load = random_traffic(seed, 30, rate=rate, longest=200)
        runs.append(serve(log, load, costs=[cost], limits=limits, scheduler=scheduler, leap=leap))
        check_run(runs[-1])
        assert all(status == FINISHED for status in log.status)
    for column in ("scheduled_s", "first_s", "finish_s"):
        a, b = (np.asarray(getattr(run.log, column)) for run in runs)
        np.testing.assert_allclose(a, b, rtol=1e-9)
    assert runs[0].log.preemptions == runs[1].log.preemptions


@given(rate=st.fractions(1, 6, max_denominator=50), done=st.integers(0, 300), tokens=st.integers(0, 400))
def test_steps_and_tokens_are_inverse(rate: Fraction, done: int, tokens: int) -> None:
    """`steps_for` is the least, `steps_within` the most; every step gives a token at least."""
    pace = Pace(rate)
    pace.advance(done)
    most, least = pace.steps_within(tokens), pace.steps_for(tokens)
    assert pace.tokens_in(most) <= tokens < pace.tokens_in(most + 1)
    assert pace.tokens_in(least) >= tokens
    assert least == 0 or pace.tokens_in(least - 1) < tokens
    assert all(pace.tokens_in(k + 1) > pace.tokens_in(k) for k in range(20))


@pytest.mark.parametrize("drafts", [1, 3])
def test_drafts_that_all_hold_emit_with_every_step(drafts: int) -> None:
    """Acceptance 1 with k drafts: k + 1 tokens a step, so n - 1 further tokens take ceil((n - 1) / (k + 1)) steps."""
    log, _ = random_traffic(3, 1, rate=1.0, longest=200)
    log.output[0] = log.asked[0] = 102
    run = serve(
        log, ClosedLoop(1), costs=[ConstantCost(1e-2)], limits=_limits(drafts, Fraction(1 + drafts), kv_blocks=500)
    )
    check_run(run)
    steps = -(-101 // (1 + drafts))
    assert log.finish_s[0] - log.first_s[0] == pytest.approx(steps * 1e-2)


def test_drafts_that_never_hold_emit_no_more_than_none() -> None:
    """Acceptance 0: the same tokens in the same steps as without drafts."""
    ends = []
    for drafts in (0, 3):
        log, load = random_traffic(7, 40, rate=2.0, longest=150)
        run = serve(log, load, costs=[AffineCost()], limits=_limits(drafts, Fraction(1)))
        check_run(run)
        ends.append(np.asarray(log.finish_s))
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12)


def test_more_accepted_drafts_finish_sooner() -> None:
    """Monotone in acceptance, and within the bounds of none and all."""
    times = []
    for accepted in (0, Fraction(1, 4), Fraction(1, 2), Fraction(9, 10), 1):
        log, _ = random_traffic(11, 60, rate=1.0, longest=150)
        run = serve(log, ClosedLoop(6), costs=[AffineCost()], limits=_limits(3, 1 + 3 * Fraction(accepted)))
        check_run(run)
        times.append(run.duration_s)
    assert times == sorted(times, reverse=True)
    assert times[0] / times[-1] <= 4.0


def test_drafts_take_tokens_of_the_budget() -> None:
    """Six sequences with three drafts each leave 8 of 32 tokens to prompts, so one of 24 takes three iterations."""
    waits = []
    for drafts in (0, 3):
        log, _ = random_traffic(0, 7, rate=1.0, longest=10)
        log.prompt[:] = [1] * 6 + [24]
        log.output[:] = log.asked[:] = [400] * 6 + [5]
        limits = _limits(drafts, Fraction(1), max_sequences=7, token_budget=32, chunk_limit=32)
        sent = np.array([0.0] * 6 + [0.105])
        run = serve(log, OpenLoop(sent), costs=[ConstantCost(1e-2)], limits=limits)
        check_run(run)
        waits.append(round((log.first_s[6] - log.scheduled_s[6]) / 1e-2))
    assert waits == [1, 3]
