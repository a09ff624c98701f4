"""Small models, plans and steps for the tests of training."""

from __future__ import annotations

from typing import Any

from sim.hardware import ClusterSpec, load_cluster
from sim.models import ModelSpec
from sim.plans import TrainingPlanSpec, load_training_engine
from sim.training import Sustained, TrainingStep, TrainingWorkload, resolve_training


def gelu_layers(*, layers: int, hidden: int, heads: int) -> list[dict[str, Any]]:
    """Layers as GPT and vision transformers have them: every head its own keys, blocks four times as wide."""
    return [
        {
            "count": layers,
            "attention": {"kind": "gqa", "heads": heads, "kv_heads": heads, "head_dim": hidden // heads},
            "ffn": {"kind": "dense", "intermediate": 4 * hidden, "gated": False},
        }
    ]


def gpt(*, layers: int, hidden: int, heads: int, vocab: int = 51200) -> ModelSpec:
    """A GPT with tied embeddings, as Megatron-LM trains it."""
    return ModelSpec.model_validate(
        {
            "name": "gpt",
            "hidden_size": hidden,
            "vocab_size": vocab,
            "max_position_embeddings": 2048,
            "tied_embeddings": True,
            "norm_bias": True,
            "layers": gelu_layers(layers=layers, hidden=hidden, heads=heads),
        }
    )


SMALL = gpt(layers=8, hidden=1024, heads=16)


def resolved(
    plan: dict[str, Any],
    *,
    model: ModelSpec = SMALL,
    gpus: int = 8,
    batch: int = 32,
    sequence: int = 1024,
    engine: str = "megatron-lm-2021",
    node: str = "dgx-a100",
    **workload: Any,
) -> Any:
    """What `resolve_training` and its inputs are, by the names of `TrainingStep`'s arguments."""
    nodes, per_node = max(1, gpus // 8), min(8, gpus)
    cluster = load_cluster(ClusterSpec(node=node, nodes=nodes, devices_per_node=per_node))
    job = TrainingWorkload(kind="training", global_batch=batch, sequence_length=sequence, **workload)
    profile = load_training_engine(engine)
    found = resolve_training(TrainingPlanSpec(**plan), workload=job, model=model, engine=profile, cluster=cluster)
    return found, {"model": model, "workload": job, "engine": profile, "cluster": cluster}


def step_of(plan: dict[str, Any], *, sustained: Sustained | None = None, **given: Any) -> TrainingStep:
    """The step of a plan that must be possible."""
    found, things = resolved(plan, **given)
    assert not isinstance(found, tuple), found
    model = things.pop("model")
    return TrainingStep(model, found, sustained=sustained, **things)
