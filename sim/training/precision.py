"""Recipes of training in low precision: what operands are multiplied in, and what it takes to make them.

The three products of a linear layer read its input, its weights and the gradient of its result, each along both of its
dimensions: along one forward or by input, along the other for the gradient of the weights. An operand whose scales are
known beforehand (delayed per-tensor scaling) or local to a tile is written in the low format by the kernel that makes
it; what a recipe cannot have so costs passes over memory, which are counted here per element:

- `fp8`: per-tensor scales of earlier steps. No passes of its own where one module holds norm, products and activation
  (`LayerNormMLP` of Transformer Engine). Those of Megatron-Core are apart: a norm in one module with its product
  writes 8 bits, but behind attention, an activation or the dispatch of tokens the next module reads 16 and casts them
  (2 + 1 B). Hopper multiplies 8 bits along rows alone, so inputs are transposed for the weight gradient (1 + 1 B; one
  kernel casts and transposes without sequence parallelism, 1 B less, which is not told apart), gradients and weights
  cast both ways (2 + 1 + 1 B). Inputs are kept as they were multiplied, and weights both ways from the first
  micro-batch on (`is_first_microbatch`).
- `fp8_dynamic`: per-tensor scales of the tensor at hand. Its largest value is found where it is made; then it is read
  in 16 bits, and written twice, straight and transposed: 4 B (torchao, `tensorwise`).
- `fp8_rowwise`: a scale per row in one direction and per column in the other. A row is scaled in one pass (2 + 1 B), a
  column needs the largest value first (2 + 2 + 1 B) (torchao, `rowwise`).
- `fp8_block`: tiles of 1 x 128, 128 x 128 for weights (DeepSeek-V3, arXiv 2412.19437, section 3.3). Inputs are kept in
  8 bits and scaled again across for the weight gradient (1 + 1 B), gradients are written both ways (2 + 2 B).
- `mxfp8`: one power-of-two scale per 32 along the inner dimension (OCP Microscaling; Mishra et al., arXiv 2506.08027):
  both directions in one pass, 2 + 2 x 1.03 B, by the norm or activation itself where there is one.
- `nvfp4`: one 8-bit scale per 16 below one per tensor (NVIDIA, arXiv 2509.25149): the tensor's largest value (2 B),
  then a pass that writes both directions (2 + 2 x 0.56 B). With the 16 x 16 random Hadamard transform of both operands
  of the weight gradient, each direction has a pass for itself. Weights have scales of 16 x 16, the same both ways.

Under sequence parallelism, operands in FP8 with one scale per tensor are cast before tensor-parallel ranks gather them,
as bytes (Transformer Engine; `Float8ColwiseParallel` and `Float8RowwiseParallel` of torchao); all others in 16 bits.

The transform takes 32 FLOPs an element on the matrix units, stochastic rounding of gradients about 7 vector operations
(a Philox call of 100 makes the bits for 16); a pass lasts as long as the longest of its traffic and these.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from sim.models import LayerGroup, ModelSpec, compute_dtype
from sim.training.spec import QuantisationSpec

HADAMARD_FLOPS: Final = 32.0
"""FLOPs per element of a 16 x 16 transform: 2 x 16."""
ROUNDING_OPS: Final = 7.0
"""Vector operations per element of stochastic rounding: 100 of Philox for 128 bits, 8 bits each."""
_FP4: Final = 0.5 + 1.0 / 16
_FP4_SQUARE: Final = 0.5 + 1.0 / 256
_TILES: Final = 1.0 + 4.0 / 128
_MXFP8: Final = 1.0 + 1.0 / 32


@dataclass(frozen=True)
class Casts:
    """What it takes to make one operand, per element, all directions together.

    Attributes:
        forward_bytes: Traffic for the forward product, or for the gradient of the input if it is a gradient [B].
        weight_bytes: Traffic for the gradient of the weights [B].
        flops: Matrix FLOPs.
        vector_ops: Vector operations in each pass.
        fusible: Whether the norm or activation that makes the operand can write it in place, without a pass.
        shared_bytes: Of `forward_bytes`, what tensor-parallel ranks divide if they cast before they gather; the rest is
            moved of the whole, and as much again is read.
    """

    forward_bytes: float = 0.0
    weight_bytes: float = 0.0
    flops: float = 0.0
    vector_ops: float = 0.0
    fusible: bool = False
    shared_bytes: float = 0.0

    def gathered(self, ranks: int) -> Casts:
        """The casts of an operand that so many ranks gather in the low format."""
        if ranks == 1 or not self.shared_bytes:
            return self
        whole = 2.0 * (self.forward_bytes - self.shared_bytes)
        return replace(self, forward_bytes=self.shared_bytes / ranks + whole)


@dataclass(frozen=True)
class Recipe:
    """How linear layers are multiplied in training.

    Attributes:
        dtype: Format of the products.
        inputs: Making inputs.
        unnormed_inputs: Making those that no norm in one module with the product makes, if that is anything else.
        gradients: Making gradients of results.
        weight_cast_bytes: Traffic of casting a weight once, both directions [B].
        kept_bytes: Bytes per element in which inputs are kept for the weight gradient [B].
        activation_bytes: Bytes per element in which inputs of activation functions are kept [B].
        dispatch_bytes: Bytes per element in which tokens go to experts, and gradients of their results [B].
        copies_bytes: Bytes per weight of its low-precision copies, kept through the step [B].
        gathered_bytes: Bytes per element in which tensor-parallel ranks gather operands [B].
    """

    dtype: str = "bf16"
    inputs: Casts = field(default_factory=Casts)
    gradients: Casts = field(default_factory=Casts)
    weight_cast_bytes: float = 0.0
    kept_bytes: float = 2.0
    activation_bytes: float = 2.0
    dispatch_bytes: float = 2.0
    unnormed_inputs: Casts | None = None
    copies_bytes: float = 0.0
    gathered_bytes: float = 2.0

    @property
    def is_low(self) -> bool:
        """Whether products are in less than 16 bits."""
        return compute_dtype(self.dtype) not in ("bf16", "fp16")


PLAIN: Final = Recipe()

_RECIPES: Final = {
    "bf16": PLAIN,
    "fp16": Recipe("fp16"),
    "fp8": Recipe("fp8", gathered_bytes=1.0, kept_bytes=1.0, copies_bytes=2.0),
    "fp8_dynamic": Recipe(
        "fp8", Casts(4.0, shared_bytes=3.0), Casts(4.0, shared_bytes=3.0), weight_cast_bytes=4.0, gathered_bytes=1.0
    ),
    "fp8_rowwise": Recipe("fp8_rowwise", Casts(3.0, 5.0), Casts(3.0, 5.0), weight_cast_bytes=8.0),
    "fp8_block": Recipe("fp8_block", Casts(0.0, 2.0), Casts(4.0), 4.0, kept_bytes=_TILES, copies_bytes=2.0),
    "mxfp8": Recipe(
        "mxfp8",
        Casts(2.0 + 2.0 * _MXFP8, fusible=True),
        Casts(2.0 + 2.0 * _MXFP8, fusible=True),
        weight_cast_bytes=2.0 + 2.0 * _MXFP8,
        kept_bytes=_MXFP8,
        copies_bytes=2.0 * _MXFP8,
    ),
}


def recipe_of(precision: str, options: QuantisationSpec, *, fused_casts: bool = True) -> Recipe:
    """The recipe of this name; without `fused_casts` that of FP8 with known scales has passes of its own."""
    found = _nvfp4(options) if precision == "nvfp4" else _RECIPES[precision]
    if precision == "fp8" and not fused_casts:
        inputs, unnormed = Casts(0.0, 2.0), Casts(3.0, 2.0)
        found = replace(found, inputs=inputs, unnormed_inputs=unnormed, gradients=Casts(4.0), weight_cast_bytes=4.0)
    return replace(
        found,
        activation_bytes=1.0 if options.activation_input_8bit else 2.0,
        dispatch_bytes=_TILES if options.dispatch_8bit else 2.0,
    )


def _nvfp4(options: QuantisationSpec) -> Recipe:
    """The largest value and a pass, or with the transform a pass for each direction; weights are never transformed."""
    once = 2.0 + 2.0 + _FP4
    across, flops = (2.0 + _FP4, HADAMARD_FLOPS) if options.hadamard else (_FP4, 0.0)
    inputs = Casts(once, across, flops)
    rounding = ROUNDING_OPS if options.stochastic_rounding else 0.0
    copies = 2.0 * (_FP4_SQUARE if options.square_weight_scales else _FP4)
    return Recipe(
        "nvfp4",
        inputs,
        replace(inputs, vector_ops=rounding),
        weight_cast_bytes=2.0 + 2.0 + copies,
        kept_bytes=_FP4,
        copies_bytes=copies,
    )


def lacking(recipe: Recipe, formats: frozenset[str], device: str) -> str | None:
    """Why a device that multiplies these formats cannot follow the recipe; None if it can.

    Block scales of MXFP8 are applied by matrix units of the generation that also multiplies FP4 (Blackwell, CDNA 4).
    """
    wanted = "fp4" if recipe.dtype == "mxfp8" else compute_dtype(recipe.dtype)
    if wanted in formats or wanted in ("bf16", "fp16"):
        return None
    what = "scales blocks of 32 in its matrix units" if recipe.dtype == "mxfp8" else f"multiplies {wanted}"
    known = ", ".join(sorted(formats))
    return f"{recipe.dtype} training needs a device that {what}, and {device} does not: it multiplies {known}"


def with_wide_ends(model: ModelSpec, options: QuantisationSpec) -> ModelSpec:
    """The model with its first and last layers kept in 16 bits, as many as the options say."""
    first, last, total = options.first_16bit, options.last_16bit, model.n_layers
    if not first + last:
        return model
    groups: list[LayerGroup] = []
    start = 0
    for group in model.layers:
        cuts = sorted(
            {start, start + group.count, *(n for n in (first, total - last) if start < n < start + group.count)}
        )
        for low, high in pairwise(cuts):
            wide = group.kept_16bit or high <= first or low >= total - last
            groups.append(group.model_copy(update={"count": high - low, "kept_16bit": wide}))
        start += group.count
    return model.model_copy(update={"layers": tuple(groups)})
