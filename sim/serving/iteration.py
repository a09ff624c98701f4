"""What an engine needs to know about time: the cost of one iteration, piecewise affine in attended tokens.

An iteration that decodes n sequences and computes prompt chunks costs

    base(tokens) + rows(sequences) + sum over attention classes of f_class(n, attended tokens) + prefill(chunks)

where each f_class(n, .) is continuous and piecewise affine with exact break points (`DecodeRow`). This module has the
protocol, the row type and the constant-cost model that queueing-theory tests use; `sim.serving.compiled` builds the
real one from operators.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sim.serving.schedulers import Chunk


class Piece(NamedTuple):
    """An affine piece: at `start` attended tokens the value is `value_s`, growing by `slope_s` per token to `end`."""

    start: float
    end: float
    value_s: float
    slope_s: float


@dataclass(frozen=True)
class DecodeRow:
    """Attention time of one class for a fixed number of decoding sequences, continuous in attended tokens.

    Attributes:
        breaks: Attended tokens at the break points, ascending; the end pieces go on beyond them.
        values_s: Time at each break point [s].
    """

    breaks: list[float]
    values_s: list[float]

    def piece(self, attended: float) -> Piece:
        """The affine piece that holds at `attended` tokens; at a break point, the one that begins there."""
        breaks, values = self.breaks, self.values_s
        last = len(breaks) - 2
        i = min(max(bisect_right(breaks, attended) - 1, 0), last)
        slope = (values[i + 1] - values[i]) / (breaks[i + 1] - breaks[i])
        return Piece(breaks[i], breaks[i + 1] if i < last else float("inf"), values[i], slope)


class IterationCost(Protocol):
    """Time of engine iterations for one replica.

    Attributes:
        windows: Per attention class, the window in tokens, or None where all earlier tokens are attended.
    """

    windows: tuple[int | None, ...]

    def base_s(self, tokens: int, rows: int) -> float:
        """Time [s] that depends on the number of tokens computed and of logits rows, host time included."""
        ...

    def decode_row(self, attention_class: int, sequences: int) -> DecodeRow:
        """Attention time of a class for `sequences` decoding sequences, by attended tokens in all."""
        ...

    def prefill_s(self, chunks: Sequence[Chunk]) -> float:
        """Attention time [s] of the prompt chunks."""
        ...


class ConstantCost:
    """A server with constant time per iteration: turns a replica into a textbook queue (one sequence at a time).

    Args:
        step_s: Time of every iteration [s]. A request that emits k tokens takes k iterations.
    """

    windows: tuple[int | None, ...] = (None,)

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._row = DecodeRow([0.0, 1.0], [0.0, 0.0])

    def base_s(self, tokens: int, rows: int) -> float:
        """The constant [s]."""
        return self._step_s

    def decode_row(self, attention_class: int, sequences: int) -> DecodeRow:
        """Zero at any length."""
        return self._row

    def prefill_s(self, chunks: Sequence[Chunk]) -> float:
        """Zero."""
        return 0.0
