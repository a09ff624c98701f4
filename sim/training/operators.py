"""Operators that only training has: flash attention both ways over a micro-batch, and the products of plain attention.

Everything else is an operator of `sim.models`. Like those, these are work without time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sim.models import Elementwise, Operator, PrefillAttention, StateScan

FLASH_BACKWARD_FLOPS = 2.5
"""Products of a flash backward over those of the forward: scores again, and four gradients (arXiv 2307.08691)."""
SCAN_BACKWARD_FLOPS = 3.0
"""Products of a scan's backward over those of the forward: all again, and two gradients each."""


@dataclass(frozen=True, kw_only=True)
class FlashAttention:
    """Causal attention of `batch` sequences that keeps no scores in memory; one layer, one rank.

    Attributes:
        name: Label.
        cause: Label in breakdowns.
        one: One sequence's attention; with context parallelism the rank's share of queries over their keys.
        batch: Sequences.
        backward: Whether it is the backward pass.
        count: Executions.
    """

    name: str
    one: PrefillAttention
    batch: float
    backward: bool = False
    cause: str = "attention"
    count: float = 1.0

    def flops(self) -> float:
        """Matrix FLOPs of the unmasked pairs."""
        return float(self.one.flops()) * self.batch * (FLASH_BACKWARD_FLOPS if self.backward else 1.0)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A recurrence over all tokens of `batch` sequences; one layer, one rank.

    Attributes:
        name: Label.
        one: One sequence's scan.
        batch: Sequences.
        backward: Whether it is the backward pass.
        cause: Label in breakdowns.
        count: Executions.
    """

    name: str
    one: StateScan
    batch: float
    backward: bool = False
    cause: str = "attention"
    count: float = 1.0

    def flops(self) -> float:
        """Matrix FLOPs of the chunks."""
        return float(self.one.flops()) * self.batch * (SCAN_BACKWARD_FLOPS if self.backward else 1.0)


@dataclass(frozen=True, kw_only=True)
class Quantise:
    """A pass that casts an operand to a low format.

    Attributes:
        name: Label.
        moved_bytes: Read and written [B].
        matrix_flops: FLOPs of a transform on the matrix units.
        vector_ops: Vector operations of rounding.
        cause: Label in breakdowns.
        count: Executions.
    """

    name: str
    moved_bytes: float
    matrix_flops: float = 0.0
    vector_ops: float = 0.0
    cause: str = "quantisation"
    count: float = 1.0

    def flops(self) -> float:
        """None that count: a transform is no product of the model."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class BatchedGemm:
    """`batch` independent products `(m, k) x (k, n)` of 16-bit matrices, none of them weights.

    Attributes:
        name: Label.
        cause: Label in breakdowns.
        batch: Products: sequences x heads.
        m: Rows.
        n: Columns.
        k: Inner size.
        count: Executions.
    """

    name: str
    batch: float
    m: float
    n: float
    k: float
    cause: str = "attention"
    count: float = 1.0

    def flops(self) -> float:
        """`2 m n k` each."""
        return 2.0 * self.batch * self.m * self.n * self.k

    def bytes(self) -> float:
        """Both operands and the result [B]."""
        return 2.0 * self.batch * (self.m * self.k + self.k * self.n + self.m * self.n)


@dataclass(frozen=True, kw_only=True)
class WeightGradient:
    """Gradient of a linear layer's `m x n` weights from `k` tokens, added to what earlier micro-batches left.

    Attributes:
        name: Label.
        m: Rows of the weights.
        n: Columns.
        k: Tokens.
        dtype: Format of the product.
        sum_bytes: Bytes of one accumulated gradient.
        cause: Label in breakdowns.
        count: Executions.
    """

    name: str
    m: float
    n: float
    k: float
    dtype: str
    sum_bytes: float
    cause: str = "linear"
    count: float = 1.0

    def flops(self) -> float:
        """`2 m n k`."""
        return 2.0 * self.m * self.n * self.k

    def bytes(self) -> float:
        """Both operands read in 16 bits, the sum read and written [B]."""
        return 2.0 * self.k * (self.m + self.n) + 2.0 * self.sum_bytes * self.m * self.n


TrainingOperator: TypeAlias = Operator | FlashAttention | Scan | Quantise | BatchedGemm | WeightGradient


def stream(name: str, moved_bytes: float, count: float = 1.0, *, cause: str = "norm_activation") -> Elementwise:
    """A kernel that reads and writes so many bytes [B]."""
    return Elementwise(name=name, cause=cause, moved_bytes=moved_bytes, count=count)


def matrix_flops(operator: TrainingOperator) -> float:
    """Matrix FLOPs of all executions of an operator."""
    return float(operator.flops()) * operator.count
