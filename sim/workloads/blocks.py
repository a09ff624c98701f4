"""Prompt blocks of requests as one flat array with offsets, and how many of them a prefix cache could serve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PromptBlocks:
    """Content ids of the prompt blocks of each request; equal ids at the head mean a shared prefix.

    Attributes:
        size: Tokens per block; the last block of a request may be partial.
        ids: Block ids of all requests, one after the other.
        offsets: Where each request starts in `ids`, shape `(requests + 1,)`.
    """

    size: int
    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def from_lists(cls, size: int, lists: Iterable[Sequence[int] | NDArray[np.int64]]) -> PromptBlocks:
        """Blocks of `size` tokens from one list of ids per request."""
        arrays = [np.asarray(ids, dtype=np.int64) for ids in lists]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([array.size for array in arrays], out=offsets[1:])
        return cls(size, np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int64), offsets)

    def __len__(self) -> int:
        return self.offsets.size - 1

    def of(self, request: int) -> NDArray[np.int64]:
        """Block ids of the request at row `request`."""
        return self.ids[self.offsets[request] : self.offsets[request + 1]]

    def to_lists(self) -> list[list[int]]:
        """One list of ids per request."""
        return [self.of(row).tolist() for row in range(len(self))]

    def take(self, rows: NDArray[np.int64]) -> PromptBlocks:
        """The blocks of the requests `rows`, in that order."""
        return PromptBlocks.from_lists(self.size, [self.of(int(row)) for row in rows])

    def renamed(self, rounds: NDArray[np.int64]) -> PromptBlocks:
        """The same blocks with ids that two requests share only if their numbers in `rounds` are equal."""
        if not self.ids.size:
            return self
        spread = int(self.ids.max()) - int(self.ids.min()) + 1
        return PromptBlocks(self.size, self.ids + np.repeat(rounds, np.diff(self.offsets)) * spread, self.offsets)

    def prefix_share(self) -> float | None:
        """Share of blocks whose whole prefix was seen in an earlier request, with an infinite cache; None if empty.

        Ids are chained (an id names its block and all before it), so that a seen id is a seen prefix; only the
        unbroken run from the first block counts.
        """
        seen: set[int] = set()
        hits = 0
        for row in range(len(self)):
            ids = self.of(row).tolist()
            for block in ids:
                if block not in seen:
                    break
                hits += 1
            seen.update(ids)
        return hits / self.ids.size if self.ids.size else None
