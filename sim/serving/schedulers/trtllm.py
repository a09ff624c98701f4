"""TensorRT-LLM: in-flight batching, with a request admitted only if it can run to its end without an eviction."""

from __future__ import annotations

from sim.serving.schedulers.admission import admit_in_order
from sim.serving.schedulers.balance import RankBalance
from sim.serving.schedulers.base import FOREVER, SCHEDULERS, Chunk, EngineState
from sim.serving.schedulers.filling import BatchFill


@SCHEDULERS.register("trtllm")
class Trtllm:
    """Prompts beside decodes within a token budget; capacity policy `GUARANTEED_NO_EVICT`.

    Every decoding sequence gets its token, prompts that were begun go on, then the head of the queue is admitted if
    the blocks for its prompt and whole output are left when all running requests have theirs; so nothing is ever
    evicted. Source: TensorRT-LLM documentation, scheduler (`capacity_scheduler_policy`), and
    `tensorrt_llm/_torch/pyexecutor/scheduler.py`. With attention data parallelism prompts may wait for each other, see
    `RankBalance`; without it, until they fill an iteration, see `BatchFill`.
    """

    prompts_alone = False

    def __init__(self) -> None:
        self.holds_back = False
        self._balance = RankBalance()
        self._fill = BatchFill()

    def schedule(self, engine: EngineState) -> list[Chunk]:
        """Prompt chunks of the next iteration; see the class."""
        if engine.balance_wait and engine.ranks > 1:
            self._balance.update(engine)
            if self._balance.holds_back(engine):
                self.holds_back = True
                return []
            together = self._balance.chunks(engine, _fits_to_its_end)
            self.holds_back = bool(engine.waiting)
            return together
        if engine.batch_wait and engine.ranks == 1:
            self.holds_back = self._fill.holds_back(engine, _tokens_that_fit(engine))
            if self.holds_back:
                return []
        budget = engine.token_budget - engine.decoding * engine.step_tokens
        chunks: list[Chunk] = []
        for request in list(engine.partial):
            if budget <= 0:
                break
            tokens = min(engine.to_compute(request) - engine.partial[request], budget, engine.chunk_limit)
            chunks.append(engine.extend(request, tokens))
            budget -= tokens
        if engine.waiting:
            admit_in_order(engine, budget, chunks, _fits_to_its_end, whole_tokens=engine.chunk_limit)
        return chunks

    def stable_steps(self, engine: EngineState) -> int:
        """Until prompts have waited long enough; else no limit: only an end lets the head of the queue in."""
        if not self.holds_back:
            return FOREVER
        return max(1, (self._balance if engine.ranks > 1 else self._fill).steps_left(engine))


def _tokens_that_fit(engine: EngineState) -> int:
    """Prompt tokens of an iteration now, cached ones counted too: prompts begun, then waiting ones in their order."""
    budget = engine.token_budget - engine.decoding * engine.step_tokens
    tokens = sum(engine.to_compute(request) - done for request, done in engine.partial.items())
    slots = engine.max_sequences - engine.running()
    spare = engine.spare_blocks() - (engine.watermark_blocks if engine.running() else 0)
    for request in engine.waiting:
        spare -= engine.blocks_to_finish(request)
        if tokens >= budget or slots <= 0 or spare < 0:
            break
        tokens += engine.to_compute(request)
        slots -= 1
    return min(tokens, budget)


def _fits_to_its_end(engine: EngineState, request: int, tokens: int) -> bool:
    reserve = engine.watermark_blocks if engine.running() else 0
    return engine.blocks_to_finish(request) + reserve <= engine.spare_blocks()
