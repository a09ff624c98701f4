"""Qwen3-Next, Qwen 3.5 and 3.6: three layers of linear attention to one of full attention, which has an output gate."""

from __future__ import annotations

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, grouped_query, join, mixed, routed_experts
from sim.models.mixers import GatedDelta, Mixer
from sim.models.spec import Dense


@ARCHITECTURES.register("qwen3_5")
def qwen3_5(config: ConfigReader) -> Parts:
    """Dense feed-forward blocks."""
    mixers = _mixers(config)
    config.get("dense_layers")
    return Parts(layers=join(mixers, [Dense(intermediate=config.integer("intermediate"))] * len(mixers)))


@ARCHITECTURES.register("qwen3_5_moe")
def qwen3_5_moe(config: ConfigReader) -> Parts:
    """Experts beside a gated shared expert; multi-token-prediction layers are left out."""
    return Parts(layers=mixed(config, _mixers(config), routed_experts(config, shared_gate=True)))


@ARCHITECTURES.register("qwen3_next")
def qwen3_next(config: ConfigReader) -> Parts:
    """As Qwen 3.5 with experts, but its checkpoints join the inputs of linear attention."""
    mixers = _mixers(config, inputs_joined=True)
    return Parts(layers=mixed(config, mixers, routed_experts(config, shared_gate=True)))


def _mixers(config: ConfigReader, *, inputs_joined: bool = False) -> list[Mixer]:
    config.refuse("attention_bias")
    count, every = config.integer("layers"), config.integer("full_attention_interval", 4)
    full = grouped_query(config, qk_norm=True, output_gate=config.flag("attn_output_gate", True))
    linear = GatedDelta(
        key_heads=config.integer("linear_num_key_heads"),
        value_heads=config.integer("linear_num_value_heads"),
        key_dim=config.integer("linear_key_head_dim"),
        value_dim=config.integer("linear_value_head_dim"),
        conv_kernel=config.integer("linear_conv_kernel_dim", 4),
        state_dtype=config.get("state_dtype") or "float32",
        inputs_joined=inputs_joined,
    )
    default = ["full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(count)]
    types = config.sequence("layer_types", length=count) or default
    known: dict[str, Mixer] = {"full_attention": full, "linear_attention": linear}
    if not {str(kind) for kind in types} <= set(known):
        raise config.error("layer_types", f"known types are {', '.join(known)}")
    return [known[str(kind)] for kind in types]
