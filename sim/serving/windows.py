"""Attended tokens of layers with a sliding window, kept up to date without touching every sequence."""

from __future__ import annotations

from heapq import heappop, heappush


class WindowSum:
    """Attended tokens of one attention class: the sum over decoding sequences of min(stored + 1, window)."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.full = 0
        self.offsets = 0
        self.crosses_at: dict[int, int] = {}
        self.heap: list[tuple[int, int]] = []

    def enter(self, request: int, offset: int, iteration: int) -> None:
        """Counts a sequence that stores `offset + iteration` tokens."""
        at = self.window - 1 - offset
        if at <= iteration:
            self.full += 1
        else:
            self.crosses_at[request] = at
            self.offsets += offset
            heappush(self.heap, (at, request))

    def leave(self, request: int, offset: int) -> None:
        """Forgets a sequence counted by `enter`."""
        if self.crosses_at.pop(request, None) is None:
            self.full -= 1
        else:
            self.offsets -= offset

    def advance(self, iteration: int) -> None:
        """Moves the sequences that fill the window by `iteration` from growing to full."""
        heap, crosses_at = self.heap, self.crosses_at
        while heap and (heap[0][0] <= iteration or crosses_at.get(heap[0][1]) != heap[0][0]):
            at, request = heappop(heap)
            if crosses_at.get(request) == at:
                del crosses_at[request]
                self.offsets -= self.window - 1 - at
                self.full += 1
