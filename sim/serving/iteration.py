"""What an engine needs to know about time: the cost of one iteration, piecewise affine in attended tokens.

An iteration that decodes n sequences and computes prompt chunks costs

    device = base(n, chunks) + sum over attention classes of f_class(n, attended tokens) + prefill(n, chunks)

where each f_class(n, .) is continuous and piecewise affine with exact break points (`DecodeRow`). It lasts
`max(device + added, least)` with the host's part `host(n + chunks, chunks) = (added, least)`. This module has the
protocol, the row type and the constant-cost model that queueing-theory tests use; `sim.serving.compiled` builds the
real one from operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sim.serving.schedulers import Chunk


@dataclass(frozen=True)
class DecodeRow:
    """Attention time of one class for a fixed number of decoding sequences, continuous in attended tokens.

    Attributes:
        breaks: Attended tokens at the break points, ascending; the end pieces go on beyond them.
        values_s: Time at each break point [s].
    """

    breaks: list[float]
    values_s: list[float]


class IterationCost(Protocol):
    """Time of engine iterations for one replica.

    Attributes:
        windows: Per attention class, the window in tokens, or None where all earlier tokens are attended.
        weights: Per attention class, its share of the model's attention layers; they sum to one.
    """

    windows: tuple[int | None, ...]
    weights: tuple[float, ...]

    def base(self, sequences: int, chunks: Sequence[Chunk]) -> tuple[float, int]:
        """Device time [s] that depends only on the tokens and logits rows computed, and a code of both.

        The code stands in the leap records, so that the cost can later say what the time was spent on.
        """
        ...

    def host(self, requests: int, prompts: int = 0) -> tuple[float, float]:
        """Host time [s] that an iteration of so many requests waits for in any case, and the least it lasts.

        Where the host works beside the device (asynchronous scheduling) the first is zero and the second its time. The
        device runs an iteration with `prompts` while the host is still launching it: that may be what it takes.
        """
        ...

    def decode_row(self, attention_class: int, sequences: int, *, prompts: bool = False) -> DecodeRow:
        """Attention time of a class for `sequences` decoding sequences, by attended tokens in all; beside `prompts`?"""
        ...

    def prefill(self, sequences: int, chunks: Sequence[Chunk]) -> tuple[float, float]:
        """Attention time [s] that prompt chunks add beside `sequences` decoding ones, and the keys they attend to.

        Keys are summed over the prompts' tokens and averaged over attention layers.
        """
        ...


class ConstantCost:
    """A server with constant time per iteration: turns a replica into a textbook queue (one sequence at a time).

    Args:
        step_s: Time of every iteration [s]. A request that emits k tokens takes k iterations.
    """

    windows: tuple[int | None, ...] = (None,)
    weights: tuple[float, ...] = (1.0,)

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._row = DecodeRow([0.0, 1.0], [0.0, 0.0])

    def base(self, sequences: int, chunks: Sequence[Chunk]) -> tuple[float, int]:
        """The constant [s]."""
        return self._step_s, 0

    def host(self, requests: int, prompts: int = 0) -> tuple[float, float]:
        """None."""
        return 0.0, 0.0

    def decode_row(self, attention_class: int, sequences: int, *, prompts: bool = False) -> DecodeRow:
        """Zero at any length."""
        return self._row

    def prefill(self, sequences: int, chunks: Sequence[Chunk]) -> tuple[float, float]:
        """No time, nothing attended."""
        return 0.0, 0.0
