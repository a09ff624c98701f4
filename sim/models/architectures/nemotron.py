"""Nemotron: hybrids of Mamba-2, attention and experts, one block a layer; and Llama pruned layer by layer."""

from __future__ import annotations

from typing import Any

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, grouped_query, join, routed_experts
from sim.models.mixers import Mamba2, Mixer
from sim.models.spec import Dense, FeedForward, MoE

_LETTERS = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}
_PRUNED_STEP = 256  # widths of pruned feed-forward blocks are rounded up to a multiple (configuration_decilm.py)


@ARCHITECTURES.register("nemotron_h")
def nemotron_h(config: ConfigReader) -> Parts:
    """Each layer is one block: `hybrid_override_pattern` by letters, or `layers_block_type` by words.

    Feed-forward blocks have two matrices around a squared ReLU; attention has no positions.
    """
    for key in ("attention_bias", "mlp_bias", "use_bias", "mamba_proj_bias"):
        config.refuse(key)
    kinds = _kinds(config)
    mixers: dict[str, Mixer] = {}
    blocks: dict[str, FeedForward] = {}
    for kind in dict.fromkeys(kinds):
        if kind == "mamba":
            mixers[kind] = _mamba(config)
        elif kind == "attention":
            mixers[kind] = grouped_query(config)
        else:
            blocks[kind] = _experts(config) if kind == "moe" else _plain(config)
    for key in ("intermediate", "expand", "time_step_rank", "layers"):
        config.get(key)
    return Parts(layers=join([mixers.get(kind) for kind in kinds], [blocks.get(kind) for kind in kinds]))


def _kinds(config: ConfigReader) -> list[str]:
    named = config.sequence("layers_block_type")
    if named is None:
        pattern = config.get("hybrid_override_pattern")
        if not isinstance(pattern, str) or not set(pattern) <= set(_LETTERS):
            raise config.error("hybrid_override_pattern", f"expected a text of the letters {''.join(_LETTERS)}")
        named = [_LETTERS[letter] for letter in pattern]
    if not named or not {str(kind) for kind in named} <= set(_LETTERS.values()):
        raise config.error("layers_block_type", f"known types are {', '.join(_LETTERS.values())}")
    return [str(kind) for kind in named]


def _mamba(config: ConfigReader) -> Mamba2:
    return Mamba2(
        heads=config.integer("mamba_num_heads"),
        head_dim=config.integer("mamba_head_dim"),
        state_dim=config.integer("ssm_state_size"),
        groups=config.integer("n_groups"),
        conv_kernel=config.integer("conv_kernel", 4),
        state_dtype=config.get("state_dtype") or "float32",
    )


def _experts(config: ConfigReader) -> MoE:
    shared = config.integer("moe_shared_expert_intermediate_size", 0, least=0)
    count = config.integer("shared_experts", 0, least=0)
    return routed_experts(config, shared_intermediate=shared * count, gated=False, router_bias=True)


def _plain(config: ConfigReader) -> Dense:
    return Dense(intermediate=config.integer("intermediate"), gated=False)


@ARCHITECTURES.register("nemotron-nas")
def nemotron_nas(config: ConfigReader) -> Parts:
    """A Llama of which some layers lost their attention and all have their own width (`block_configs`)."""
    for key in ("attention_bias", "mlp_bias"):
        config.refuse(key)
    for key in ("kv_heads", "intermediate"):
        config.get(key)  # null: each layer has its own
    given = config.sequence("block_configs", length=config.integer("layers"))
    if given is None:
        raise config.error("block_configs", "this key is required")
    return Parts(layers=join([_attention(config, one) for one in given], [_width(config, one) for one in given]))


def _part(config: ConfigReader, block: Any, name: str) -> dict[str, Any] | None:
    """One part of a layer; None if it was pruned away."""
    part = block.get(name) if isinstance(block, dict) else None
    if not isinstance(part, dict):
        raise config.error("block_configs", f"expected an object with {name} for every layer")
    if part.get("replace_with_linear") or part.get("window_length") or part.get("sparsify"):
        raise config.error("block_configs", f"{name} that is linear, sparse or has a window is not modelled")
    return None if part.get("no_op") else part


def _attention(config: ConfigReader, block: Any) -> Mixer | None:
    part = _part(config, block, "attention")
    if part is None:
        return None
    return grouped_query(config, kv_heads=config.integer("heads") // int(part["n_heads_in_group"]))


def _width(config: ConfigReader, block: Any) -> Dense | None:
    part = _part(config, block, "ffn")
    if part is None:
        return None
    width = int(2 * float(part["ffn_mult"]) * config.integer("hidden_size") / 3)
    return Dense(intermediate=-(-width // _PRUNED_STEP) * _PRUNED_STEP)
