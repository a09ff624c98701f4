"""What launch commands of all engines share: devices of a replica, and what no flag can say."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from sim.plans.resolved import ResolvedPlan

SHOWN_REPLICAS: Final = 16
"""Commands written out; the others follow the same pattern."""


def commands(plan: ResolvedPlan, words: Sequence[str], *, first_port: int) -> list[str]:
    """One shell line per shown replica: its devices, `words`, and a port of its own where there are several."""
    lines = []
    for replica in range(min(plan.replicas, SHOWN_REPLICAS)):
        port = [] if plan.replicas == 1 else ["--port", str(first_port + replica)]
        lines.append(f"{_environment(plan, replica)}{shlex.join([*words, *port])}")
    return lines


def _environment(plan: ResolvedPlan, replica: int) -> str:
    """Shell text that restricts a replica to its devices where several share a node; empty where it has all."""
    placement = plan.placement
    if placement.spans_nodes or plan.gpus_per_replica == placement.node_devices:
        return ""
    local = [device % placement.node_devices for device in placement.replica_devices(replica)]
    return f"CUDA_VISIBLE_DEVICES={','.join(map(str, local))} "


def heading(
    plan: ResolvedPlan,
    engine: str,
    *,
    first_port: int,
    checkpoint: bool,
    spanning: str = "start the command on every node, see the engine's documentation",
) -> list[str]:
    """Comment lines before the commands: engine and plan, and what has to be seen to beside them.

    Args:
        plan: The plan.
        engine: Name and version of the engine.
        first_port: Port of the first replica.
        checkpoint: Whether the weights must come from a checkpoint in the plan's format.
        spanning: What to do where a replica spans nodes.
    """
    notes = [f"# {engine}: {plan.label}, {plan.n_gpus} GPU{'s' if plan.n_gpus > 1 else ''}"]
    if plan.replicas > 1:
        notes.append(f"# {plan.replicas} replicas behind a router ({plan.router}); ports from {first_port}")
    if checkpoint:
        notes.append(f"# take a checkpoint of this model in {plan.weights_dtype}")
    if plan.clock < 1.0:
        notes.append(f"# lock the GPU clock at {plan.clock:g} of its highest first (nvidia-smi --lock-gpu-clocks)")
    if plan.placement.spans_nodes:
        notes.append(f"# each replica spans nodes: {spanning}")
    return notes
