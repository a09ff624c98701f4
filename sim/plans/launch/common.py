"""What launch commands of all engines share: devices of a replica, and what no flag can say."""

from __future__ import annotations

from typing import Final

from sim.models import ModelSpec
from sim.plans.resolved import ResolvedPlan

SHOWN_REPLICAS: Final = 16
"""Commands written out; the others follow the same pattern."""


def environment(plan: ResolvedPlan, replica: int) -> str:
    """Shell text that restricts a replica to its devices where several share a node; empty where it has all."""
    placement = plan.placement
    if placement.spans_nodes or plan.gpus_per_replica == placement.node_devices:
        return ""
    local = [device % placement.node_devices for device in placement.replica_devices(replica)]
    return f"CUDA_VISIBLE_DEVICES={','.join(map(str, local))} "


def heading(plan: ResolvedPlan, model: ModelSpec, engine: str, *, first_port: int) -> list[str]:
    """Comment lines before the commands: engine and plan, and what has to be seen to beside them."""
    notes = [f"# {engine}: {plan.label}, {plan.n_gpus} GPU{'s' if plan.n_gpus > 1 else ''}"]
    if plan.replicas > 1:
        notes.append(f"# {plan.replicas} replicas behind a router ({plan.router}); ports from {first_port}")
    if plan.weights_dtype != model.weights_dtype:
        notes.append(f"# take a checkpoint of this model in {plan.weights_dtype}")
    if plan.clock < 1.0:
        notes.append(f"# lock the GPU clock at {plan.clock:g} of its highest first (nvidia-smi --lock-gpu-clocks)")
    if plan.placement.spans_nodes:
        notes.append("# each replica spans nodes: start the command on every node, see the engine's documentation")
    return notes
