"""What a replica did, kept per leap: enough to rebuild every token gap, the busy time and its causes afterwards.

Nothing is stored per token. A leap of k iterations over n decoding sequences is one row; its k gaps are first,
first + growth, ..., each seen by n sequences, and are expanded by numpy only when percentiles are asked for.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from sim.core import Array

LEAP_COLUMNS: Final = {
    "start_s": "s",
    "iterations": "",
    "first_s": "s",
    "growth_s": "s",
    "decoding": "sequences",
    "base": "",
    "prompts": "sequences",
    "prompt_tokens": "tokens",
    "prefill_attention_s": "s",
    "prompt_attended": "tokens",
    "attended": "tokens",
    "attended_growth": "tokens",
    "host_s": "s",
    "host_growth_s": "s",
}
"""Columns of a leap and their units. Iteration j of a leap lasts `first_s + growth_s j` and attends to
`attended + attended_growth j` keys per layer while decoding `decoding` sequences; of its time the device waits for the
host `host_s + host_growth_s j`; `base` is the cost model's code of its tokens and rows."""

_COUNTS = ("iterations", "decoding", "base", "prompts", "prompt_tokens")


class ReplicaRecord:
    """Leaps of one replica, in order of time.

    Attributes:
        preemptions: Evictions so far.
    """

    def __init__(self) -> None:
        self.preemptions = 0
        self._values = array("d")
        self._gaps: list[float] = []
        self._held: list[tuple[int, float, int]] = []
        self._together: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._values) // len(LEAP_COLUMNS)

    def ran(self, *row: float) -> None:
        """Records a leap: values in the order of `LEAP_COLUMNS`."""
        self._values.extend(row)

    def gap(self, seconds: float) -> None:
        """Records one token gap that spans more than an iteration (a preempted request's)."""
        self._gaps.append(seconds)

    def held(self, waits: Sequence[tuple[float, int]]) -> None:
        """Says that in the leap recorded next the first tokens come late: after so many seconds, for so many sequences.

        That is so after iterations in which prompts ran alone.
        """
        row = len(self)
        self._held += [(row, seconds, count) for seconds, count in waits]

    def together(self, tokens: int) -> None:
        """Says that in the leap recorded last so many more tokens came together with others, without a gap."""
        if tokens:
            self._together.append((len(self) - 1, tokens))

    def to_frame(self) -> pd.DataFrame:
        """One row per leap; see `LEAP_COLUMNS`."""
        data = np.array(self._values, dtype=np.float64).reshape(-1, len(LEAP_COLUMNS))
        frame = pd.DataFrame(data, columns=list(LEAP_COLUMNS))
        return frame.astype(dict.fromkeys(_COUNTS, np.int64))

    def gap_runs(self, frame: pd.DataFrame) -> tuple[Array, Array]:
        """Token gaps [s] and how many tokens saw each, from the leaps in `frame` and the long gaps."""
        decoding = frame[frame["decoding"] > 0]
        steps = decoding["iterations"].to_numpy()
        index = np.arange(int(steps.sum())) - np.repeat(np.cumsum(steps) - steps, steps)
        first, growth = (np.repeat(decoding[name].to_numpy(), steps) for name in ("first_s", "growth_s"))
        counts = np.repeat(decoding["decoding"].to_numpy(), steps).astype(np.float64)
        gaps = first + growth * index
        starts = dict(zip(decoding.index, np.cumsum(steps) - steps, strict=True)) if self._held else {}
        late = [(starts[row], waited, count) for row, waited, count in self._held if row in starts]
        for start, _, count in late:
            counts[start] -= count
        held_s = [gaps[start] + waited for start, waited, _ in late]
        held = [float(count) for _, _, count in late]
        rows = set(decoding.index) if self._together else set()
        together = float(sum(tokens for row, tokens in self._together if row in rows))
        none_s, no_gap = ([0.0], [together]) if together else ([], [])
        return (
            np.concatenate([gaps, held_s, self._gaps, none_s]),
            np.concatenate([counts, held, np.ones(len(self._gaps)), no_gap]),
        )
