"""What prefill-first policies share: new prompts run alone, and sequences decode only when no prompt can run.

Not a policy itself; `sglang` and `vllm_v0` build on it.
"""

from __future__ import annotations

from sim.serving.schedulers.admission import admit_in_order, first_chunk_fits
from sim.serving.schedulers.base import FOREVER, Chunk, EngineState


class PrefillFirst:
    """Runs prompts alone as long as there are some that fit; else gives every decoding sequence its token.

    Prompts that were begun go on first, then the head of the queue is admitted within the token budget, first come
    first served. Only if neither is possible, sequences decode; if they lack blocks, the request admitted last is
    evicted, and it goes to the head of the queue to be recomputed.
    """

    prompts_alone = True
    holds_back = False

    def __init__(self) -> None:
        self._preempted = False

    def schedule(self, engine: EngineState) -> list[Chunk]:
        """Prompt chunks of the next iteration; none if it is for decoding."""
        self._preempted = False
        chunks = self._continue(engine)
        if engine.waiting:
            left = engine.token_budget - sum(chunk.tokens for chunk in chunks)
            admit_in_order(engine, left, chunks, self.fits)
        if chunks:
            return chunks
        while engine.decode_shortage() > 0:
            engine.preempt_last()
            self._preempted = True
        if engine.decoding or not engine.partial:
            return chunks
        while engine.partial and not chunks:
            engine.preempt_last()
            self._preempted = True
            chunks = self._continue(engine)
        return chunks

    def _continue(self, engine: EngineState) -> list[Chunk]:
        """Next chunks of prompts that were begun, as far as budget and blocks go."""
        budget, chunks = engine.token_budget, []
        for request in list(engine.partial):
            tokens = min(engine.to_compute(request) - engine.partial[request], budget, engine.chunk_limit)
            if budget <= 0 or engine.blocks_to_extend(request, tokens) > engine.free_blocks():
                break
            chunks.append(engine.extend(request, tokens))
            budget -= tokens
        return chunks

    def fits(self, engine: EngineState, request: int, tokens: int) -> bool:
        """Whether a waiting request may be admitted with a first chunk of `tokens`."""
        return first_chunk_fits(engine, request, tokens)

    def stable_steps(self, engine: EngineState) -> int:
        """One after a preemption, since the next step may admit again; else no limit.

        What blocks the head of the queue (slots, blocks) cannot ease while sequences only grow.
        """
        return 1 if self._preempted else FOREVER
