"""An encoder of images or sounds before the model: its work, parameters and activations, on the first stage.

Every item (an image, a clip) is cut into patches that a transformer of its own attends over in both directions (ViT,
arXiv 2010.11929); neighbouring outputs are merged and projected to the model's width by two products (LLaVA, arXiv
2310.03744), where they take the place of token embeddings. All of it is trained, in 16 bits, divided over the
tensor-parallel ranks as the model is; context-parallel ranks share out the items. It keeps all its activations. With
`layers_per_stage: [0, ...]` it has a pipeline stage of its own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from sim.models import ModelSpec
from sim.training.layer import LayerWork, layer_work, linear
from sim.training.operators import TrainingOperator
from sim.training.precision import PLAIN
from sim.training.shape import WorkShape
from sim.training.spec import EncoderSpec


@lru_cache(maxsize=64)
def encoder_model(spec: EncoderSpec) -> ModelSpec:
    """The encoder's layers as a model; its vocabulary means nothing."""
    return ModelSpec(
        name="encoder",
        hidden_size=spec.hidden_size,
        vocab_size=1,
        max_position_embeddings=spec.tokens,
        layers=spec.layers,
        norm_bias=True,
    )


def encoder_shape(spec: EncoderSpec, shape: WorkShape) -> WorkShape:
    """What a rank works on: so many items as sequences, each token attending to all of its item."""
    items = shape.micro_batch * spec.items_per_sequence / shape.cp
    return replace(
        shape, micro_batch=items, sequence=spec.tokens, cp=1, encoder=None, causal=False, recipe=PLAIN, adapters=None
    )


def encoder_work(spec: EncoderSpec, model: ModelSpec, shape: WorkShape) -> LayerWork:
    """Patches, layers and projector of a micro-batch, forward and backward."""
    own, inner = encoder_shape(spec, shape), encoder_model(spec)
    parts = [(layer_work(inner, group, own)[:3], float(group.count)) for group in inner.layers]
    merged = replace(own, sequence=spec.tokens / spec.merge)
    width, wide = float(spec.hidden_size), float(model.hidden_size)
    parts += [
        (linear("patches", float(spec.patch_width), width, own, plain=True), 1.0),
        (linear("projector_in", width * spec.merge, wide / shape.tp, merged, plain=True), 1.0),
        (linear("projector_out", wide / shape.tp, wide, merged, plain=True), 1.0),
    ]
    passes: list[list[TrainingOperator]] = [
        [replace(o, count=o.count * times) for part, times in parts for o in part[which]] for which in range(3)
    ]
    return LayerWork(passes[0], passes[1], passes[2], [])


def encoder_weights(spec: EncoderSpec, model: ModelSpec, *, tp: int) -> float:
    """Weights of patches and projector on one of `tp` ranks."""
    projector = model.hidden_size * (spec.hidden_size * spec.merge + model.hidden_size)
    return spec.patch_width * spec.hidden_size + projector / tp
