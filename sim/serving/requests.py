"""The life of every request of a run, as columns: cheap to update one by one, cheap to turn into a table.

A row number identifies a request everywhere in `sim.serving`. Replicas write into these columns; sources append
rows as requests arrive; `sim.results` reads the finished table.
"""

from __future__ import annotations

from math import nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sim.workloads import PromptBlocks

QUEUED, RUNNING, FINISHED, REJECTED, FAILED = range(5)
STATUS_NAMES = ("queued", "running", "finished", "rejected", "failed")


class RequestLog:
    """Columns of all requests of a run, in order of arrival.

    Attributes:
        arrival_s: When the client sent it [s]; NaN until then.
        prompt: Prompt tokens.
        output: Tokens it will produce (after any cut at the engine's context limit).
        asked: Output tokens the workload asked for.
        blocks: Content ids of prompt blocks; None if unknown.
        cached: Prompt tokens found in the prefix cache when the request was first scheduled.
        emitted: Tokens produced so far.
        received_s: When the engine got it from the front end [s]; NaN until then.
        scheduled_s: When a replica first worked on it [s].
        first_s: When its first token was sent to the client [s].
        last_s: When the engine emitted its latest token [s], kept only across preemptions.
        finish_s: When the last token was sent to the client [s].
        preemptions: How often it was evicted and recomputed.
        replica: The replica it ran on, -1 before routing.
        status: One of the codes of this module.
    """

    def __init__(
        self, prompt_tokens: ArrayLike, output_tokens: ArrayLike, *, blocks: PromptBlocks | None = None
    ) -> None:
        self.prompt: list[int] = np.asarray(prompt_tokens).tolist()
        self.asked: list[int] = np.asarray(output_tokens).tolist()
        self.output = list(self.asked)
        self.blocks = blocks
        count = len(self.prompt)
        self.cached = [0] * count
        self.arrival_s = [nan] * count
        self.emitted = [0] * count
        self.received_s = [nan] * count
        self.scheduled_s = [nan] * count
        self.first_s = [nan] * count
        self.last_s = [nan] * count
        self.finish_s = [nan] * count
        self.preemptions = [0] * count
        self.replica = [-1] * count
        self.status = [QUEUED] * count

    def __len__(self) -> int:
        return len(self.prompt)

    def forget_unsent(self, now: float) -> None:
        """Takes back first tokens that would have been sent after `now` [s], when the run was cut short."""
        self.first_s = [nan if first > now else first for first in self.first_s]

    def to_frame(self) -> pd.DataFrame:
        """One row per request that reached the engine; times in seconds, the client's unless named `engine_`."""
        frame = pd.DataFrame(
            {
                "request": np.arange(len(self), dtype=np.int64),
                "replica": np.asarray(self.replica, dtype=np.int32),
                "arrival_s": np.asarray(self.arrival_s, dtype=np.float64),
                "input_tokens": np.asarray(self.prompt, dtype=np.int64),
                "cached_tokens": np.asarray(self.cached, dtype=np.int64),
                "output_tokens": np.asarray(self.asked, dtype=np.int64),
                "emitted_tokens": np.asarray(self.emitted, dtype=np.int64),
                "first_scheduled_s": np.asarray(self.scheduled_s, dtype=np.float64),
                "first_token_s": np.asarray(self.first_s, dtype=np.float64),
                "finish_s": np.asarray(self.finish_s, dtype=np.float64),
                "preemptions": np.asarray(self.preemptions, dtype=np.int64),
                "status": np.asarray(STATUS_NAMES, dtype=object)[np.asarray(self.status, dtype=np.int64)],
            }
        )
        received = np.asarray(self.received_s, dtype=np.float64)
        reached = ~np.isnan(received)
        frame = frame[reached].reset_index(drop=True)
        first, finish, sent = frame["first_token_s"], frame["finish_s"], frame["arrival_s"]
        frame["ttft_s"] = first - sent
        frame["engine_ttft_s"] = first - received[reached]
        gaps = (frame["emitted_tokens"] - 1).where(frame["emitted_tokens"] > 1)
        frame["tpot_s"] = (finish - first) / gaps
        frame["e2e_s"] = finish - sent
        return frame
