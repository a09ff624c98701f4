"""Shards: stages cover the model once, weights and cache of all ranks add up to the whole."""

import pytest

from sim.models import (
    attention_classes,
    kv_bytes_per_token_rank,
    load_model,
    parameter_counts,
    stages,
    weight_bytes,
)


@pytest.mark.parametrize(
    ("layers", "pp", "expected"),
    [(80, 4, [20, 20, 20, 20]), (61, 2, [31, 30]), (94, 4, [23, 24, 24, 23]), (62, 4, [15, 16, 16, 15])],
)
def test_left_over_layers_go_before_the_last_stage(layers: int, pp: int, expected: list[int]) -> None:
    group = load_model("llama-2-7b").layers[0].model_copy(update={"count": layers})
    model = load_model("llama-2-7b").model_copy(update={"layers": (group,)})
    sizes = [shard.layer_range[1] - shard.layer_range[0] for shard in stages(model, pp=pp)]
    assert sizes == expected


def test_more_stages_than_layers() -> None:
    with pytest.raises(ValueError, match="33 stages for 32 layers"):
        stages(load_model("llama-2-7b"), pp=33)


def test_windows_are_classes_of_their_own() -> None:
    model = load_model("gpt-oss-120b")
    (shard,) = stages(model, tp=4)
    sliding, full = attention_classes(model, shard)
    assert (sliding.window, sliding.layers, full.window, full.layers) == (128, 18, None, 18)
    assert sliding.kv_bytes_per_token == full.kv_bytes_per_token == 18 * 2 * 2 * 64 * 2
    assert kv_bytes_per_token_rank(model, shard) == 2 * full.kv_bytes_per_token
    assert full.with_layers(9).kv_bytes_per_token == full.kv_bytes_per_token / 2
    assert sliding.without_window().window is None


@pytest.mark.parametrize(
    ("name", "published"),
    [("gpt-oss-120b", 65.2e9), ("gpt-oss-20b", 13.8e9), ("deepseek-v3", 673e9), ("phi-4", 29.3e9)],
)
def test_checkpoint_sizes(name: str, published: float) -> None:
    """Sizes of the files on Hugging Face; DeepSeek-V3's without its multi-token-prediction layer."""
    model = load_model(name)
    assert weight_bytes(model, stages(model)[0]) == pytest.approx(published, rel=0.01)


def test_expert_parallel_ranks_hold_their_experts_and_all_of_attention() -> None:
    model = load_model("deepseek-v3")
    (rank,) = stages(model, dp=8, ep=8, weights_dtype="bf16")
    counts = parameter_counts(model)
    assert weight_bytes(model, rank) == 2.0 * (counts.total - counts.experts * 7 / 8)
