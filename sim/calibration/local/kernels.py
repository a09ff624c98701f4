"""The PyTorch calls that a profile times, one builder per kind of case.

Weights, keys and values come from the pool of cold operands, as in a model whose layers evict each other's; activations
are warm, since the kernel before has just written them. The `blocks` are those of the check's `transformer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sim.calibration.local import blocks
from sim.calibration.local.operands import Backend, Pool
from sim.calibration.local.samples import Case
from sim.calibration.local.shapes import FEED_FORWARD_WIDTHS, KEY_WIDTHS

Work = Callable[[], object]

HEAD_DIM: Final = 64
"""Head dimension of the elementwise cases."""

CACHE_TOKENS: Final = 64
"""Spare room behind the new tokens in the cache that `cache_write` writes to."""


def build(backend: Backend, pool: Pool, case: Case) -> Work:
    """A call that executes `case` once, as often as it is called."""
    return _BUILDERS[case.kind](backend, pool, case)


def _copy(backend: Backend, pool: Pool, case: Case) -> Work:
    elements = case.bytes // backend.dtype(case.dtype).itemsize
    source = backend.random(elements, dtype=case.dtype)
    if case.operation == "read":
        return lambda: source.sum()
    if case.operation == "from_host":
        source = source.cpu().pin_memory()
    target = backend.random(elements, dtype=case.dtype)
    return lambda: target.copy_(source)


def _gemm(backend: Backend, pool: Pool, case: Case) -> Work:
    x = backend.random(case.m, case.k, dtype=case.dtype)
    linear = backend.torch.nn.functional.linear
    return lambda: linear(x, pool.take(case.n, case.k))


def _attention(backend: Backend, pool: Pool, case: Case) -> Work:
    queries = backend.random(case.batch, case.heads, case.query_tokens, case.head_dim, dtype=case.dtype)
    shape = (case.batch, case.kv_heads, case.kv_tokens, case.head_dim)
    causal = case.kind == "attention_prefill"
    if causal:  # keys and values were computed just before
        keys, values = (backend.random(*shape, dtype=case.dtype) for _ in range(2))
        return lambda: blocks.attend(backend.torch, queries, keys, values, causal=True)
    return lambda: blocks.attend(backend.torch, queries, pool.take(*shape), pool.take(*shape), causal=False)


def _elementwise(backend: Backend, pool: Pool, case: Case) -> Work:
    torch, tokens, width = backend.torch, case.m, case.n

    def tensor(*shape: int) -> Any:
        return backend.random(*shape, dtype=case.dtype)

    if case.operation == "add_norm":
        x, residual, scale = tensor(tokens, width), tensor(tokens, width), tensor(width)
        return lambda: blocks.add_norm(torch, x, residual, scale)
    if case.operation == "activation":
        gate_up = tensor(tokens, 2 * int(FEED_FORWARD_WIDTHS * width))
        return lambda: blocks.gated(torch, gate_up)
    kv_heads = int(KEY_WIDTHS * width) // HEAD_DIM
    keys = tensor(1, kv_heads, tokens, HEAD_DIM)
    if case.operation == "rope":
        queries, angles = tensor(1, width // HEAD_DIM, tokens, HEAD_DIM), (tensor(tokens, HEAD_DIM),) * 2
        return lambda: (blocks.rotate(torch, queries, *angles), blocks.rotate(torch, keys, *angles))
    cache = tensor(2, 1, kv_heads, tokens + CACHE_TOKENS, HEAD_DIM)
    return lambda: blocks.write_cache(cache, keys, keys, start=CACHE_TOKENS)


def _embedding(backend: Backend, pool: Pool, case: Case) -> Work:
    torch = backend.torch
    table = pool.table(case.n)
    chosen = torch.randint(table.shape[0], (case.m,), device=backend.device)
    return lambda: torch.nn.functional.embedding(chosen, table)


def _sampling(backend: Backend, pool: Pool, case: Case) -> Work:
    logits = backend.random(case.m, case.n, dtype=case.dtype)
    return lambda: blocks.sample(backend.torch, logits)


_BUILDERS: Final[dict[str, Callable[[Backend, Pool, Case], Work]]] = {
    "copy": _copy,
    "gemm": _gemm,
    "attention_prefill": _attention,
    "attention_decode": _attention,
    "elementwise": _elementwise,
    "embedding": _embedding,
    "sampling": _sampling,
}
