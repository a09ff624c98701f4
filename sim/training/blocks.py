"""The layers that training models: attention over all keys or a window, with a feed-forward block.

Models whose layers are something else (recurrences, indexers, merged tokens, one block alone) are refused as reasons.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.core import InputError
from sim.models import GQA, MLA, Dense, LayerGroup, MoE
from sim.models.matrices import matrices


class Blocks(NamedTuple):
    """The two blocks of a layer."""

    attention: GQA | MLA
    ffn: Dense | MoE


def unmodelled(group: LayerGroup) -> str | None:
    """What of these layers training does not model; None if it models all of it."""
    attention, ffn = group.attention, group.ffn
    if not isinstance(attention, GQA | MLA):
        return f"layers with {'no attention' if attention is None else attention.kind}"
    if attention.indexer is not None:
        return "attention to keys that an indexer picks"
    if not isinstance(ffn, Dense | MoE):
        return "layers without a feed-forward block"
    if isinstance(ffn, MoE) and ffn.latent:
        return "experts in a width of their own"
    return None


def blocks_of(group: LayerGroup) -> Blocks:
    """Attention and feed-forward block of the layers.

    Raises:
        InputError: if training does not model them.
    """
    attention, ffn = group.attention, group.ffn
    if (what := unmodelled(group)) or not isinstance(attention, GQA | MLA) or not isinstance(ffn, Dense | MoE):
        raise InputError(f"training does not model {what}")
    return Blocks(attention, ffn)


def products(attention: GQA | MLA, hidden: int, *, tp: int) -> dict[str, tuple[float, float]]:
    """Rows and columns of each product of one attention block on one of `tp` ranks, by name.

    Queries, keys and values are projected by one product, keys and values of a latent by another (Megatron-LM); the
    compressions of latent attention stay apart and whole on every rank.
    """
    found: dict[str, tuple[float, float]] = {}
    for index, matrix in enumerate(matrices(attention, hidden)):
        name = {"k_up": "kv_up", "v_up": "kv_up", "qkv_down": f"down_{index}"}.get(matrix.gemm, matrix.gemm)
        rows, columns = matrix.on_rank(tp)
        found[name] = (rows, found.get(name, (rows, 0.0))[1] + columns)
    return found
