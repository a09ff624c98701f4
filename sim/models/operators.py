"""Operators: the work of a layer, without any time.

Each is a frozen record of shapes; array-valued fields broadcast with numpy, so one operator stands for thousands of
batches. `flops()` counts matrix FLOPs (one multiply-add is two), `bytes()` the least memory traffic, both for one
execution; `count` says how often a forward pass of the shard executes it, `cause` is its label in breakdowns, `stream`
which of two streams an engine may put it on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from sim.core import Array
from sim.models.dtypes import activation_bytes, attention_dtype, bytes_per_element, compute_dtype
from sim.models.routing import EVEN, touched_experts

Value: TypeAlias = float | Array
_LOGIT_BYTES = 8.0  # an indexer's fp32 score, written and read by the selection

Stream = Literal["main", "side"]
"""Neighbours that name one are a block: what is on one stream may run beside what is on the other."""

AttentionKind = Literal["gqa", "mla", "sparse", "indexer"]
"""Attention over keys and values, over latents that serve as both, the same over keys that each query has of its own
(prompts only), or an indexer's scores alone."""


@dataclass(frozen=True, kw_only=True)
class _Common:
    name: str
    cause: str
    count: float = 1.0
    stream: Stream | None = None


@dataclass(frozen=True, kw_only=True)
class Gemm(_Common):
    """`(m, k) x (k, n)` with weights of `weights_dtype`; activations and results at 2 bytes (4 in fp32)."""

    m: Value
    n: Value
    k: Value
    weights_dtype: str

    @property
    def compute_dtype(self) -> str:
        """Dtype of the multiplication."""
        return compute_dtype(self.weights_dtype)

    def flops(self) -> Array:
        """`2 m n k`."""
        return np.asarray(2.0 * np.asarray(self.m) * self.n * self.k)

    def bytes(self) -> Array:
        """Input, weights and result [B]."""
        weights = np.asarray(self.n) * self.k * bytes_per_element(self.weights_dtype)
        ends = activation_bytes(self.weights_dtype) * (np.asarray(self.m) * (np.asarray(self.k) + self.n))
        return np.asarray(weights + ends)


@dataclass(frozen=True, kw_only=True)
class GroupedGemm(_Common):
    """The two GEMMs of the experts on one rank: gated `3 h i` or plain `2 h i` weights each.

    Attributes:
        tokens: Tokens routed in the expert group, before top-k.
        experts: Experts on this rank.
        total_experts: Experts of the layer.
        top_k: Experts per token.
        hidden: Model width.
        intermediate: Expert width on this rank.
        gated: Whether there are two input projections.
        weights_dtype: Dtype of the weights.
        popularity: How unequally tokens pick experts; see `touched_experts`.
        spread: How unequally they pick ranks; see `rank_spread`.
    """

    tokens: Value
    experts: float
    total_experts: float
    top_k: float
    hidden: float
    intermediate: float
    gated: bool
    weights_dtype: str
    popularity: float = EVEN
    spread: float = 0.0

    @property
    def compute_dtype(self) -> str:
        """Dtype of the multiplication."""
        return compute_dtype(self.weights_dtype)

    def pairs(self) -> Array:
        """(token, expert) pairs on this rank, in the mean over ranks."""
        return np.asarray(np.asarray(self.tokens) * (self.top_k * self.experts / self.total_experts))

    def touched(self) -> Array:
        """Experts of this rank that get a token, in the mean over ranks."""
        total = self.total_experts
        found = touched_experts(self.tokens, experts=total, top_k=self.top_k, popularity=self.popularity)
        return np.asarray(self.experts / total * found)

    def expert_weights(self) -> float:
        """Weights of one expert on this rank."""
        return (3.0 if self.gated else 2.0) * self.hidden * self.intermediate

    def flops(self) -> Array:
        """Two FLOPs per weight of an expert and pair."""
        return np.asarray(2.0 * self.expert_weights() * self.pairs())

    def bytes(self) -> Array:
        """Weights of the touched experts, inputs and results [B]."""
        weights = self.touched() * self.expert_weights() * bytes_per_element(self.weights_dtype)
        ends = 2.0 * activation_bytes(self.weights_dtype) * self.hidden * self.pairs()
        return np.asarray(weights + ends)


@dataclass(frozen=True, kw_only=True)
class DecodeAttention(_Common):
    """Attention of one new token per sequence over its cached keys; one layer, one rank.

    Attributes:
        sequences: Sequences.
        context: Keys attended, summed over the sequences.
        q_heads: Query heads of the rank.
        kv_heads: KV heads of the rank; 1 latent for `mla`.
        head_dim: Head dimension; for `mla` the latent's width (kv_rank + rope_dim).
        v_dim: Values per head; for `mla` the latent without position; 0 for `indexer`.
        kv_dtype: Format of the cache.
        window: Keys a query attends to at most; `context` is already cut to it.
        kind: `gqa`, `mla` (absorbed: the latent serves as key and value) or `indexer`.
        own_keys: Whether each query has keys of its own, picked by an indexer or merged: engines have other kernels.
        beside_prompts: Whether prompts are computed in the same launch.
    """

    sequences: Value
    context: Value
    q_heads: float
    kv_heads: float
    head_dim: float
    v_dim: float
    kv_dtype: str
    window: int | None = None
    kind: AttentionKind = "gqa"
    own_keys: bool = False
    beside_prompts: bool = False

    @property
    def compute_dtype(self) -> str:
        """Products are formed in bf16, in fp32 where the cache is; an indexer's in 8 bit."""
        return "fp8" if self.kind == "indexer" else attention_dtype(self.kv_dtype)

    def kv_bytes_per_key(self) -> float:
        """Cache bytes read per attended key [B]."""
        width = self.head_dim if self.kind == "mla" else self.head_dim + self.v_dim
        return self.kv_heads * width * bytes_per_element(self.kv_dtype)

    def flops(self) -> Array:
        """Scores and weighted values: `2 h (d_k + d_v)` per attended key."""
        return np.asarray(2.0 * self.q_heads * (self.head_dim + self.v_dim) * np.asarray(self.context))

    def bytes(self) -> Array:
        """Cache read, queries and results [B]; an indexer's results are one score per key."""
        width = activation_bytes(self.kv_dtype)
        ends = width * self.q_heads * (self.head_dim + self.v_dim) * np.asarray(self.sequences)
        scores = _LOGIT_BYTES if self.kind == "indexer" else 0.0
        return np.asarray((self.kv_bytes_per_key() + scores) * np.asarray(self.context) + ends)


@dataclass(frozen=True, kw_only=True)
class AbsorbedProducts(_Common):
    """Decodes under latent attention, multiplied by the absorbed projections head by head; one layer, one rank.

    Queries go from a head's own width to that of the latent, results from there to a head's values: one small product
    per head, whose wide side is written and read again. The same weights expand keys and values of prompts, all heads
    at once; that `Gemm` counts the FLOPs and weights of all tokens, this is what decodes take beyond it.

    Attributes:
        tokens: Tokens that decode.
        heads: Query heads of the rank.
        kv_rank: Width of the latent without position.
        nope_dim: Width of a head's query without position.
        v_dim: Width of a head's values.
        weights_dtype: Format of the projections in the checkpoint.
        dtype: Format of the model, and of the projections that engines keep in it.
    """

    tokens: Value
    heads: float
    kv_rank: float
    nope_dim: float
    v_dim: float
    weights_dtype: str
    dtype: str

    @property
    def compute_dtype(self) -> str:
        """Dtype of the multiplication."""
        return compute_dtype(self.dtype)

    def together(self) -> tuple[Gemm, Gemm]:
        """The products of all heads at once, as operators that depend on the tokens of an iteration count them."""
        k_up = Gemm(
            name="k_up",
            cause=self.cause,
            m=self.tokens,
            n=self.heads * self.nope_dim,
            k=self.kv_rank,
            weights_dtype=self.dtype,
        )
        return k_up, replace(k_up, name="v_up", n=self.heads * self.v_dim)

    def flops(self) -> Array:
        """None beyond those of the products of all heads at once."""
        return np.zeros_like(np.asarray(self.tokens, dtype=np.float64))

    def bytes(self) -> Array:
        """The wide sides: one latent per head in place of one for all, written by the first, read by the second [B]."""
        width = activation_bytes(self.dtype)
        return np.asarray(2.0 * width * self.kv_rank * (self.heads - 1.0) * np.asarray(self.tokens, dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class PrefillAttention(_Common):
    """Causal attention of a prompt chunk over itself and its cached prefix; one layer, one rank.

    Attributes:
        chunk: New tokens.
        prefix: Tokens cached before.
        q_heads: Query heads of the rank.
        kv_heads: KV heads of the rank (all heads for `mla` where keys are expanded for prompts).
        head_dim: Dimension of queries and keys.
        v_dim: Dimension of values; 0 for `indexer`.
        window: Tokens a query looks back at, at most.
        kv_dtype: Format of the cache.
        kind: `gqa`, `mla`, `sparse` or `indexer`.
        keys_per_token: Keys per token that is looked back at.
        near_keys: Keys that a query attends to besides.
        own_keys: As for `DecodeAttention`.
    """

    chunk: Value
    prefix: Value
    q_heads: float
    kv_heads: float
    head_dim: float
    v_dim: float
    kv_dtype: str
    window: int | None = None
    kind: AttentionKind = "gqa"
    keys_per_token: float = 1.0
    near_keys: float = 0.0
    own_keys: bool = False

    @property
    def compute_dtype(self) -> str:
        """Products are formed in bf16, in fp32 where the cache is; an indexer's in 8 bit."""
        return "fp8" if self.kind == "indexer" else attention_dtype(self.kv_dtype)

    def attended(self) -> Array:
        """Keys attended, summed over the chunk's tokens."""
        chunk = np.asarray(self.chunk, dtype=np.float64)
        return np.asarray(self.keys_per_token * self._seen() + self.near_keys * chunk)

    def _seen(self) -> Array:
        """Tokens looked back at, summed over the chunk's tokens."""
        chunk, prefix = np.asarray(self.chunk, dtype=np.float64), np.asarray(self.prefix, dtype=np.float64)
        if self.window is None:
            return chunk * (prefix + (chunk + 1.0) / 2.0)
        growing = np.clip(np.floor(self.window - prefix), 0.0, chunk)  # tokens before the window is full
        return np.asarray(growing * (prefix + (growing + 1.0) / 2.0) + (chunk - growing) * float(self.window))

    def flops(self) -> Array:
        """Scores and weighted values of the unmasked pairs: `2 h (d_k + d_v)` each."""
        return np.asarray(2.0 * self.q_heads * (self.head_dim + self.v_dim) * self.attended())

    def bytes(self) -> Array:
        """Queries, results, and keys and values read once [B]; an indexer's results are one score per key."""
        seen = np.asarray(self.prefix, dtype=np.float64)
        seen = np.asarray(self.chunk) + (seen if self.window is None else np.minimum(seen, float(self.window)))
        width = activation_bytes(self.kv_dtype)
        ends = width * self.q_heads * (self.head_dim + self.v_dim) * np.asarray(self.chunk)
        key_bytes = self.kv_heads * (self.head_dim + self.v_dim) * bytes_per_element(self.kv_dtype)
        scores = _LOGIT_BYTES * self.attended() if self.kind == "indexer" else 0.0
        return np.asarray(ends + key_bytes * self.keys_per_token * seen + scores)


RecurrenceKind = Literal["gated_delta", "mamba2"]


@dataclass(frozen=True, kw_only=True)
class StateUpdate(_Common):
    """Decoding through a recurrence: convolution and state; one layer, one rank.

    Several tokens of a sequence, drafts behind the certain one, go one after the other. The state behind each is kept,
    since it is not known yet how many hold (vLLM and SGLang alike).

    Attributes:
        sequences: Sequences.
        heads: Heads of the rank.
        state_bytes: State of one sequence on the rank [B], the convolution's included.
        elements: Elements of its state matrices.
        channels: Channels of the convolution.
        kind: Which recurrence.
        dtype: Format of inputs and results.
        tokens: Tokens of every sequence.
    """

    sequences: Value
    heads: float
    state_bytes: float
    elements: float
    channels: float
    kind: RecurrenceKind
    dtype: str = "bf16"
    tokens: int = 1

    @property
    def compute_dtype(self) -> str:
        """Vector arithmetic in fp32."""
        return "fp32"

    def flops(self) -> Array:
        """FLOPs per element of the state: 2 each to add to it and to read it, 2 more for the delta rule."""
        each = 6.0 if self.kind == "gated_delta" else 4.0
        return np.asarray(each * self.elements * self.tokens * np.asarray(self.sequences, dtype=np.float64))

    def bytes(self) -> Array:
        """State read once and written for every token; inputs and results [B]."""
        ends = 2.0 * activation_bytes(self.dtype) * self.channels * self.tokens
        states = (1.0 + self.tokens) * self.state_bytes
        return np.asarray((states + ends) * np.asarray(self.sequences, dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class StateScan(_Common):
    """A prompt chunk through a recurrence: convolution, and a scan over short chunks of it; one layer, one rank.

    Attributes:
        chunk: New tokens.
        heads: Heads of the rank.
        state_bytes: State of one sequence on the rank [B], read before and written after.
        flops_per_token: Matrix FLOPs of the scan per token [FLOP].
        channels: Channels of the convolution.
        kind: Which recurrence.
        dtype: Format of inputs and results.
    """

    chunk: Value
    heads: float
    state_bytes: float
    flops_per_token: float
    channels: float
    kind: RecurrenceKind
    dtype: str = "bf16"

    @property
    def compute_dtype(self) -> str:
        """Products are formed in bf16, or in fp32 in an fp32 model."""
        return attention_dtype(self.dtype)

    def flops(self) -> Array:
        """FLOPs of the scan."""
        return np.asarray(self.flops_per_token * np.asarray(self.chunk, dtype=np.float64))

    def row_bytes(self) -> float:
        """Bytes of one token: convolution in and out, scan in, result of about half the channels [B]."""
        return 3.5 * activation_bytes(self.dtype) * self.channels

    def bytes(self) -> Array:
        """Rows, and the state read and written once [B]."""
        chunk = np.asarray(self.chunk, dtype=np.float64)
        return np.asarray(np.where(chunk > 0.0, self.row_bytes() * chunk + 2.0 * self.state_bytes, 0.0))


@dataclass(frozen=True, kw_only=True)
class Elementwise(_Common):
    """A kernel that only moves data: norm, rotary embedding, activation, residual, permutation.

    Attributes:
        moved_bytes: Bytes read and written [B].
        dtype: Format of the elements.
    """

    moved_bytes: Value
    dtype: str = "bf16"

    @property
    def compute_dtype(self) -> str:
        """Vector arithmetic."""
        return "fp32"

    def flops(self) -> Array:
        """No matrix FLOPs."""
        return np.zeros_like(np.asarray(self.moved_bytes, dtype=np.float64))

    def bytes(self) -> Array:
        """Bytes moved [B]."""
        return np.asarray(self.moved_bytes, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Embedding(_Common):
    """Look-up of `tokens` rows of `width` elements.

    Attributes:
        tokens: Tokens.
        width: Elements per row.
        dtype: Format of the elements.
    """

    tokens: Value
    width: float
    dtype: str = "bf16"

    @property
    def compute_dtype(self) -> str:
        """A copy."""
        return "fp32"

    def flops(self) -> Array:
        """No matrix FLOPs."""
        return np.zeros_like(np.asarray(self.tokens, dtype=np.float64))

    def bytes(self) -> Array:
        """Rows read and written [B]."""
        row_bytes = activation_bytes(self.dtype) * self.width
        return np.asarray(2.0 * row_bytes * np.asarray(self.tokens, dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class Sampling(_Common):
    """Choice of the next token from `rows` rows of logits over `vocab` entries (fp32, softmax and reduction).

    Attributes:
        rows: Sequences that get a token.
        vocab: Vocabulary.
    """

    rows: Value
    vocab: float

    @property
    def compute_dtype(self) -> str:
        """Vector arithmetic."""
        return "fp32"

    def flops(self) -> Array:
        """No matrix FLOPs."""
        return np.zeros_like(np.asarray(self.rows, dtype=np.float64))

    def bytes(self) -> Array:
        """Logits written once in fp32 and read twice (maximum, sum) [B]."""
        return np.asarray(3.0 * 4.0 * self.vocab * np.asarray(self.rows, dtype=np.float64))


CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p"]
GroupName = Literal["tp", "cp", "cp_hop", "ep", "dp", "pp"]


@dataclass(frozen=True, kw_only=True)
class Collective(_Common):
    """Communication of a group of ranks.

    Attributes:
        kind: Which collective.
        buffer_bytes: Full buffer of one rank [B]: input of an all-reduce, reduce-scatter, all-to-all or transfer,
            gathered result of an all-gather.
        group: Which of the plan's groups.
        returns: Whether results come back with it that another collective sent out for, as those of experts do.
        before_norm: Whether the residual add and the norm of what it sums up follow at once.
        kernel: Family of engines whose kernel it is; empty, the engine's own.
    """

    kind: CollectiveKind
    buffer_bytes: Value
    group: GroupName
    returns: bool = False
    before_norm: bool = False
    kernel: str = ""

    @property
    def compute_dtype(self) -> str:
        """Communication computes nothing that counts."""
        return "fp32"

    def flops(self) -> Array:
        """No matrix FLOPs."""
        return np.zeros_like(np.asarray(self.buffer_bytes, dtype=np.float64))

    def bytes(self) -> Array:
        """No HBM traffic is counted for communication [B]."""
        return np.zeros_like(np.asarray(self.buffer_bytes, dtype=np.float64))


Operator: TypeAlias = (
    Gemm
    | GroupedGemm
    | DecodeAttention
    | AbsorbedProducts
    | PrefillAttention
    | StateUpdate
    | StateScan
    | Elementwise
    | Embedding
    | Sampling
    | Collective
)


def repeated(operator: Operator, count: float) -> Operator:
    """`operator` executed `count` times."""
    return replace(operator, count=count)
