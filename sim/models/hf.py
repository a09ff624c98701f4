"""Imports a Hugging Face `config.json`: one table of aliases per concept, nothing guessed.

Architectures are recognised by `model_type`; an unknown one is an error that says what to add. Keys that were not used
and could matter are listed in `ModelSpec.unknown_fields`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from sim.core import InputError, did_you_mean
from sim.models.dtypes import canonical_dtype
from sim.models.spec import GQA, MLA, Dense, LayerGroup, ModelSpec, MoE

_NESTED: Final = ("text_config", "llm_config", "language_config")
_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_dim": ("head_dim",),
    "intermediate": ("intermediate_size", "ffn_dim", "n_inner"),
    "vocab_size": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions", "seq_length"),
    "experts": ("n_routed_experts", "num_experts", "num_local_experts"),
    "top_k": ("num_experts_per_tok", "num_experts_per_token", "experts_per_token"),
    "expert_width": ("moe_intermediate_size",),
    "shared_experts": ("n_shared_experts",),
    "shared_width": ("shared_expert_intermediate_size",),
    "dense_first": ("first_k_dense_replace",),
    "moe_every": ("moe_layer_freq", "decoder_sparse_step"),
    "dense_layers": ("mlp_only_layers",),
    "tied": ("tie_word_embeddings",),
    "dtype": ("torch_dtype", "dtype"),
    "window": ("sliding_window",),
}
_HARMLESS: Final = {
    *["architectures", "model_type", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache"],
    *["initializer_range", "hidden_act", "hidden_activation", "activation_function", "rms_norm_eps", "layer_norm_eps"],
    *["attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "rope_theta", "rope_scaling", "rope_parameters"],
    *["pretraining_tp", "auto_map", "quantization_config", "output_router_logits", "router_aux_loss_coef", "torch_dtype"],
    *["norm_topk_prob", "scoring_func", "topk_method", "topk_group", "n_group", "routed_scaling_factor", "aux_loss_alpha"],
    *["seq_aux", "ep_size", "attention_bias", "mlp_bias", "use_sliding_window", "max_window_layers", "layer_types"],
    *["q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "num_nextn_predict_layers"],
    *["swiglu_limit", "initial_context_length", "experts_per_token", "rope_interleave", "use_qk_norm", "bias", "dropout"],
    *["do_layer_norm_before", "word_embed_proj_dim", "enable_bias", "layerdrop", "activation_dropout", "init_std", "prefix"],
    *["_remove_final_layer_norm", "layer_norm_elementwise_affine", "_name_or_path", "name_or_path"],
}


@dataclass
class _Config:
    """A config with its aliases; remembers which keys were read."""

    data: Mapping[str, Any]
    file: str
    used: set[str] = field(default_factory=set)

    def get(self, concept: str, default: Any = None) -> Any:
        """Value of the first alias of `concept` that is present and not null."""
        for key in _ALIASES.get(concept, (concept,)):
            self.used.add(key)
            if self.data.get(key) is not None:
                return self.data[key]
        return default

    def need(self, concept: str) -> int:
        """A positive integer that must be there.

        Raises:
            InputError: if it is missing or no positive integer.
        """
        value = self.get(concept)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            keys = _ALIASES.get(concept, (concept,))
            raise InputError(
                "expected a positive integer" if value is not None else "this key is required",
                file=self.file,
                path=keys[0],
                **({"value": value} if value is not None else {}),
                allowed=f"one of {', '.join(keys)}",
            )
        return value


def _gqa(config: _Config, **options: Any) -> GQA:
    heads = config.need("heads")
    return GQA(
        heads=heads,
        kv_heads=config.get("kv_heads", heads),
        head_dim=config.get("head_dim") or config.need("hidden_size") // heads,
        **options,
    )


def _window(config: _Config) -> int | None:
    if config.get("use_sliding_window", True) is False:
        return None
    window = config.get("window")
    return int(window) if window else None


def _groups(config: _Config, attention: GQA | MLA, dense: Dense, moe: MoE | None) -> list[LayerGroup]:
    """Dense and expert layers in the config's order, equal neighbours joined."""
    count = config.need("layers")
    first = int(config.get("dense_first", 0) or 0)
    every = config.get("moe_every", 1) or 1
    only_dense = set(config.get("dense_layers", ()) or ())
    kinds = []
    for i in range(count):
        if moe is None or i < first or i in only_dense:
            kinds.append(dense)
        elif isinstance(every, list):
            kinds.append(moe if every[i] else dense)  # type: ignore[arg-type]
        else:
            offset = i + 1 if "decoder_sparse_step" in config.data else i
            kinds.append(moe if offset % every == 0 else dense)  # type: ignore[arg-type]
    groups: list[LayerGroup] = []
    for kind in kinds:
        if groups and groups[-1].ffn == kind:
            groups[-1] = groups[-1].model_copy(update={"count": groups[-1].count + 1})
        else:
            groups.append(LayerGroup(count=1, attention=attention, ffn=kind))
    return groups


def _llama(config: _Config) -> dict[str, Any]:
    bias = bool(config.get("attention_bias", False))
    attention = _gqa(config, qkv_bias=bias, out_bias=bias, window=_window(config))
    return {"layers": _groups(config, attention, Dense(intermediate=config.need("intermediate")), None)}


def _qwen2(config: _Config) -> dict[str, Any]:
    window = _window(config) if config.get("use_sliding_window", False) else None
    attention = _gqa(config, qkv_bias=True, window=window)
    return {"layers": _groups(config, attention, Dense(intermediate=config.need("intermediate")), None)}


def _qwen3(config: _Config) -> dict[str, Any]:
    window = _window(config) if config.get("use_sliding_window", False) else None
    attention = _gqa(config, qk_norm=True, window=window)
    return {"layers": _groups(config, attention, Dense(intermediate=config.need("intermediate")), None)}


def _moe(config: _Config, **options: Any) -> MoE:
    width = config.get("expert_width") or config.need("intermediate")
    shared = config.get("shared_width") or (config.get("shared_experts", 0) or 0) * width
    return MoE(
        experts=config.need("experts"),
        top_k=config.need("top_k"),
        intermediate=width,
        shared_intermediate=shared,
        **options,
    )


def _mixtral(config: _Config) -> dict[str, Any]:
    attention = _gqa(config, window=_window(config))
    moe = _moe(config)
    return {"layers": _groups(config, attention, Dense(intermediate=moe.intermediate), moe)}


def _qwen2_moe(config: _Config) -> dict[str, Any]:
    dense = Dense(intermediate=config.need("intermediate"))
    return {"layers": _groups(config, _gqa(config, qkv_bias=True), dense, _moe(config, shared_gate=True))}


def _qwen3_moe(config: _Config) -> dict[str, Any]:
    dense = Dense(intermediate=config.need("intermediate"))
    return {"layers": _groups(config, _gqa(config, qk_norm=True), dense, _moe(config))}


def _deepseek(config: _Config) -> dict[str, Any]:
    attention = MLA(
        heads=config.need("heads"),
        q_rank=config.get("q_lora_rank"),
        kv_rank=config.need("kv_lora_rank"),
        nope_dim=config.need("qk_nope_head_dim"),
        rope_dim=config.need("qk_rope_head_dim"),
        v_dim=config.need("v_head_dim"),
    )
    moe = _moe(config, router_bias=config.get("topk_method") == "noaux_tc")
    return {"layers": _groups(config, attention, Dense(intermediate=config.need("intermediate")), moe)}


def _gpt_oss(config: _Config) -> dict[str, Any]:
    common: dict[str, Any] = {"qkv_bias": True, "out_bias": True, "sinks": True}
    full, sliding = _gqa(config, **common), _gqa(config, window=config.need("window"), **common)
    types = config.get("layer_types") or ["sliding_attention", "full_attention"] * (config.need("layers") // 2)
    moe = _moe(config, bias=True)
    groups = [LayerGroup(count=1, attention=sliding if t.startswith("sliding") else full, ffn=moe) for t in types]
    return {"layers": groups, "quantized": "experts"}


def _opt(config: _Config) -> dict[str, Any]:
    attention = _gqa(config, qkv_bias=True, out_bias=True)
    dense = Dense(intermediate=config.need("intermediate"), gated=False, bias=True)
    positions = config.need("positions") + 2
    return {
        "layers": _groups(config, attention, dense, None),
        "learned_positions": positions,
        "norm_bias": True,
        "tied_embeddings": True,
    }


def _gpt2(config: _Config) -> dict[str, Any]:
    attention = _gqa(config, qkv_bias=True, out_bias=True)
    width = config.get("intermediate") or 4 * config.need("hidden_size")
    return {
        "layers": _groups(config, attention, Dense(intermediate=width, gated=False, bias=True), None),
        "learned_positions": config.need("positions"),
        "norm_bias": True,
        "tied_embeddings": True,
    }


ARCHITECTURES: Final[dict[str, Callable[[_Config], dict[str, Any]]]] = {
    "llama": _llama,
    "mistral": _llama,
    "ministral": _llama,
    "phi3": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "mixtral": _mixtral,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "kimi_k2": _deepseek,
    "gpt_oss": _gpt_oss,
    "opt": _opt,
    "gpt2": _gpt2,
}


def read_config(path: Path) -> ModelSpec:
    """The model that a Hugging Face `config.json` describes.

    Raises:
        InputError: if the file cannot be read, its architecture is unknown, or a needed key is missing.
    """
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the file: {error}", file=str(path)) from None
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", file=str(path), line=error.lineno) from None
    if not isinstance(whole, dict):
        raise InputError("expected a JSON object", file=str(path), line=1)
    return from_config(whole, file=str(path))


def from_config(whole: Mapping[str, Any], *, file: str = "config.json") -> ModelSpec:
    """The model that a parsed config describes; one nested under `text_config` or the like is taken from there.

    Raises:
        InputError: as `read_config`.
    """
    nested = next((whole[key] for key in _NESTED if isinstance(whole.get(key), dict)), whole)
    kind = str(nested.get("model_type") or whole.get("model_type") or "")
    build = ARCHITECTURES.get(kind.removesuffix("_text"))
    if build is None:
        raise InputError(
            f"unknown architecture {kind!r}{did_you_mean(kind, ARCHITECTURES)}",
            file=file,
            path="model_type",
            allowed=sorted(ARCHITECTURES),
            hint="add a builder to ARCHITECTURES in sim/models/hf.py, or describe the model in a YAML file "
            "like those of `plansim list models`",
        )
    config = _Config(nested, file)
    quantization = nested.get("quantization_config") or whole.get("quantization_config") or {}
    dtype = canonical_dtype(str(config.get("dtype") or whole.get("torch_dtype") or whole.get("dtype") or "bf16"))
    parts = build(config)
    try:
        spec = ModelSpec(
            name=str(whole.get("_name_or_path") or Path(file).resolve().parent.name or kind),
            hidden_size=config.need("hidden_size"),
            vocab_size=config.need("vocab_size"),
            max_position_embeddings=config.need("positions"),
            dtype="bf16" if dtype == "fp32" else dtype,
            weights_dtype=_quantised_dtype(quantization, dtype, file),
            refs={"config": file},
            **{"tied_embeddings": bool(config.get("tied", whole.get("tie_word_embeddings", False))), **parts},
        )
    except ValidationError as error:
        raise InputError(error.errors()[0]["msg"], file=file) from None
    known = {key for keys in _ALIASES.values() for key in keys} | _HARMLESS | config.used
    return spec.model_copy(update={"unknown_fields": tuple(sorted(set(nested) - known))})


def _quantised_dtype(quantization: Mapping[str, Any], dtype: str, file: str) -> str:
    """Format of quantised weights from a `quantization_config`.

    Raises:
        InputError: if its method is unknown.
    """
    if not quantization:
        return "bf16" if dtype == "fp32" else dtype
    method = str(quantization.get("quant_method", "")).lower()
    bits = quantization.get("bits")
    if method == "fp8":
        return "fp8_block" if quantization.get("weight_block_size") else "fp8"
    if method == "mxfp4":
        return "mxfp4"
    if method in {"awq", "gptq"} and bits in {None, 4}:
        return "int4"
    if method in {"gptq"} and bits == 8:
        return "int8"
    if method == "modelopt":
        algorithm = str(quantization.get("quant_algo", "")).lower()
        if algorithm in {"fp8", "nvfp4"}:
            return algorithm
    raise InputError(
        f"unknown quantization {method!r}",
        file=file,
        path="quantization_config.quant_method",
        allowed="fp8, mxfp4, awq, gptq, modelopt (FP8, NVFP4)",
        hint="or set plan.weights_dtype and remove quantization_config",
    )
