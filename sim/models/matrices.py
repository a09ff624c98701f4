"""The weight matrices of a layer's attention or recurrence: shapes, and how tensor-parallel ranks divide them.

Parameter counts, weight bytes and the GEMMs of an iteration are all read off these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, assert_never

from sim.models.mixers import GQA, MLA, CompressedAttention, GatedDelta, Indexer, Mamba2, Mixer
from sim.models.spec import Part


@dataclass(frozen=True)
class Matrix:
    """One weight matrix, `(k, n)`.

    Attributes:
        gemm: Kernel that it is multiplied in; neighbours of the same name and input share one.
        k: Rows: width of the input.
        n: Columns: width of the result.
        split: What ranks divide: the columns, the rows, the columns by head with copies where there are more ranks than
            heads, or nothing.
        heads: Heads that the columns belong to, where they are divided by head.
        quantised: Whether a quantised checkpoint covers it.
        plain: Whether engines multiply it in the model's own format although the checkpoint covers it.
        alone: Name of its kernel in engines that multiply each input of a recurrent layer by itself; empty, as `gemm`.
    """

    gemm: str
    k: int
    n: int
    split: Literal["columns", "rows", "heads", "none"] = "columns"
    heads: int = 1
    quantised: bool = True
    plain: bool = False
    alone: str = ""

    @property
    def part(self) -> Part:
        """Which part of the layer checkpoints tell apart it is: the output projection, or the rest of attention."""
        return "output" if self.gemm == "o" else "attention"

    def on_rank(self, tp: int) -> tuple[float, float]:
        """Rows and columns on one of `tp` ranks."""
        if self.split == "columns":
            return self.k, self.n / tp
        if self.split == "rows":
            return self.k / tp, self.n
        if self.split == "heads":
            return self.k, self.n * max(1, self.heads // tp) / self.heads
        return self.k, self.n


def matrices(mixer: Mixer, hidden: int) -> tuple[Matrix, ...]:
    """All matrices of one layer's attention or recurrence in a model of width `hidden`."""
    match mixer:
        case GQA():
            return _grouped_query(mixer, hidden)
        case MLA():
            return _latent(mixer, hidden)
        case CompressedAttention():
            return _compressed(mixer, hidden)
        case GatedDelta():
            return _gated_delta(mixer, hidden)
        case Mamba2():
            return _mamba2(mixer, hidden)
        case _:
            assert_never(mixer)


def _grouped_query(a: GQA, hidden: int) -> tuple[Matrix, ...]:
    queries = a.heads * a.head_dim
    qkv = [
        Matrix("qkv", hidden, queries * (2 if a.output_gate else 1)),
        Matrix("qkv", hidden, a.kv_heads * a.head_dim, "heads", a.kv_heads),
    ]
    if not a.keys_as_values:
        qkv.append(Matrix("qkv", hidden, a.kv_heads * a.value_dim, "heads", a.kv_heads))
    return (*qkv, Matrix("o", a.heads * a.value_dim, hidden, "rows"), *_indexer(a.indexer, hidden, hidden))


def _latent(a: MLA, hidden: int) -> tuple[Matrix, ...]:
    queries, values = a.heads * (a.nope_dim + a.rope_dim), a.heads * a.v_dim
    down = Matrix("qkv_down", hidden, a.kv_rank + a.rope_dim, "none")
    if a.q_rank is None:
        query = [down, Matrix("q", hidden, queries)]
    else:
        query = [Matrix("qkv_down", hidden, a.q_rank, "none"), down, Matrix("q_up", a.q_rank, queries)]
    return (
        *query,
        Matrix("k_up", a.kv_rank, a.heads * a.nope_dim, plain=True),
        Matrix("v_up", a.kv_rank, values, plain=True),
        Matrix("o", values, hidden, "rows"),
        *([Matrix("output_gate", hidden, values)] if a.output_gate else []),
        *_indexer(a.indexer, hidden, a.q_rank or hidden),
    )


def _compressed(a: CompressedAttention, hidden: int) -> tuple[Matrix, ...]:
    grouped = a.heads * a.head_dim // a.out_groups
    return (
        Matrix("qkv_down", hidden, a.q_rank, "none"),
        Matrix("qkv_down", hidden, a.head_dim, "none"),
        Matrix("q_up", a.q_rank, a.heads * a.head_dim),
        Matrix("o_down", grouped, a.out_groups * a.out_rank),
        Matrix("o", a.out_groups * a.out_rank, hidden, "rows"),
        *_compressor(a, hidden, a.head_dim, "compress"),
        *_indexer(a.indexer, hidden, a.q_rank, keys=False),
        *(_compressor(a, hidden, a.indexer.head_dim, "index_compress") if a.indexer else ()),
    )


def _compressor(a: CompressedAttention, hidden: int, width: int, name: str) -> tuple[Matrix, ...]:
    """Values and their weights in the merge, twice as wide where each entry is drawn from two groups of tokens."""
    if a.ratio is None:
        return ()
    wide = width * (2 if a.overlap else 1)
    return tuple(Matrix(name, hidden, wide, "none", quantised=False) for _ in range(2))


def _indexer(indexer: Indexer | None, hidden: int, query_width: int, *, keys: bool = True) -> tuple[Matrix, ...]:
    """An indexer's projections; its queries are drawn from `query_width`."""
    if indexer is None:
        return ()
    found = [Matrix("index_q", query_width, indexer.heads * indexer.head_dim, "none")]
    if keys:
        found.append(Matrix("index_k", hidden, indexer.head_dim, "none"))
    if indexer.weighted:
        found.append(Matrix("index_k", hidden, indexer.heads, "none", quantised=False))
    return tuple(found)


def _gated_delta(a: GatedDelta, hidden: int) -> tuple[Matrix, ...]:
    keys, values = a.key_heads * a.key_dim, a.value_heads * a.value_dim
    qkv = (Matrix("qkv", hidden, 2 * keys), Matrix("qkv", hidden, values))
    out = Matrix("o", values, hidden, "rows")
    gate, decay = Matrix("qkv", hidden, values), Matrix("decay", hidden, a.value_heads, quantised=False)
    if a.decay_rank is None:
        if a.inputs_joined:
            return (*qkv, gate, decay, decay, out)
        return (*qkv, replace(gate, alone="gate"), decay, replace(decay, alone="rate"), out)
    return (
        *qkv,
        gate,
        decay,
        Matrix("decay_down", hidden, a.decay_rank, "none", quantised=False),
        Matrix("decay_up", a.decay_rank, keys, quantised=False),
        out,
    )


def _mamba2(a: Mamba2, hidden: int) -> tuple[Matrix, ...]:
    inner = a.heads * a.head_dim
    return (
        Matrix("in", hidden, 2 * inner),
        Matrix("in", hidden, 2 * a.groups * a.state_dim, "heads", a.groups),
        Matrix("in", hidden, a.heads),
        Matrix("o", inner, hidden, "rows"),
    )


def small_parameters(mixer: Mixer, hidden: int, tp: int = 1) -> float:
    """Biases, norms, convolutions and other vectors of one layer's attention or recurrence on one of `tp` ranks."""
    match mixer:
        case GQA():
            return _grouped_query_small(mixer, hidden, tp)
        case MLA():
            return (mixer.q_rank or 0) + mixer.kv_rank + _indexer_norm(mixer.indexer)
        case CompressedAttention():
            return _compressed_small(mixer, tp)
        case GatedDelta():
            # convolution without bias; decay rates and biases; one norm of a head
            biases = mixer.key_heads * mixer.key_dim if mixer.decay_rank else mixer.value_heads
            return (conv_channels(mixer) * mixer.conv_kernel + mixer.value_heads + biases) / tp + mixer.value_dim
        case Mamba2():
            # convolution with bias; decay, skip and step bias; norm
            vectors = 3 * mixer.heads + mixer.heads * mixer.head_dim
            return conv_channels(mixer, tp) * (mixer.conv_kernel + 1) + vectors / tp
        case _:
            assert_never(mixer)


def _indexer_norm(indexer: Indexer | None) -> int:
    return 2 * indexer.head_dim if indexer else 0


def _grouped_query_small(a: GQA, hidden: int, tp: int) -> float:
    columns = [m.on_rank(tp)[1] for m in matrices(a, hidden) if m.gemm == "qkv"]
    count = sum(columns) if a.qkv_bias else 0.0
    count += hidden if a.out_bias else 0
    if a.qk_norm == "width":
        count += columns[0] + columns[1]
    elif a.qk_norm:
        count += 2 * a.head_dim
    return count + (a.heads / tp if a.sinks else 0.0) + _indexer_norm(a.indexer)


def _compressed_small(a: CompressedAttention, tp: int) -> float:
    """Norms of latents, sinks, and per compressor a bias per token of a group and a norm."""
    count = a.q_rank + a.head_dim + a.heads / tp
    widths = [a.head_dim, *([a.indexer.head_dim] if a.indexer else [])] if a.ratio else []
    return count + sum(((a.ratio or 0) * (2 if a.overlap else 1) + 1) * width for width in widths)


def conv_channels(mixer: GatedDelta | Mamba2, tp: int = 1) -> float:
    """Channels of a recurrence's convolution on one of `tp` ranks."""
    if isinstance(mixer, GatedDelta):
        return (2 * mixer.key_heads * mixer.key_dim + mixer.value_heads * mixer.value_dim) / tp
    return mixer.heads * mixer.head_dim / tp + 2 * max(1, mixer.groups // tp) * mixer.state_dim
