"""The layers that training models: attention over all keys or a window, a recurrence, a feed-forward block, or two.

Models whose layers are something else (indexers, merged tokens) are refused as reasons.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from sim.core import InputError, Reason
from sim.models import GQA, MLA, Dense, GatedDelta, LayerGroup, Mamba2, MoE
from sim.models.matrices import matrices

Attention: TypeAlias = GQA | MLA
Recurrence: TypeAlias = GatedDelta | Mamba2


class Blocks(NamedTuple):
    """The two blocks of a layer; None where it lacks one."""

    mixer: Attention | Recurrence | None
    ffn: Dense | MoE | None

    @property
    def attention(self) -> Attention | None:
        """The mixer, if it is attention."""
        return self.mixer if isinstance(self.mixer, GQA | MLA) else None

    @property
    def recurrence(self) -> Recurrence | None:
        """The mixer, if it is a recurrence."""
        return self.mixer if isinstance(self.mixer, GatedDelta | Mamba2) else None


def unmodelled(group: LayerGroup) -> str | None:
    """What of these layers training does not model; None if it models all of it."""
    mixer = group.attention
    if isinstance(mixer, GQA | MLA) and (mixer.indexer is not None or mixer.top_k is not None):
        return "attention to keys that an indexer picks"
    if mixer is not None and not isinstance(mixer, GQA | MLA | GatedDelta | Mamba2):
        return f"layers with {mixer.kind} attention"
    return None


def blocks_of(group: LayerGroup) -> Blocks:
    """Attention or recurrence, and feed-forward block, of the layers.

    Raises:
        InputError: if training does not model them.
    """
    mixer = group.attention
    if (what := unmodelled(group)) or not isinstance(mixer, GQA | MLA | GatedDelta | Mamba2 | None):
        raise InputError(f"training does not model {what}")
    return Blocks(mixer, group.ffn)


class Product(NamedTuple):
    """The weights of one product on one rank.

    Attributes:
        name: Label.
        rows: Width of the input.
        columns: Width of the result.
        plain: Whether it stays in 16 bits in any recipe.
        parts: Columns of each of the matrices that it joins.
    """

    name: str
    rows: float
    columns: float
    plain: bool
    parts: tuple[float, ...]


def products(mixer: Attention | Recurrence, hidden: int, *, tp: int) -> list[Product]:
    """Products of one attention block or recurrence on one of `tp` ranks.

    Queries, keys and values are projected by one product, keys and values of a latent by another (Megatron-LM); the
    compressions of latent attention stay apart and whole on every rank.
    """
    found: dict[str, Product] = {}
    for index, matrix in enumerate(matrices(mixer, hidden)):
        name = {"k_up": "kv_up", "v_up": "kv_up", "qkv_down": f"down_{index}"}.get(matrix.gemm, matrix.gemm)
        rows, columns = matrix.on_rank(tp)
        parts = (*(found[name].parts if name in found else ()), columns)
        found[name] = Product(name, rows, sum(parts), not matrix.quantised, parts)
    return list(found.values())


# ---- what tensor-parallel ranks can divide ----


def indivisible(blocks: Blocks, tp: int) -> Iterator[Reason]:
    """Why `tp` ranks cannot divide the layers; nothing if they can."""
    mixer, ffn = blocks
    if mixer is not None and (mixer.heads % tp or (isinstance(mixer, GatedDelta) and mixer.key_heads % tp)):
        heads = min(mixer.heads, mixer.key_heads) if isinstance(mixer, GatedDelta) else mixer.heads
        what = "query heads" if blocks.attention else "heads of a recurrence"
        yield Reason(
            "heads",
            f"{heads} {what} do not divide by tp {tp}; the nearest tp are {nearest_divisors(heads, tp)}",
            {"heads": heads, "tp": tp},
        )
    groups = mixer.kv_heads if isinstance(mixer, GQA) else mixer.groups if isinstance(mixer, Mamba2) else tp
    if groups % tp and tp % groups:
        what = "KV heads" if blocks.attention else "groups of heads"
        yield Reason(
            "kv_heads",
            f"{groups} {what} neither divide by tp {tp} nor can be copied evenly",
            {"kv_heads": groups, "tp": tp},
        )
    if ffn is not None and ffn.intermediate % tp:
        width = ffn.intermediate
        yield Reason("width", f"feed-forward width {width} does not divide by tp {tp}", {"width": width, "tp": tp})


def indivisible_scan(mixer: Recurrence, *, tp: int, cp: int) -> Iterator[Reason]:
    """Why context-parallel ranks cannot divide the heads of a recurrence; nothing if they can."""
    heads = (min(mixer.heads, mixer.key_heads) if isinstance(mixer, GatedDelta) else mixer.heads) // tp
    numbers = {"heads": heads, "tp": tp, "cp": cp}
    if heads % cp:
        yield Reason(
            "context_parallel",
            f"the state of a recurrence passes through the whole sequence, so cp {cp} ranks divide its heads, of which "
            f"tp {tp} leaves {heads}; the nearest cp are {nearest_divisors(heads, cp)}",
            numbers,
        )
    elif isinstance(mixer, Mamba2) and mixer.groups % (tp * cp) and (tp * cp) % mixer.groups:
        yield Reason(
            "context_parallel",
            f"{mixer.groups} groups of heads neither divide by tp {tp} x cp {cp} nor can be copied evenly",
            {**numbers, "groups": mixer.groups},
        )


def nearest_divisors(total: int, wanted: int) -> str:
    """Divisors of `total` on either side of the wanted number, as text."""
    divisors = [n for n in range(1, min(total, 100_000) + 1) if total % n == 0]
    below = [n for n in divisors if n < wanted][-1:]
    above = [n for n in divisors if n > wanted][:1]
    return " and ".join(map(str, below + above))
