"""Low-rank adapters on frozen weights (LoRA, arXiv 2106.09685), whose base may be packed (QLoRA, arXiv 2305.14314).

An adapted product is `y = x W + (x A) B` with `W` frozen, `A` of rows x rank and `B` of rank x columns. Frozen weights
have no gradient, no optimizer states and no reduction; the gradient of the input still passes through them, and through
the adapter. A packed base is unpacked to 16 bits before each use, forward and backward.

On a tensor-parallel rank an adapter has the rank's own rows and columns: of a product divided by columns every rank has
all of `A`, of one divided by rows all of `B`, whose result is summed with that of the base. (Gradients of such copies
are summed once a step; they are too small to count.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sim.models import Dense, Gemm, LayerGroup, ModelSpec, MoE
from sim.training.blocks import blocks_of, products
from sim.training.operators import Quantise, TrainingOperator, WeightGradient, stream
from sim.training.spec import LoraSpec

_BYTES: Final = 2.0
_CAUSE: Final = "adapters"
_BASE_BYTES: Final = {"bf16": 2.0, "int8": 1.0, "nf4": 0.5 + (8.0 / 64 + 32.0 / (64 * 256)) / 8}
"""Bytes of a frozen weight: int8 with a scale per row; nf4 with an 8-bit scale per 64, and a 32-bit one per 256 of
those (QLoRA's double quantisation)."""
_FORWARD_KERNELS: Final = 3
_BACKWARD_KERNELS: Final = 5

Passes = tuple[list[TrainingOperator], list[TrainingOperator], list[TrainingOperator]]


@dataclass(frozen=True)
class Adapters:
    """Adapters of a job.

    Attributes:
        rank: Inner width.
        targets: Products that have one: `qkv` (all into attention or a recurrence), `o`, `ffn_in`, `ffn_out`.
        base_bytes: Bytes of a frozen weight [B].
    """

    rank: int
    targets: tuple[str, ...]
    base_bytes: float

    @classmethod
    def of(cls, spec: LoraSpec | None) -> Adapters | None:
        """Those that a job asks for."""
        return None if spec is None else cls(spec.rank, tuple(dict.fromkeys(spec.targets)), _BASE_BYTES[spec.base])

    @property
    def packed(self) -> bool:
        """Whether frozen weights are unpacked before use."""
        return self.base_bytes < _BYTES

    @property
    def extra_kernels(self) -> tuple[float, float]:
        """Kernels that they add to a layer, forward and backward; a frozen product has one less backward."""
        unpack = 4.0 if self.packed else 0.0
        count = len(self.targets)
        return _FORWARD_KERNELS * count + unpack, _BACKWARD_KERNELS * count + unpack - 4.0

    def adapts(self, name: str) -> bool:
        """Whether the product of this name, as in `sim.training.layer`, has an adapter."""
        return _target(name) in self.targets


def _target(name: str) -> str | None:
    if name in ("ffn_in", "ffn_out", "o"):
        return name
    return None if name in ("router", "lm_head", "latent_in", "latent_out") else "qkv"


def adapter_work(adapters: Adapters, name: str, rows: float, columns: float, tokens: float) -> Passes:
    """Products of an adapter with `rows x columns` of the base on this rank, and the addition of its result.

    Forward `x A` and `(x A) B`, by input the same with the transposed, by weight one each for `A` and `B`.
    """
    if not adapters.adapts(name):
        return [], [], []
    rank = float(adapters.rank)

    def product(part: str, columns: float, inner: float) -> Gemm:
        return Gemm(name=f"{name}_{part}", cause=_CAUSE, m=tokens, n=columns, k=inner, weights_dtype="bf16")

    def added(width: float) -> TrainingOperator:
        return stream(f"{name}_add", 3.0 * _BYTES * tokens * width, cause=_CAUSE)

    def gradient(part: str, rows: float, columns: float) -> WeightGradient:
        return WeightGradient(
            name=f"{name}_{part}_wgrad", m=rows, n=columns, k=tokens, dtype="bf16", sum_bytes=_BYTES, cause=_CAUSE
        )

    return (
        [product("a", rank, rows), product("b", columns, rank), added(columns)],
        [product("b_dgrad", rank, columns), product("a_dgrad", rows, rank), added(rows)],
        [gradient("a", rows, rank), gradient("b", rank, columns)],
    )


def unpacking(adapters: Adapters, weights: float) -> list[TrainingOperator]:
    """Frozen weights read as they are packed and written in 16 bits; nothing if they are not."""
    moved = (adapters.base_bytes + _BYTES) * weights
    return [Quantise(name="unpack", moved_bytes=moved)] if adapters.packed else []


def adapter_parameters(model: ModelSpec, group: LayerGroup, adapters: Adapters, *, tp: int) -> float:
    """Parameters of the adapters of one layer on one of `tp` ranks: `rank (rows + columns)` each.

    Routed experts have none; where feed-forward blocks are targets, the shared expert has.
    """
    return adapters.rank * sum(rows + columns for rows, columns in _adapted(model, group, adapters, tp=tp))


def adapted_products(model: ModelSpec, group: LayerGroup, adapters: Adapters) -> int:
    """How many products of one layer have an adapter."""
    return len(_adapted(model, group, adapters, tp=1))


def _adapted(model: ModelSpec, group: LayerGroup, adapters: Adapters, *, tp: int) -> list[tuple[float, float]]:
    """Rows and columns of the products that have an adapter."""
    hidden, (mixer, ffn) = float(model.hidden_size), blocks_of(group)
    found = [] if mixer is None else [(p.name, p.rows, p.columns) for p in products(mixer, model.hidden_size, tp=tp)]
    width = ffn.intermediate if isinstance(ffn, Dense) else ffn.shared_intermediate if isinstance(ffn, MoE) else 0
    if ffn is not None and width:
        inputs = 2.0 if ffn.gated else 1.0
        found += [("ffn_in", hidden, inputs * width / tp), ("ffn_out", width / tp, hidden)]
    return [(rows, columns) for name, rows, columns in found if adapters.adapts(name)]
