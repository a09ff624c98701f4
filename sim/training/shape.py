"""What one rank works on: its micro-batch, its slice of every layer, and how attention and norms are divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sim.plans.training import ContextKind
from sim.training.adapters import Adapters
from sim.training.precision import PLAIN, Recipe
from sim.training.spec import EncoderSpec


@dataclass(frozen=True, kw_only=True)
class WorkShape:
    """Sizes that the work of a layer depends on, beside the model.

    Attributes:
        micro_batch: Sequences of a micro-batch on a data-parallel rank.
        sequence: Tokens of a sequence.
        tp: Tensor-parallel ranks.
        cp: Context-parallel ranks.
        cp_zigzag: Whether they have balanced slices of the sequence.
        cp_kind: What they exchange for attention.
        ep: Ranks that experts are spread over.
        sp: Whether norms and residuals are divided over the tensor-parallel ranks.
        attention: Attention kernel.
        dropout: Whether residuals and scores have dropout.
        recipe: How linear layers are multiplied.
        encoder: What the first stage has before the model; None for text alone.
        causal: Whether tokens attend only to earlier ones.
        adapters: What is trained beside frozen weights; None if all weights are.
        grad_dtype: Format in which weight gradients are accumulated.
        fused_accumulation: Whether the product that makes them also adds them.
        fused_projections: Whether products that share an input (queries, keys, values; gate and up) are one kernel.
        copies_shards: Whether parameters are sharded, gathered into a buffer and copied out of it, and gradients copied
            into one.
        gathers_again: Whether inputs gathered over tensor-parallel ranks are dropped, and gathered again backward.
    """

    micro_batch: float
    sequence: float
    tp: int = 1
    cp: int = 1
    cp_zigzag: bool = True
    cp_kind: ContextKind = "all_gather"
    ep: int = 1
    sp: bool = False
    attention: Literal["flash", "plain"] = "flash"
    dropout: bool = False
    recipe: Recipe = PLAIN
    encoder: EncoderSpec | None = None
    causal: bool = True
    adapters: Adapters | None = None
    grad_dtype: Literal["bf16", "fp32"] = "fp32"
    fused_accumulation: bool = True
    copies_shards: bool = False
    gathers_again: bool = True
    fused_projections: bool = True

    @property
    def tokens(self) -> float:
        """Tokens of the micro-batch on a rank, before sequence parallelism."""
        return self.micro_batch * self.sequence / self.cp

    @property
    def divides_heads(self) -> bool:
        """Whether context-parallel ranks attend with some heads to the whole sequence."""
        return self.cp > 1 and self.cp_kind == "ulysses"

    @property
    def residual_tokens(self) -> float:
        """Tokens whose norms and residuals a rank works on."""
        return self.tokens / self.tp if self.sp else self.tokens

    def keeps_input(self, name: str) -> bool:
        """Whether the input of a product is needed backward: for the gradient of its weights, or of its adapter."""
        return self.adapters is None or self.adapters.adapts(name)
