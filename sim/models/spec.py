"""What a model file says: widths, layer groups, formats and where the figures come from. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from sim.core import Spec
from sim.models.mixers import GQA, FormatName, Mixer
from sim.models.routing import EVEN

_POPULARITY = 1.0
_MANY_EXPERTS = 32
"""What is assumed of routers, and from how many experts on; see `MoE`."""


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
        latent: Width in which routed experts work, with a projection into it before and out of it after them (Nemotron
            3 Super, "latent MoE"); absent, the model's.
        popularity: Shape of the gamma law of how often tokens of a served batch pick an expert; the larger, the more
            evenly. Absent, 1 for 32 experts or more, and even for fewer, both assumed: routing measured over texts has
            Gini coefficients of 0.44 (LFM2.5-8B-A1B, 32 experts) and 0.65 (Qwen3.6-35B-A3B, 256) (ork-driver wiki,
            "MoE Routing Skew", 2026-06), where a gamma law of shape 1 has 0.5; the 8 experts of Mixtral are used alike
            whatever the topic (arXiv 2401.04088, section 5). Workloads may say otherwise of their texts
            (`expert_popularity`). Training, whose losses balance experts, does not use it.
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
    latent: int | None = Field(default=None, gt=0)
    popularity: float | None = Field(default=None, gt=0)

    @property
    def popularity_shape(self) -> float:
        """`popularity`, or what is assumed where it is absent."""
        if self.popularity is not None:
            return self.popularity
        return _POPULARITY if self.experts >= _MANY_EXPERTS else EVEN

    @model_validator(mode="after")
    def _possible(self) -> MoE:
        if self.top_k > self.experts:
            raise ValueError(f"top_k {self.top_k} is more than the {self.experts} experts")
        return self


Coverage = Literal["linears", "ffn_and_output", "ffn", "experts"]
Part = Literal["attention", "output", "ffn"]
_COVERED: Final[dict[Coverage, tuple[Part, ...]]] = {
    "linears": ("attention", "output", "ffn"),
    "ffn_and_output": ("output", "ffn"),
    "ffn": ("ffn",),
    "experts": (),
}
TokenMixer = Annotated[Mixer, Field(discriminator="kind")]
FeedForward: TypeAlias = Dense | MoE
TokenBlock = Annotated[FeedForward, Field(discriminator="kind")]


class LayerGroup(Spec):
    """Equal layers in a row.

    Attributes:
        count: How many layers.
        attention: Their attention or recurrence; absent in layers that are a feed-forward block alone.
        ffn: Their feed-forward block; absent in layers that are attention or a recurrence alone.
        parallel: Whether both read the same norm's output and are added to the residual together (GPT-J, PaLM, Falcon).
        kept_16bit: Whether training in a lower precision keeps the products of these layers in 16 bits.
    """

    count: int = Field(gt=0)
    attention: TokenMixer | None = None
    ffn: TokenBlock | None = None
    parallel: bool = False
    kept_16bit: bool = False

    @property
    def branches(self) -> int:
        """Attention or recurrence, and feed-forward block: two, or one where a layer lacks one of them."""
        return (self.attention is not None) + (self.ffn is not None)

    @property
    def blocks(self) -> int:
        """Additions to the residual, with a norm before each: one for every branch, or one for both in parallel."""
        return 1 if self.parallel else self.branches

    @model_validator(mode="after")
    def _possible(self) -> LayerGroup:
        if not self.branches:
            raise ValueError("a layer has attention, a feed-forward block or both")
        if self.parallel and self.branches < 2:
            raise ValueError("`parallel` is for layers that have attention and a feed-forward block")
        return self


class Checkpoint(Spec):
    """A published copy of a model in another number format.

    Attributes:
        weights_dtype: Format of its linear layers.
        quantized: Which linear layers are in that format.
        other_dtype: Format of the other linear layers; absent, that of activations.
    """

    weights_dtype: FormatName
    quantized: Coverage = "linears"
    other_dtype: FormatName | None = None


def _allow_repeat(schema: dict[str, Any]) -> None:
    """Adds `{repeat: N, groups: [...]}` to the JSON Schema of a list of layer groups."""
    group = schema["items"]
    properties = {"repeat": {"type": "integer", "minimum": 1}, "groups": {"type": "array", "items": group}}
    repeat = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    schema["items"] = {"anyOf": [group, repeat]}


def _repeated(item: Mapping[str, Any]) -> list[Any]:
    """The groups that `{repeat: N, groups: [...]}` stands for."""
    times, groups = item["repeat"], item.get("groups")
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise ValueError(f"repeat is a positive integer, not {times!r}")
    if not isinstance(groups, (list, tuple)) or set(item) != {"repeat", "groups"}:
        raise ValueError("expected {repeat: N, groups: [...]}")
    return list(groups) * times


class ModelSpec(Spec):
    """A decoder-only transformer, or a hybrid of attention and recurrent layers.

    Attributes:
        name: Short name, lower case with dashes.
        hf_id: Hugging Face id.
        aliases: Other names it is found by.
        hidden_size: Width of the residual stream.
        vocab_size: Rows of the embedding.
        max_position_embeddings: Longest context the model was made for [tokens].
        layers: Layer groups, first to last. A file may write `{repeat: N, groups: [...]}` for N times the same groups
            one after the other, such as layers that alternate.
        tied_embeddings: Whether LM head and embedding share weights.
        learned_positions: Rows of a learned position embedding; 0 for rotary.
        norm_bias: Whether norms have a bias (LayerNorm).
        norms_per_layer: Norms of the residual width in a layer of two blocks, half as many in one of a single block
            or of two in parallel; Gemma also has them after attention and FFN.
        residual_streams: Copies of the residual that are mixed before and after each block (hyper-connections,
            arXiv 2409.19606); 1 is the plain residual.
        dtype: Format of activations and of weights that are not quantised.
        weights_dtype: Format of the linear layers in the published checkpoint. Embeddings, norms, biases, routers and
            the LM head are never quantised.
        quantized: Which linear layers `weights_dtype` covers: all, those of feed-forward blocks with or without the
            output projection of attention, or routed experts.
        other_dtype: Format of the linear layers that it does not cover; absent, `dtype`.
        checkpoints: Copies in other formats by the Hugging Face id they are found by.
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
    layers: tuple[LayerGroup, ...] = Field(min_length=1, json_schema_extra=_allow_repeat)
    tied_embeddings: bool = False
    learned_positions: int = Field(default=0, ge=0)
    norm_bias: bool = False
    norms_per_layer: int = Field(default=2, gt=0)
    residual_streams: int = Field(default=1, gt=0)
    dtype: FormatName = "bf16"
    weights_dtype: FormatName = "bf16"
    quantized: Coverage = "linears"
    other_dtype: FormatName | None = None
    checkpoints: dict[str, Checkpoint] = Field(default_factory=dict)
    refs: dict[str, str] = Field(default_factory=dict)
    note: str = ""
    unknown_fields: tuple[str, ...] = ()

    @field_validator("layers", mode="before")
    @classmethod
    def _repeated_groups(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        groups: list[Any] = []
        for item in value:
            if isinstance(item, Mapping) and "repeat" in item:
                groups += _repeated(item)
            else:
                groups.append(item)
        return groups

    @property
    def n_layers(self) -> int:
        """Transformer layers."""
        return sum(group.count for group in self.layers)

    def linear_dtype(self, part: Part, weights_dtype: str) -> str:
        """Format of the linear layers of attention, of its output projection, or of dense blocks and shared experts, if
        experts and whatever else is quantised have `weights_dtype`."""
        covered = part in _COVERED[self.quantized]
        return weights_dtype if covered else self.other_dtype or self.dtype

    @property
    def is_moe(self) -> bool:
        """Whether any layer has experts."""
        return any(isinstance(group.ffn, MoE) for group in self.layers)

    @property
    def is_dense_with_qk_norm(self) -> bool:
        """Whether no layer has experts, and queries and keys of any are normed."""
        normed = any(isinstance(group.attention, GQA) and group.attention.qk_norm for group in self.layers)
        return normed and not self.is_moe

    def norms_of(self, group: LayerGroup) -> int:
        """Norms of the residual width in one layer of the group."""
        return self.norms_per_layer * group.blocks // 2

    def __repr__(self) -> str:
        return (
            f"ModelSpec({self.name!r}: {self.n_layers} layers, width {self.hidden_size}, vocabulary {self.vocab_size})"
        )
