"""Parameters that a rank of each virtual stage holds, and the bytes of their states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sim.models import Dense, LayerGroup, ModelSpec
from sim.models.matrices import matrices as attention_matrices
from sim.models.matrices import small_parameters
from sim.models.parameters import (
    dense_parameters,
    expert_parameters,
    latent_parameters,
    router_parameters,
)
from sim.plans import TrainingEngineSpec
from sim.training.adapters import adapter_parameters
from sim.training.blocks import blocks_of, products
from sim.training.encoder import encoder_model, encoder_weights
from sim.training.plan import TrainingPlan, layers_of_stage
from sim.training.spec import EncoderSpec
from sim.training.vocabulary import padded_vocab

PARAM_BYTES: Final = 2.0
MOMENT_BYTES: Final = {"adam": 8.0, "adam_bf16": 4.0, "adam_8bit": 2.0, "adam_cpu": 0.0, "sgd_momentum": 4.0}
"""Optimizer moments per parameter on the device [B]: two in fp32, bf16 or 8 bits (block scales aside), none, or one."""


@dataclass(frozen=True)
class RankParameters:
    """Parameters on one rank of a virtual stage.

    Attributes:
        shared: Those that all data-parallel ranks hold alike.
        expert: Those of routed experts, which differ between expert-parallel ranks.
        largest_layer: Those of the largest layer, the unit that sharded parameters are gathered in.
        largest_product: Those of the largest product, the unit in which other engines gather them.
        embedding: Rows of the vocabulary among `shared`: embedding and LM head.
        low: Those of layers that are multiplied in low precision.
        adapters: Those of adapters, not among the others; None if there are none and all others are trained.
    """

    shared: float
    expert: float
    largest_layer: float
    largest_product: float
    embedding: float
    low: float = 0.0
    adapters: float | None = None

    @property
    def trained(self) -> RankParameters:
        """Those that have gradients and states."""
        return self if self.adapters is None else RankParameters(self.adapters, 0.0, 0.0, 0.0, 0.0)

    @property
    def total(self) -> float:
        """All of them."""
        return self.shared + self.expert


def layer_parameters(model: ModelSpec, group: LayerGroup, *, tp: int, ep: int) -> tuple[float, float]:
    """Parameters of one layer on a rank: without routed experts, and those of routed experts.

    Matrices and their biases divide over the tensor-parallel ranks, norms and routers do not.
    """
    hidden, (mixer, ffn) = model.hidden_size, blocks_of(group)
    whole = model.norms_of(group) * hidden * (2 if model.norm_bias else 1)
    divided = routed = 0.0
    if mixer is not None:
        divided += sum(matrix.k * matrix.n for matrix in attention_matrices(mixer, hidden))
        divided += small_parameters(mixer, hidden)
    if isinstance(ffn, Dense):
        divided += dense_parameters(hidden, ffn.intermediate, gated=ffn.gated, bias=ffn.bias)
    elif ffn is not None:
        routed = ffn.experts * sum(expert_parameters(ffn, hidden)) / tp / ep
        divided += dense_parameters(hidden, ffn.shared_intermediate, gated=ffn.gated)
        whole += router_parameters(ffn, hidden) + latent_parameters(ffn, hidden)
    return divided / tp + whole, routed


def vocabulary_rows(model: ModelSpec, tp: int, *, first: bool, last: bool) -> float:
    """Parameters of embedding and LM head on a rank of a stage that is the first, the last, or both."""
    rows = padded_vocab(model, tp) * model.hidden_size / tp
    return rows * (float(first) + float(last and not (first and model.tied_embeddings)))


def encoder_parameters(spec: EncoderSpec, model: ModelSpec, *, tp: int) -> float:
    """Parameters of an encoder on one of `tp` ranks: patches, layers and projector."""
    own = encoder_model(spec)
    layers = sum(group.count * layer_parameters(own, group, tp=tp, ep=1)[0] for group in own.layers)
    return layers + encoder_weights(spec, model, tp=tp)


def end_parameters(model: ModelSpec, encoder: EncoderSpec | None, *, tp: int, first: bool, last: bool) -> float:
    """Parameters at the ends beside the vocabulary, on one of `tp` ranks: positions and encoder first, norm last."""
    before = float(model.learned_positions * model.hidden_size)
    before += 0.0 if encoder is None else encoder_parameters(encoder, model, tp=tp)
    final = model.hidden_size * (2 if model.norm_bias else 1)
    return float(first * before + last * final)


def rank_parameters(
    model: ModelSpec, plan: TrainingPlan, stage: int, *, spread_vocabulary: bool = False
) -> RankParameters:
    """Parameters on a rank of virtual stage `stage`.

    With tied embeddings and several stages, the last stage has a copy of the embedding (Megatron-LM). With
    `spread_vocabulary`, embedding and LM head are divided over the stages instead (arXiv 2411.05288).
    """
    shared = expert = largest = product = low = adapters = 0.0
    for group, count in layers_of_stage(model, plan.layers_per_stage, stage):
        one, routed = layer_parameters(model, group, tp=plan.tp, ep=plan.ep)
        shared, expert, largest = shared + count * one, expert + count * routed, max(largest, one + routed)
        product = max(product, largest_product(model, group, tp=plan.tp, fused=plan.fused_projections))
        if plan.adapters is not None:
            adapters += count * adapter_parameters(model, group, plan.adapters, tp=plan.tp)
        low += count * (one + routed) if plan.recipe.is_low and not group.kept_16bit else 0.0
    rows = padded_vocab(model, plan.tp) * model.hidden_size / plan.tp
    first, last = stage == 0, stage == plan.stages - 1
    embedding = vocabulary_rows(model, plan.tp, first=first, last=last)
    if spread_vocabulary:
        embedding = rows * (1.0 if model.tied_embeddings else 2.0) / plan.stages
    shared += embedding + end_parameters(model, plan.encoder, tp=plan.tp, first=first, last=last)
    trained = None if plan.adapters is None else adapters
    return RankParameters(
        shared, expert, max(largest, embedding), max(product, min(rows, embedding)), embedding, low, trained
    )


def largest_product(model: ModelSpec, group: LayerGroup, *, tp: int, fused: bool) -> float:
    """Weights of the largest product of a layer on a rank; each expert's are by themselves."""
    hidden, (mixer, ffn) = model.hidden_size, blocks_of(group)
    found = [0.0] if mixer is None else [p.rows * p.columns for p in products(mixer, hidden, tp=tp)]
    if mixer is not None and not fused:
        found = [p.rows * part for p in products(mixer, hidden, tp=tp) for part in p.parts]
    if ffn is not None:
        found.append(hidden * ffn.intermediate / tp * (2 if ffn.gated and fused else 1))
    return float(max(found))


def update_bytes(engine: TrainingEngineSpec, optimizer: str) -> float:
    """Device memory traffic of the optimizer per parameter [B]: the engine's for Adam, less the moments' difference.

    Of a master copy in 16 + 16 bits both halves are read and written, 8 bytes where 10 are of one beside the parameter.
    """
    if optimizer == "adam_cpu":
        return 0.0
    smaller = 2.0 * (MOMENT_BYTES["adam"] - MOMENT_BYTES[optimizer])
    return engine.optimizer_bytes.value - smaller - (4.0 - engine.master_bytes)


def master_bytes(engine: TrainingEngineSpec, optimizer: str) -> float:
    """Bytes per parameter that the device holds to make 32 bits of its parameters; 0 if it does not."""
    return float(engine.master_bytes) if engine.param_master and optimizer != "adam_cpu" else 0.0


def grad_bytes(plan: TrainingPlan) -> float:
    """Bytes of one accumulated gradient."""
    return 4.0 if plan.grad_dtype == "fp32" else 2.0
