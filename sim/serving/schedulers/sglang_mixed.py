"""SGLang with mixed chunks: prompts beside decodes, admitted by SGLang's estimate of future tokens."""

from __future__ import annotations

from sim.serving.schedulers.base import SCHEDULERS, EngineState
from sim.serving.schedulers.sglang import fits_beside_promises
from sim.serving.schedulers.vllm_v1 import VllmV1


@SCHEDULERS.register("sglang-mixed")
class SglangMixed(VllmV1):
    """Every decoding sequence gets its token in an iteration with prompts too (`--enable-mixed-chunk`).

    Decodes take from the chunk budget; prompts that were begun go on, then the head of the queue is admitted as
    under `sglang`. Source: `sglang/srt/managers/scheduler.py` (get_new_batch_prefill, mix_with_running) and
    `schedule_policy.py` (PrefillAdder, mixed_with_decode_tokens).
    """

    def fits(self, engine: EngineState, request: int, tokens: int) -> bool:
        """Whether prompt and output fit beside what the running requests are expected to need still."""
        return super().fits(engine, request, tokens) and fits_beside_promises(engine, request)
