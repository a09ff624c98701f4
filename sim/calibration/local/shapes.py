"""Which kernel shapes a profile measures: those of transformers from 0.1 to 70 billion weights, few but spread out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sim.calibration.local.samples import Case
from sim.models import activation_bytes

FEED_FORWARD_WIDTHS = 2.75
"""Feed-forward over residual width in the elementwise cases (Llama: 2.69 to 3.5)."""

KEY_WIDTHS = 0.25
"""Width of all keys over the residual width there: grouped-query attention with four query heads per KV head."""


@dataclass(frozen=True)
class Grid:
    """Sizes to measure.

    Attributes:
        buffers_in_caches: Buffers of copies, in units of the last-level cache.
        weights: Weight matrices of GEMMs `(n, k)`.
        rows: Rows of GEMMs.
        heads: `(heads, kv_heads, head_dim)` of attention.
        prompts: Prompt lengths [tokens].
        batches: Batches of decode attention.
        contexts: Contexts of decode attention [tokens].
        widths: Residual widths of the elementwise blocks.
        tokens: Tokens of the elementwise blocks.
        vocabulary: Entries of a row of logits.
    """

    buffers_in_caches: Sequence[float]
    weights: Sequence[tuple[int, int]]
    rows: Sequence[int]
    heads: Sequence[tuple[int, int, int]]
    prompts: Sequence[int]
    batches: Sequence[int]
    contexts: Sequence[int]
    widths: Sequence[int]
    tokens: Sequence[int]
    vocabulary: Sequence[int]


QUICK = Grid(
    buffers_in_caches=(2, 4),
    weights=((768, 768), (2304, 1536), (8192, 1536), (1536, 4096), (12288, 2048), (2048, 256)),
    rows=(1, 2, 4, 8, 16, 64, 256),
    heads=((16, 4, 64), (8, 8, 64), (16, 8, 128)),
    prompts=(32, 64, 128, 256, 512, 1024),
    batches=(1, 2, 8),
    contexts=(64, 256, 1024),
    widths=(1024,),
    tokens=(1, 8, 64, 512),
    vocabulary=(2048, 16384),
)
"""Seconds on one core."""

FULL = Grid(
    buffers_in_caches=(2, 4),
    weights=(*QUICK.weights, (768, 2048), (3072, 2048), (2048, 2048), (2048, 5504), (4096, 4096), (32768, 1536)),
    rows=(1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    heads=(*QUICK.heads, (32, 8, 64), (32, 8, 128), (16, 16, 64), (8, 2, 128)),
    prompts=(32, 64, 128, 192, 256, 384, 512, 1024, 2048),
    batches=(1, 2, 4, 8, 16),
    contexts=(64, 256, 1024, 4096),
    widths=(1024, 4096),
    tokens=(1, 4, 16, 64, 256, 1024),
    vocabulary=(16384, 128256),
)
"""What a processor gets by default; some minutes."""

ACCELERATOR = Grid(
    buffers_in_caches=(2, 4, 8, 16),
    weights=((1024, 1024), (4096, 1024), (1024, 4096), (6144, 4096), (4096, 4096), (28672, 4096), (8192, 8192)),
    rows=(1, 8, 16, 64, 128, 256, 512, 1024, 4096),
    heads=((32, 8, 128), (32, 32, 128), (16, 4, 64), (8, 1, 128)),
    prompts=(64, 256, 1024, 2048, 4096, 8192),
    batches=(1, 4, 16, 64),
    contexts=(128, 512, 2048, 8192),
    widths=(4096, 8192),
    tokens=(1, 16, 128, 1024, 8192),
    vocabulary=(32768, 128256),
)
"""Shapes that fill a GPU."""


def cases(grid: Grid, dtype: str, *, cache_bytes: float, limit_bytes: float) -> list[Case]:
    """All kernel cases of `grid` in `dtype`, copies first, so that an interrupted profile has what others build on.

    Args:
        grid: The sizes.
        dtype: Format of the operands.
        cache_bytes: Last-level cache of the device [B].
        limit_bytes: Largest operands of a case [B].
    """
    found = [*_copies(grid, dtype, cache_bytes), *_gemms(grid, dtype), *_attention(grid, dtype), *_streams(grid, dtype)]
    return [case for case in found if operand_bytes(case) <= limit_bytes]


def operand_bytes(case: Case) -> float:
    """Bytes of the operands that a case reads from memory: weights, keys and values, or buffers [B]."""
    elements = float(case.n * case.k + 2 * case.batch * case.kv_tokens * case.kv_heads * case.head_dim)
    return elements * activation_bytes(case.dtype) + case.bytes


def _gemms(grid: Grid, dtype: str) -> Iterator[Case]:
    for n, k in grid.weights:
        yield from (Case(kind="gemm", dtype=dtype, m=m, n=n, k=k) for m in grid.rows)


def _copies(grid: Grid, dtype: str, cache_bytes: float) -> Iterator[Case]:
    for operation in ("copy", "read"):
        for caches in grid.buffers_in_caches:
            yield Case(kind="copy", dtype=dtype, operation=operation, bytes=int(caches * cache_bytes))


def _attention(grid: Grid, dtype: str) -> Iterator[Case]:
    for heads, kv_heads, head_dim in grid.heads:
        shape: dict[str, Any] = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
        for tokens in grid.prompts:
            yield Case(kind="attention_prefill", dtype=dtype, batch=1, query_tokens=tokens, kv_tokens=tokens, **shape)
        for batch in grid.batches:
            for context in grid.contexts:
                yield Case(
                    kind="attention_decode", dtype=dtype, batch=batch, query_tokens=1, kv_tokens=context, **shape
                )


def _streams(grid: Grid, dtype: str) -> Iterator[Case]:
    """Blocks between the products of a layer, with the least bytes that they must move (as in `sim.models.expand`)."""
    element = activation_bytes(dtype)
    for width in grid.widths:
        elements = {
            "add_norm": 4 * width,
            "activation": 3 * FEED_FORWARD_WIDTHS * width,
            "rope": 2 * (1 + KEY_WIDTHS) * width,
            "cache_write": 4 * KEY_WIDTHS * width,
        }
        for tokens in grid.tokens:
            for operation, per_token in elements.items():
                moved = int(element * per_token * tokens)
                yield Case(kind="elementwise", dtype=dtype, operation=operation, m=tokens, n=width, bytes=moved)
            moved = int(2 * element * width * tokens)
            yield Case(kind="embedding", dtype=dtype, m=tokens, n=width, bytes=moved)
    for entries in grid.vocabulary:
        for rows in grid.batches:
            yield Case(kind="sampling", dtype=dtype, m=rows, n=entries, bytes=12 * rows * entries)
