"""Prompts that wait until they fill an iteration, so that decoding is held up less often.

TensorRT-LLM's `batch_wait_timeout_iters` and `batch_wait_max_tokens_ratio` (`_waiting_requests` of its
`py_executor.py`). Not a policy itself; `trtllm` uses it.
"""

from __future__ import annotations

from sim.serving.schedulers.base import EngineState


class BatchFill:
    """Whether prompts that could run go on waiting.

    They do while some sequence decodes and the tokens that an iteration would compute, decoded ones included, stay
    below `batch_fill_tokens`; after `batch_wait` iterations, counted from the first in which a prompt could have run,
    they run in any case.
    """

    def __init__(self) -> None:
        self._since: int | None = None

    def holds_back(self, engine: EngineState, prompt_tokens: int) -> bool:
        """Whether prompts of `prompt_tokens` tokens wait in the iteration to be scheduled."""
        if not prompt_tokens:
            return False
        if self._since is None:
            self._since = engine.iteration
        filled = engine.decoding * engine.step_tokens + prompt_tokens >= engine.batch_fill_tokens
        if filled or not engine.decoding or self.steps_left(engine) <= 0:
            self._since = None
            return False
        return True

    def steps_left(self, engine: EngineState) -> int:
        """Iterations until prompts that wait run even if no other comes."""
        return engine.batch_wait - (engine.iteration - self._since) if self._since is not None else 0
