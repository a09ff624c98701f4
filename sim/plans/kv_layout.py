"""How many KV blocks a sequence holds when a model's layers keep different things of it.

As vLLM's hybrid allocator does it (`vllm/v1/core/kv_cache_utils.py`), layers are put in groups of about the same size
that share one pool of equal blocks. A group of full-attention layers holds a block for every `block_tokens` tokens. A
group with a sliding window frees the blocks that its window has left behind. A recurrent state takes as many blocks as
hold its bytes, however long the sequence. SGLang and TensorRT-LLM keep separate pools in a fixed proportion; they are
taken to share one. Not counted are the blocks that a window group holds of a prompt chunk longer than its window while
it is computed, and the larger blocks that vLLM takes beside states.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sim.models import LayerCache

_ALIKE = 1.25  # groups up to so much larger than the smallest are padded to one size rather than split (vLLM)


@dataclass(frozen=True)
class WindowGroup:
    """Layer groups with one sliding window.

    Attributes:
        most_blocks: Blocks that each group holds at most.
        groups: How many groups.
    """

    most_blocks: int
    groups: int


@dataclass(frozen=True)
class KvLayout:
    """What a sequence holds, in blocks of one size.

    Attributes:
        block_tokens: Tokens of one group of layers in a block.
        full: Groups that keep all tokens.
        windows: Groups that keep the latest ones.
        fixed: Blocks of a sequence of any length.
    """

    block_tokens: int
    full: int = 1
    windows: tuple[WindowGroup, ...] = ()
    fixed: int = 0

    def blocks_for(self, tokens: int) -> int:
        """Blocks that a sequence of `tokens` stored tokens holds."""
        if tokens <= 0:
            return 0
        rounds = -(-tokens // self.block_tokens)
        return self.fixed + self.full * rounds + sum(w.groups * min(rounds, w.most_blocks) for w in self.windows)

    def mean_blocks(self, tokens: float) -> float:
        """Blocks of a sequence of `tokens` tokens on average, without rounding up to whole blocks."""
        rounds = tokens / self.block_tokens
        return self.fixed + self.full * rounds + sum(w.groups * min(rounds, w.most_blocks) for w in self.windows)

    @property
    def plain(self) -> bool:
        """Whether every layer keeps all tokens, in blocks of one kind."""
        return self.full == 1 and not self.windows and not self.fixed

    @property
    def sharable(self) -> bool:
        """Whether sequences with equal prefixes can share blocks: no layer keeps a state."""
        return not self.fixed

    @property
    def groups(self) -> int:
        """Groups of layers that grow with a sequence, at first."""
        return self.full + sum(w.groups for w in self.windows)

    def tokens_in(self, blocks: int) -> int:
        """The most tokens that one sequence can store in `blocks`, in whole blocks; 0 if it does not fit at all."""
        if self.full == 0 and blocks >= self.blocks_for(self._beyond_windows()):
            return 1 << 40  # nothing grows any more
        low, high = 0, max(0, blocks) + 1
        while low < high - 1:  # the most rounds whose blocks fit
            middle = (low + high) // 2
            low, high = (middle, high) if self.blocks_for(middle * self.block_tokens) <= blocks else (low, middle)
        return low * self.block_tokens

    def _beyond_windows(self) -> int:
        return max((w.most_blocks for w in self.windows), default=1) * self.block_tokens


@dataclass(frozen=True)
class KvPool:
    """The layout of a pipeline stage's cache and the size of its blocks.

    Attributes:
        layout: What a sequence holds.
        block_bytes: Bytes of a block [B].
    """

    layout: KvLayout
    block_bytes: float


def kv_pool(
    caches: Iterable[tuple[LayerCache, int]], *, block_tokens: int, frees_windows: bool, states: int = 1
) -> KvPool:
    """The pool of a stage.

    Args:
        caches: What its layers keep of a sequence on one rank, and how many layers keep the same.
        block_tokens: Tokens of one group of layers in a block.
        frees_windows: Whether blocks that a window has left behind are freed.
        states: Recurrent states that a sequence holds: one, and one more for every draft (vLLM; SGLang one beyond).
    """
    full = state = 0.0
    windows: dict[int, float] = {}
    for cache, layers in caches:
        full += layers * cache.bytes_per_token
        state += layers * cache.state_bytes * states
        if cache.window is not None and frees_windows:
            windows[cache.window] = windows.get(cache.window, 0.0) + layers * cache.window_bytes_per_token
        else:
            full += layers * cache.window_bytes_per_token
    sizes = [size for size in (full, *windows.values()) if size]
    if not sizes:
        return KvPool(KvLayout(block_tokens, full=0, fixed=1), state)
    unit = max(sizes) if max(sizes) < _ALIKE * min(sizes) else min(sizes)
    layout = KvLayout(
        block_tokens,
        full=_groups(full, unit),
        windows=tuple(
            WindowGroup(-(-window // block_tokens) + 1, _groups(size, unit)) for window, size in windows.items()
        ),
        fixed=_groups(state, unit * block_tokens),
    )
    return KvPool(layout, unit * block_tokens)


def _groups(size: float, unit: float) -> int:
    """How many units hold `size`, which may be off by rounding."""
    return -int(-(size / unit) * (1.0 - 1e-12) // 1)
