"""Mixtral: Mistral with experts in every layer."""

from __future__ import annotations

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts, grouped_query, routed_experts, uniform


@ARCHITECTURES.register("mixtral")
def mixtral(config: ConfigReader) -> Parts:
    """A few wide experts, no shared one."""
    attention = grouped_query(config, window=config.integer("window", 0, least=0) or None)
    return Parts(layers=uniform(config, attention, routed_experts(config)))
