"""What launch commands of all engines share: devices of a replica, and what no flag can say."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Final

from sim.plans.engine import EngineSpec
from sim.plans.launch.base import Role
from sim.plans.resolved import ResolvedPlan

SHOWN_REPLICAS: Final = 16
"""Commands written out; the others follow the same pattern."""


def _nodes(plan: ResolvedPlan) -> str:
    """Which node each shown replica is on, by its number."""
    size = plan.placement.node_devices
    placed = plan.devices or ()
    return ", ".join(str(devices[0] // size) for devices in placed[:SHOWN_REPLICAS])


_DECODE_PORTS: Final = 1000
"""How far the ports of engines that decode stand from those of engines that compute prompts."""


def commands(
    plan: ResolvedPlan,
    words: Sequence[str],
    *,
    first_port: int,
    role: Role = "both",
    own: Callable[[int], tuple[str, Sequence[str]]] = lambda _: ("", ()),
) -> list[str]:
    """One shell line per shown replica: its devices, `words`, and a port of its own where there are several.

    Args:
        plan: The plan.
        words: The command, alike for all.
        first_port: Port of the first replica.
        role: What these engines do.
        own: By replica, what else stands before the command and behind it.
    """
    lines = []
    first = _first_port(first_port, role)
    for replica in range(min(plan.replicas, SHOWN_REPLICAS)):
        port = [] if plan.replicas == 1 and role == "both" else ["--port", str(first + replica)]
        before, behind = own(replica)
        lines.append(f"{_environment(plan, replica)}{before}{shlex.join([*words, *behind, *port])}")
    return lines


def _first_port(first_port: int, role: Role) -> int:
    return first_port + (_DECODE_PORTS if role == "decode" else 0)


def side_port(plan: ResolvedPlan, replica: int, *, first: int, role: Role) -> int:
    """A port for KV transfers: as many apart as a replica has ranks, since each rank may take one."""
    return _first_port(first, role) + replica * plan.gpus_per_replica


def _environment(plan: ResolvedPlan, replica: int) -> str:
    """Shell text that restricts a replica to its devices where several share a node; empty where it has all."""
    placement = plan.placement
    if placement.spans_nodes or plan.gpus_per_replica == placement.node_devices:
        return ""
    devices = placement.replica_devices(replica) if plan.devices is None else plan.devices[replica]
    local = [device % placement.node_devices for device in devices]
    return f"CUDA_VISIBLE_DEVICES={','.join(map(str, local))} "


def heading(
    plan: ResolvedPlan,
    engine: str,
    *,
    first_port: int,
    checkpoint: bool,
    role: Role = "both",
    spanning: str = "start the command on every node, see the engine's documentation",
) -> list[str]:
    """Comment lines before the commands: engine and plan, and what has to be seen to beside them.

    Args:
        plan: The plan.
        engine: Name and version of the engine.
        first_port: Port of the first replica.
        checkpoint: Whether the weights must come from a checkpoint in the plan's format.
        role: What these engines do.
        spanning: What to do where a replica spans nodes.
    """
    gpus = plan.replicas * plan.gpus_per_replica
    what = {"both": f": {plan.label}", "prefill": ", engines for prompts", "decode": f", {plan.label}: to decode"}[role]
    notes = [f"# {engine}{what}, {gpus} GPU{'s' if gpus > 1 else ''}"]
    if role != "both":
        notes.append("# a proxy in front sends each request to one engine of either kind; their nodes: " + _nodes(plan))
    if plan.replicas > 1:
        ports = _first_port(first_port, role)
        notes.append(f"# {plan.replicas} replicas behind a router ({plan.router}); ports from {ports}")
    if checkpoint:
        notes.append(f"# take a checkpoint of this model in {plan.weights_dtype}")
    if plan.clock < 1.0:
        notes.append(f"# lock the GPU clock at {plan.clock:g} of its highest first (nvidia-smi --lock-gpu-clocks)")
    if plan.placement.spans_nodes:
        notes.append(f"# each replica spans nodes: {spanning}")
    return notes


def asked_graphs(plan: ResolvedPlan, engine: EngineSpec) -> list[int]:
    """Sizes of the CUDA graphs that the engine is to capture, as it counts them; none where they are its own."""
    if plan.graph_sizes == engine.graphs(plan.step_tokens):
        return []
    width = plan.step_tokens if engine.graphs_of == "sequences" else 1
    return [size // width for size in plan.graph_sizes]
