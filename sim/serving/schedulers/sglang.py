"""SGLang: prompts first and alone, admission by an estimate of future tokens, retraction of the newest."""

from __future__ import annotations

from math import ceil
from typing import Final

from sim.serving.schedulers.base import SCHEDULERS, EngineState
from sim.serving.schedulers.prefill_first import PrefillFirst

_NEW_TOKEN_RATIO: Final = 0.7 * 0.14
"""Share of their remaining output for which running requests are counted on admission: the floor to which the
estimate decays within 600 decode steps (`SGLANG_INIT_NEW_TOKEN_RATIO` x `SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR`)."""


@SCHEDULERS.register("sglang")
class Sglang(PrefillFirst):
    """Prompts run alone in batches of one chunk budget, decodes wait; the newest is retracted when KV runs short.

    A waiting request is admitted when its prompt and whole output fit beside a share of what the running ones are
    still to produce. Left out: the estimate starts at 0.7 and rises after a retraction; single outputs count for 4096
    tokens at most. Source: `sglang/srt/managers/schedule_policy.py` (PrefillAdder) and `schedule_batch.py`
    (retract_decode).
    """

    def fits(self, engine: EngineState, request: int, tokens: int) -> bool:
        """Whether prompt and output fit beside what the running requests are expected to need still."""
        return super().fits(engine, request, tokens) and fits_beside_promises(engine, request)


def fits_beside_promises(engine: EngineState, request: int) -> bool:
    """Whether a waiting request fits to its end beside a share of what the running ones are still to produce."""
    if not engine.running():
        return True
    promised = engine.promised_blocks()
    free = engine.spare_blocks() + promised
    return engine.blocks_to_finish(request) + ceil(_NEW_TOKEN_RATIO * promised) <= free
