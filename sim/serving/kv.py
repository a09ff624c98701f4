"""Paged KV blocks of one replica, counted without touching every sequence on every step.

A decoding sequence stores one more token each iteration and needs a new block when its stored tokens are a multiple
of the block size. With `offset = stored tokens - iteration counter` constant while it decodes, it does so in the
iterations `i` with `(offset + i) mod block = 0`. A histogram of offsets modulo the block size therefore tells how many
blocks any future iteration needs, and a leap of k iterations costs at most one pass over that histogram.

Where layers keep different things of a sequence (`KvLayout`), a filled block costs as many new ones as there are groups
of layers that still grow with it: the histogram is weighted, and a weight falls when the sequence outgrows a window. A
leap ends there at the latest.

`KvBlocks` gives every sequence its own blocks; `sim.serving.prefix` has the kind that shares those of equal prefixes.
"""

from __future__ import annotations

from heapq import heappop, heappush

from sim.plans import KvLayout


class KvBlocks:
    """Block accounting: total = used by sequences + cached (no sequence's, with reusable content) + free.

    Args:
        total_blocks: Blocks the replica owns.
        block_tokens: Tokens per block.
        layout: What a sequence holds; absent, one block per `block_tokens` tokens.

    Attributes:
        total: Blocks the replica owns.
        block: Tokens per block.
        used: Blocks that sequences hold, a shared one counted once.
        cached: Blocks that no sequence holds but whose content may be used again; taken when there are no free ones.
        shared: What sharing saves: over all used blocks, holders less one.
        peak: The most blocks used at once.
    """

    cached = 0
    shared = 0

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
        """Blocks that are neither used nor cached."""
        return self.total - self.used - self.cached

    @property
    def peak_kept(self) -> int:
        """The most blocks used or cached at once: with at least so many, a run would have been the same."""
        return self.peak

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

    def cached_tokens(self, request: int) -> int:
        """Prompt tokens of a waiting request that need not be computed: none here."""
        return 0

    def sharable_blocks(self, request: int) -> int:
        """Blocks in use that a waiting request would share: none here."""
        return 0

    def blocks_to_admit(self, request: int, tokens: int) -> int:
        """Blocks that are no longer available once the request is admitted with `tokens` to compute."""
        return self.blocks_for(tokens)

    def admit(self, request: int, tokens: int) -> int:
        """Allocates the blocks of a request that is admitted with `tokens` to compute; tells its cached tokens."""
        self.take(self.blocks_for(tokens))
        return 0

    def extend(self, request: int, done: int, tokens: int) -> None:
        """Allocates the blocks for `tokens` more tokens of a prompt of which `done` are stored."""
        self.take(self.blocks_for(done + tokens) - self.blocks_for(done))

    def release(self, request: int, stored: int) -> None:
        """Gives up all blocks of a request that stores `stored` tokens."""
        self.used -= self.blocks_for(stored)

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

    def left(self, iteration: int, tokens: int = 1) -> int:
        """Blocks left once the decoding sequences have those for `tokens` each from `iteration` on.

        Negative if some get none.
        """
        return self.total - self.used - self.needed_over(iteration, tokens)

    def grow(self, iteration: int, tokens: int) -> None:
        """Allocates what the decoding sequences store in `tokens` tokens each from `iteration` on."""
        end = iteration + tokens
        while self._fills and self._fills[0] < end:
            at = self._fills[0]
            self.take(self.needed_over(iteration, at - iteration))
            self.advance(at)
            iteration = at
        self.take(self.needed_over(iteration, end - iteration))
        self.advance(end)

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
        """How many iterations from `iteration` on fit in the blocks that no sequence holds, at most `limit`.

        To a full window at most.
        """
        return self._steps_within(self.total - self.used, iteration, limit)

    def steps_as_found(self, request: int, iteration: int, limit: int) -> int:
        """How many iterations at most `limit` may pass until a waiting request could find less: here never."""
        return limit

    def _steps_within(self, free: int, iteration: int, limit: int) -> int:
        """How many iterations from `iteration` on take no more than `free` blocks, at most `limit`."""
        weight = self._weight
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
