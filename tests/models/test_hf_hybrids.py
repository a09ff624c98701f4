"""Import of configs of hybrids and of sparse attention: the same model as the shipped file, and clear refusals."""

from typing import Any

import numpy as np
import pytest

from sim.core import InputError
from sim.models import (
    GQA,
    CompressedAttention,
    GatedDelta,
    Gemm,
    Mamba2,
    ModelSpec,
    MoE,
    from_config,
    load_model,
    stages,
    token_operators,
)

QWEN = {
    "model_type": "qwen3_5_moe",
    "text_config": {
        "model_type": "qwen3_5_moe_text",
        "attn_output_gate": True,
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_size": 2048,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_value_head_dim": 128,
        "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 262144,
        "moe_intermediate_size": 512,
        "num_attention_heads": 16,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "shared_expert_intermediate_size": 512,
        "vocab_size": 248320,
    },
    "tie_word_embeddings": False,
}
NEMOTRON = {
    "model_type": "nemotron_h",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "intermediate_size": 1856,
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "mamba_ssm_cache_dtype": "float32",
    "max_position_embeddings": 262144,
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "n_groups": 8,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 52,
    "num_key_value_heads": 2,
    "ssm_state_size": 128,
    "vocab_size": 131072,
}
DEEPSEEK = {
    "model_type": "deepseek_v32",
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 2048,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "topk_method": "noaux_tc",
    "v_head_dim": 128,
    "vocab_size": 129280,
}
MERGED = {
    "model_type": "deepseek_v4",
    "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0],
    "expert_dtype": "fp4",
    "hc_mult": 4,
    "head_dim": 512,
    "hidden_size": 4096,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 512,
    "max_position_embeddings": 1048576,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 64,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 43,
    "num_key_value_heads": 1,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "q_lora_rank": 1024,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "sliding_window": 128,
    "topk_method": "noaux_tc",
    "vocab_size": 129280,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3.5-35b-a3b": QWEN,
    "nemotron-3-nano-30b-a3b": NEMOTRON,
    "deepseek-v3.2": DEEPSEEK,
    "deepseek-v4-flash": MERGED,
}


def one_by_one(model: ModelSpec) -> list[Any]:
    return [group.model_copy(update={"count": 1}) for group in model.layers for _ in range(group.count)]


@pytest.mark.parametrize("name", CONFIGS)
def test_import_gives_the_shipped_model(name: str) -> None:
    imported, shipped = from_config(CONFIGS[name]), load_model(name)
    assert one_by_one(imported) == one_by_one(shipped)
    for field in ("hidden_size", "vocab_size", "weights_dtype", "quantized", "other_dtype", "residual_streams"):
        assert getattr(imported, field) == getattr(shipped, field)
    assert imported.unknown_fields == ()


def test_layers_are_what_the_pattern_says() -> None:
    layers = one_by_one(from_config(NEMOTRON))
    kinds = "".join("M" if isinstance(g.attention, Mamba2) else "*" if g.attention else "E" for g in layers)
    assert kinds == NEMOTRON["hybrid_override_pattern"]
    words = {"M": "mamba", "*": "attention", "E": "moe"}
    named = {**NEMOTRON, "layers_block_type": [words[kind] for kind in kinds]}
    del named["hybrid_override_pattern"]
    assert one_by_one(from_config(named)) == layers
    experts = layers[1].ffn
    assert isinstance(experts, MoE)
    assert (experts.gated, experts.shared_intermediate) == (False, 3712)


def test_one_layer_in_four_has_full_attention() -> None:
    mixers = [group.attention for group in one_by_one(from_config(QWEN))]
    assert [isinstance(mixer, GQA) for mixer in mixers] == [False, False, False, True] * 10
    assert all(isinstance(mixer, GatedDelta) for i, mixer in enumerate(mixers) if i % 4 != 3)


def test_some_layers_take_the_choice_of_another_s_indexer() -> None:
    types = ["full" if i < 3 or (i - 3) % 4 == 3 else "shared" for i in range(61)]
    mixers = [group.attention for group in one_by_one(from_config({**DEEPSEEK, "indexer_types": types}))]
    assert [mixer.indexer is not None for mixer in mixers] == [kind == "full" for kind in types]
    assert {mixer.top_k for mixer in mixers} == {2048}


def test_layers_merge_tokens_by_their_ratio() -> None:
    mixers = [group.attention for group in one_by_one(from_config(MERGED))]
    assert all(isinstance(mixer, CompressedAttention) for mixer in mixers)
    assert [mixer.ratio or 0 for mixer in mixers] == MERGED["compress_ratios"][:43]
    assert {(mixer.ratio, mixer.top_k) for mixer in mixers} == {(None, None), (4, 512), (128, None)}


@pytest.mark.parametrize(
    ("config", "change", "words"),
    [
        (NEMOTRON, {"hybrid_override_pattern": "MXM"}, "expected a text of the letters M*E-"),
        (NEMOTRON, {"layers_block_type": ["mamba", "magic"]}, "known types are mamba, attention, moe, mlp"),
        (NEMOTRON, {"use_bias": True}, "not modelled for this architecture"),
        (NEMOTRON, {"n_groups": 7}, "64 heads do not divide into 7 groups"),
        (DEEPSEEK, {"indexer_types": ["some"] * 61}, "known types are full and shared"),
        (DEEPSEEK, {"index_topk": None}, "index_topk"),
        (MERGED, {"compress_ratios": [4, 128]}, "expected a ratio for each of 43 layers"),
    ],
)
def test_refusals(config: dict[str, Any], change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        from_config({**config, **change})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "apart"),
    [("qwen3_5_moe", {"qkv", "gate", "decay", "rate"}), ("qwen3_next", {"qkv", "decay"})],
)
def test_inputs_of_linear_attention_are_multiplied_apart_where_checkpoints_hold_them_so(
    model_type: str, apart: set[str]
) -> None:
    """The columns are the same, divided over more products; full attention of the other layers has its own."""
    model = from_config({**QWEN["text_config"], "model_type": model_type, "tie_word_embeddings": False})
    tokens = np.asarray(16.0)

    def products(*, inputs_apart: bool) -> list[Gemm]:
        (shard,) = stages(model, inputs_apart=inputs_apart)
        found = [op for op in token_operators(model, shard, tokens) if isinstance(op, Gemm)]
        return [op for op in found if op.cause == "attention_gemm" and op.name != "o"]

    joined, split = products(inputs_apart=False), products(inputs_apart=True)
    assert {op.name for op in joined} == {"qkv", "decay"}
    assert {op.name for op in split} == apart
    assert sum(op.count for op in split) - sum(op.count for op in joined) == 30 * (len(apart) - 2)
    assert sum(op.count * op.n for op in split) == sum(op.count * op.n for op in joined)
