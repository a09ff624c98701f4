"""gpt-oss: layers with a window alternate with full ones, attention sinks, experts in MXFP4."""

from __future__ import annotations

from sim.models.architectures.base import (
    ARCHITECTURES,
    ConfigReader,
    Parts,
    grouped_query,
    join,
    routed_experts,
    typed_windows,
    with_windows,
)


@ARCHITECTURES.register("gpt_oss")
def gpt_oss(config: ConfigReader) -> Parts:
    """Biases everywhere; only the experts are quantised (gpt-oss model card, arXiv 2508.10925, section 2)."""
    attention = grouped_query(config, qkv_bias=True, out_bias=True, sinks=True)
    windows = typed_windows(config, lambda i: i % 2 == 0, window=config.integer("window"))
    moe = routed_experts(config, bias=True)
    return Parts(layers=join(with_windows(attention, windows), [moe] * len(windows)), quantized="experts")
