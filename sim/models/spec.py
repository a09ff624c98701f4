"""What a model file says: widths, layer groups, formats and where the figures come from. Data only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from sim.core import Spec
from sim.models.dtypes import canonical_dtype


class GQA(Spec):
    """Multi-head, grouped-query or multi-query attention.

    Attributes:
        kind: `gqa`.
        heads: Query heads.
        kv_heads: Key-value heads; equal to `heads` is multi-head, 1 is multi-query.
        head_dim: Size of a head.
        window: Keys attended at most (sliding window); absent, all.
        qkv_bias: Biases on the query, key and value projections.
        out_bias: Bias on the output projection.
        qk_norm: RMS norm of queries and keys per head.
        sinks: One learned attention-sink logit per head.
    """

    kind: Literal["gqa"] = "gqa"
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    window: int | None = Field(default=None, gt=0)
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    sinks: bool = False

    @model_validator(mode="after")
    def _grouped(self) -> GQA:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads do not divide into {self.kv_heads} KV heads")
        return self


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
    """

    kind: Literal["mla"] = "mla"
    heads: int = Field(gt=0)
    q_rank: int | None = Field(default=None, gt=0)
    kv_rank: int = Field(gt=0)
    nope_dim: int = Field(gt=0)
    rope_dim: int = Field(gt=0)
    v_dim: int = Field(gt=0)

    @property
    def window(self) -> None:
        """Latent attention sees all keys."""
        return None


class Dense(Spec):
    """A feed-forward block; `gated` has gate, up and down projections, else up and down."""

    kind: Literal["dense"] = "dense"
    intermediate: int = Field(gt=0)
    gated: bool = True
    bias: bool = False


class MoE(Spec):
    """A mixture of experts.

    Attributes:
        kind: `moe`.
        experts: Routed experts.
        top_k: Experts per token.
        intermediate: Width of a routed expert.
        shared_intermediate: Width of all shared experts together; 0 if there are none.
        shared_gate: A learned scalar gate on the shared expert (Qwen2-MoE).
        gated: Gate, up and down projections.
        bias: Biases on router and experts (gpt-oss).
        router_bias: A selection bias per expert (DeepSeek-V3).
    """

    kind: Literal["moe"] = "moe"
    experts: int = Field(gt=0)
    top_k: int = Field(gt=0)
    intermediate: int = Field(gt=0)
    shared_intermediate: int = Field(default=0, ge=0)
    shared_gate: bool = False
    gated: bool = True
    bias: bool = False
    router_bias: bool = False

    @model_validator(mode="after")
    def _possible(self) -> MoE:
        if self.top_k > self.experts:
            raise ValueError(f"top_k {self.top_k} is more than the {self.experts} experts")
        return self


Attention = Annotated[GQA | MLA, Field(discriminator="kind")]
FeedForward = Annotated[Dense | MoE, Field(discriminator="kind")]


class LayerGroup(Spec):
    """Equal layers in a row, or, with `every`, interleaved with others.

    Attributes:
        count: How many layers.
        attention: Their attention.
        ffn: Their feed-forward block.
    """

    count: int = Field(gt=0)
    attention: Attention
    ffn: FeedForward


class ModelSpec(Spec):
    """A decoder-only transformer.

    Attributes:
        name: Short name, lower case with dashes.
        hf_id: Hugging Face id.
        aliases: Other names it is found by.
        hidden_size: Width of the residual stream.
        vocab_size: Rows of the embedding.
        max_position_embeddings: Longest context the model was made for [tokens].
        layers: Layer groups, first to last; groups of alternating layers are written as one after the other.
        tied_embeddings: Whether LM head and embedding share weights.
        learned_positions: Rows of a learned position embedding; 0 for rotary.
        norm_bias: Whether norms have a bias (LayerNorm).
        dtype: Format of activations and of weights that are not quantised.
        weights_dtype: Format of the linear layers in the published checkpoint.
        quantized: Which linear layers the checkpoint's format covers.
        refs: Sources of the figures.
        note: What a reader must know.
        unknown_fields: Keys of an imported config that were not used.
    """

    name: str
    hf_id: str = ""
    aliases: tuple[str, ...] = ()
    hidden_size: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    max_position_embeddings: int = Field(gt=0)
    layers: tuple[LayerGroup, ...] = Field(min_length=1)
    tied_embeddings: bool = False
    learned_positions: int = Field(default=0, ge=0)
    norm_bias: bool = False
    dtype: str = "bf16"
    weights_dtype: str = "bf16"
    quantized: Literal["linears", "experts"] = "linears"
    refs: dict[str, str] = Field(default_factory=dict)
    note: str = ""
    unknown_fields: tuple[str, ...] = ()

    @field_validator("dtype", "weights_dtype")
    @classmethod
    def _known_format(cls, value: str) -> str:
        return canonical_dtype(value)

    @property
    def n_layers(self) -> int:
        """Transformer layers."""
        return sum(group.count for group in self.layers)

    @property
    def is_moe(self) -> bool:
        """Whether any layer has experts."""
        return any(isinstance(group.ffn, MoE) for group in self.layers)

    @property
    def uses_mla(self) -> bool:
        """Whether any layer has latent attention."""
        return any(isinstance(group.attention, MLA) for group in self.layers)

    def __repr__(self) -> str:
        return (
            f"ModelSpec({self.name!r}: {self.n_layers} layers, width {self.hidden_size}, vocabulary {self.vocab_size})"
        )
