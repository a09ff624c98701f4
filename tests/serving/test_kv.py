"""Block accounting of a leap against allocating token by token."""

from hypothesis import given
from hypothesis import strategies as st

from sim.serving.kv import KvBlocks


def blocks_of(stored: list[int], block: int) -> int:
    return sum(-(-tokens // block) for tokens in stored)


@given(
    stored=st.lists(st.integers(1, 90), min_size=1, max_size=12),
    block=st.sampled_from([1, 3, 16]),
    iteration=st.integers(0, 40),
    steps=st.integers(1, 60),
    spare=st.integers(0, 60),
)
def test_a_leap_takes_what_single_steps_take(
    stored: list[int], block: int, iteration: int, steps: int, spare: int
) -> None:
    used = blocks_of(stored, block)
    kv = KvBlocks(used + spare, block)
    kv.take(used)
    for tokens in stored:
        kv.start_decoding(tokens - iteration)
    needed = [blocks_of([tokens + k for tokens in stored], block) - used for k in range(steps + 1)]
    assert [kv.needed_over(iteration, k, len(stored)) for k in range(steps + 1)] == needed
    fit = kv.steps_that_fit(iteration, len(stored), steps)
    assert fit == max(k for k in range(steps + 1) if needed[k] <= spare)
