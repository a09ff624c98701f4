"""Limits of one serving engine, as its plan and profile set them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sim.plans import KvLayout


@dataclass(frozen=True)
class EngineLimits:
    """Limits of one replica, all its data-parallel ranks and pipeline lanes together.

    Attributes:
        max_sequences: Most requests running at once.
        token_budget: Most tokens computed in one iteration.
        chunk_limit: Most tokens of one request in one iteration.
        kv_blocks: KV blocks owned.
        block_tokens: Tokens per block.
        kv_layout: What a sequence holds of the blocks; absent, one per `block_tokens` tokens.
        chunked_prefill: Whether a prompt may be split over iterations.
        watermark_blocks: Blocks that admission must leave free.
        schedule_ahead: Whether an iteration is scheduled when the one before it begins (asynchronous scheduling): a
            request that arrives meanwhile has to wait for the next.
        queue_interval: Decode iterations from one look at the requests that have arrived to the next; after prompts and
            when idle the engine looks at once.
        balance_wait: Most decode iterations for which a policy may hold prompts back until every rank has one.
        batch_wait: Most decode iterations for which a policy may hold prompts back until they fill `batch_fill_tokens`.
        batch_fill_tokens: Tokens of an iteration, decoded ones included, from which prompts run at once.
        ranks: Attention-data-parallel ranks.
        step_tokens: Tokens of a decoding sequence that an iteration computes: one, and its drafts.
        emitted_tokens: Tokens of a decoding sequence that an iteration emits, in the mean over iterations.
        prefix_caching: Whether requests with equal prefixes share KV blocks, if their prompts' content is known.
    """

    max_sequences: int
    token_budget: int
    chunk_limit: int
    kv_blocks: int
    block_tokens: int = 16
    kv_layout: KvLayout | None = None
    chunked_prefill: bool = True
    watermark_blocks: int = 0
    schedule_ahead: bool = False
    queue_interval: int = 1
    balance_wait: int = 0
    batch_wait: int = 0
    batch_fill_tokens: int = 0
    ranks: int = 1
    step_tokens: int = 1
    emitted_tokens: Fraction = Fraction(1)
    prefix_caching: bool = False
