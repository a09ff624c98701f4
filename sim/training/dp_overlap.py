"""What data-parallel collectives that run beside compute add to it: the streams of a device, sharing its SMs.

Compute wants all multiprocessors, a collective its share of them; while both run, each slows by the ratio of demand to
what there is (`sim.training.overlap`), and buckets and gathers wait for what they need in their order.
"""

from __future__ import annotations

from collections.abc import Sequence

from sim.training.overlap import Operation, overlap
from sim.training.overlap_patterns import Load, gradient_buckets, sharded_layers


def reduced_behind_s(
    reduce_s: float, *, layers_s: Sequence[float], layer_bytes: Sequence[float], bucket_bytes: float, taken: float
) -> float:
    """Time [s] that reducing gradients in buckets behind them adds to some layers' backward passes.

    Args:
        reduce_s: Reduction of all gradients, with the device to itself [s].
        layers_s: Backward pass of each layer, in the order in which they run [s].
        layer_bytes: Gradients of each [B].
        bucket_bytes: Size from which a bucket goes [B].
        taken: Share of the multiprocessors that a collective takes.
    """
    total = sum(layer_bytes)
    if reduce_s <= 0.0 or total <= 0.0:
        return 0.0
    operations = gradient_buckets(
        _computing(layers_s),
        layer_bytes,
        bucket_bytes=bucket_bytes,
        reduce=lambda size: Load(reduce_s * size / total, {"sm": taken}),
    )
    return _added_s(operations, layers_s)


def gathered_before_s(
    gather_s: float, *, layers_s: Sequence[float], layer_bytes: Sequence[float], taken: float
) -> float:
    """Time [s] that gathering parameters, layer by layer ahead of their use, adds to some layers' forward passes.

    Args:
        gather_s: Gathering of all parameters, with the device to itself [s].
        layers_s: Forward pass of each layer, in the order in which they run [s].
        layer_bytes: Parameters of each [B].
        taken: Share of the multiprocessors that a collective takes.
    """
    total = sum(layer_bytes)
    if gather_s <= 0.0 or total <= 0.0:
        return 0.0
    operations = sharded_layers(
        _computing(layers_s),
        [Load(gather_s * size / total, {"sm": taken}) for size in layer_bytes],
        ahead=len(layers_s),
    )
    return _added_s(operations, layers_s)


def sharded_s(
    layers_s: Sequence[float],
    gathers_s: Sequence[float],
    scatters_s: Sequence[float] | None = None,
    *,
    ahead: int = 1,
    taken: float,
) -> float:
    """Time [s] that gathering each layer while those before it compute adds to some layers (ZeRO-3, FSDP).

    Args:
        layers_s: Compute of each layer, in the order in which they run [s].
        gathers_s: Gathering of its parameters, with the device to itself [s].
        scatters_s: Reduce-scatter of its gradients, in a backward pass [s].
        ahead: Layers gathered in advance; 0 gathers a layer when the one before it has ended.
        taken: Share of the multiprocessors that a collective takes.
    """
    if not any(gathers_s):
        return 0.0
    operations = sharded_layers(
        _computing(layers_s),
        [Load(each, {"sm": taken}) for each in gathers_s],
        None if scatters_s is None else [Load(each, {"sm": taken}) for each in scatters_s],
        ahead=ahead,
    )
    return _added_s(operations, layers_s)


def _computing(layers_s: Sequence[float]) -> list[Load]:
    """The layers' compute, which wants all multiprocessors."""
    return [Load(each, {"sm": 1.0}) for each in layers_s]


def _added_s(operations: Sequence[Operation], layers_s: Sequence[float]) -> float:
    """What all operations together take beyond the layers alone [s]."""
    return max(0.0, overlap(operations).end_s - sum(layers_s))
