"""Prompts that begin alike: groups of them share a system prompt, and some are sent again and again."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sim.core import Spec
from sim.workloads.blocks import PromptBlocks
from sim.workloads.lengths import Tokens

_GRAIN: Final = 16
"""Tokens per block id [tokens]: of a shared prefix, whole blocks of this size are known to be equal. It is the block of
vLLM's cache and divides those of other engines."""

Rows = NDArray[np.int64]


class SharedPrefix(Spec):
    """Groups of requests whose prompts begin with the same tokens, such as a system prompt.

    The lengths of the traffic are those of whole prompts; one no longer than its prefix is a part of it.

    Attributes:
        groups: Different prefixes.
        tokens: Length of each prefix.
        prompts: Different prompts per group, sent in turn in a random order that stays the same, each with its own
            lengths; absent, each request picks a group at random and goes on with a prompt of its own.
    """

    groups: int = Field(ge=1)
    tokens: int = Field(ge=1)
    prompts: int | None = Field(default=None, ge=1)

    def assign(self, count: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Group and number of the prompt of each of `count` requests; fewer requests are the first of more."""
        if self.prompts is None:
            return rng.integers(self.groups, size=count), np.arange(count, dtype=np.int64)
        order = rng.permutation(self.groups * self.prompts)
        prompt = order[np.arange(count) % order.size]
        return prompt // self.prompts, prompt

    def blocks(self, group: Rows, prompt: Rows, input_tokens: Tokens) -> PromptBlocks:
        """Block ids of the prompts: of the group where they lie in the prefix, else of the prompt alone."""
        counts = -(-input_tokens // _GRAIN)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        width = int(counts.max())
        common = (position + 1) * _GRAIN <= np.repeat(np.minimum(input_tokens, self.tokens), counts)
        own = self.groups + np.repeat(prompt, counts)
        return PromptBlocks(_GRAIN, np.where(common, np.repeat(group, counts), own) * width + position, offsets)
