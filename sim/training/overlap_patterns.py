"""The usual ways in which training hides communication, as operations for `overlap`.

Each returns operations of two or three streams of one device. Times are those of the operations alone; what they do to
each other follows from what they use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sim.core import InputError
from sim.training.overlap import COMPUTE, Operation


@dataclass(frozen=True)
class Load:
    """What a piece of work takes alone.

    Attributes:
        alone_s: Time [s].
        uses: Share of each resource of the device, as in `Operation`.
    """

    alone_s: float
    uses: Mapping[str, float] = field(default_factory=dict)

    def on(self, stream: str, name: str, after: Sequence[int] = (), dimension: str = COMPUTE) -> Operation:
        """The operation that carries this load."""
        return Operation(name, stream, self.alone_s, self.uses, tuple(after), dimension)

    def part(self, count: int) -> Load:
        """One of `count` equal parts, each with the same pressure on the device."""
        return Load(self.alone_s / count, self.uses)


def gradient_buckets(
    backward: Sequence[Load],
    gradient_bytes: Sequence[float],
    *,
    bucket_bytes: float,
    reduce: Callable[[float], Load],
    dimension: str = "dp",
) -> list[Operation]:
    """Gradients reduced in buckets behind the backward pass, as in PyTorch DDP (Li et al. 2020) and Megatron-LM.

    A bucket goes as soon as the layers run so far have filled it; what is left at the end goes last.

    Args:
        backward: Backward pass of each layer, in the order in which they run.
        gradient_bytes: Gradients of each [B].
        bucket_bytes: Size from which a bucket goes [B].
        reduce: The collective of a bucket of so many bytes.
        dimension: What the collectives are for.
    """
    if bucket_bytes <= 0.0:
        raise InputError("a bucket holds something", path="bucket_bytes", value=bucket_bytes, allowed="more than 0")
    operations: list[Operation] = []
    filled, last = 0.0, len(backward) - 1
    for layer, (load, size) in enumerate(zip(backward, gradient_bytes, strict=True)):
        operations.append(load.on(COMPUTE, f"backward {layer}"))
        filled += size
        if filled >= bucket_bytes or (layer == last and filled > 0.0):
            compute = len(operations) - 1
            operations.append(reduce(filled).on(dimension, f"reduce behind {layer}", (compute,), dimension))
            filled = 0.0
    return operations


def sharded_layers(
    layers: Sequence[Load],
    gathers: Sequence[Load],
    scatters: Sequence[Load] | None = None,
    *,
    ahead: int = 1,
    dimension: str = "fsdp",
) -> list[Operation]:
    """Layers whose weights are gathered before and dropped after use (ZeRO-3, Rajbhandari et al. 2020; FSDP, 2023).

    A gather may run while the `ahead` layers before it compute, so that at most `ahead` + 1 layers are whole. The
    reduce-scatter of a layer's gradients queues behind the gathers issued before it, in the same stream: with NCCL
    both are kernels of one communicator.

    Args:
        layers: Compute of each layer, in the order in which they run.
        gathers: All-gather of each layer's weights.
        scatters: Reduce-scatter of each layer's gradients, in a backward pass; None in a forward pass.
        ahead: Layers gathered in advance; 0 gathers a layer when the one before it has ended.
        dimension: What the collectives are for.
    """
    operations: list[Operation] = []
    computed: list[int] = []
    gathered: list[int] = []
    for layer, load in enumerate(layers):
        for early in range(len(gathered), min(layer + ahead + 1, len(layers))):
            free = early - ahead - 1
            after = (computed[free],) if free >= 0 else ()
            gathered.append(len(operations))
            operations.append(gathers[early].on(dimension, f"gather {early}", after, dimension))
        computed.append(len(operations))
        operations.append(load.on(COMPUTE, f"layer {layer}", (gathered[layer],)))
        if scatters is not None:
            after = (computed[layer],)
            operations.append(scatters[layer].on(dimension, f"scatter {layer}", after, dimension))
    return operations


def chunked(
    compute: Load, collective: Load, *, chunks: int, collective_first: bool, dimension: str = "tp"
) -> list[Operation]:
    """A matrix product and its collective cut into chunks, so that one hides behind the other (AsyncTP, ring).

    Wang et al. (2023), "Overlap communication with dependent computation via decomposition": an all-gather whose
    pieces feed the product, or a product whose pieces are reduced and scattered as they come.

    Args:
        compute: The whole product.
        collective: The whole collective.
        chunks: In how many equal pieces; their own inefficiency is for the caller to put into the loads.
        collective_first: True for gather and product, False for product and scatter.
        dimension: What the collective is for.
    """
    operations: list[Operation] = []
    for chunk in range(chunks):
        first = len(operations)
        product = compute.part(chunks)
        piece = collective.part(chunks)
        if collective_first:
            operations.append(piece.on(dimension, f"gather {chunk}", (), dimension))
            operations.append(product.on(COMPUTE, f"product {chunk}", (first,)))
        else:
            operations.append(product.on(COMPUTE, f"product {chunk}"))
            operations.append(piece.on(dimension, f"scatter {chunk}", (first,), dimension))
    return operations


def sent_behind(compute: Sequence[Load], sends: Sequence[Load], *, dimension: str = "pp") -> list[Operation]:
    """Passes whose results go to the next stage while the following pass computes."""
    operations: list[Operation] = []
    for number, (load, send) in enumerate(zip(compute, sends, strict=True)):
        operations.append(load.on(COMPUTE, f"pass {number}"))
        operations.append(send.on(dimension, f"send {number}", (len(operations) - 1,), dimension))
    return operations
