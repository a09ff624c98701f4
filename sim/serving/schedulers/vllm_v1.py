"""vLLM v1: one loop without phases, running requests before waiting ones, recomputation on preemption."""

from __future__ import annotations

from sim.serving.schedulers.admission import admit_in_order, first_chunk_fits
from sim.serving.schedulers.base import FOREVER, SCHEDULERS, Chunk, EngineState


@SCHEDULERS.register("vllm-v1")
class VllmV1:
    """Token budget shared by decodes and chunked prompts, first come first served (vLLM v1 scheduler).

    Each step gives every decoding sequence its token, then continues running prompts, then admits from the head of
    the queue, all within the token budget. When blocks run out the request admitted last is evicted and goes to the
    head of the queue to be recomputed; in such a step nothing is admitted. Admission stops at the first request that
    does not fit (no overtaking). Source: `vllm/v1/core/sched/scheduler.py` and the engine's documented defaults.
    """

    prompts_alone = False
    holds_back = False

    def __init__(self) -> None:
        self._preempted = False

    def schedule(self, engine: EngineState) -> list[Chunk]:
        """Prompt chunks of the next iteration; see the class."""
        preempted = False
        while engine.decode_shortage() > 0:
            engine.preempt_last()
            preempted = True
        budget = engine.token_budget - engine.decoding * engine.step_tokens
        chunks: list[Chunk] = []
        if engine.partial:
            for request in list(engine.partial):
                if budget <= 0 or request not in engine.partial:
                    continue
                tokens = min(engine.to_compute(request) - engine.partial[request], budget, engine.chunk_limit)
                while engine.blocks_to_extend(request, tokens) > engine.free_blocks():
                    preempted = True
                    if engine.preempt_last() == request:
                        break
                else:
                    chunks.append(engine.extend(request, tokens))
                    budget -= tokens
        self._preempted = preempted
        if not preempted and engine.waiting:
            admit_in_order(engine, budget, chunks, self.fits)
        return chunks

    def fits(self, engine: EngineState, request: int, tokens: int) -> bool:
        """Whether a waiting request may be admitted with a first chunk of `tokens`."""
        return first_chunk_fits(engine, request, tokens)

    def stable_steps(self, engine: EngineState) -> int:
        """One after a preemption, since the next step may admit again; else no limit.

        What blocks the head of the queue (slots, blocks) cannot ease while sequences only grow.
        """
        return 1 if self._preempted else FOREVER
