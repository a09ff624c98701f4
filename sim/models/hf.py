"""Imports a Hugging Face `config.json`: aliases in one table, nothing guessed.

Architectures are recognised by `model_type` (`sim.models.architectures`, one family a file); an unknown one is an
error that says what to add. Keys that were not used and could matter are listed in `ModelSpec.unknown_fields`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from sim.core import InputError, did_you_mean
from sim.models.architectures import ARCHITECTURES, ConfigReader, Parts
from sim.models.dtypes import canonical_dtype
from sim.models.quantization import Quantised, quantised_format
from sim.models.spec import ModelSpec

_SUFFICIENT: Final = frozenset({"weight_block_size", "config_groups", "quantized_layers", "bits"})
"""Keys of a quantization that make the file beside the config superfluous."""

_NESTED: Final = ("text_config", "llm_config", "language_config")
_KEYS_WITHOUT_EFFECT: Final = """
    architectures model_type transformers_version auto_map _name_or_path name_or_path _attn_implementation use_cache
    bos_token_id eos_token_id pad_token_id initializer_range init_std initializer_factor prefix is_encoder_decoder
    hidden_act hidden_activation activation_function rms_norm_eps layer_norm_eps layer_norm_epsilon norm_epsilon
    attention_dropout resid_pdrop embd_pdrop attn_pdrop dropout activation_dropout layerdrop classifier_dropout
    rope_theta rope_scaling rope_parameters rope_local_base_freq rope_interleave partial_rotary_factor
    original_max_position_embeddings initial_context_length attention_multiplier embedding_multiplier
    residual_multiplier logits_scaling query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping
    attn_temperature_tuning attn_scale floor_scale pretraining_tp quantization_config output_router_logits
    router_aux_loss_coef router_jitter_noise aux_loss_alpha seq_aux norm_topk_prob scoring_func topk_method topk_group
    n_group routed_scaling_factor ep_size num_nextn_predict_layers swiglu_limit do_sample summary_type
    summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout scale_attn_weights
    scale_attn_by_inverse_layer_idx reorder_and_upcast_attn task_specific_params n_ctx
    rms_norm_eps norm_eps mlp_hidden_act mamba_hidden_act hidden_dropout chunk_size num_logits_to_keep residual_in_fp32
    rescale_prenorm_residual use_conv_bias use_mamba_kernels time_step_floor time_step_limit time_step_max time_step_min
    index_share_for_mtp_iteration index_skip_topk_offset index_topk_freq index_topk_pattern indexer_rope_interleave
    moe_router_dtype moe_shared_expert_overlap moe_renormalize moe_router_activation_func latent_moe_use_norm
    num_expert_group use_grouped_topk activation_situ_beta activation_situ_linear_beta
    add_cross_attention bad_words_ids begin_suppress_tokens chunk_size_feed_forward cross_attention_hidden_size
    decoder_start_token_id diversity_penalty early_stopping encoder_no_repeat_ngram_size finetuning_task
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id id2label is_decoder label2id
    length_penalty max_length min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences
    output_attentions output_hidden_states output_scores problem_type pruned_heads remove_invalid_values
    repetition_penalty return_dict
    return_dict_in_generate sep_token_id suppress_tokens temperature tf_legacy_loss tie_encoder_decoder tokenizer_class
    top_k top_p torchscript typical_p use_bfloat16
"""
_WITHOUT_EFFECT: Final = frozenset(_KEYS_WITHOUT_EFFECT.split())  # multi-token prediction is left out on purpose


def read_config(path: Path, *, hf_id: str = "") -> ModelSpec:
    """The model that a Hugging Face `config.json` describes, with the `hf_quant_config.json` beside it, if any.

    Args:
        path: The file; its name ends in `config.json`, and that of the other in `hf_quant_config.json`.
        hf_id: The id by which it was asked for.

    Raises:
        InputError: if the file cannot be read, its architecture is unknown, or a needed key is missing.
    """
    whole = _read_json(path)
    beside = path.with_name(path.name.removesuffix("config.json") + "hf_quant_config.json")
    given = whole.get("quantization_config") or {}
    if beside.is_file() and not (given.keys() & _SUFFICIENT):
        quantization = _read_json(beside).get("quantization") or {}
        whole["quantization_config"] = {**given, "quant_method": "modelopt", **quantization}
    model = from_config(whole, file=str(path))
    return model.model_copy(update={"name": hf_id.lower().rsplit("/", 1)[-1], "hf_id": hf_id}) if hf_id else model


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the file: {error}", file=str(path)) from None
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", file=str(path), line=error.lineno) from None
    if not isinstance(data, dict):
        raise InputError("expected a JSON object", file=str(path), line=1)
    return data


def from_config(whole: Mapping[str, Any], *, file: str = "config.json") -> ModelSpec:
    """The model that a parsed config describes; one nested under `text_config` or the like is taken from there.

    Raises:
        InputError: as `read_config`.
    """
    text = next((whole[key] for key in _NESTED if isinstance(whole.get(key), dict)), whole)
    kind = _architecture(str(text.get("model_type") or whole.get("model_type") or ""), file)
    config = ConfigReader(text, file)
    outer = ConfigReader(whole, file)
    try:
        parts = ARCHITECTURES.get(kind)(config)
        spec = _spec(config, outer, parts, name=_name(whole, file, kind))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(first["msg"], file=file, path=".".join(str(part) for part in first["loc"]) or None) from None
    unknown = {key for key, value in text.items() if value and "mtp_" not in key}  # what is off or empty has no effect
    unknown -= config.used | _WITHOUT_EFFECT
    note = "" if text is whole else "only the text part of a model with more"
    return spec.model_copy(update={"unknown_fields": tuple(sorted(unknown)), "note": note})


def _architecture(kind: str, file: str) -> str:
    """The registered name of a `model_type`.

    Raises:
        InputError: if there is none.
    """
    names = ARCHITECTURES.names()
    short = kind.removesuffix("_text")
    if short in names:
        return short
    raise InputError(
        f"unknown architecture {kind!r}{did_you_mean(kind, names)}",
        file=file,
        path="model_type",
        allowed=names,
        hint=f"add sim/models/architectures/{short or 'NAME'}.py with a function that turns its config into layers, or "
        "describe the model in a YAML file like those of `plansim list models`",
    )


def _name(whole: Mapping[str, Any], file: str, kind: str) -> str:
    return str(whole.get("_name_or_path") or Path(file).resolve().parent.name or kind)


def _spec(config: ConfigReader, outer: ConfigReader, parts: Parts, *, name: str) -> ModelSpec:
    dtype = _dtype(config, outer)
    formats = _weights(config, outer, parts, dtype)
    tied = config.flag("tied", outer.flag("tied", parts.tied_embeddings))
    return ModelSpec(
        name=name,
        hidden_size=config.integer("hidden_size"),
        vocab_size=config.integer("vocabulary"),
        max_position_embeddings=config.integer("positions"),
        layers=parts.layers,
        tied_embeddings=tied,
        learned_positions=parts.learned_positions,
        norm_bias=parts.norm_bias,
        norms_per_layer=parts.norms_per_layer,
        dtype=dtype,
        residual_streams=parts.residual_streams,
        weights_dtype=formats.weights_dtype,
        quantized=formats.coverage,
        other_dtype=formats.other_dtype,
        refs={"config": config.file},
    )


def _dtype(config: ConfigReader, outer: ConfigReader) -> str:
    """Format of what is not quantised; engines cast fp32 checkpoints to 16 bit."""
    reader = outer if config.get("dtype") is None else config
    given = reader.get("dtype")
    if given in (None, "auto", "float32"):
        return "bf16"
    try:
        return canonical_dtype(str(given))
    except InputError:
        raise reader.error("dtype", "expected a number format such as bfloat16") from None


def _weights(config: ConfigReader, outer: ConfigReader, parts: Parts, dtype: str) -> Quantised:
    """Formats of the linear layers and which of them have it."""
    quantization = config.get("quantization_config") or outer.get("quantization_config")
    if not quantization:
        return Quantised(
            parts.experts_dtype or dtype, "experts" if parts.experts_dtype else parts.quantized or "linears"
        )
    if not isinstance(quantization, Mapping):
        raise config.error("quantization_config", "expected a JSON object")
    found = quantised_format(quantization, file=config.file)
    if parts.experts_dtype and found.coverage == "linears":
        return Quantised(parts.experts_dtype, "experts", found.weights_dtype)
    return found._replace(coverage=parts.quantized or found.coverage)
