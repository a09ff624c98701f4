"""The contract of a pipeline schedule: which passes each device runs, in which order, without any time in it.

A model is cut into `stages * chunks` virtual stages in model order. A micro-batch goes forward through all of them and
backward again; a schedule says which device holds which virtual stage and in what order a device runs its passes.
When they run follows from the replay (`sim.training.replay`) with the times of the passes.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sim.core import InputError, Reason, Registry


class PassKind(enum.IntEnum):
    """What a device does in one pass over a virtual stage with one micro-batch."""

    FORWARD = 0
    """F."""
    BACKWARD = 1
    """B: gradients of inputs and weights in one go."""
    BACKWARD_INPUT = 2
    """I: gradients of the inputs alone (called B in the zero-bubble papers)."""
    BACKWARD_WEIGHT = 3
    """W: gradients of the weights, any time after I."""
    VOCABULARY_S = 4
    """S: output-layer scores of this device's slice of the vocabulary, after the last F of the micro-batch."""
    VOCABULARY_T = 5
    """T: gradients of this device's slice of the output layer."""
    EXCHANGE = 6
    """A collective over all devices between such passes; schedules leave it to the replay."""


SYMBOLS = ("F", "B", "I", "W", "S", "T", "X")
"""Letter of each kind, in the order of `PassKind`."""


class Pass(NamedTuple):
    """One pass.

    Attributes:
        kind: What it does.
        stage: Virtual stage in model order; for S and T the device.
        microbatch: Number of the micro-batch, from 0.
        with_next: Runs at the same time as the next pass of the device, where the two can share it (DualPipe).
    """

    kind: PassKind
    stage: int
    microbatch: int
    with_next: bool = False


Orders: TypeAlias = list[list[Pass]]
"""The passes of each device in the order in which it runs them."""

PassTable: TypeAlias = npt.NDArray[np.int64]
"""The passes of one device, one a row with the fields of `Pass` as columns."""

Route: TypeAlias = tuple[int, ...]
"""The device of each virtual stage, in model order."""


def loop_route(stages: int, chunks: int) -> Route:
    """Virtual stages dealt to devices in turn: device d holds stages d, d + p, d + 2p, ... (Narayanan et al. 2021)."""
    return tuple(range(stages)) * chunks


def v_route(stages: int, chunks: int) -> Route:
    """Virtual stages down the devices and up again, so that stages p-1 and p share a device (Qi et al. 2024)."""
    down = tuple(range(stages))
    return sum((down if chunk % 2 == 0 else down[::-1] for chunk in range(chunks)), ())


@dataclass(frozen=True)
class Schedule(ABC):
    """A pipeline schedule. Frozen: equal schedules give equal orders, so what follows from them is kept.

    Attributes:
        splits_backward: Whether it runs I and W apart instead of one B.
        model_copies: How many times the pipeline holds the parameters: 2 where it is bidirectional.
        forward_only: No backward passes at all.
        checks_step_late: Devices go on to the next step without waiting for each other, and take the update back in the
            rare case that a late check of the gradients' norm fails (Qi et al. 2024, arXiv:2401.10241, section 4).
        synchronous: Whether devices stand still while they exchange what vocabulary passes need.
        stays_on_chunk: Whether a device works on one chunk of the model with as many micro-batches as stages in a row.
    """

    splits_backward: ClassVar[bool] = False
    model_copies: ClassVar[int] = 1
    forward_only: ClassVar[bool] = False
    checks_step_late: ClassVar[bool] = False
    synchronous: ClassVar[bool] = False
    stays_on_chunk: ClassVar[bool] = False

    @property
    def barriers(self) -> int:
        """Exchanges over all devices between the last F of a micro-batch and its first B: the vocabulary passes'."""
        return 0

    def reasons(self, *, stages: int, chunks: int, microbatches: int) -> list[Reason]:
        """Why this layout breaks the schedule's own rules; empty where it is valid."""
        return one_chunk(chunks)

    def training_reasons(self, *, stages: int, chunks: int, microbatches: int) -> list[Reason]:
        """Why no training step can run on this layout; empty where one can."""
        if self.forward_only:
            return [Reason("schedule", "the schedule runs no backward passes, so it trains nothing")]
        return self.reasons(stages=stages, chunks=chunks, microbatches=microbatches)

    def routes(self, *, stages: int, chunks: int) -> Sequence[Route]:
        """The paths through the devices; more than one in a bidirectional pipeline."""
        return (loop_route(stages, chunks),)

    def held(self, *, stages: int, chunks: int) -> list[list[int]]:
        """Virtual stages that each device holds, by the routes; more than once in two-way pipelines."""
        routes = self.routes(stages=stages, chunks=chunks)
        return [[s for route in routes for s, d in enumerate(route) if d == device] for device in range(stages)]

    def route_of(self, microbatch: int, microbatches: int) -> int:
        """Which of the routes a micro-batch takes."""
        return 0

    @abstractmethod
    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """The passes of each of the `stages` devices, in order.

        Called with layouts for which `reasons` is empty.
        """

    def tables(self, *, stages: int, chunks: int, microbatches: int) -> list[PassTable]:
        """The orders as arrays, which a schedule of very many passes may make without them."""
        orders = self.orders(stages=stages, chunks=chunks, microbatches=microbatches)
        return [np.array(order, dtype=np.int64).reshape(-1, len(Pass._fields)) for order in orders]

    def period(self, *, stages: int) -> int:
        """After how many micro-batches the order of every device repeats between its warm-up and its end; 0 if never.

        A schedule that says so is replayed with few micro-batches where times repeat as well (`sim.training.folding`).
        It then begins on each device with forward passes, and takes forward and backward passes in turn from the last
        of these on.
        """
        return 0

    def check(self, *, stages: int, chunks: int, microbatches: int) -> None:
        """Nothing where the layout is valid.

        Raises:
            InputError: if it breaks a rule of the schedule; names the numbers and the nearest valid values.
        """
        for name, value in (("stages", stages), ("chunks", chunks), ("microbatches", microbatches)):
            if value < 1:
                raise InputError(
                    f"a pipeline needs at least one of {name}", path=name, value=value, allowed="1 or more"
                )
        reasons = self.reasons(stages=stages, chunks=chunks, microbatches=microbatches)
        if reasons:
            raise InputError("; ".join(reason.message for reason in reasons), path="schedule")


def alternating(stage: PassTable, number: PassTable, back_stage: PassTable, *, warmup: int) -> PassTable:
    """`warmup` forward passes, then forward and backward in turn, then the backward passes left.

    Args:
        stage: Virtual stage of each forward pass, in turn.
        number: Micro-batch of each forward pass, and of each backward pass.
        back_stage: Virtual stage of each backward pass, in turn.
        warmup: How many forward passes come first; all, if there are fewer.
    """
    count = len(number)
    warmup = min(warmup, count)
    turn = np.arange(count)
    table = np.zeros((2 * count, len(Pass._fields)), dtype=np.int64)
    forward, backward = turn + np.maximum(turn - warmup, 0), turn + np.minimum(turn + 1 + warmup, count)
    table[forward] = np.column_stack([np.full(count, PassKind.FORWARD), stage, number, np.zeros(count, np.int64)])
    table[backward] = np.column_stack(
        [np.full(count, PassKind.BACKWARD), back_stage, number, np.zeros(count, np.int64)]
    )
    return table


def as_orders(tables: Sequence[PassTable]) -> Orders:
    """Passes of arrays."""
    return [[Pass(PassKind(k), s, n, bool(w)) for k, s, n, w in table.tolist()] for table in tables]


def counted(reasons: Sequence[Reason], *, batch: int, dp: int, micro_batch: int) -> list[Reason]:
    """The reasons, those about micro-batches with what their number comes from."""
    whence = f" (global batch {batch} / dp {dp} / micro_batch {micro_batch})"
    return [replace(one, message=one.message + whence) if "micro-batches" in one.message else one for one in reasons]


SCHEDULES: Registry[type[Schedule]] = Registry("schedule", package="sim.training.schedules")


def one_chunk(chunks: int) -> list[Reason]:
    """The reason against more than one virtual stage per device."""
    return exact_chunks(chunks, 1)


def exact_chunks(chunks: int, wanted: int) -> list[Reason]:
    """The reason against any other number of virtual stages per device than `wanted`."""
    if chunks == wanted:
        return []
    message = f"the schedule runs {wanted} virtual stage{'s' * (wanted > 1)} per device, not {chunks}: use vpp {wanted}"
    message += ", or a schedule such as interleaved" if wanted == 1 else ""
    return [Reason("chunks", message, {"chunks": chunks, "allowed": wanted})]


def multiple_of(what: str, value: int, unit: int) -> list[Reason]:
    """The reason against a `value` that is no multiple of `unit`, with the multiples around it."""
    if value % unit == 0:
        return []
    below, above = value // unit * unit, (value // unit + 1) * unit
    nearest = " or ".join(str(n) for n in (below, above) if n > 0)
    message = f"{what} must be a multiple of {unit}, not {value}; nearest: {nearest}"
    return [Reason("multiple", message, {"value": value, "unit": unit, "nearest": above})]


def at_least(what: str, value: int, least: int) -> list[Reason]:
    """The reason against a `value` below `least`."""
    if value >= least:
        return []
    return [Reason("too_few", f"{what} must be at least {least}, not {value}", {"value": value, "least": least})]
