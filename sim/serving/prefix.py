"""Automatic prefix caching: KV blocks of equal prompt prefixes are computed once and shared by reference count.

Blocks outlive their request. Full ones stay as *cached* until room is needed, least recently used first and the end of
a prefix before its beginning; a request that comes meanwhile with the same beginning takes them over and computes only
the rest, at least one token. So it is in vLLM V1 (`vllm/v1/core/kv_cache_manager.py`, `block_pool.py`), SGLang (radix
cache) and TensorRT-LLM (block reuse). A preempted request may find its own blocks again.

Content is known by the chained ids of prompt blocks that the traffic carries. Blocks of the cache that end within the
same id form a *unit*, the grain of sharing. Output tokens have no ids: their blocks are kept and age like all others,
for they fill the real cache too, but only their own request, preempted, can find them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sim.serving.kv import KvBlocks
from sim.serving.requests import RequestLog
from sim.workloads import PromptBlocks


class PromptUnits:
    """Units of every request's prompt, in blocks of the cache.

    Args:
        blocks: Content ids of prompt blocks.
        prompt_tokens: Prompt tokens of each request.
        block_tokens: Tokens per block of the cache.
    """

    def __init__(self, blocks: PromptBlocks, prompt_tokens: list[int], block_tokens: int) -> None:
        counts = np.diff(blocks.offsets)
        position = np.arange(blocks.ids.size) - np.repeat(blocks.offsets[:-1], counts) + 1
        ends = np.minimum(position * blocks.size, np.repeat(prompt_tokens, counts)) // block_tokens
        before = np.concatenate([[0], ends[:-1]])
        before[blocks.offsets[:-1][counts > 0]] = 0
        whole = ends > before
        _, ids = np.unique(blocks.ids[whole], return_inverse=True)
        self._ends = ends[whole]
        # Part of a block of the traffic is another unit than all of it, should its recorder have named both alike.
        _, self._keys = np.unique(ids * (int(ends.max(initial=0)) + 1) + self._ends, return_inverse=True)
        self._offsets: list[int] = np.concatenate([[0], np.cumsum(whole)])[blocks.offsets].tolist()

    def of(self, request: int) -> tuple[list[int], list[int]]:
        """Keys of the request's units, none negative, and the blocks up to the end of each."""
        part = slice(self._offsets[request], self._offsets[request + 1])
        return self._keys[part].tolist(), self._ends[part].tolist()


class _Found(NamedTuple):
    """What a waiting request finds.

    Attributes:
        units: Units found whole, from the first on.
        blocks: Blocks found in all.
        idle: Those among them that no sequence holds.
        rest: Key of cached blocks behind the whole units: a unit that lost its end, or the request's own output.
    """

    units: int
    blocks: int
    idle: int
    rest: int | None


@dataclass
class _Holding:
    """Blocks of a running request.

    Attributes:
        keys: Keys of its prompt's units.
        ends: Blocks up to the end of each.
        filled: Units of which all tokens are stored.
        held: Units whose blocks are open to others; the request's other blocks are its own.
        blocks: Blocks of those units.
    """

    keys: list[int]
    ends: list[int]
    filled: int = 0
    held: list[int] = field(default_factory=list)
    blocks: int = 0

    def size(self, unit: int) -> int:
        """Blocks of a unit."""
        return self.ends[unit] - (self.ends[unit - 1] if unit else 0)

    def hold(self, unit: int) -> None:
        """Notes that the request is a holder of the unit."""
        self.held.append(unit)
        self.blocks += self.size(unit)


class PrefixKvBlocks(KvBlocks):
    """Block accounting with reference counts: a shared block is used once, whoever holds it.

    Args:
        total_blocks: Blocks the replica owns.
        block_tokens: Tokens per block.
        prompts: Units of all prompts.
        log: All requests.
    """

    def __init__(self, total_blocks: int, block_tokens: int, *, prompts: PromptUnits, log: RequestLog) -> None:
        super().__init__(total_blocks, block_tokens)
        self._prompts = prompts
        self._log = log
        self._holders: dict[int, int] = {}
        self._cached: dict[int, int] = {}
        self._running: dict[int, _Holding] = {}
        self._latest: tuple[int, _Found] | None = None
        self._peak_kept = 0

    @property
    def peak_kept(self) -> int:
        """The most blocks used or cached at once."""
        return self._peak_kept

    # ---- waiting requests ----

    def cached_tokens(self, request: int) -> int:
        """Tokens of a waiting request that need not be computed: those of full blocks found, never all of them."""
        computed = (self._log.prompt[request] + self._log.emitted[request] - 1) // self.block
        return min(self._find(request).blocks, computed) * self.block

    def sharable_blocks(self, request: int) -> int:
        """Blocks in use that a waiting request would share."""
        found = self._find(request)
        return found.blocks - found.idle

    def blocks_to_admit(self, request: int, tokens: int) -> int:
        """Blocks that no sequence holds and that the request takes: new ones, and those it finds idle."""
        found = self._find(request)
        return self.blocks_for(self.cached_tokens(request) + tokens) - found.blocks + found.idle

    def steps_as_found(self, request: int, iteration: int, limit: int) -> int:
        """How many iterations at most `limit` may pass until a waiting request could find less than now.

        That is the first one which takes cached blocks. The request may then be let in: what it finds idle counts
        against it in full, what it must compute only as far as the first chunk goes.
        """
        if not self._find(request).idle:
            return limit
        return min(limit, self._steps_within(self.free, iteration, limit) + 1)

    def _find(self, request: int) -> _Found:
        if self._latest is not None and self._latest[0] == request:
            return self._latest[1]
        holders, cached = self._holders, self._cached
        keys, ends = self._prompts.of(request)
        units = blocks = idle = 0
        rest: int | None = _own(request)
        for key, end in zip(keys, ends, strict=True):
            if key not in holders:
                size = cached.get(key, 0)
                if size < end - blocks:
                    rest = key
                    break
                idle += size
            units += 1
            blocks = end
        left = 0 if rest is None else cached.get(rest, 0)
        found = _Found(units, blocks + left, idle + left, rest if left else None)
        self._latest = request, found
        return found

    # ---- running requests ----

    def admit(self, request: int, tokens: int) -> int:
        """Gives the request the blocks it finds, and new ones for `tokens` more; tells its cached tokens."""
        found, prefix = self._find(request), self.cached_tokens(request)
        stored = prefix + tokens
        holding = self._running[request] = _Holding(*self._prompts.of(request), filled=found.units)
        for unit in range(found.units):
            key = holding.keys[unit]
            holding.hold(unit)
            if key in self._holders:
                self._holders[key] += 1
                self.shared += holding.size(unit)
            else:
                self._wake(key)
                self._holders[key] = 1
        if found.rest is not None:
            self._wake(found.rest)
        self.take(self.blocks_for(stored) - found.blocks)
        self._open(holding, stored)
        return prefix

    def extend(self, request: int, done: int, tokens: int) -> None:
        """Allocates the blocks for `tokens` more tokens of a prompt, and opens those filled to others."""
        super().extend(request, done, tokens)
        self._open(self._running[request], done + tokens)

    def take(self, blocks: int) -> None:
        """Allocates `blocks`, of cached ones where no free ones are left.

        Raises:
            RuntimeError: if there are not so many; a scheduler must ask first.
        """
        super().take(blocks)
        while (excess := -self.free) > 0:
            key, size = next(iter(self._cached.items()))
            if size > excess:
                self._cached[key] = size - excess
                self.cached -= excess
            else:
                self._forget(key)
        self._note()

    def release(self, request: int, stored: int) -> None:
        """Gives up all blocks of a request that stores `stored` tokens; full ones that nobody holds become cached."""
        holding = self._running.pop(request)
        self.used -= self.blocks_for(stored) - holding.blocks
        self._keep(_own(request), stored // self.block - (holding.ends[-1] if holding.ends else 0))
        for unit in reversed(holding.held):
            key, size = holding.keys[unit], holding.size(unit)
            if self._holders[key] > 1:
                self._holders[key] -= 1
                self.shared -= size
            else:
                del self._holders[key]
                self.used -= size
                self._keep(key, size)
        self._note()

    def _open(self, holding: _Holding, stored: int) -> None:
        """Opens units to others that are full with `stored` tokens.

        As in vLLM V1, that is when their computation is scheduled. A unit that another request has filled meanwhile
        stays a private copy.
        """
        full = stored // self.block
        while holding.filled < len(holding.ends) and holding.ends[holding.filled] <= full:
            key = holding.keys[holding.filled]
            if key not in self._holders:
                self._forget(key)
                self._holders[key] = 1
                holding.hold(holding.filled)
            holding.filled += 1

    # ---- cached blocks ----

    def _wake(self, key: int) -> None:
        """Turns cached blocks into used ones."""
        size = self._cached.pop(key)
        self.cached -= size
        self.used += size

    def _keep(self, key: int, blocks: int) -> None:
        """Makes free blocks cached ones, the most recently used."""
        self._forget(key)
        if blocks > 0:
            self._cached[key] = blocks
            self.cached += blocks

    def _forget(self, key: int) -> None:
        """Makes cached blocks free ones."""
        self.cached -= self._cached.pop(key, 0)

    def _note(self) -> None:
        self._latest = None
        if self.used + self.cached > self._peak_kept:
            self._peak_kept = self.used + self.cached


def _own(request: int) -> int:
    """Key of the blocks that only the request itself can find: negative, unlike those of units."""
    return -1 - request
