"""The contract between a replica's engine and its scheduling policy.

Before every iteration the engine asks its policy for the prompt chunks to compute; the sequences that already decode
each get one token, unless the policy lets prompts run alone (`prompts_alone`). The policy sees the engine through
`EngineState` and changes it only by its methods (admit, extend, preempt), so block accounting and queues stay the
engine's. If the policy returns no chunk, the engine may leap
over iterations in which the policy's answer cannot change: until a sequence finishes, a request arrives, or KV blocks
run out. A policy for which that is not so says how long its answer holds in `stable_steps`.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple, Protocol

from sim.core import Registry


class Chunk(NamedTuple):
    """Prompt tokens of one request to compute in the next iteration."""

    request: int
    tokens: int
    prefix: int


class EngineState(Protocol):
    """What a policy may see and do.

    Attributes:
        waiting: Requests not running, head first; preempted ones are at its head.
        partial: Running requests whose prompt is not fully computed, in order of admission, with tokens done.
        decoding: Number of sequences that decode.
        max_sequences: Most requests that may run at once.
        token_budget: Most tokens of one iteration.
        chunk_limit: Most tokens of one request in one iteration.
        chunked_prefill: Whether a prompt may be split over iterations.
        watermark_blocks: Blocks that admission must leave free.
        balance_wait: Most decode iterations for which prompts may be held back until every rank has one; 0 for none.
        batch_wait: Most decode iterations for which prompts may be held back until they fill an iteration; 0 for none.
        batch_fill_tokens: Tokens from which an iteration counts as filled, decoded ones included.
        ranks: Attention-data-parallel ranks.
        step_tokens: Tokens of a decoding sequence that an iteration computes.
    """

    waiting: deque[int]
    partial: dict[int, int]
    decoding: int
    max_sequences: int
    token_budget: int
    chunk_limit: int
    chunked_prefill: bool
    watermark_blocks: int
    balance_wait: int
    batch_wait: int
    batch_fill_tokens: int
    ranks: int
    step_tokens: int

    @property
    def iteration(self) -> int:
        """Iterations in which sequences could decode so far."""
        ...

    def is_running(self, request: int) -> bool:
        """Whether `request` is admitted and not finished."""
        ...

    def running(self) -> int:
        """Requests admitted and not finished."""
        ...

    def to_compute(self, request: int) -> int:
        """Tokens whose KV `request` needs before it can decode: its prompt and what it had already produced."""
        ...

    def computed_elsewhere(self, request: int) -> bool:
        """Whether another engine has computed the KV of a waiting request's prompt, so that it only has to come."""
        ...

    def cached_tokens(self, request: int) -> int:
        """Tokens of a waiting request that need not be computed: their KV blocks are in the prefix cache."""
        ...

    def free_blocks(self) -> int:
        """KV blocks that no sequence holds, after what decoding sequences take in this iteration."""
        ...

    def decode_shortage(self) -> int:
        """Blocks missing for every decoding sequence to store its next token; zero or less if none is."""
        ...

    def blocks_to_extend(self, request: int, tokens: int) -> int:
        """Blocks that `tokens` more computed tokens of `request` take from those that no sequence holds."""
        ...

    def blocks_to_finish(self, request: int) -> int:
        """Blocks that a waiting request adds to the used ones by its end: clients say how many tokens they want."""
        ...

    def promised_blocks(self) -> int:
        """Blocks that the running requests have still to take until their last tokens are out."""
        ...

    def spare_blocks(self) -> int:
        """Blocks that are left when every running request has all of its own; negative if not all can finish."""
        ...

    def preempt_last(self) -> int:
        """Evicts the request admitted last, puts it at the head of the queue for recomputation, returns it."""
        ...

    def extend(self, request: int, tokens: int) -> Chunk:
        """Takes the blocks for `tokens` more tokens of a running request's prompt."""
        ...

    def admit(self, tokens: int, request: int | None = None) -> Chunk:
        """Moves a waiting request, the head of the queue unless named, to the running set.

        Its first chunk has `tokens` behind the cached ones.
        """
        ...

    def fetch(self) -> None:
        """Moves the head of the queue, computed elsewhere, into the running set; it decodes when its KV has come."""
        ...


class Scheduler(Protocol):
    """A scheduling policy.

    Attributes:
        prompts_alone: Whether the decoding sequences wait in the iteration that `schedule` has just answered for, if
            it has chunks.
        holds_back: Whether it has just left requests waiting that it would admit if more came.
    """

    prompts_alone: bool
    holds_back: bool

    def schedule(self, engine: EngineState) -> list[Chunk]:
        """Prompt chunks of the next iteration, blocks already taken.

        Every decoding sequence gets a token besides, unless `prompts_alone`.
        """
        ...

    def stable_steps(self, engine: EngineState) -> int:
        """For how many iterations an answer without chunks holds if nothing finishes, arrives or runs out."""
        ...


FOREVER: Final = 1 << 62
"""Iterations of an answer that holds until something happens."""

SCHEDULERS: Registry[type[Scheduler]] = Registry("scheduler", package="sim.serving.schedulers")
