"""Requests one by one, from tools that record them: a table to simulate, and the metrics over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.core import Array, summarise
from sim.validation.benchmarks.base import STATISTICS
from sim.workloads import RequestTable

_LEVELS: Final = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class RequestTimes:
    """Requests that ended well, in the order of the file; all arrays have the shape `(n,)`.

    Attributes:
        input_tokens: Prompt tokens.
        output_tokens: Output tokens.
        ttft_s: Time to the first token [s].
        e2e_s: Time to the last token [s].
        sent_s: When each was sent [s], from any origin; None if unknown.
    """

    input_tokens: Array
    output_tokens: Array
    ttft_s: Array
    e2e_s: Array
    sent_s: Array | None = None

    def table(self, name: str) -> tuple[RequestTable, Array]:
        """The requests in the order in which they were sent, and the measured latency of each [s]."""
        sent_s = np.zeros(len(self.ttft_s)) if self.sent_s is None else self.sent_s
        order = np.argsort(sent_s, kind="stable")
        table = RequestTable(
            arrival_s=sent_s[order] - sent_s.min(),
            input_tokens=self.input_tokens[order].astype(np.int64),
            output_tokens=self.output_tokens[order].astype(np.int64),
            name=name,
        )
        return table, self.e2e_s[order]

    def metrics(self) -> dict[str, float]:
        """TTFT, TPOT and E2E by metric path: mean and percentiles over requests."""
        after = self.output_tokens > 1
        tpot_s = (self.e2e_s - self.ttft_s)[after] / (self.output_tokens[after] - 1)
        samples = {"ttft_s": self.ttft_s, "e2e_s": self.e2e_s, "tpot_s": tpot_s}
        return {
            path: value
            for metric, sample in samples.items()
            if sample.size
            for path, value in _statistics(metric, sample).items()
        }

    @property
    def duration_s(self) -> float | None:
        """From the first send to the last token [s]; None if it is not known when they were sent."""
        return None if self.sent_s is None else float((self.sent_s + self.e2e_s).max() - self.sent_s.min())


def _statistics(metric: str, sample: Array) -> dict[str, float]:
    found = summarise(sample)
    named = {stat: metric if stat == "mean" else f"{metric}.{stat}" for stat in STATISTICS}
    return {path: value for stat, path in named.items() if (value := found[stat]) is not None}


def quantile_law(tokens: Array) -> dict[str, object]:
    """The law of lengths that these lengths follow, as in a traffic file."""
    return _law([*zip(_LEVELS, np.quantile(tokens, _LEVELS).tolist(), strict=True)])


def law_of_summary(least: float | None, most: float | None, percentiles: Mapping[int, float]) -> dict[str, object]:
    """The law of lengths with this range and these percentiles, by their level from 0 to 100."""
    points = {level / 100: tokens for level, tokens in percentiles.items()}
    ends = {level: tokens for level, tokens in ((0.0, least), (1.0, most)) if tokens is not None}
    return _law(sorted({**points, **ends}.items()))


def _law(points: list[tuple[float, float]]) -> dict[str, object]:
    levels = [level for level, _ in points]
    tokens = np.maximum.accumulate([max(1.0, tokens) for _, tokens in points]).tolist()
    return {"kind": "quantiles", "levels": [0.0, *levels[1:-1], 1.0], "tokens_at": tokens}
