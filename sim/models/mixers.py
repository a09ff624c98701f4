"""What mixes a layer's tokens: attention in its kinds, and recurrences with a state of fixed size. Data only."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from sim.core import InputError, Spec
from sim.models.dtypes import canonical_dtype


def _known_format(name: str) -> str:
    try:
        return canonical_dtype(name)
    except InputError as error:
        raise ValueError(str(error)) from None  # so that the message names the file and line of the value


FormatName = Annotated[str, AfterValidator(_known_format)]
"""A number format by its own name or an alias."""


class Indexer(Spec):
    """A light scorer of all earlier tokens that picks those a layer attends to (DeepSeek-V3.2, arXiv 2512.02556).

    Every rank has the whole of it. Its keys are cached in 8 bit.

    Attributes:
        heads: Scoring heads.
        head_dim: Size of a head, and of the one key per token.
        weighted: Whether a learned weight per token and head joins the heads' scores.
    """

    heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    weighted: bool = True


class GQA(Spec):
    """Multi-head, grouped-query or multi-query attention.

    Attributes:
        kind: `gqa`.
        heads: Query heads.
        kv_heads: Key-value heads; equal to `heads` is multi-head, 1 is multi-query.
        head_dim: Size of a head of queries and keys.
        v_dim: Size of a head of values; absent, that of keys.
        window: Keys attended at most (sliding window, or a chunk); absent, all.
        qkv_bias: Biases on the query, key and value projections.
        out_bias: Bias on the output projection.
        qk_norm: RMS norm of queries and keys per head; `width` is one over all heads together.
        sinks: One learned attention-sink logit per head.
        output_gate: A gate as wide as the queries, from the layer's input, on the output (Qwen3-Next).
        keys_as_values: No value projection: keys before position and norm serve (Gemma 4).
        top_k: Keys attended at most, those that an indexer picks; absent, all.
        indexer: The layer's own indexer.
    """

    kind: Literal["gqa"] = "gqa"
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    v_dim: int | None = Field(default=None, gt=0)
    window: int | None = Field(default=None, gt=0)
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool | Literal["width"] = False
    sinks: bool = False
    output_gate: bool = False
    keys_as_values: bool = False
    top_k: int | None = Field(default=None, gt=0)
    indexer: Indexer | None = None

    @model_validator(mode="after")
    def _grouped(self) -> GQA:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads do not divide into {self.kv_heads} KV heads")
        if self.window is not None and (self.top_k or self.indexer):
            raise ValueError("a layer has a window or an indexer, not both")
        return self

    @property
    def value_dim(self) -> int:
        """Size of a head of values."""
        return self.v_dim or self.head_dim


class MLA(Spec):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).

    Attributes:
        kind: `mla`.
        heads: Query heads.
        q_rank: Rank of the query compression; absent, queries are projected directly.
        kv_rank: Rank of the cached latent.
        nope_dim: Head dimensions without position.
        rope_dim: Head dimensions with rotary position, shared by all heads in the cache.
        v_dim: Head dimensions of values.
        output_gate: A gate as wide as the values of all heads, from the layer's input, on the output (Kimi K3).
        top_k: Keys attended at most, those that an indexer picks; absent, all.
        indexer: The layer's own indexer; a layer with `top_k` but none takes what the last indexer before it picked
            (GLM-5.2).
    """

    kind: Literal["mla"] = "mla"
    heads: int = Field(gt=0)
    q_rank: int | None = Field(default=None, gt=0)
    kv_rank: int = Field(gt=0)
    nope_dim: int = Field(gt=0)
    rope_dim: int = Field(gt=0)
    v_dim: int = Field(gt=0)
    output_gate: bool = False
    top_k: int | None = Field(default=None, gt=0)
    indexer: Indexer | None = None

    @property
    def window(self) -> None:
        """Latent attention has no sliding window."""
        return None


class CompressedAttention(Spec):
    """Attention over a window of tokens and over earlier ones merged `ratio` to one (DeepSeek-V4).

    One key-value head serves as key and value of all query heads. The output projection has two factors, the first
    of them in groups of heads.

    Attributes:
        kind: `compressed`.
        heads: Query heads.
        q_rank: Rank of the query compression.
        head_dim: Size of a head, and of a cached entry.
        rope_dim: Dimensions of it with rotary position.
        window: Latest tokens, attended to one by one.
        ratio: Tokens merged into one entry; absent, only the window is attended to.
        overlap: Whether each entry is drawn from two neighbouring groups of tokens.
        top_k: Entries attended to at most, picked by the indexer; absent, all.
        indexer: Scorer of entries.
        out_groups: Groups of heads in the first factor of the output projection.
        out_rank: Width of each group's result.
    """

    kind: Literal["compressed"] = "compressed"
    heads: int = Field(gt=0)
    q_rank: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    rope_dim: int = Field(gt=0)
    window: int = Field(gt=0)
    ratio: int | None = Field(default=None, gt=1)
    overlap: bool = False
    top_k: int | None = Field(default=None, gt=0)
    indexer: Indexer | None = None
    out_groups: int = Field(gt=0)
    out_rank: int = Field(gt=0)


class GatedDelta(Spec):
    """Gated delta rule: linear attention whose state, one matrix a head, forgets and corrects (arXiv 2412.06464).

    Attributes:
        kind: `gated_delta`.
        key_heads: Heads of queries and keys.
        value_heads: Heads of values, each with its state of `key_dim x value_dim`.
        key_dim: Size of a head of queries and keys.
        value_dim: Size of a head of values.
        conv_kernel: Taps of the causal convolution over queries, keys and values.
        state_dtype: Format of the state.
        decay_rank: Width between the two factors of a decay per key dimension (Kimi Delta Attention, arXiv
            2510.26692); absent, there is one decay per head.
        inputs_joined: Whether checkpoints join the projections of its inputs to two matrices (Qwen3-Next), which every
            engine multiplies at once, or hold each by itself (Qwen 3.5).
    """

    kind: Literal["gated_delta"] = "gated_delta"
    key_heads: int = Field(gt=0)
    value_heads: int = Field(gt=0)
    key_dim: int = Field(gt=0)
    value_dim: int = Field(gt=0)
    conv_kernel: int = Field(default=4, gt=0)
    state_dtype: FormatName = "fp32"
    decay_rank: int | None = Field(default=None, gt=0)
    inputs_joined: bool = False

    @model_validator(mode="after")
    def _grouped(self) -> GatedDelta:
        if self.value_heads % self.key_heads:
            raise ValueError(f"{self.value_heads} value heads do not divide into {self.key_heads} key heads")
        return self

    @property
    def heads(self) -> int:
        """Heads that tensor-parallel ranks share."""
        return self.value_heads

    @property
    def window(self) -> None:
        """A recurrence has no window."""
        return None


class Mamba2(Spec):
    """State-space duality layer of Mamba-2 (arXiv 2405.21060).

    Attributes:
        kind: `mamba2`.
        heads: Heads, each with its state of `head_dim x state_dim`.
        head_dim: Channels of a head.
        state_dim: Size of the state per channel.
        groups: Groups of heads that share input and output matrices B and C.
        conv_kernel: Taps of the causal convolution over channels, B and C.
        state_dtype: Format of the state.
    """

    kind: Literal["mamba2"] = "mamba2"
    heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    state_dim: int = Field(gt=0)
    groups: int = Field(gt=0)
    conv_kernel: int = Field(default=4, gt=0)
    state_dtype: FormatName = "fp32"

    @model_validator(mode="after")
    def _grouped(self) -> Mamba2:
        if self.heads % self.groups:
            raise ValueError(f"{self.heads} heads do not divide into {self.groups} groups")
        return self

    @property
    def window(self) -> None:
        """A recurrence has no window."""
        return None


RECURRENT = (GatedDelta, Mamba2)
"""Kinds that keep a state of fixed size per sequence and no cache."""

Mixer: TypeAlias = GQA | MLA | CompressedAttention | GatedDelta | Mamba2
