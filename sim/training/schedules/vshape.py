"""Schedules from a building block, for two chunks per device in a V (Qi et al. 2024, arXiv:2405.15362).

A building block says in which slots of unit time the passes of one micro-batch run. Repeated every six slots (F, I and
W of two chunks) without collision it is a schedule, and the life of an activation in it, divided by six, is the memory
that it needs. Squeezed, that is with the passes in the block's order but as early as they can run, it keeps the memory
and loses the holes. W may run any time after I, so it fills what is left, or makes room where memory is short.
"""

from __future__ import annotations

from collections import deque
from itertools import product
from typing import NamedTuple

from sim.core import PlansimError, Reason
from sim.training.schedules.base import Orders, Pass, PassKind, at_least, exact_chunks

INTERVAL = 6
"""Slots from a micro-batch to the next: F, I and W of two chunks, one slot each."""


class Offsets(NamedTuple):
    """Slots between a pass and the same pass on the next virtual stage: two make a chunk's activation live longer."""

    forward_down: int
    forward_up: int
    backward_down: int
    backward_up: int


def v_reasons(stages: int, chunks: int) -> list[Reason]:
    """The reasons against other than two chunks, or against a single device."""
    return exact_chunks(chunks, 2) + at_least("devices of a V-shaped schedule", stages, 2)


def v_orders(stages: int, microbatches: int, *, offsets: Offsets, limit: int, eager: bool) -> Orders:
    """The schedule of a building block, squeezed, with W filled in.

    Args:
        stages: Devices.
        microbatches: Micro-batches.
        offsets: The building block.
        limit: Most activations that a device holds from F to W, in micro-batches of one virtual stage.
        eager: Whether a device that would idle before its first I starts further micro-batches, if memory allows.
    """
    devices = [
        _Device(device, stages, order, limit, eager)
        for device, order in enumerate(_block_orders(stages, microbatches, offsets))
    ]
    done: set[tuple[bool, int, int]] = set()
    while any(device.left for device in devices):
        ran = [step for device in devices if (step := device.step(done)) is not None]
        if not ran:
            raise PlansimError(f"the building block cannot run with {limit} activations on {stages} devices")
        results = (step for step in ran if step.kind is not PassKind.BACKWARD_WEIGHT)
        done.update((step.kind is PassKind.FORWARD, step.stage, step.microbatch) for step in results)
    return [device.passes for device in devices]


def _block_orders(stages: int, microbatches: int, offsets: Offsets) -> Orders:
    """F and I of each device in the order of their slots."""
    block = _block(stages, offsets)
    orders: Orders = []
    for device, slots in enumerate(block):
        down, up = device, 2 * stages - 1 - device
        kinds = ((PassKind.FORWARD, down), (PassKind.FORWARD, up),
                 (PassKind.BACKWARD_INPUT, up), (PassKind.BACKWARD_INPUT, down))  # fmt: skip
        timed = [
            (slot + INTERVAL * number, Pass(kind, stage, number))
            for number in range(microbatches)
            for slot, (kind, stage) in zip(slots, kinds, strict=True)
        ]
        orders.append([step for _, step in sorted(timed)])
    return orders


def _block(stages: int, offsets: Offsets) -> list[tuple[int, int, int, int]]:
    """Slots of F down, F up, I down and I up on each device, with the shortest waits at the turns that do not collide.

    Raises:
        PlansimError: if passes of one device collide whatever the waits.
    """
    last = stages - 1
    for waits in sorted(product(range(INTERVAL), repeat=3), key=sum):
        up = last * offsets.forward_down + 1 + waits[0]
        down = up + last * offsets.forward_up + 1 + waits[1]
        end = down + last * offsets.backward_down + 1 + waits[2]
        block = [
            (
                device * offsets.forward_down,
                up + (last - device) * offsets.forward_up,
                down + device * offsets.backward_down,
                end + (last - device) * offsets.backward_up,
            )
            for device in range(stages)
        ]
        if all(len({slot % INTERVAL for slot in slots}) == len(slots) for slots in block):
            return block
    raise PlansimError(f"building block {tuple(offsets)} collides on {stages} devices")


class _Device:
    """Runs the passes of one device slot by slot.

    Args:
        number: Which device.
        stages: Devices of the pipeline.
        order: Its F and I, in the block's order.
        limit: Most activations it may hold.
        eager: Whether it starts micro-batches early rather than idle, until its first I.
    """

    def __init__(self, number: int, stages: int, order: list[Pass], limit: int, eager: bool) -> None:
        self.number = number
        self.last_stage = 2 * stages - 1
        self.order = deque(order)
        self.limit = limit
        self.eager = eager
        self.held = 0
        self.passes: list[Pass] = []
        self.weights: deque[Pass] = deque()

    @property
    def left(self) -> bool:
        """Whether passes are left to run."""
        return bool(self.order or self.weights)

    def step(self, done: set[tuple[bool, int, int]]) -> Pass | None:
        """What runs in this slot: the next F or I if it can, else an F ahead of its turn, else a W, else nothing."""
        if self.order and self._can(self.order[0], done, self.limit):
            step = self.order.popleft()
        elif (ahead := self._ahead()) is not None and self._can(ahead, done, self.limit - 1):
            step = ahead
            self.order.remove(step)
        elif self.weights:
            step = self.weights.popleft()
        else:
            return None
        self.passes.append(step)
        if step.kind is PassKind.BACKWARD_INPUT:
            self.eager = False
            self.weights.append(step._replace(kind=PassKind.BACKWARD_WEIGHT))
        else:
            self.held += 1 if step.kind is PassKind.FORWARD else -1
        return step

    def _ahead(self) -> Pass | None:
        """The next F of the first chunk, if the device may run it ahead of its turn."""
        if not self.eager:
            return None
        return next((step for step in self.order if step[:2] == (PassKind.FORWARD, self.number)), None)

    def _can(self, step: Pass, done: set[tuple[bool, int, int]], limit: int) -> bool:
        """Whether its input is there, and for F memory too."""
        if step.kind is PassKind.FORWARD:
            return self.held < limit and (step.stage == 0 or (True, step.stage - 1, step.microbatch) in done)
        after_loss = step.stage == self.last_stage
        return (after_loss, step.stage + (not after_loss), step.microbatch) in done
