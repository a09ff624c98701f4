"""Admission first come, first served, as all shipped policies do it; they differ in what fits."""

from __future__ import annotations

from collections.abc import Callable

from sim.serving.schedulers.base import Chunk, EngineState


def admit_in_order(
    engine: EngineState,
    budget: int,
    chunks: list[Chunk],
    fits: Callable[[EngineState, int, int], bool],
    *,
    whole_tokens: int = 0,
) -> None:
    """Admits from the head of the queue while tokens, slots and blocks last; stops at the first that does not fit.

    A request whose prompt another engine has computed takes a slot and blocks, but no tokens of the iteration.

    Args:
        engine: The engine.
        budget: Tokens left in this iteration.
        chunks: First chunks of the admitted are added here.
        fits: Whether a waiting request may be admitted with a first chunk of so many tokens.
        whole_tokens: Prompts of up to so many tokens are not split, even if longer ones may be.
    """
    waiting = engine.waiting
    slots = engine.max_sequences - engine.running()
    while waiting and budget > 0 and slots > 0:
        if engine.computed_elsewhere(waiting[0]):
            if not fits(engine, waiting[0], engine.to_compute(waiting[0])):
                break
            engine.fetch()
            slots -= 1
            continue
        tokens = engine.to_compute(waiting[0]) - engine.cached_tokens(waiting[0])
        if tokens > budget or tokens > engine.chunk_limit:
            if not engine.chunked_prefill or engine.to_compute(waiting[0]) <= whole_tokens:
                break
            tokens = min(budget, engine.chunk_limit)
        if not fits(engine, waiting[0], tokens):
            break
        chunks.append(engine.admit(tokens))
        budget -= tokens
        slots -= 1


def first_chunk_fits(engine: EngineState, request: int, tokens: int) -> bool:
    """Whether the blocks of the first chunk are free beside the watermark, which an empty engine need not leave."""
    reserve = engine.watermark_blocks if engine.running() else 0
    return engine.blocks_to_extend(request, tokens) + reserve <= engine.free_blocks()
