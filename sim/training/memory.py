"""Memory of a training rank: states, activations by recomputation and schedule, buffers; it fits or not, with numbers.

Activations follow Korthikanti et al. (arXiv 2205.05198): what the backward pass of each operator needs, in 16 bits,
with one byte per dropout mask. For a GPT layer that is `s b h (34 + 5 a s/h)` bytes, as a test proves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sim.core import Reason
from sim.hardware import Device
from sim.models import GQA, MLA, Dense, LayerGroup, ModelSpec, MoE
from sim.plans import TrainingEngineSpec
from sim.training.adapters import Adapters, adapted_products
from sim.training.attention import head_dims, heads_per_rank
from sim.training.blocks import blocks_of
from sim.training.encoder import encoder_model, encoder_shape
from sim.training.plan import TrainingPlan
from sim.training.precision import PLAIN
from sim.training.recurrence import recurrence_bytes
from sim.training.shape import WorkShape
from sim.training.states import MOMENT_BYTES, PARAM_BYTES, RankParameters, grad_bytes, master_bytes
from sim.training.vocabulary import padded_vocab

_BYTES = 2.0


def layer_activation_bytes(model: ModelSpec, group: LayerGroup, shape: WorkShape) -> float:
    """Bytes that one layer keeps of a micro-batch for its backward pass, without recomputation [B].

    Per token of width h: the input of each norm and of each first product (4h each pair), masks of dropout (h each);
    divided over `tp`: queries, keys, values and the input of the output product, the input of the activation and of
    the last product; for plain attention also `s^2` scores: softmax output, dropout mask and dropout output, 5 bytes.
    """
    shape = replace(shape, recipe=PLAIN) if group.kept_16bit else shape
    attention, recurrence, ffn = blocks_of(group).attention, blocks_of(group).recurrence, group.ffn
    kept = _outside_bytes(model, group, shape)
    kept += 0.0 if attention is None else _attention_bytes(attention, shape)
    kept += 0.0 if recurrence is None else recurrence_bytes(recurrence, shape)
    kept += 0.0 if ffn is None else _ffn_bytes(model, ffn, shape)
    if shape.adapters is not None:  # what lies between the two factors of each adapter
        kept += _BYTES * shape.tokens * shape.adapters.rank * adapted_products(model, group, shape.adapters)
    return kept


def _outside_bytes(model: ModelSpec, group: LayerGroup, shape: WorkShape) -> float:
    """What is divided only by sequence parallelism: inputs of norms and products, masks of residual dropout.

    Branches in parallel share a norm, so its input and its result. Low precision keeps inputs of products as they are
    multiplied. With sequence parallelism they are kept as a share, or whole where they are not gathered again.
    """
    masks = group.branches if shape.dropout else 0.0
    own = shape.residual_tokens * (group.blocks * _BYTES + masks)
    return model.hidden_size * own + _results_bytes(model, group, shape)


def _results_bytes(model: ModelSpec, group: LayerGroup, shape: WorkShape) -> float:
    """Results of norms that first products keep [B]."""
    names = ["ffn_in"] if group.attention is None else ["qkv"] if group.ffn is None else ["qkv", "ffn_in"]
    inputs = [shape.keeps_input(name) for name in names]
    results = any(inputs) if group.parallel else sum(inputs)
    tokens = shape.residual_tokens if shape.gathers_again else shape.tokens
    return model.hidden_size * tokens * results * shape.recipe.kept_bytes


def _layer_score_bytes(group: LayerGroup, shape: WorkShape) -> float:
    attention = blocks_of(group).attention
    return 0.0 if attention is None else score_bytes(attention, shape)


def score_bytes(attention: GQA | MLA, shape: WorkShape) -> float:
    """Bytes that plain attention keeps of its scores; zero for flash attention [B]."""
    if shape.attention == "flash":
        return 0.0
    heads, _ = heads_per_rank(attention, shape.tp)
    each = _BYTES + ((_BYTES + 1.0) if shape.dropout else 0.0)
    return each * shape.micro_batch * heads * shape.sequence * shape.sequence / shape.cp


def _attention_bytes(attention: GQA | MLA, shape: WorkShape) -> float:
    (heads, kv_heads), (width, v_width) = heads_per_rank(attention, shape.tp), head_dims(attention)
    kept = heads * width + kv_heads * (width + v_width) + heads * v_width
    if shape.recipe.kept_bytes < _BYTES:  # attention needs its output in 16 bits, the last product as it is multiplied
        kept += shape.recipe.kept_bytes / _BYTES * heads * v_width
    if attention.output_gate:  # the gate, and the gated output that the last product needs
        kept += 2.0 * heads * v_width
    if isinstance(attention, MLA):  # compressed, before and after their norms, whole on every rank
        kept += 2.0 * ((attention.q_rank or 0) + attention.kv_rank) + attention.rope_dim
    return _BYTES * shape.tokens * kept + score_bytes(attention, shape)


def _ffn_bytes(model: ModelSpec, ffn: Dense | MoE, shape: WorkShape) -> float:
    """Input of the activation and its result, which the last product needs; experts also keep their input rows."""
    into = shape.recipe.activation_bytes * (2.0 if ffn.gated else 1.0)
    copies = into + (shape.recipe.kept_bytes if shape.keeps_input("ffn_out") else 0.0)
    if isinstance(ffn, Dense):
        return copies * shape.tokens * ffn.intermediate / shape.tp
    pairs = shape.tokens * ffn.top_k
    width = ffn.latent or model.hidden_size
    rows = (_BYTES + shape.recipe.kept_bytes) * width
    routed = pairs * ((into + shape.recipe.kept_bytes) * ffn.intermediate / shape.tp + rows)
    if shape.adapters is not None:  # frozen experts and router: only what the activation's backward needs
        routed = pairs * into * ffn.intermediate / shape.tp
    return routed + copies * shape.tokens * ffn.shared_intermediate / shape.tp


def kept_layer_bytes(model: ModelSpec, group: LayerGroup, shape: WorkShape, plan: TrainingPlan) -> float:
    """Bytes that one layer keeps of a micro-batch under the plan's recomputation [B].

    Full: the input of every `recompute_every`-th layer, everything of the others. Selective: all but the attention
    core's scores (flash attention never keeps them). Cheap and operators: see `_cheap_bytes`, `_operators_bytes`.
    """
    everything = layer_activation_bytes(model, group, shape)
    if plan.recompute == "full":
        own = _BYTES * shape.residual_tokens * model.hidden_size
        share = 1.0 / plan.recompute_every
        return share * own + (1.0 - share) * everything
    if plan.recompute == "operators":
        return _operators_bytes(model, group, shape)
    if plan.recompute == "selective":
        return everything - _layer_score_bytes(group, shape)
    if plan.recompute == "cheap":
        return everything - _cheap_bytes(model, group, shape)
    return everything


def _cheap_bytes(model: ModelSpec, group: LayerGroup, shape: WorkShape) -> float:
    """What a layer does not keep where norms, activations and up-projections of latents are computed again [B].

    Results of norms, also of latents; queries, keys and values of latent attention; results of activations. Weights of
    the router then multiply the activation rather than the experts' results, which nothing backward needs any more
    (`weighted_bias_swiglu_impl` of Megatron-Core).
    """
    shape = replace(shape, recipe=PLAIN) if group.kept_16bit else shape
    attention, ffn, each = blocks_of(group).attention, group.ffn, shape.recipe.kept_bytes
    found = _results_bytes(model, group, shape)
    if isinstance(attention, MLA):
        (heads, kv_heads), (width, v_width) = heads_per_rank(attention, shape.tp), head_dims(attention)
        ranks = (attention.q_rank or 0) + attention.kv_rank
        wide = (heads * width if attention.q_rank else 0.0) + kv_heads * (width + v_width)
        found += _BYTES * shape.tokens * (wide + ranks)
    if isinstance(ffn, Dense):
        found += each * shape.tokens * ffn.intermediate / shape.tp * shape.keeps_input("ffn_out")
    elif ffn is not None and shape.adapters is None:
        inner = ffn.top_k * ffn.intermediate + ffn.shared_intermediate
        found += each * shape.tokens * inner / shape.tp
        found += _BYTES * shape.tokens * ffn.top_k * (ffn.latent or model.hidden_size)
    return found


def layer_working_bytes(
    model: ModelSpec, group: LayerGroup, shape: WorkShape, plan: TrainingPlan, engine: TrainingEngineSpec
) -> float:
    """What a layer needs on top of what it keeps while its backward pass runs [B].

    What is computed again, the gradients on their way (`_passing_bytes`), and with sequence parallelism two whole
    tensors of the residual's width: the gradient of a block's input before it is reduced and scattered, with its input
    gathered again or the gradient by a second projection. Where communication overlaps in chunks, pieces meet in one
    whole buffer more (symmetric memory of PyTorch's asynchronous tensor parallelism, userbuffers of Transformer
    Engine); engines that cut nothing have none.
    """
    again = layer_activation_bytes(model, group, shape) - kept_layer_bytes(model, group, shape, plan)
    again += _passing_bytes(model, group, shape)
    whole = _BYTES * shape.tokens * model.hidden_size if shape.sp else 0.0
    return again + (3.0 if plan.overlap_tp and engine.chunk_streams else 2.0) * whole


def _passing_bytes(model: ModelSpec, group: LayerGroup, shape: WorkShape) -> float:
    """Gradients alive at once while a layer's backward pass runs, less what it no longer keeps by then [B].

    Of the residual stream and of a block's input; around the activation of a feed-forward block, of its result and its
    inputs; around attention, of its result and of queries, keys and values, and with scores in memory of those after
    and before dropout. What the feed-forward block kept is free when the gradients of attention are made.
    """
    blocks, ffn = blocks_of(group), group.ffn
    stream = 2.0 * _BYTES * shape.residual_tokens * model.hidden_size
    inside = [0.0]
    freed = 0.0
    if ffn is not None:
        freed = _ffn_bytes(model, ffn, shape)
        rows = shape.tokens * (1.0 if isinstance(ffn, Dense) else ffn.top_k)
        inside.append(_BYTES * rows * ffn.intermediate / shape.tp * (3.0 if ffn.gated else 2.0))
    if blocks.attention is not None:
        (heads, kv_heads), (width, v_width) = heads_per_rank(blocks.attention, shape.tp), head_dims(blocks.attention)
        wide = heads * (width + v_width) + kv_heads * (width + v_width)
        scores = 0.0 if shape.attention == "flash" else score_bytes(blocks.attention, replace(shape, dropout=False))
        inside.append(_BYTES * shape.tokens * wide + (2.0 if shape.dropout else 1.0) * scores - freed)
    return stream + max(inside)


def _operators_bytes(model: ModelSpec, group: LayerGroup, shape: WorkShape) -> float:
    """The layer's input, the result of attention, and those of the first, third and so on of its products [B].

    TorchTitan's `selective op`: queries, keys, values and output, then the products of a dense block, each counted by
    itself; half of what experts keep. The last product's result is whole on every tensor-parallel rank until it is
    reduced. Of a layer with another mixer, or of one block, half.
    """
    attention, ffn = blocks_of(group).attention, blocks_of(group).ffn
    if attention is None or ffn is None:
        return 0.5 * (layer_activation_bytes(model, group, shape) - _layer_score_bytes(group, shape))
    (heads, kv_heads), (width, v_width) = heads_per_rank(attention, shape.tp), head_dims(attention)
    own = [heads * width, kv_heads * width, kv_heads * v_width, float(model.hidden_size)]
    kept = _BYTES * shape.residual_tokens * model.hidden_size + _BYTES * shape.tokens * heads * v_width
    if isinstance(ffn, Dense):
        own += [ffn.intermediate / shape.tp] * (2 if ffn.gated else 1) + [float(model.hidden_size)]
        return kept + _BYTES * shape.tokens * sum(own[::2])
    return kept + _BYTES * shape.tokens * sum(own[::2]) + 0.5 * _ffn_bytes(model, ffn, shape)


def end_activation_bytes(model: ModelSpec, shape: WorkShape, *, first: bool, last: bool) -> float:
    """Bytes kept by embedding (its dropout mask) and encoder, and by final norm and LM head (their inputs) [B]."""
    rows = shape.residual_tokens * model.hidden_size
    kept = rows if first and shape.dropout else 0.0
    if first and shape.encoder is not None:
        inner, own = encoder_model(shape.encoder), encoder_shape(shape.encoder, shape)
        kept += sum(group.count * layer_activation_bytes(inner, group, own) for group in inner.layers)
    return kept + (2.0 * _BYTES * rows if last else 0.0)


def loss_bytes(model: ModelSpec, shape: WorkShape, *, logit_bytes: float, weight_bytes: float = 0.0) -> float:
    """Logits alive at the peak of the loss on a rank, and what is alive there per weight of the LM head [B]."""
    rows = padded_vocab(model, shape.tp) / shape.tp
    return shape.tokens * rows * logit_bytes + rows * model.hidden_size * weight_bytes


@dataclass(frozen=True)
class RankMemory:
    """Memory of one rank by class [B].

    Attributes:
        parameters_bytes: 16-bit parameters, or the shard of them.
        gradients_bytes: Accumulated gradients, or the shard.
        optimizer_bytes: fp32 copy and moments, or the shard.
        activations_bytes: What the micro-batches in flight keep, at its peak.
        working_bytes: What the pass in progress needs on top: a recomputed layer, or logits of the loss.
        buffers_bytes: Gathered parameters and full gradients of the layers in use, buckets of reduction, transfers.
    """

    parameters_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    activations_bytes: float
    working_bytes: float
    buffers_bytes: float

    @property
    def allocated_bytes(self) -> float:
        """All of it: what the framework's allocator hands out at the peak."""
        kept = self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes + self.activations_bytes
        return float(kept + self.working_bytes + self.buffers_bytes)

    def to_dict(self) -> dict[str, float]:
        """Bytes by class."""
        return asdict(self)


def state_bytes(
    parameters: RankParameters, plan: TrainingPlan, engine: TrainingEngineSpec, optimizer: str
) -> tuple[float, float, float]:
    """Parameters, gradients and optimizer states of a rank [B] (ZeRO, arXiv 1910.02054, section 3).

    16-bit parameters (2 B), gradients, and for Adam an fp32 copy and two moments (12 B): ZeRO-1 divides the last over
    the data-parallel ranks, ZeRO-2 also the gradients, ZeRO-3 also the parameters. Context-parallel ranks share too;
    experts have fewer copies to share. Sharded parameters live in fp32 alone where the engine gathers from them. Copies
    of weights in low precision are kept through the step where parameters are not sharded. Frozen weights are kept as
    they are packed; only adapters have gradients and states.
    """
    copies, expert_copies = plan.shards, plan.shards // plan.ep
    master = master_bytes(engine, optimizer)

    def divided(each: float, sharded: bool, of: RankParameters = parameters.trained) -> float:
        if not sharded:
            return each * of.total
        return each * (of.shared / copies + of.expert / expert_copies)

    if plan.adapters is not None:
        return (
            divided(frozen_bytes(parameters, plan.adapters) / parameters.total, plan.zero >= 3, parameters)
            + divided(PARAM_BYTES, plan.zero >= 3),
            divided(grad_bytes(plan), plan.zero >= 2),
            divided(MOMENT_BYTES[optimizer] + master, plan.zero >= 1),
        )
    only_master = plan.zero == 3 and master == 4.0
    low = 0.0 if plan.zero >= 3 else plan.recipe.copies_bytes * parameters.low
    return (
        (0.0 if only_master else divided(PARAM_BYTES, plan.zero >= 3)) + low,
        divided(grad_bytes(plan), plan.zero >= 2),
        divided(MOMENT_BYTES[optimizer] + master, plan.zero >= 1),
    )


def frozen_bytes(parameters: RankParameters, adapters: Adapters) -> float:
    """Bytes of all weights of a rank if those of layers are frozen [B]; embedding and LM head stay in 16 bits."""
    layers = parameters.total - parameters.embedding
    return adapters.base_bytes * layers + PARAM_BYTES * parameters.embedding


def buffer_bytes(parameters: RankParameters, plan: TrainingPlan, engine: TrainingEngineSpec) -> float:
    """Parameters of a layer and those gathered ahead, gradients of one (ZeRO-3), or one bucket of them (ZeRO-2) [B].

    Nothing is gathered ahead without `overlap_dp`. An engine with `live_parameters` gathers product by product until as
    many are there (at least the one at hand), and has the gradient of a product and a bucket of others (DeepSpeed:
    stage3_max_live_parameters, reduce_bucket_size). Interleaved stages add up whole gradients of a chunk over a run of
    micro-batches, and with `overlap_dp` those of another are on their way (ZeRO-2, see `TrainingPlan.reduced_after`).
    """
    whole = 1.0 + (plan.prefetch if plan.overlap_dp else 0)
    if plan.zero == 3 and engine.live_parameters is not None:
        product, all_of_them = parameters.largest_product, parameters.total
        live = max(product, min(engine.live_parameters.value, all_of_them))
        width = PARAM_BYTES if plan.adapters is None else plan.adapters.base_bytes
        gradients = min(product, parameters.trained.total) * grad_bytes(plan)
        return live * width + gradients + min(engine.bucket_bytes.value, grad_bytes(plan) * parameters.trained.total)
    if plan.zero == 3 and plan.adapters is not None:
        return parameters.largest_layer * whole * plan.adapters.base_bytes
    if plan.zero == 3:
        return parameters.largest_layer * (whole * PARAM_BYTES + grad_bytes(plan))
    if plan.zero < 2:
        return 0.0
    whole_gradients = grad_bytes(plan) * parameters.trained.total
    if plan.reduced_after > 1:
        return whole_gradients * min(1.0, (2.0 if plan.overlap_dp else 1.0) / plan.vpp)
    return min(engine.bucket_bytes.value, whole_gradients)


def transfer_bytes(
    model: ModelSpec, plan: TrainingPlan, shape: WorkShape, stages: Sequence[int], *, copies: int = 1
) -> float:
    """What PyTorch's pipelining holds of transfers on a device with these virtual stages [B].

    Buffers to receive into are made for every micro-batch at once: inputs of all but the first stage, gradients of all
    but the last (`_prepare_forward_infra` and `_prepare_backward_infra` of `torch.distributed.pipelining`); results of
    the first stage stay until their backward pass, those of the last, 16-bit logits, to the end of the step
    (`output_chunks`). Received inputs that wait for their backward pass count as activations too, in the place of the
    results that wait with them. Of two-way pipelines each of the `copies` of the model has its share of micro-batches.
    """
    sent = _BYTES * shape.residual_tokens * model.hidden_size
    last = sum(stage == plan.stages - 1 for stage in stages)
    logits = loss_bytes(model, shape, logit_bytes=_BYTES)
    return plan.microbatches / copies * (sent * (2 * len(stages) - last) + logits * last)


def available_bytes(device: Device, engine: TrainingEngineSpec) -> float:
    """Memory of the device that the runtime leaves to the framework [B]."""
    return device.memory_bytes - engine.context_bytes.value


def memory_reasons(memory: RankMemory, engine: TrainingEngineSpec, device: Device, *, stage: int) -> list[Reason]:
    """Why the rank's memory does not fit its device; empty if it does."""
    available = available_bytes(device, engine)
    if memory.allocated_bytes <= available:
        return []
    parts = ", ".join(
        f"{name.removesuffix('_bytes')} {size / 2**30:.1f}" for name, size in memory.to_dict().items() if size
    )
    return [
        Reason(
            "memory",
            f"stage {stage} needs {memory.allocated_bytes / 2**30:.1f} GiB ({parts}), a {device.name} has "
            f"{available / 2**30:.1f} GiB besides the runtime; more of tp, pp, zero or recompute, or a smaller "
            "micro_batch, need less",
            {**memory.to_dict(), "available_bytes": available},
        )
    ]
