"""PyTorch's caching allocator: what it takes from the device for the tensors that it is asked for.

Sizes are those of `c10/cuda/CUDACachingAllocator.cpp`, as the notes on CUDA semantics describe it: requests are rounded
to 512 bytes; those of at most 1 MiB come out of segments of 2 MiB, those of less than 10 MiB out of segments of 20 MiB,
larger ones have segments of their own, rounded to 2 MiB. The smallest free block that is large enough is taken, and
what is left of it stays free; neighbours within a segment join when both are free. Segments are kept, and given back
only when the device is full. Expandable segments are one range of addresses per pool that grows at its end instead; of
these, free pages are given back (`unmap_block`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

MIB: Final = 1 << 20
_ROUND: Final = 512
_SMALL: Final = 1 * MIB
_SMALL_SEGMENT: Final = 2 * MIB
_MEDIUM: Final = 10 * MIB
_MEDIUM_SEGMENT: Final = 20 * MIB
_LARGE_ROUND: Final = 2 * MIB


class Block:
    """A piece of a segment, free or in use, between its neighbours.

    Attributes:
        size: Bytes.
        small: Whether it belongs to the pool of small requests.
        used: Whether a tensor has it.
        before: The block in front of it in its segment.
        behind: The block behind it.
    """

    __slots__ = ("before", "behind", "number", "size", "small", "used")

    def __init__(self, size: int, *, small: bool, number: int) -> None:
        self.size, self.small, self.number = size, small, number
        self.used = False
        self.before: Block | None = None
        self.behind: Block | None = None


class CachingAllocator:
    """The allocator of one device.

    Args:
        capacity_bytes: What the device can give; beyond it free segments or pages are given back, and then it is
            exceeded, since whether a plan fits is told by what is allocated.
        expandable: Whether segments grow (`PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True`).
    """

    def __init__(self, *, capacity_bytes: float, expandable: bool = False) -> None:
        self.capacity_bytes, self.expandable = capacity_bytes, expandable
        self.allocated_bytes = self.reserved_bytes = 0
        self.peak_allocated_bytes = self.peak_reserved_bytes = 0
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._blocks: dict[int, Block] = {}
        self._ends: dict[bool, Block] = {}
        self._made = 0

    def allocate(self, size_bytes: float) -> Block:
        """A block of at least so many bytes."""
        size = max(_ROUND, -(-int(size_bytes) // _ROUND) * _ROUND)
        small = size <= _SMALL
        free = self._free[small]
        at = bisect_left(free, (size, -1))
        block = self._blocks[free[at][1]] if at < len(free) else self._segment(size, small=small)
        self._take(block)
        left = block.size - size
        if left >= _ROUND and (small or self.expandable or left > _SMALL):
            self._split(block, size)
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block

    def free(self, block: Block) -> None:
        """Takes a block back and joins it with its free neighbours."""
        self.allocated_bytes -= block.size
        block.used = False
        for other in (block.before, block.behind):
            if other is not None and not other.used:
                self._take(other, use=False)
                block.size += other.size
                if other is block.before:
                    block.before = other.before
                    if block.before is not None:
                        block.before.behind = block
                else:
                    block.behind = other.behind
                    if block.behind is not None:
                        block.behind.before = block
                if self._ends.get(block.small) is other:
                    self._ends[block.small] = block
                del self._blocks[other.number]
        self._offer(block)

    def _segment(self, size: int, *, small: bool) -> Block:
        """A free block that is large enough, from the device."""
        if self.expandable:
            return self._grown(size, small=small)
        if small:
            whole = _SMALL_SEGMENT
        else:
            whole = _MEDIUM_SEGMENT if size < _MEDIUM else -(-size // _LARGE_ROUND) * _LARGE_ROUND
        if self.reserved_bytes + whole > self.capacity_bytes:
            self._give_back()
        self._reserve(whole)
        block = self._new(whole, small=small)
        self._offer(block)
        return block

    def _grown(self, size: int, *, small: bool) -> Block:
        """The last block of the pool's range, grown until it is large enough."""
        last, more = self._growth(size, small=small)
        if self.reserved_bytes + more > self.capacity_bytes:
            self._unmap()
            last, more = self._growth(size, small=small)
        self._reserve(more)
        if last is not None and not last.used:
            self._take(last, use=False)
            last.size += more
            self._offer(last)
            return last
        block = self._new(more, small=small)
        if last is not None:
            last.behind, block.before = block, last
        self._ends[small] = block
        self._offer(block)
        return block

    def _growth(self, size: int, *, small: bool) -> tuple[Block | None, int]:
        """The last block of the pool's range, and by how many bytes the range grows for a block of this size."""
        last = self._ends.get(small)
        own = last.size if last is not None and not last.used else 0
        return last, -(-(size - own) // _page(small=small)) * _page(small=small)

    def _split(self, block: Block, size: int) -> None:
        rest = self._new(block.size - size, small=block.small)
        block.size, rest.before, rest.behind = size, block, block.behind
        if block.behind is not None:
            block.behind.before = rest
        block.behind = rest
        if self._ends.get(block.small) is block:
            self._ends[block.small] = rest
        self._offer(rest)

    def _give_back(self) -> None:
        """Segments that are free from end to end go back to the device."""
        for free in self._free.values():
            for size, number in list(free):
                block = self._blocks[number]
                if block.before is None and block.behind is None:
                    self._take(block, use=False)
                    del self._blocks[number]
                    self.reserved_bytes -= size

    def _unmap(self) -> None:
        """Pages that are free as a whole go back to the device; blocks on either side are no neighbours any more."""
        for small, free in self._free.items():
            page = _page(small=small)
            for _, number in list(free):
                block = self._blocks[number]
                start, other = 0, block.before
                while other is not None:
                    start, other = start + other.size, other.before
                front = -start % page
                if (hole := (block.size - front) // page * page) > 0:
                    self._cut_out(block, front, hole)

    def _cut_out(self, block: Block, front: int, hole: int) -> None:
        """Takes bytes out of a free block, of which this many in front stay, and those behind."""
        self._take(block, use=False)
        self.reserved_bytes -= hole
        left, right, rest = block.before, block.behind, block.size - front - hole
        if rest:
            right = self._new(rest, small=block.small)
            right.behind = block.behind
            if block.behind is not None:
                block.behind.before = right
            self._offer(right)
        elif right is not None:
            right.before = None
        if front:
            left, block.size = block, front
            self._offer(block)
        else:
            del self._blocks[block.number]
        if left is not None:
            left.behind = None
        if self._ends.get(block.small) is block:
            last = right if rest else left
            del self._ends[block.small]
            if last is not None:
                self._ends[block.small] = last

    def _reserve(self, size: int) -> None:
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)

    def _new(self, size: int, *, small: bool) -> Block:
        block = Block(size, small=small, number=self._made)
        self._made += 1
        self._blocks[block.number] = block
        return block

    def _offer(self, block: Block) -> None:
        insort(self._free[block.small], (block.size, block.number))

    def _take(self, block: Block, *, use: bool = True) -> None:
        free = self._free[block.small]
        free.pop(bisect_left(free, (block.size, block.number)))
        block.used = use


def _page(*, small: bool) -> int:
    """Bytes by which the range of a pool grows."""
    return _SMALL_SEGMENT if small else _MEDIUM_SEGMENT
