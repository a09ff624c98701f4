"""Paged KV blocks of one replica, counted without touching every sequence on every step.

A decoding sequence stores one more token each iteration and needs a new block when its stored tokens are a multiple
of the block size. With `offset = stored tokens - iteration counter` constant while it decodes, it does so in the
iterations `i` with `(offset + i) mod block = 0`. A histogram of offsets modulo the block size therefore tells how many
blocks any future iteration needs, and a leap of k iterations costs at most one pass over that histogram.

Where layers keep different things of a sequence (`KvLayout`), a filled block costs as many new ones as there are groups
of layers that still grow with it: the histogram is weighted, and a weight falls when the sequence outgrows a window. A
leap ends there at the latest.
"""

from __future__ import annotations

from heapq import heappop, heappush

from sim.plans import KvLayout


class KvBlocks:
    """Block accounting: allocated = used by sequences; free = total - used (prefix caching is off: none cached).

    Args:
        total_blocks: Blocks the replica owns.
        block_tokens: Tokens per block.
        layout: What a sequence holds; absent, one block per `block_tokens` tokens.
    """

    def __init__(self, total_blocks: int, block_tokens: int, layout: KvLayout | None = None) -> None:
        self.total = total_blocks
        self.block = block_tokens
        self.used = 0
        self.peak = 0
        self._layout = layout or KvLayout(block_tokens)
        self._plain = self._layout == KvLayout(block_tokens)
        self._phase = [0] * block_tokens
        self._weight = 0
        self._fills: list[int] = []
        self._filling: dict[int, dict[int, int]] = {}

    @property
    def free(self) -> int:
        """Blocks that no sequence holds."""
        return self.total - self.used

    def blocks_for(self, tokens: int) -> int:
        """Blocks that `tokens` stored tokens occupy."""
        return -(-tokens // self.block) if self._plain else self._layout.blocks_for(tokens)

    def take(self, blocks: int) -> None:
        """Allocates `blocks`.

        Raises:
            RuntimeError: if there are not so many; a scheduler must ask first.
        """
        self.used += blocks
        if self.used > self.total:
            raise RuntimeError(f"{self.used} KV blocks allocated of {self.total}: the scheduler did not check")
        if self.used > self.peak:
            self.peak = self.used

    def give_back(self, blocks: int) -> None:
        """Frees `blocks`."""
        self.used -= blocks

    def start_decoding(self, offset: int, iteration: int) -> None:
        """Counts a sequence whose stored tokens will be `offset + iteration`, from this iteration on."""
        self._count(offset, self._layout.full)
        for window in self._layout.windows:
            at = window.most_blocks * self.block - offset
            if at > iteration:
                self._count(offset, window.groups)
                self._fill(at, offset, window.groups)

    def stop_decoding(self, offset: int, iteration: int) -> None:
        """Forgets a sequence counted by `start_decoding`."""
        self._count(offset, -self._layout.full)
        for window in self._layout.windows:
            at = window.most_blocks * self.block - offset
            if at > iteration:
                self._count(offset, -window.groups)
                self._fill(at, offset, -window.groups)

    def _count(self, offset: int, blocks: int) -> None:
        self._phase[offset % self.block] += blocks
        self._weight += blocks

    def _fill(self, at: int, offset: int, blocks: int) -> None:
        """Notes by how much the weight at an offset falls in iteration `at`."""
        found = self._filling.get(at)
        if found is None:
            found = self._filling[at] = {}
            heappush(self._fills, at)
        found[offset] = found.get(offset, 0) + blocks

    def advance(self, iteration: int) -> None:
        """Takes note of the sequences that have outgrown a window by `iteration`."""
        while self._fills and self._fills[0] <= iteration:
            for offset, blocks in self._filling.pop(heappop(self._fills)).items():
                self._count(offset, -blocks)

    def left(self, iteration: int) -> int:
        """Blocks free once the decoding sequences have theirs for `iteration`; negative if some get none."""
        return self.total - self.used - self._phase[-iteration % self.block]

    def needed_over(self, iteration: int, steps: int) -> int:
        """New blocks needed in the `steps` iterations from `iteration` on, in which no sequence outgrows a window."""
        phase, block = self._phase, self.block
        if steps == 1:
            return phase[-iteration % block]
        rounds, rest = divmod(steps, block)
        total = rounds * self._weight
        for i in range(iteration, iteration + rest):
            total += phase[-i % block]
        return total

    def steps_that_fit(self, iteration: int, limit: int) -> int:
        """How many iterations from `iteration` on fit in the free blocks, at most `limit`; to a full window at most."""
        free, weight = self.free, self._weight
        if self._fills:
            limit = min(limit, self._fills[0] - iteration)
        if ((limit - 1) // self.block + 1) * weight <= free:
            return limit
        rounds = free // weight
        steps = rounds * self.block
        left = free - rounds * weight
        while steps < limit:
            left -= self._phase[-(iteration + steps) % self.block]
            if left < 0:
                break
            steps += 1
        return min(steps, limit)
