"""Work of one transformer layer: forward, backward by input and by weight, and what recomputation adds.

Kernels are those of Megatron-LM: fused bias, dropout and residual; fused activation; one projection for queries, keys
and values. Collectives follow Megatron-LM too (arXiv 1909.08053, 2205.05198): two all-reduces forward and two backward
over the tensor-parallel ranks, or with sequence parallelism an all-gather and a reduce-scatter in the place of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from sim.models import GQA, MLA, Collective, Dense, Gemm, GroupedGemm, LayerGroup, ModelSpec, MoE
from sim.training.adapters import adapter_work, unpacking
from sim.training.attention import core_backward, core_forward, head_dims, heads_per_rank
from sim.training.blocks import Attention, Recurrence, blocks_of, products
from sim.training.context import exchanges
from sim.training.operators import Quantise, TrainingOperator, WeightGradient, stream
from sim.training.precision import PLAIN, Recipe
from sim.training.recurrence import scan_backward, scan_forward
from sim.training.shape import WorkShape

_BYTES = 2.0
_NORM_BYTES = 4.0
"""Read and written once in 16 bits."""
_NORM_BACKWARD_BYTES = 6.0
"""Input and gradient read, gradient written."""
_MASK_BYTES = 1.0
_SHARD_COPY_BYTES = 4.0
"""Read and written in 16 bits: a gathered weight on its way out of the buffer (`foreach_all_gather_copy_out`)."""
_FROM_ATTENTION = ("o", "o_down")
"""Products whose input no norm or activation makes."""
_NORMED = ("qkv", "q_up", "kv_up", "ffn_in", "in")
"""Products that modules of Transformer Engine join with the norm in front of them."""
_GATHERED = ("qkv", "ffn_in")
"""Products whose input sequence-parallel ranks gather, and the others, the gradient of whose result they do."""
_SCATTERED = ("o", "ffn_out")
_INTO_ACTIVATION = ("ffn_in",)
"""Products whose result an activation takes, and so makes the gradient of."""


_CHEAP: Final = ("norm", "activation")
_UP_PROJECTIONS: Final = ("q_up", "kv_up")

_Block = tuple[list[TrainingOperator], list[TrainingOperator], list[TrainingOperator]]
"""Forward, backward by input, backward by weight."""


class LayerWork(NamedTuple):
    """Operators of one layer on one rank.

    Attributes:
        forward: The forward pass.
        backward_input: Gradients of inputs, with collectives and element-wise kernels.
        backward_weight: Gradients of weights.
        core: What selective recomputation repeats: the attention core.
        cheap: What `cheap` recomputation repeats: norms, activations and up-projections of latent attention.
        blocks: Forward, backward by input and by weight of each block whose tensor-parallel collectives can run beside
            its products; experts are none, whose grouped products are not cut.
    """

    forward: list[TrainingOperator]
    backward_input: list[TrainingOperator]
    backward_weight: list[TrainingOperator]
    core: list[TrainingOperator]
    cheap: Sequence[TrainingOperator] = ()
    blocks: Sequence[_Block] = ()


def layer_work(model: ModelSpec, group: LayerGroup, shape: WorkShape) -> LayerWork:
    """The work of one layer of `group` on one rank.

    Branches in parallel share the input gathered for them and are summed before one reduction: half the collectives of
    a layer (Wang and Komatsuzaki, GPT-J, 2021; Chowdhery et al., PaLM, arXiv 2204.02311, section 2). Their products
    stay apart.
    """
    own = blocks_of(group)
    shape = replace(shape, recipe=PLAIN) if group.kept_16bit else shape
    parts: list[_Block] = []
    if own.attention is not None:
        parts.append(_attention_block(model, own.attention, shape))
    if own.recurrence is not None:
        parts.append(_recurrent_block(model, own.recurrence, shape))
    if own.ffn is not None:
        parts.append(_feed_forward_block(model, own.ffn, shape))
    shared: _Block = (*tensor_collectives(model, shape), [])
    blocks = [_joined([one, shared]) for one in ([_joined(parts)] if group.parallel else parts)]
    if isinstance(own.ffn, MoE):  # always in the last one
        blocks.pop()
    parts += [shared] * group.blocks
    streams = _residual_streams(model, group, shape)
    forward, backward_input, backward_weight = _joined(parts)
    core = [] if own.attention is None else core_forward(own.attention, shape)
    forward += streams[0]
    cheap = [o for o in forward if o.name in _CHEAP or o.name.removesuffix("_cast") in _UP_PROJECTIONS]
    if isinstance(own.ffn, MoE):  # the grouped product has its activation within
        elements = shape.tokens * own.ffn.top_k * own.ffn.intermediate / shape.tp
        cheap.append(stream("activation", _BYTES * (3.0 if own.ffn.gated else 2.0) * elements))
    return LayerWork(forward, [*backward_input, *streams[1]], backward_weight, core, cheap, blocks)


def _residual_streams(
    model: ModelSpec, group: LayerGroup, shape: WorkShape
) -> tuple[list[TrainingOperator], list[TrainingOperator]]:
    """Norms and additions to the residual (with bias and dropout), forward and backward; one reads both branches."""
    rows = shape.residual_tokens * model.hidden_size
    mask = _MASK_BYTES * group.branches / group.blocks if shape.dropout else 0.0
    read = 2.0 + 2.0 * group.branches / group.blocks
    return (
        [
            stream("norm", _NORM_BYTES * rows, model.norms_of(group)),
            stream("residual", (read + 2.0 + mask) * rows, group.blocks),
        ],
        [
            stream("norm_backward", _NORM_BACKWARD_BYTES * rows, model.norms_of(group)),
            stream("residual_backward", (4.0 + mask) * rows, group.blocks),
        ],
    )


def _attention_block(model: ModelSpec, attention: GQA | MLA, shape: WorkShape) -> _Block:
    linears = _mixer_linears(model, attention, shape)
    (heads, kv_heads), (width, v_width) = heads_per_rank(attention, shape.tp), head_dims(attention)
    elements = shape.tokens * (heads * width + kv_heads * (width + v_width))
    prepare = 2.0 * _BYTES * elements  # position and layout of queries, keys and values: read and written
    gated = _BYTES * shape.tokens * heads * v_width if attention.output_gate else 0.0
    context = exchanges(attention, shape)
    forward: list[TrainingOperator] = [
        *linears[0],
        stream("attention_prepare", prepare),
        *context[0],
        *core_forward(attention, shape),
        *_stream_pair("output_gate", 3.0, gated)[0],
    ]
    backward: list[TrainingOperator] = [
        *linears[1],
        stream("attention_prepare_backward", prepare),
        *context[1],
        *core_backward(attention, shape),
        *_stream_pair("output_gate", 3.0, gated)[1],
    ]
    return forward, backward, linears[2]


def _recurrent_block(model: ModelSpec, mixer: Recurrence, shape: WorkShape) -> _Block:
    linears = _mixer_linears(model, mixer, shape)
    return [*linears[0], *scan_forward(mixer, shape)], [*linears[1], *scan_backward(mixer, shape)], linears[2]


def _mixer_linears(model: ModelSpec, mixer: Attention | Recurrence, shape: WorkShape) -> _Block:
    """Projections around attention or a recurrence; those into heads are divided by columns, the output by rows."""
    found = products(mixer, model.hidden_size, tp=shape.tp)
    return _joined([linear(p.name, p.rows, p.columns, shape, plain=p.plain, parts=p.parts) for p in found])


def _feed_forward_block(model: ModelSpec, ffn: Dense | MoE, shape: WorkShape) -> _Block:
    if isinstance(ffn, Dense):
        return _dense(model, ffn.intermediate, shape, gated=ffn.gated)
    return _experts(model, ffn, shape)


def _dense(model: ModelSpec, width: float, shape: WorkShape, *, gated: bool) -> _Block:
    """Input projections, activation and output projection of a dense block."""
    inputs, own = (2.0 if gated else 1.0), width / shape.tp
    into = linear("ffn_in", model.hidden_size, inputs * own, shape, parts=(own,) * int(inputs))
    out = linear("ffn_out", own, model.hidden_size, shape)
    elements = shape.tokens * own
    forward, backward, weight = _joined([into, out])
    return (
        [*forward, stream("activation", _BYTES * (inputs + 1.0) * elements)],
        [*backward, stream("activation_backward", _BYTES * (2.0 * inputs + 1.0) * elements)],
        weight,
    )


def _experts(model: ModelSpec, ffn: MoE, shape: WorkShape) -> _Block:
    """Router, dispatch, routed and shared experts, combination.

    Experts are spread over `ep` data-parallel ranks and divided over the tensor-parallel ones. The grouped product
    backward is as much work again by input, and by weight.
    """
    hidden, pairs = model.hidden_size, shape.tokens * ffn.top_k
    width = ffn.latent or hidden
    grouped = GroupedGemm(
        name="experts",
        cause="experts",
        tokens=shape.tokens * shape.ep,
        experts=ffn.experts / shape.ep,
        total_experts=ffn.experts,
        top_k=ffn.top_k,
        hidden=width,
        intermediate=ffn.intermediate / shape.tp,
        gated=ffn.gated,
        weights_dtype=shape.recipe.dtype,
    )
    router = linear("router", hidden, ffn.experts, shape, plain=True)
    moves: list[TrainingOperator] = [stream("permute", 2.0 * _BYTES * pairs * width, 2.0)]
    if shape.ep > 1:
        moves += [
            Collective(name=name, cause="ep_comm", kind="all_to_all", buffer_bytes=each * pairs * width, group="ep")
            for name, each in (("dispatch", shape.recipe.dispatch_bytes), ("combine", _BYTES))
        ]
    inner = ffn.intermediate / shape.tp
    into = operand_casts(
        shape.recipe,
        "ffn_in",
        inputs=pairs * width,
        gradients=pairs * inner * (2.0 if ffn.gated else 1.0),
        normed=shape.recipe.dispatch_bytes < _BYTES,
    )
    out = operand_casts(shape.recipe, "ffn_out", inputs=pairs * inner, gradients=pairs * width)
    weights = grouped.experts * grouped.expert_weights()
    unpack = [] if shape.adapters is None else unpacking(shape.adapters, weights)
    copies = [_shard_copies(weights, shape)] if shape.copies_shards else []
    parts: _Block = (
        [*router[0], *moves, *into[0], *out[0], *unpack, grouped],
        [*router[1], *moves, *into[1], *out[1], *unpack, grouped],
        [*router[2], *into[2], *out[2], grouped, *copies] if shape.adapters is None else [],
    )
    others = []
    if ffn.latent:
        others += [linear("latent_in", hidden, width, shape), linear("latent_out", width, hidden, shape)]
    if ffn.shared_intermediate:
        others.append(_dense(model, ffn.shared_intermediate, shape, gated=ffn.gated))
    return _joined([parts, *others])


def linear(
    name: str, rows: float, columns: float, shape: WorkShape, *, plain: bool = False, parts: Sequence[float] = ()
) -> _Block:
    """A linear layer with `rows x columns` weights on this rank: product, gradient of the input, of the weights.

    The last is added to what earlier micro-batches left: in the same kernel, or in one of its own that reads both.
    Sharded by parameter (FSDP2), gradients are copied into the reduction's buffer instead, and gathered weights out of
    theirs, once for each pass; both count in the backward pass, which computes neither again. In low precision its
    operands are made first, unless it stays `plain`. Where projections are not fused, each of the
    `parts` has products of its own, which read the input again; their gradients of it are summed element by element.
    """
    if shape.adapters is not None:
        return _frozen(name, rows, columns, shape, plain=plain)
    recipe, tokens = PLAIN if plain else shape.recipe, shape.tokens
    used = recipe.dtype
    widths = parts if parts and not shape.fused_projections else (columns,)
    sum_bytes = _sum_bytes(shape)
    written = sum_bytes if shape.fused_accumulation and not shape.copies_shards else 0.5 * _BYTES
    forward, by_input, by_weight = operand_casts(
        recipe, name, inputs=tokens * rows, gradients=tokens * columns, ranks=shape.tp if shape.sp else 1
    )
    for n in widths:
        forward.append(Gemm(name=name, cause="linear", m=tokens, n=n, k=rows, weights_dtype=used))
        by_input.append(Gemm(name=f"{name}_dgrad", cause="linear", m=tokens, n=rows, k=n, weights_dtype=used))
        by_weight.append(WeightGradient(name=f"{name}_wgrad", m=rows, n=n, k=tokens, dtype=used, sum_bytes=written))
    if shape.copies_shards:
        by_weight.append(_shard_copies(rows * columns, shape))
    elif not shape.fused_accumulation:
        by_weight.append(stream("grad_accumulation", (_BYTES + 2.0 * sum_bytes) * rows * columns))
    return forward, by_input, by_weight


def _shard_copies(weights: float, shape: WorkShape) -> TrainingOperator:
    """Copies of gathered weights out of their buffer, once for each pass, and of gradients into the reduction's."""
    copied = 2.0 * _SHARD_COPY_BYTES + _BYTES + _sum_bytes(shape)
    return stream("shard_copies", copied * weights, cause="dp_comm")


def _sum_bytes(shape: WorkShape) -> float:
    """Bytes of one accumulated gradient [B]."""
    return 4.0 if shape.grad_dtype == "fp32" else 2.0


def _frozen(name: str, rows: float, columns: float, shape: WorkShape, *, plain: bool) -> _Block:
    """A linear layer whose weights are not trained, with its adapter: product and gradient of the input."""
    adapters = shape.adapters
    assert adapters is not None
    recipe, tokens = PLAIN if plain else shape.recipe, shape.tokens
    casts = operand_casts(recipe, name, inputs=tokens * rows, gradients=tokens * columns)
    forward = Gemm(name=name, cause="linear", m=tokens, n=columns, k=rows, weights_dtype=recipe.dtype)
    by_input = Gemm(name=f"{name}_dgrad", cause="linear", m=tokens, n=rows, k=columns, weights_dtype=recipe.dtype)
    unpack = [] if plain else unpacking(adapters, rows * columns)
    base: _Block = [*casts[0], *unpack, forward], [*casts[1], *unpack, by_input], []
    return _joined([base, adapter_work(adapters, name, rows, columns, tokens)])


def operand_casts(
    recipe: Recipe, name: str, *, inputs: float, gradients: float, ranks: int = 1, normed: bool = True
) -> _Block:
    """Passes that make the operands of a linear layer in low precision: forward, by input, by weight.

    Its input comes from a norm or an activation, which may write it in place, but for the attention's output; the
    gradient of its result does from the backward of an activation behind the first product of a feed-forward block.
    Products of experts are not `normed`: other modules permute and send tokens before, unless these go in 8 bits.
    """
    forward, by_input, by_weight = list[TrainingOperator](), list[TrainingOperator](), list[TrainingOperator]()
    made = (None if normed and name in _NORMED else recipe.unnormed_inputs) or recipe.inputs
    for casts, count, fused, first in (
        (made.gathered(ranks if name in _GATHERED else 1), inputs, name not in _FROM_ATTENTION, forward),
        (recipe.gradients.gathered(ranks if name in _SCATTERED else 1), gradients, name in _INTO_ACTIVATION, by_input),
    ):
        if casts.fusible and fused:
            continue
        for moved, target in ((casts.forward_bytes, first), (casts.weight_bytes, by_weight)):
            if moved:
                transform = casts.flops if target is by_weight else 0.0
                target.append(
                    Quantise(
                        name=f"{name}_cast",
                        moved_bytes=moved * count,
                        matrix_flops=transform * count,
                        vector_ops=casts.vector_ops * count,
                    )
                )
    return forward, by_input, by_weight


def tensor_collectives(model: ModelSpec, shape: WorkShape) -> tuple[list[TrainingOperator], list[TrainingOperator]]:
    """Communication of one attention or feed-forward block over the tensor-parallel ranks, forward and backward."""
    if shape.tp == 1:
        return [], []
    rows = shape.tokens * model.hidden_size
    size = _BYTES * rows
    if not shape.sp:
        reduce = Collective(name="tp_all_reduce", cause="tp_comm", kind="all_reduce", buffer_bytes=size, group="tp")
        return [reduce], [reduce]
    gather = Collective(
        name="tp_gather",
        cause="tp_comm",
        kind="all_gather",
        buffer_bytes=shape.recipe.gathered_bytes * rows,
        group="tp",
    )
    scatter = Collective(name="tp_scatter", cause="tp_comm", kind="reduce_scatter", buffer_bytes=size, group="tp")
    return [gather, scatter], [gather, scatter, *([gather] if shape.gathers_again else [])]


def _joined(parts: list[_Block]) -> _Block:
    forward, backward, weight = ([o for part in parts for o in part[i]] for i in range(3))
    return forward, backward, weight


def _stream_pair(name: str, passes: float, size_bytes: float) -> tuple[list[TrainingOperator], list[TrainingOperator]]:
    """A kernel of so many passes over a tensor, and its backward one of two more; nothing for an empty tensor."""
    if not size_bytes:
        return [], []
    return [stream(name, passes * size_bytes)], [stream(f"{name}_backward", (passes + 2.0) * size_bytes)]
