"""All-reduces of tensor-parallel ranks whose kernel also does the residual add and the norm that follow."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sim.core import Reason
from sim.hardware import Device
from sim.models import ModelSpec, activation_bytes
from sim.plans.engine import AllReduceNorm, EngineSpec
from sim.plans.placement import Placement


def fused_bytes(
    engine: EngineSpec, model: ModelSpec, device: Device, placement: Placement, *, asked: bool | None
) -> float:
    """Largest buffer [B] of an all-reduce that takes in the norm behind it; 0 where none does, inf where all do.

    Args:
        engine: The engine.
        model: The model.
        device: The device.
        placement: Ranks of an engine and where they are.
        asked: Whether the engine is told to; None, and it does as its profile says.
    """
    spec = engine.all_reduce_norm
    wanted = engine.fuses_all_reduce(model.name) if asked is None else asked
    if spec is None or not wanted or placement.tp == 1:
        return 0.0
    has = {"pp": placement.pp > 1, "dp": placement.dp > 1, "nodes": placement.spans_nodes}
    if any(has[kind] for kind in spec.not_with):
        return 0.0
    if spec.norms_apart_with_qk_norm and model.is_dense_with_qk_norm:
        return 0.0
    token_bytes = activation_bytes(model.dtype) * model.hidden_size
    return min(_of_device(spec, device, placement.tp), (spec.most_tokens or math.inf) * token_bytes)


def _of_device(spec: AllReduceNorm, device: Device, tp: int) -> float:
    """Largest buffer [B] of so many ranks on the device; inf where the kernel takes any."""
    if spec.devices and not device.name.startswith(spec.devices):
        return 0.0
    if not spec.most_bytes:
        return math.inf
    known = (limits for names, limits in spec.most_bytes.items() if device.name.startswith(tuple(names.split())))
    return next(known, {}).get(tp, 0.0)


def reduction_reasons(
    engine: EngineSpec, model: ModelSpec, device: Device, placement: Placement, *, asked: bool | None
) -> Iterator[Reason]:
    """Why all-reduces cannot be told to take in norms, or told not to; arguments as of `fused_bytes`."""
    if asked is None:
        return
    if not engine.supports.fuse_all_reduce:
        yield Reason("engine", f"{engine.name} cannot be told what its all-reduces take in: leave fuse_all_reduce out")
    elif asked and placement.tp > 1 and not fused_bytes(engine, model, device, placement, asked=asked):
        ranks = {"tp": placement.tp, "pp": placement.pp, "dp": placement.dp}
        where = f"on several nodes of {device.title}" if placement.spans_nodes else f"on {device.title}"
        over = ", ".join(f"{kind} {count}" for kind, count in ranks.items())
        yield Reason(
            "engine",
            f"{engine.name} has no all-reduce with a norm over {over} {where}: leave fuse_all_reduce out",
            ranks,
        )
