"""vLLM's first engine (V0): whole prompts first and alone, or chunked prompts beside decodes."""

from __future__ import annotations

from sim.serving.schedulers.base import SCHEDULERS, Chunk, EngineState
from sim.serving.schedulers.prefill_first import PrefillFirst
from sim.serving.schedulers.vllm_v1 import VllmV1


@SCHEDULERS.register("vllm-v0")
class VllmV0:
    """Without chunked prefill, whole prompts run alone before any decode; with it, decodes share the budget.

    On a shortage of blocks the request admitted last is evicted and recomputed. Source: `vllm/core/scheduler.py` of
    0.6, `_schedule_default` and `_schedule_chunked_prefill`.
    """

    holds_back = False

    def __init__(self) -> None:
        self._alone = PrefillFirst()
        self._mixed = VllmV1()
        self.prompts_alone = False

    def schedule(self, engine: EngineState) -> list[Chunk]:
        """Prompt chunks of the next iteration; see the class."""
        self.prompts_alone = not engine.chunked_prefill
        return self._policy(engine).schedule(engine)

    def stable_steps(self, engine: EngineState) -> int:
        """One after a preemption, else no limit."""
        return self._policy(engine).stable_steps(engine)

    def _policy(self, engine: EngineState) -> PrefillFirst | VllmV1:
        return self._mixed if engine.chunked_prefill else self._alone
