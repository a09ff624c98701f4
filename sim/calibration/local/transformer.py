"""A small Llama-like transformer in PyTorch: the machine's answer to what the check predicts.

Projections of query, key and value are one product, so are gate and up: that is what `sim.models.expand` describes.
Weights are random; only time is of interest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sim.calibration.local import blocks
from sim.calibration.local.operands import Backend
from sim.models import GQA, Dense, ModelSpec

_ROPE_BASE = 10_000.0


@dataclass(frozen=True)
class _Layer:
    """Weights of one layer, shape `(outputs, inputs)` each, and the scales of its norms."""

    qkv: Any
    out: Any
    gate_up: Any
    down: Any
    attention_norm: Any
    ffn_norm: Any

    def tensors(self) -> list[Any]:
        """All weights."""
        return [self.qkv, self.out, self.gate_up, self.down, self.attention_norm, self.ffn_norm]


class Transformer:
    """The model that `spec` describes, with random weights.

    Args:
        backend: Where it runs.
        spec: A dense model with grouped-query attention, in `spec.dtype`.
    """

    def __init__(self, backend: Backend, spec: ModelSpec) -> None:
        self._torch = backend.torch
        self._backend = backend
        self._spec = spec
        group = spec.layers[0]
        if not isinstance(group.attention, GQA) or not isinstance(group.ffn, Dense):
            raise TypeError("the check runs dense models with grouped-query attention")
        self.attention, inner = group.attention, group.ffn.intermediate
        hidden, dtype = spec.hidden_size, spec.dtype
        queries, keys = (n * self.attention.head_dim for n in (self.attention.heads, self.attention.kv_heads))

        def weight(outputs: int, inputs: int) -> Any:
            return backend.random(outputs, inputs, dtype=dtype).mul_(inputs**-0.5)

        def scale() -> Any:
            return backend.torch.ones(hidden, dtype=backend.dtype(dtype), device=backend.device)

        self._layers = [
            _Layer(
                qkv=weight(queries + 2 * keys, hidden),
                out=weight(hidden, queries),
                gate_up=weight(2 * inner, hidden),
                down=weight(hidden, inner),
                attention_norm=scale(),
                ffn_norm=scale(),
            )
            for _ in range(spec.n_layers)
        ]
        self._embedding = weight(spec.vocab_size, hidden)
        self._head = weight(spec.vocab_size, hidden)
        self._norm = scale()
        self._cosines, self._sines = self._angles(spec.max_position_embeddings)

    def parameters(self) -> list[Any]:
        """All weights."""
        return [self._embedding, self._head, self._norm, *(t for layer in self._layers for t in layer.tensors())]

    def cache(self, batch: int, tokens: int) -> list[Any]:
        """Room for keys and values, one tensor `(2, batch, kv_heads, tokens, head_dim)` per layer."""
        shape = (2, batch, self.attention.kv_heads, tokens, self.attention.head_dim)
        return [self._backend.random(*shape, dtype=self._spec.dtype) for _ in self._layers]

    def step(self, tokens: Any, cache: list[Any], *, start: int) -> Any:
        """The next token of every sequence after `tokens`, shape `(batch, new)`, behind `start` cached ones."""
        hidden = self._forward(tokens, cache, start)
        return blocks.sample(self._torch, self._torch.nn.functional.linear(hidden[:, -1], self._head))

    def loss(self, tokens: Any, targets: Any) -> Any:
        """Mean cross-entropy of `targets`, shape `(batch, tokens)` like `tokens`."""
        logits = self._torch.nn.functional.linear(self._forward(tokens, None, 0), self._head)
        return self._torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def _forward(self, tokens: Any, cache: list[Any] | None, start: int) -> Any:
        """Hidden states `(batch, new, width)` after the final norm."""
        functional = self._torch.nn.functional
        end = start + tokens.shape[1]
        angles = (self._cosines[start:end], self._sines[start:end])
        update = functional.embedding(tokens, self._embedding)
        residual = self._torch.zeros_like(update)
        for index, layer in enumerate(self._layers):
            residual, normed = blocks.add_norm(self._torch, update, residual, layer.attention_norm)
            mixed = self._attend(layer, normed, None if cache is None else cache[index], angles, start)
            update = functional.linear(mixed, layer.out)
            residual, normed = blocks.add_norm(self._torch, update, residual, layer.ffn_norm)
            inner = blocks.gated(self._torch, functional.linear(normed, layer.gate_up))
            update = functional.linear(inner, layer.down)
        return blocks.add_norm(self._torch, update, residual, self._norm)[1]

    def _attend(self, layer: _Layer, x: Any, cache: Any, angles: tuple[Any, Any], start: int) -> Any:
        a, (batch, new, _) = self.attention, x.shape
        qkv = self._torch.nn.functional.linear(x, layer.qkv).view(batch, new, -1, a.head_dim).transpose(1, 2)
        queries, keys, values = qkv.split((a.heads, a.kv_heads, a.kv_heads), dim=1)
        queries = blocks.rotate(self._torch, queries, *angles)
        keys = blocks.rotate(self._torch, keys, *angles)
        if cache is not None:
            blocks.write_cache(cache, keys, values, start=start)
            keys, values = cache[:, :, :, : start + new]
        mixed = blocks.attend(self._torch, queries, keys, values, causal=new > 1)
        return mixed.transpose(1, 2).reshape(batch, new, -1)

    def _angles(self, positions: int) -> tuple[Any, Any]:
        """Cosines and sines of the rotary embedding, `(positions, head_dim)` each."""
        torch, half = self._torch, self.attention.head_dim // 2
        rates = _ROPE_BASE ** (-torch.arange(half, device=self._backend.device) / half)
        turns = torch.arange(positions, device=self._backend.device)[:, None] * rates
        both = torch.cat((turns, turns), dim=-1)
        dtype = self._backend.dtype(self._spec.dtype)
        return both.cos().to(dtype), both.sin().to(dtype)
