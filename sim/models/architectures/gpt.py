"""GPT-2 and OPT: learned positions, biases everywhere, a plain feed-forward block, tied embeddings."""

from __future__ import annotations

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, grouped_query, uniform
from sim.models.spec import Dense

_OPT_POSITION_OFFSET = 2  # OPT's position embedding has two rows more than positions (released checkpoints)


@ARCHITECTURES.register("gpt2")
def gpt2(config: ConfigReader) -> Parts:
    """The feed-forward block is four times as wide as the model unless the config says otherwise."""
    return _learned_positions(config, config.integer("intermediate", 4 * config.integer("hidden_size")), offset=0)


@ARCHITECTURES.register("opt")
def opt(config: ConfigReader) -> Parts:
    """OPT with norms before each block; OPT-350M, which has them after and a narrower embedding, is refused."""
    if config.integer("word_embed_proj_dim", config.integer("hidden_size")) != config.integer("hidden_size"):
        raise config.error("word_embed_proj_dim", "an embedding narrower than the model is not modelled")
    if not config.flag("do_layer_norm_before", True):
        raise config.error("do_layer_norm_before", "norms after each block are not modelled")
    return _learned_positions(config, config.integer("intermediate"), offset=_OPT_POSITION_OFFSET)


def _learned_positions(config: ConfigReader, width: int, *, offset: int) -> Parts:
    attention = grouped_query(config, qkv_bias=True, out_bias=True)
    return Parts(
        layers=uniform(config, attention, Dense(intermediate=width, gated=False, bias=True)),
        learned_positions=config.integer("positions") + offset,
        norm_bias=True,
        tied_embeddings=True,
    )
