"""Decoding sequences that wait while prompts run alone, the newest last."""

from __future__ import annotations


class Held:
    """How long the sequences of one engine have waited since their latest token."""

    def __init__(self) -> None:
        self._waits: list[tuple[float, int]] = []

    def __bool__(self) -> bool:
        """Whether any waits."""
        return bool(self._waits)

    def wait(self, seconds: float, decoding: int) -> None:
        """Lets all `decoding` sequences wait for `seconds`."""
        fresh = decoding - sum(count for _, count in self._waits)
        self._waits = [(waited + seconds, count) for waited, count in self._waits]
        if fresh:
            self._waits.append((seconds, fresh))

    def leave(self, decoding: int) -> float:
        """How long the newest sequence, which has just left, has waited [s]; `decoding` are left."""
        if sum(count for _, count in self._waits) <= decoding:
            return 0.0
        waited, count = self._waits.pop()
        if count > 1:
            self._waits.append((waited, count - 1))
        return waited

    def end(self) -> list[tuple[float, int]]:
        """The waits [s] and of how many sequences each, which are over."""
        waits, self._waits = self._waits, []
        return waits
