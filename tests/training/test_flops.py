"""FLOPs of a step against the published closed forms."""

from __future__ import annotations

import pytest

from sim.models import load_model, parameter_counts
from sim.training.flops import forward_flops, megatron_flops, palm_flops_per_token, training_flops
from tests.training.builders import gpt


@pytest.mark.parametrize(("layers", "hidden", "heads"), [(24, 2304, 24), (96, 12288, 96), (128, 25600, 160)])
@pytest.mark.parametrize("sequence", [1024, 2048])
def test_a_gpt_needs_what_the_formula_of_megatron_says(layers: int, hidden: int, heads: int, sequence: int) -> None:
    """72 B s l h^2 (1 + s/6h + V/12lh) without recomputation (arXiv 2205.05198, appendix A)."""
    model = gpt(layers=layers, hidden=hidden, heads=heads, vocab=51200)
    published = megatron_flops(batch=1.0, sequence=sequence, layers=layers, hidden=hidden, vocab=51200, recompute=False)
    assert training_flops(model, sequence=sequence) == pytest.approx(published, rel=1e-9)


def test_full_recomputation_is_one_more_forward_pass_of_the_layers() -> None:
    shape = {"batch": 1.0, "sequence": 2048.0, "layers": 96.0, "hidden": 12288.0, "vocab": 51200.0}
    model = gpt(layers=96, hidden=12288, heads=96, vocab=51200)
    logits = 2.0 * 12288 * 51200 * 2048
    again = megatron_flops(**shape, recompute=True) - megatron_flops(**shape, recompute=False)
    assert again == pytest.approx(forward_flops(model, sequence=2048) - logits, rel=1e-9)


@pytest.mark.parametrize("name", ["llama-3-8b", "llama-3-70b", "llama-2-7b"])
def test_palm_s_formula_differs_by_the_embedding_alone(name: str) -> None:
    """6N + 12 L H Q T counts the embedding table as if it were multiplied; norms are nothing beside it."""
    model, sequence = load_model(name), 4096
    counts = parameter_counts(model)
    ours = training_flops(model, sequence=sequence) / sequence
    published = palm_flops_per_token(model, sequence=sequence)
    assert published - ours == pytest.approx(6.0 * (counts.embedding + counts.norms), rel=1e-6)


def test_the_causal_half_is_half_of_the_attention_alone() -> None:
    model = load_model("llama-3-8b")
    full, causal = (training_flops(model, sequence=8192, attention=count) for count in ("full", "causal"))
    none = training_flops(model, sequence=1) * 8192 - training_flops(model, sequence=1) * 0
    attention = full - causal
    assert full - 2.0 * attention == pytest.approx(none, rel=1e-3)


def test_a_window_caps_attended_keys() -> None:
    from sim.models import GQA

    wide = gpt(layers=2, hidden=512, heads=8)
    group = wide.layers[0]
    assert isinstance(group.attention, GQA)
    narrow = wide.model_copy(
        update={"layers": (group.model_copy(update={"attention": group.attention.model_copy(update={"window": 64})}),)}
    )
    short, long = (forward_flops(narrow, sequence=s) / s for s in (1024, 4096))
    assert short == pytest.approx(long)
    assert forward_flops(wide, sequence=4096) > forward_flops(narrow, sequence=4096)
