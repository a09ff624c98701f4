"""What a replica did, kept per leap: enough to rebuild every token gap, the busy time and its causes afterwards.

Nothing is stored per token. A leap of k iterations over n decoding sequences is one row; its k gaps are first,
first + growth, ..., each seen by n sequences, and are expanded by numpy only when percentiles are asked for.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.core import Array
from sim.serving.schedulers import Chunk


class ReplicaRecord:
    """Leaps of one replica, in order of time.

    Attributes:
        preemptions: Evictions so far.
    """

    def __init__(self) -> None:
        self.preemptions = 0
        self._rows: list[tuple[float, int, float, float, int, int, int, float]] = []
        self._gaps: list[float] = []

    def __len__(self) -> int:
        return len(self._rows)

    def ran(
        self, start_s: float, steps: int, first_s: float, growth_s: float, decoding: int, chunks: list[Chunk]
    ) -> None:
        """Records `steps` iterations from `start_s` that decoded `decoding` sequences and computed `chunks`."""
        if chunks:
            tokens = 0
            attended = 0.0
            for _, count, prefix in chunks:
                tokens += count
                attended += count * (prefix + 0.5 * (count + 1))
            self._rows.append((start_s, steps, first_s, growth_s, decoding, len(chunks), tokens, attended))
        else:
            self._rows.append((start_s, steps, first_s, growth_s, decoding, 0, 0, 0.0))

    def gap(self, seconds: float) -> None:
        """Records one token gap that spans more than an iteration (a preempted request's)."""
        self._gaps.append(seconds)

    def to_frame(self) -> pd.DataFrame:
        """One row per leap: start, iterations, first duration and growth [s], sequences, prompt chunks and tokens."""
        columns = (
            "start_s",
            "iterations",
            "first_s",
            "growth_s",
            "decoding",
            "prompts",
            "prompt_tokens",
            "prompt_attended_tokens",
        )
        frame = pd.DataFrame(self._rows, columns=list(columns))
        return frame.astype(dict.fromkeys(("iterations", "decoding", "prompts", "prompt_tokens"), np.int64))

    def gap_runs(self, frame: pd.DataFrame) -> tuple[Array, Array]:
        """Token gaps [s] and how many tokens saw each, from the leaps in `frame` and the long gaps."""
        decoding = frame[frame["decoding"] > 0]
        steps = decoding["iterations"].to_numpy()
        index = np.arange(int(steps.sum())) - np.repeat(np.cumsum(steps) - steps, steps)
        values = (
            np.repeat(decoding["first_s"].to_numpy(), steps) + np.repeat(decoding["growth_s"].to_numpy(), steps) * index
        )
        counts = np.repeat(decoding["decoding"].to_numpy(), steps).astype(np.float64)
        return np.concatenate([values, self._gaps]), np.concatenate([counts, np.ones(len(self._gaps))])
