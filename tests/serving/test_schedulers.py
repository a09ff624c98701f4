"""What vLLM's v1 scheduler does, step by step, on an engine with a cost of one second per iteration."""

import pytest

from sim.kernel import Kernel
from sim.serving import SCHEDULERS, Chunk, ConstantCost, EngineLimits, Replica, RequestLog
from sim.serving.requests import FINISHED


def engine(log: RequestLog, **limits: int | bool) -> tuple[Kernel, Replica]:
    kernel = Kernel()
    values = {"max_sequences": 8, "token_budget": 100, "chunk_limit": 100, "kv_blocks": 1000, "block_tokens": 10}
    replica = Replica(
        0,
        kernel=kernel,
        cost=ConstantCost(1.0),
        limits=EngineLimits(**{**values, **limits}),  # type: ignore[arg-type]
        scheduler=SCHEDULERS.get("vllm-v1")(),
        log=log,
        on_finish=lambda request: None,
        leap=False,
    )
    return kernel, replica


def planned(prompts: list[int], outputs: list[int], *, steps: int, **limits: int | bool) -> list[list[Chunk]]:
    """Chunks of the first iterations when all requests arrive at time zero."""
    log = RequestLog(prompts, outputs)
    kernel, replica = engine(log, **limits)
    seen = []
    for request in range(len(prompts)):
        kernel.at(0.0, lambda request=request: replica.submit(request), priority=0)  # type: ignore[misc]
    plan = replica._plan

    def spy() -> None:
        plan()
        seen.append(list(replica._chunks))

    replica._plan = spy  # type: ignore[method-assign]
    kernel.run_all(until_s=steps + 0.5)
    return seen[:steps]


def test_the_budget_is_shared_and_the_rest_of_a_prompt_follows() -> None:
    chunks = planned([60, 70, 50], [5, 5, 5], steps=3)
    assert chunks[0] == [Chunk(0, 60, 0), Chunk(1, 40, 0)]
    # one token of the budget goes to the sequence that decodes, running prompts come before waiting ones
    assert chunks[1] == [Chunk(1, 30, 40), Chunk(2, 50, 0)]
    assert chunks[2] == []


def test_a_chunk_never_exceeds_its_limit() -> None:
    chunks = planned([90], [2], steps=3, chunk_limit=40)
    assert chunks == [[Chunk(0, 40, 0)], [Chunk(0, 40, 40)], [Chunk(0, 10, 80)]]


def test_without_chunking_a_prompt_waits_for_a_whole_budget() -> None:
    chunks = planned([60, 70], [3, 3], steps=2, chunked_prefill=False)
    assert chunks == [[Chunk(0, 60, 0)], [Chunk(1, 70, 0)]]


def test_no_more_sequences_run_than_allowed() -> None:
    chunks = planned([10] * 5, [3] * 5, steps=4, max_sequences=2)
    assert [[chunk.request for chunk in step] for step in chunks] == [[0, 1], [], [], [2, 3]]


def test_nobody_overtakes_the_head_of_the_queue() -> None:
    """The second prompt does not fit into the blocks; the third would, but waits behind it."""
    chunks = planned([50, 60, 10], [4, 1, 1], steps=5, kv_blocks=8)
    assert [[chunk.request for chunk in step] for step in chunks[:4]] == [[0], [], [], []]
    assert [chunk.request for chunk in chunks[4]] == [1, 2]


def test_the_last_admitted_is_evicted_and_recomputed_with_what_it_had_said() -> None:
    log = RequestLog([19, 19], [12, 12])
    kernel, replica = engine(log, kv_blocks=5)
    for request in range(2):
        replica.submit(request)
    kernel.run_all()
    assert log.preemptions == [0, 1]
    assert log.status == [FINISHED, FINISHED]
    # Both fill their second block in the first decode step and one block is left: request 1 loses its 19 + 2 tokens.
    assert int(replica.record.to_frame()["prompt_tokens"].sum()) == 19 + 19 + (19 + 2)
    assert log.first_s[1] < log.finish_s[0] < log.finish_s[1]


def test_an_eviction_is_a_long_gap_between_tokens() -> None:
    log = RequestLog([19, 19], [12, 12])
    kernel, replica = engine(log, kv_blocks=5)
    for request in range(2):
        replica.submit(request)
    kernel.run_all()
    gaps, counts = replica.record.gap_runs(replica.record.to_frame())
    assert counts.sum() == 22
    assert max(gaps) > 1.0
    assert (gaps * counts).sum() == pytest.approx(sum(log.finish_s) - sum(log.first_s))
