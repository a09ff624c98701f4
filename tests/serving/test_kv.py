"""Block accounting of a leap against allocating token by token."""

from hypothesis import given
from hypothesis import strategies as st

from sim.plans import KvLayout, WindowGroup
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
        kv.start_decoding(tokens - iteration, iteration)
    needed = [blocks_of([tokens + k for tokens in stored], block) - used for k in range(steps + 1)]
    assert [kv.needed_over(iteration, k) for k in range(steps + 1)] == needed
    fit = kv.steps_that_fit(iteration, steps)
    assert fit == max(k for k in range(steps + 1) if needed[k] <= spare)


LAYOUTS = st.builds(
    KvLayout,
    st.sampled_from([1, 3, 16]),
    full=st.integers(0, 2),
    windows=st.lists(st.builds(WindowGroup, st.integers(1, 4), st.integers(1, 3)), max_size=2).map(tuple),
    fixed=st.integers(0, 5),
)


@given(layout=LAYOUTS, stored=st.lists(st.integers(1, 60), min_size=1, max_size=8), data=st.data())
def test_leaps_take_what_the_layout_says_where_windows_fill_and_sequences_leave(
    layout: KvLayout, stored: list[int], data: st.DataObject
) -> None:
    kv = KvBlocks(10_000, layout.block_tokens, layout)
    iteration = 0
    for tokens in stored:
        kv.take(kv.blocks_for(tokens))
        kv.start_decoding(tokens, iteration)
    while stored and iteration < 120:
        steps = kv.steps_that_fit(iteration, data.draw(st.integers(1, 40)))
        kv.take(kv.needed_over(iteration, steps))
        iteration += steps
        kv.advance(iteration)
        assert kv.used == sum(layout.blocks_for(tokens + iteration) for tokens in stored)
        if data.draw(st.booleans()):
            tokens = stored.pop()
            kv.stop_decoding(tokens, iteration)
            kv.release(0, tokens + iteration)
    for tokens in stored:
        kv.stop_decoding(tokens, iteration)
        kv.release(0, tokens + iteration)
    assert kv.used == 0


@given(layout=LAYOUTS, blocks=st.integers(0, 400), tokens=st.integers(1, 2000))
def test_what_a_pool_holds_of_one_sequence(layout: KvLayout, blocks: int, tokens: int) -> None:
    held = layout.tokens_in(blocks)
    assert held == 0 or layout.blocks_for(held) <= blocks
    if held < 1 << 40:
        assert layout.blocks_for(held + 1) > blocks
    assert layout.blocks_for(tokens) <= layout.blocks_for(tokens + 1)
    assert layout.mean_blocks(tokens) <= layout.blocks_for(tokens) + 1e-9
