"""Import of Hugging Face configs: the same model as the shipped file, aliases, formats, and clear refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from sim.core import InputError
from sim.models import ARCHITECTURES, GQA, MLA, Dense, ModelSpec, MoE, from_config, load_model, parameter_counts

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 128256,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": LLAMA,
    "mistral-7b": {
        "model_type": "mistral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
        "vocab_size": 32000,
        "torch_dtype": "bfloat16",
    },
    "phi-4": {
        "model_type": "phi3",
        "hidden_size": 5120,
        "intermediate_size": 17920,
        "max_position_embeddings": 16384,
        "num_attention_heads": 40,
        "num_hidden_layers": 40,
        "num_key_value_heads": 10,
        "sliding_window": None,
        "vocab_size": 100352,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "max_position_embeddings": 32768,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "use_sliding_window": False,
        "sliding_window": 131072,
        "max_window_layers": 28,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
    "qwen3-0.6b": {
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "sliding_window": None,
        "use_sliding_window": False,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_attention_heads": 32,
        "num_hidden_layers": 48,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "sliding_window": None,
    },
    "mixtral-8x7b": {
        "model_type": "mixtral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_local_experts": 8,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "num_experts_per_tok": 2,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
        "sliding_window": None,
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "vocab_size": 129280,
        "num_attention_heads": 128,
        "num_hidden_layers": 61,
        "num_key_value_heads": 128,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "first_k_dense_replace": 3,
        "moe_layer_freq": 1,
        "topk_method": "noaux_tc",
        "attention_bias": False,
        "max_position_embeddings": 163840,
        "num_nextn_predict_layers": 1,
        "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
    },
    "deepseek-v2-lite": {
        "model_type": "deepseek_v2",
        "hidden_size": 2048,
        "intermediate_size": 10944,
        "vocab_size": 102400,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "num_key_value_heads": 16,
        "q_lora_rank": None,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 1408,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "topk_method": "greedy",
        "max_position_embeddings": 163840,
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "vocab_size": 201088,
        "num_attention_heads": 64,
        "num_hidden_layers": 24,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "experts_per_token": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "max_position_embeddings": 131072,
        "quantization_config": {
            "quant_method": "mxfp4",
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
        },
    },
    "gemma-2-9b": {
        "model_type": "gemma2",
        "hidden_size": 3584,
        "intermediate_size": 14336,
        "vocab_size": 256000,
        "num_attention_heads": 16,
        "num_hidden_layers": 42,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "sliding_window": 4096,
        "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0,
    },
    "glm-4.5-air": {
        "model_type": "glm4_moe",
        "hidden_size": 4096,
        "intermediate_size": 10944,
        "vocab_size": 151552,
        "num_attention_heads": 96,
        "num_hidden_layers": 46,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "n_routed_experts": 128,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 1408,
        "first_k_dense_replace": 1,
        "attention_bias": True,
        "use_qk_norm": False,
        "max_position_embeddings": 131072,
    },
    "llama-4-scout": {
        "model_type": "llama4",
        "text_config": {
            "model_type": "llama4_text",
            "hidden_size": 5120,
            "intermediate_size": 8192,
            "vocab_size": 202048,
            "intermediate_size_mlp": 16384,
            "num_attention_heads": 40,
            "num_hidden_layers": 48,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "num_local_experts": 16,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 1,
            "attention_chunk_size": 8192,
            "max_position_embeddings": 10485760,
            "no_rope_layers": [1, 1, 1, 0] * 12,
            "use_qk_norm": True,
        },
        "vision_config": {"hidden_size": 1408},
    },
    "gemma-3-27b": {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 5376,
            "intermediate_size": 21504,
            "vocab_size": 262208,
            "num_attention_heads": 32,
            "num_hidden_layers": 62,
            "num_key_value_heads": 16,
            "head_dim": 128,
            "sliding_window": 1024,
            "sliding_window_pattern": 6,
            "max_position_embeddings": 131072,
        },
    },
    "opt-13b": {
        "model_type": "opt",
        "hidden_size": 5120,
        "ffn_dim": 20480,
        "vocab_size": 50272,
        "torch_dtype": "float16",
        "num_attention_heads": 40,
        "num_hidden_layers": 40,
        "max_position_embeddings": 2048,
        "word_embed_proj_dim": 5120,
        "do_layer_norm_before": True,
    },
}


def _with(**fields: Any) -> dict[str, Any]:
    return {**LLAMA, **fields}


@pytest.mark.parametrize("name", CONFIGS)
def test_import_gives_the_shipped_model(name: str) -> None:
    imported, shipped = from_config(CONFIGS[name]), load_model(name)
    keep = ("name", "hf_id", "aliases", "checkpoints", "refs", "note", "unknown_fields")
    as_shipped = {field: getattr(shipped, field) for field in keep}
    merged = _merged(shipped)
    assert _merged(imported.model_copy(update=as_shipped)) == merged
    assert imported.unknown_fields == ()


def _merged(model: ModelSpec) -> ModelSpec:
    """The model with its layers one by one."""
    layers = [group.model_copy(update={"count": 1}) for group in model.layers for _ in range(group.count)]
    return model.model_copy(update={"layers": tuple(layers)})


def test_every_architecture_has_a_builder_with_a_description() -> None:
    described = ARCHITECTURES.describe()
    assert {"llama", "mistral", "qwen2", "qwen3_moe", "deepseek_v3", "gpt_oss", "opt", "gpt2"} <= set(described)
    assert all(described.values())


def test_gpt2_has_other_names_for_everything() -> None:
    config = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "n_ctx": 1024}
    model = from_config({**config, "vocab_size": 50257, "n_inner": None})
    assert parameter_counts(model).total == 124_439_808
    assert model.unknown_fields == ()


def test_gemma3_1b_has_its_published_size() -> None:
    config = {
        "model_type": "gemma3_text",
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "vocab_size": 262144,
        "num_attention_heads": 4,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "sliding_window": 512,
        "max_position_embeddings": 32768,
    }
    assert parameter_counts(from_config(config)).total == 999_885_952


def test_layers_with_and_without_experts() -> None:
    config = {**CONFIGS["qwen3-30b-a3b"], "num_hidden_layers": 8, "decoder_sparse_step": 2, "mlp_only_layers": [3]}
    kinds = [type(group.ffn) for group in _merged(from_config(config)).layers]
    assert kinds == [Dense, MoE, Dense, Dense, Dense, MoE, Dense, MoE]
    config = {**CONFIGS["deepseek-v3"], "num_hidden_layers": 6, "first_k_dense_replace": 2, "moe_layer_freq": 2}
    kinds = [type(group.ffn) for group in _merged(from_config(config)).layers]
    assert kinds == [Dense, Dense, MoE, Dense, MoE, Dense]
    config = {**config, "first_k_dense_replace": 0, "moe_layer_freq": [0, 1, 1, 1, 0, 1]}
    kinds = [type(group.ffn) for group in _merged(from_config(config)).layers]
    assert kinds == [Dense, MoE, MoE, MoE, Dense, MoE]


def test_shared_experts_by_width_or_by_number() -> None:
    config = {**CONFIGS["qwen3-30b-a3b"], "model_type": "qwen2_moe", "shared_expert_intermediate_size": 20480}
    ffn = from_config(config).layers[0].ffn
    assert isinstance(ffn, MoE)
    assert (ffn.shared_intermediate, ffn.shared_gate) == (20480, True)
    ffn = from_config(CONFIGS["deepseek-v2-lite"]).layers[-1].ffn
    assert isinstance(ffn, MoE)
    assert ffn.shared_intermediate == 2 * 1408


def test_windows_where_they_are_switched_on() -> None:
    config = {**CONFIGS["qwen2.5-7b"], "use_sliding_window": True, "max_window_layers": 20, "sliding_window": 4096}
    assert [group.attention.window for group in _merged(from_config(config)).layers] == [None] * 20 + [4096] * 8
    typed = {**CONFIGS["mistral-7b"], "layer_types": ["full_attention"] * 31 + ["sliding_attention"]}
    assert [group.attention.window for group in _merged(from_config(typed)).layers] == [None] * 31 + [4096]


def test_nested_config_takes_what_stands_outside() -> None:
    inner = {k: v for k, v in LLAMA.items() if k not in {"torch_dtype", "tie_word_embeddings"}}
    whole = {"model_type": "llava", "llm_config": inner, "torch_dtype": "float16", "tie_word_embeddings": True}
    model = from_config({**whole, "quantization_config": {"quant_method": "awq", "bits": 4}})
    assert (model.dtype, model.weights_dtype, model.tied_embeddings) == ("fp16", "int4", True)
    assert "text part" in model.note


def test_unknown_keys_are_listed() -> None:
    model = from_config(_with(index_topk=2048, brand_new=1))
    assert model.unknown_fields == ("brand_new", "index_topk")


@pytest.mark.parametrize(
    ("quantization", "dtype", "covered"),
    [
        ({"quant_method": "fp8"}, "fp8", "linears"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block", "linears"),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["model.layers.0.self_attn.o_proj"]}, "fp8", "ffn"),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["model.layers.0.self_attn"]}, "fp8", "ffn"),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head", "*self_attn.q_a_proj*"]},
            "nvfp4",
            "ffn_and_output",
        ),
        ({"quant_method": "awq", "bits": 4}, "int4", "linears"),
        ({"quant_method": "gptq", "bits": 8}, "int8", "linears"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", "linears"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4", "linears"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, "nvfp4", "linears"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
                "ignore": ["lm_head"],
            },
            "fp8",
            "linears",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
                "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
            },
            "int4",
            "experts",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}},
            },
            "nvfp4",
            "linears",
        ),
    ],
)
def test_number_format_of_the_checkpoint(quantization: dict[str, Any], dtype: str, covered: str) -> None:
    model = from_config(_with(quantization_config=quantization))
    assert (model.weights_dtype, model.quantized, model.dtype) == (dtype, covered, "bf16")


@pytest.mark.parametrize("given", ["torch_dtype", "dtype"])
def test_dtype_under_either_key(given: str) -> None:
    config = {k: v for k, v in LLAMA.items() if k != "torch_dtype"}
    assert from_config({**config, given: "float16"}).weights_dtype == "fp16"
    assert from_config({**config, given: "float32"}).weights_dtype == "bf16"
    assert from_config(config).weights_dtype == "bf16"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (_with(model_type="mamba2"), ["model_type", "unknown architecture 'mamba2'", "architectures/mamba2.py"]),
        (_with(model_type="lama"), ["did you mean 'llama'"]),
        ({}, ["unknown architecture ''", "architectures/NAME.py"]),
        ({k: v for k, v in LLAMA.items() if k != "num_hidden_layers"}, ["num_hidden_layers", "required", "n_layer"]),
        (_with(hidden_size="big"), ["hidden_size", "integer", "'big'"]),
        (_with(hidden_size=0), ["hidden_size", "at least 1"]),
        (_with(attention_bias="no"), ["attention_bias", "true or false"]),
        (_with(num_key_value_heads=7), ["32 query heads do not divide into 7 KV heads"]),
        (_with(torch_dtype="float128"), ["torch_dtype", "number format", "'float128'"]),
        (_with(quantization_config={"quant_method": "magic"}), ["unknown quantization 'magic'", "fp8"]),
        (_with(quantization_config={"quant_method": "gptq", "bits": 3}), ["unknown quantization"]),
        (_with(quantization_config="fp8"), ["quantization_config", "JSON object"]),
        ({**CONFIGS["opt-13b"], "word_embed_proj_dim": 512}, ["word_embed_proj_dim", "not modelled", "512"]),
        ({**CONFIGS["opt-13b"], "do_layer_norm_before": False}, ["do_layer_norm_before", "not modelled"]),
        ({**CONFIGS["deepseek-v3"], "attention_bias": True}, ["attention_bias", "not modelled"]),
        ({**CONFIGS["mistral-7b"], "layer_types": ["linear_attention"] * 32}, ["layer_types", "known types"]),
        ({**CONFIGS["mistral-7b"], "layer_types": ["full_attention"]}, ["layer_types", "list of 32"]),
        ({**CONFIGS["mixtral-8x7b"], "num_experts_per_tok": 9}, ["top_k 9 is more than the 8 experts"]),
    ],
)
def test_what_cannot_be_imported_says_why(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        from_config(config, file="some/config.json")
    for word in words:
        assert word in str(caught.value)
    assert caught.value.exit_code == 2


def _write(folder: Path, config: object, name: str = "config.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def test_a_path_or_its_folder_is_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    path = _write(folder, LLAMA)
    model = load_model(str(path))
    assert model == load_model(str(folder))
    assert model.name == "my-model"
    assert isinstance(model.layers[0].attention, GQA)
    assert model.refs == {"config": str(path)}


def test_modelopt_format_beside_the_config(tmp_path: Path) -> None:
    path = _write(tmp_path, CONFIGS["deepseek-v2-lite"])
    quantization = {
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": "FP8",
        "exclude_modules": ["model.layers.0.self_attn*"],
    }
    _write(tmp_path, {"producer": {"name": "modelopt"}, "quantization": quantization}, "hf_quant_config.json")
    model = load_model(str(path))
    assert (model.weights_dtype, model.quantized) == ("nvfp4", "ffn")
    assert isinstance(model.layers[0].attention, MLA)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_model(str(tmp_path / "config.json"))
    (tmp_path / "broken.json").write_text('{\n  "a": 1,\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.json:3.*not valid JSON"):
        load_model(str(tmp_path / "broken.json"))
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="expected a JSON object"):
        load_model(str(tmp_path / "list.json"))
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        load_model(str(tmp_path / "bytes.json"))
