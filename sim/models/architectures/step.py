"""StepFun Step 3.7: layers with a window beside full ones, experts with a shared one."""

from __future__ import annotations

from sim.models.architectures.base import (
    ARCHITECTURES,
    ConfigReader,
    Parts,
    grouped_query,
    mixed,
    routed_experts,
    typed_windows,
    with_windows,
)


@ARCHITECTURES.register("step3p7")
def step3p7(config: ConfigReader) -> Parts:
    """The first layers are dense; multi-token-prediction layers are left out."""
    config.get("moe_router_scaling_factor")
    config.get("shared_experts")
    attention = grouped_query(config, qk_norm=True)
    windows = typed_windows(config, lambda i: i % 4 != 0, window=config.integer("window"))
    moe = routed_experts(config, router_bias=config.flag("use_moe_router_bias"))
    return Parts(layers=mixed(config, with_windows(attention, windows), moe))
