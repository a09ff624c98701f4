"""TensorRT-LLM: in-flight batching, with a request admitted only if it can run to its end without an eviction."""

from __future__ import annotations

from sim.serving.schedulers.admission import admit_in_order
from sim.serving.schedulers.base import FOREVER, SCHEDULERS, Chunk, EngineState


@SCHEDULERS.register("trtllm")
class Trtllm:
    """Prompts beside decodes within a token budget; capacity policy `GUARANTEED_NO_EVICT`.

    Every decoding sequence gets its token, prompts that were begun go on, then the head of the queue is admitted if
    the blocks for its prompt and whole output are left when all running requests have theirs; so nothing is ever
    evicted. Source: TensorRT-LLM documentation, scheduler (`capacity_scheduler_policy`), and
    `tensorrt_llm/_torch/pyexecutor/scheduler.py`.
    """

    prompts_alone = False

    def schedule(self, engine: EngineState) -> list[Chunk]:
        """Prompt chunks of the next iteration; see the class."""
        budget = engine.token_budget - engine.decoding
        chunks: list[Chunk] = []
        for request in list(engine.partial):
            if budget <= 0:
                break
            tokens = min(engine.to_compute(request) - engine.partial[request], budget, engine.chunk_limit)
            chunks.append(engine.extend(request, tokens))
            budget -= tokens
        if engine.waiting:
            admit_in_order(engine, budget, chunks, _fits_to_its_end)
        return chunks

    def stable_steps(self, engine: EngineState) -> int:
        """No limit: what blocks the head of the queue changes only when a request finishes."""
        return FOREVER


def _fits_to_its_end(engine: EngineState, request: int, tokens: int) -> bool:
    reserve = engine.watermark_blocks if engine.running() else 0
    return engine.blocks_to_finish(request) + reserve <= engine.spare_blocks()
