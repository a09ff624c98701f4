"""Speculative decoding: what a plan says of it, and what follows from that for tokens, layers and launch commands.

An iteration computes `1 + draft_tokens` tokens of every decoding sequence: the one that is certain and the drafts
behind it. It emits the drafts up to the first that the model does not agree with, and one token of its own in any case
(Leviathan et al. 2023, arXiv 2211.17192). Drafts form a chain, not a tree. How many are accepted is taken at its
expectation, the same for all sequences: which drafts fail is not drawn.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate
from operator import mul
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from sim.core import Frac, Spec
from sim.models import ModelSpec

Method = Literal["mtp", "ngram"]
_Rate = Annotated[Frac, Field(ge=0, le=1)]
_RATE_SCHEMA: Final = {"anyOf": [{"type": "number"}, {"type": "string"}]}
_RESOLUTION: Final = 10**6


def _listed(value: object) -> object:
    return value if isinstance(value, (list, tuple)) else [value]


class SpeculationSpec(Spec):
    """Speculative decoding of a plan's engines.

    Attributes:
        method: Where drafts come from. `mtp`: a module for multi-token prediction that the checkpoint brings, one layer
            like the model's last, run once per draft with the model's own embedding and LM head (DeepSeek-V3, arXiv
            2412.19437, 2.2; the first pass also goes over prompts). `ngram`: earlier tokens of the sequence, which
            costs nothing on the device.
        draft_tokens: Drafts per sequence and iteration.
        acceptance: Probability that a draft is accepted if those before it are: one for each place, or one for all.
    """

    method: Method = "mtp"
    draft_tokens: int = Field(ge=1)
    acceptance: Annotated[
        tuple[_Rate, ...],
        Field(min_length=1),
        BeforeValidator(_listed),
        WithJsonSchema({"anyOf": [*_RATE_SCHEMA["anyOf"], {"type": "array", "items": _RATE_SCHEMA, "minItems": 1}]}),
    ]

    @model_validator(mode="after")
    def _one_rate_per_draft(self) -> SpeculationSpec:
        if len(self.acceptance) not in (1, self.draft_tokens):
            raise ValueError(
                f"acceptance has {len(self.acceptance)} rates for {self.draft_tokens} draft tokens: give one for each, "
                "or one for all"
            )
        return self

    @property
    def step_tokens(self) -> int:
        """Tokens of a sequence that an iteration computes."""
        return 1 + self.draft_tokens

    @property
    def emitted_tokens(self) -> Fraction:
        """Expected tokens of a sequence that an iteration emits, `1 + a1 + a1 a2 + ...`, to six digits."""
        rates = self.acceptance if len(self.acceptance) > 1 else self.acceptance * self.draft_tokens
        return 1 + Fraction(round(sum(accumulate(rates, mul)) * _RESOLUTION), _RESOLUTION)

    @property
    def draft_layers(self) -> int:
        """Layers that a draft passes through."""
        return 1 if self.method == "mtp" else 0

    @property
    def label(self) -> str:
        """Short text, such as `mtp 3`."""
        return f"{self.method} {self.draft_tokens}"


def with_draft_layers(model: ModelSpec, layers: int) -> ModelSpec:
    """The model with so many more layers like its last."""
    if not layers:
        return model
    last = model.layers[-1]
    longer = last.model_copy(update={"count": last.count + layers})
    return model.model_copy(update={"layers": (*model.layers[:-1], longer)})
