"""What speculative decoding adds to the work of an iteration.

Verifying computes `1 + k` tokens of every decoding sequence through the whole model; its attention reads the cache once
for all of them, as kernels do that fold the queries of a sequence into the heads, or once for each. Draft layers are
layers of the model behind its last one (`with_draft_layers`), so the first pass through them, over all tokens of the
iteration, prompts too, counts like any layer. What is left are the further passes, one token of every sequence each,
and the LM head of every pass. As TensorRT-LLM runs a single module ("MTP Eagle", tech blog 2 of its documentation),
vLLM and SGLang alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sim.core import Array
from sim.models import (
    AbsorbedProducts,
    DecodeAttention,
    Gemm,
    ModelSpec,
    Operator,
    StateUpdate,
    attention_classes,
    sequence_operators,
    token_operators,
)
from sim.plans import SpeculationSpec
from sim.serving.stages import StageCosts


@dataclass(frozen=True)
class Drafts:
    """The drafts of one engine; without speculation there are none.

    Attributes:
        tokens: Drafts per sequence and iteration.
        layers: Layers that a draft passes through.
    """

    tokens: int = 0
    layers: int = 0

    @property
    def width(self) -> int:
        """Tokens of a sequence that an iteration computes."""
        return 1 + self.tokens

    @property
    def further_passes(self) -> int:
        """Passes through the draft layers after the first."""
        return self.tokens - 1 if self.layers else 0

    def operators(self, model: ModelSpec, stage: StageCosts, sequences: Array) -> list[Operator]:
        """Work of all passes but attention that comes on top of the verifying iteration.

        Args:
            model: The model with its draft layers.
            stage: The rank that drafts.
            sequences: Sequences of the rank that get drafts, any shape.
        """
        if not self.layers:
            return []
        hidden = model.hidden_size
        joined = Gemm(name="draft_in", cause="draft", m=sequences, n=hidden, k=2 * hidden, weights_dtype=model.dtype)
        every = [joined, *sequence_operators(model, stage.shard, sequences)]
        shard = replace(stage.shard, layer_range=(0, self.layers))
        further = token_operators(self._alone(model), shard, sequences) if self.further_passes else []
        return [
            *(replace(op, count=op.count * self.tokens, cause="draft") for op in every),
            *(replace(op, count=op.count * self.further_passes, cause="draft") for op in further),
        ]

    def widened(self, operators: list[Operator], *, latent_apart: bool) -> list[Operator]:
        """Decode attention, or a recurrence, for all tokens that an iteration computes of a sequence.

        Args:
            operators: The work for one token of every sequence.
            latent_apart: Whether latent attention takes the tokens as it would those of as many sequences.
        """
        return [self._widened(op, latent_apart) for op in operators]

    def _widened(self, op: Operator, latent_apart: bool) -> Operator:
        match op:
            case DecodeAttention(kind="mla") if latent_apart:
                return replace(op, sequences=op.sequences * self.width, context=op.context * self.width)
            case DecodeAttention():
                return replace(op, q_heads=op.q_heads * self.width)
            case AbsorbedProducts():
                return replace(op, tokens=op.tokens * self.width)
            case StateUpdate():
                return replace(op, tokens=self.width)
            case _:
                return op

    def further_share(self, model: ModelSpec, stage: StageCosts, kind: int) -> float:
        """Attention of the further passes over that of all layers of class number `kind` for one token."""
        if not self.further_passes:
            return 0.0
        cls = attention_classes(model, stage.shard)[kind]
        shard = replace(stage.shard, layer_range=(0, self.layers))
        mine = sum(one.layers for one in attention_classes(self._alone(model), shard) if one.key == cls.key)
        return self.further_passes * mine / cls.layers

    def _alone(self, model: ModelSpec) -> ModelSpec:
        """The draft layers as a model."""
        return model.model_copy(update={"layers": (model.layers[-1].model_copy(update={"count": self.layers}),)})


def drafts_of(speculation: SpeculationSpec | None) -> Drafts:
    """The drafts of a plan."""
    return Drafts() if speculation is None else Drafts(speculation.draft_tokens, speculation.draft_layers)
