"""Blocks of a Llama-like transformer as PyTorch calls: timed alone by a profile, and run by the model of its check.

Every function takes the `torch` module first, since PyTorch is optional and imported by the caller.
"""

from __future__ import annotations

from typing import Any

EPSILON = 1e-5
TEMPERATURE = 0.8


def add_norm(torch: Any, x: Any, residual: Any, scale: Any) -> tuple[Any, Any]:
    """The new residual, and its RMS norm."""
    summed = x + residual
    return summed, torch.nn.functional.rms_norm(summed, (summed.shape[-1],), scale, EPSILON)


def gated(torch: Any, gate_up: Any) -> Any:
    """SwiGLU of gate and up projections that lie side by side."""
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


def rotate(torch: Any, x: Any, cosines: Any, sines: Any) -> Any:
    """Rotary position embedding of `x`, shape `(batch, heads, tokens, head_dim)`; angles `(tokens, head_dim)`."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines


def write_cache(cache: Any, keys: Any, values: Any, *, start: int) -> None:
    """Writes new keys and values behind `start` tokens of `cache`, shape `(2, batch, kv_heads, tokens, head_dim)`."""
    end = start + keys.shape[-2]
    cache[0, :, :, start:end] = keys
    cache[1, :, :, start:end] = values


def attend(torch: Any, queries: Any, keys: Any, values: Any, *, causal: bool) -> Any:
    """Attention, grouped where there are fewer KV heads than query heads."""
    grouped = queries.shape[1] != keys.shape[1]
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(queries, keys, values, is_causal=causal, enable_gqa=grouped)


def sample(torch: Any, logits: Any) -> Any:
    """One token per row: softmax at a temperature, exponential noise, arg-max (the Gumbel trick)."""
    chances = torch.softmax(logits.float() / TEMPERATURE, dim=-1)
    return (chances / torch.empty_like(chances).exponential_()).argmax(dim=-1)
