"""What a prefix cache finds in cases that can be worked out by hand."""

import numpy as np
import pytest

from sim.serving import ClosedLoop, ConstantCost, EngineLimits, OpenLoop, RequestLog, ServingRun, serve
from sim.testing.serving import AffineCost, check_run
from sim.workloads import PromptBlocks


def run(
    prompts: list[list[int]],
    tokens: int,
    *,
    output: int = 1,
    blocks: int = 1000,
    concurrency: int = 1,
    budget: int = 4096,
) -> ServingRun:
    """Serves prompts of `tokens` tokens with these ids of 16 tokens each, by default one after the other."""
    log = RequestLog([tokens] * len(prompts), [output] * len(prompts), blocks=PromptBlocks.from_lists(16, prompts))
    limits = EngineLimits(8, budget, budget, kv_blocks=blocks, block_tokens=16, prefix_caching=True)
    done = serve(log, ClosedLoop(concurrency), costs=[AffineCost()], limits=limits)
    check_run(done)
    return done


def test_a_repeated_prompt_computes_its_last_block() -> None:
    assert run([[1, 2, 3]] * 3, 48).log.cached == [0, 32, 32], "a whole number of blocks: the last is computed again"
    assert run([[1, 2, 3]] * 3, 47).log.cached == [0, 32, 32], "a partial last block was never full"
    assert run([[1, 2, 3]] * 3, 33).log.cached == [0, 32, 32], "one token is left to compute"


def test_prompts_that_part_share_their_beginning() -> None:
    assert run([[1, 2, 3], [1, 2, 4], [1, 5, 3], [9, 2, 3]], 48).log.cached == [0, 32, 16, 0]


def test_a_cycle_longer_than_the_cache_finds_nothing() -> None:
    """LRU on a cycle: with one prompt too many, each is evicted just before it comes again."""
    prompts = [[10 * i + at for at in range(5)] for i in range(4)] * 3
    room = 4 * 5
    assert run(prompts, 80, blocks=room).log.cached == [0] * 4 + [64] * 8
    assert run(prompts, 80, blocks=room - 5).log.cached == [0] * 12


def test_the_end_of_a_prefix_goes_first() -> None:
    """A prompt of three blocks, then another that leaves room for two of them: the first two are found again."""
    assert run([[1, 2, 3], [7, 8, 9], [1, 2, 3]], 47, blocks=5).log.cached == [0, 0, 32]
    assert run([[1, 2, 3], [7, 8, 9], [1, 2, 3]], 47, blocks=4).log.cached == [0, 0, 16]
    assert run([[1, 2, 3], [7, 8, 9], [1, 2, 3]], 47, blocks=3).log.cached == [0, 0, 0]


def test_outputs_fill_the_cache_too() -> None:
    """An answer of 65 tokens stores four blocks that age like those of prompts."""
    assert run([[1, 2], [3, 4], [1, 2]], 32, blocks=8).log.cached == [0, 0, 16]
    assert run([[1, 2], [3, 4], [1, 2]], 32, output=65, blocks=11).log.cached == [0, 0, 16]
    assert run([[1, 2], [3, 4], [1, 2]], 32, output=65, blocks=6).log.cached == [0, 0, 0]


def test_running_requests_share_blocks() -> None:
    """Eight equal prompts at once need their blocks once, so that they fit where they would not without sharing."""
    done = run([list(range(10))] * 8, 160, output=2, blocks=10 + 8, concurrency=8)
    assert done.log.preemptions == [0] * 8
    assert len(set(done.log.first_s)) == 1, "all in the first iteration: blocks are shared once they are scheduled"
    assert done.replicas[0].kv.peak == 10 + 8


def test_only_what_is_not_cached_takes_budget_and_time() -> None:
    """Of a prompt that is known but for a block, a chunk of 16 tokens behind 1024 is computed."""
    prompts = [list(range(65)), [*range(64), 99]]
    done = run(prompts, 65 * 16, output=1)
    cold, warm = done.records[0].to_frame().itertuples()
    assert (cold.prompt_tokens, warm.prompt_tokens) == (1040, 16)
    assert warm.prompt_attended == pytest.approx(16 * (1024 + 8.5))


def test_a_preempted_request_finds_its_own_blocks() -> None:
    """Both store 64 tokens when the blocks are all taken; the later is evicted, and the other takes its last block.

    Of its 65 tokens, prompt and answer so far, it then finds the first 48 and computes 17.
    """
    log = RequestLog([16, 16], [60, 60], blocks=PromptBlocks.from_lists(16, [[1], [2]]))
    limits = EngineLimits(8, 512, 512, kv_blocks=8, block_tokens=16, prefix_caching=True)
    done = serve(log, OpenLoop(np.array([0.0, 0.0])), costs=[ConstantCost(1.0)], limits=limits)
    check_run(done)
    assert log.preemptions == [0, 1]
    assert done.records[0].to_frame()["prompt_tokens"].sum() == 16 + 16 + 17
    assert log.cached == [0, 0], "what it finds again is no hit of its prompt"
