"""Many plans as arrays, one column per field: what the screen works on.

Plans that differ in hundreds of thousands of ways are never made one by one; `plan` makes one where it is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import Final, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from sim.core import Array, InputError
from sim.plans.training import RANK_DIMENSIONS, ContextKind, RankDimension, Recompute
from sim.training.plan import TrainingPlan
from sim.training.ranks import Lattice, lattices

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
RECOMPUTES: Final[tuple[Recompute, ...]] = get_args(Recompute)
CONTEXT_KINDS: Final[tuple[ContextKind, ...]] = get_args(ContextKind)
ORDERS: Final[tuple[tuple[RankDimension, ...], ...]] = tuple(permutations(RANK_DIMENSIONS))
"""Every order in which ranks can be numbered."""
_DENSE: Final = 1 << 22
"""Up to this value, integers are numbered by a table instead of sorting."""


class Layout(NamedTuple):
    """How the layers are cut: pipeline stages, chunks per stage, and layers of every virtual stage."""

    pp: int
    vpp: int
    layers: tuple[int, ...]


class Columns(NamedTuple):
    """One value per plan in each, shape `(plans,)`.

    Attributes:
        dp: Data-parallel ranks, like all fields of a plan.
        tp: Tensor-parallel ranks.
        cp: Context-parallel ranks.
        ep: Expert-parallel ranks.
        dp_replicas: Copies of the sharded states.
        cp_kind: Which of `CONTEXT_KINDS`.
        rank_order: Which of `ORDERS`.
        layout: Which of the layouts.
        schedule: Which of the schedules.
        micro_batch: Sequences of a micro-batch.
        microbatches: Micro-batches of a step.
        zero: What data-parallel ranks share.
        recompute: Which of `RECOMPUTES`.
        recompute_every: One layer in so many.
        sp: Sequence parallelism.
        wide_gradients: Gradients in 32 bits.
        overlap_dp: Data-parallel collectives beside compute.
        overlap_p2p: Sends beside compute.
        overlap_tp: Tensor-parallel collectives beside compute.
        compiled: Fused kernels.
        cp_zigzag: Balanced slices of the sequence.
        clock: GPU clock over the highest.
    """

    dp: Ints
    tp: Ints
    cp: Ints
    ep: Ints
    dp_replicas: Ints
    cp_kind: Ints
    rank_order: Ints
    layout: Ints
    schedule: Ints
    micro_batch: Ints
    microbatches: Ints
    zero: Ints
    recompute: Ints
    recompute_every: Ints
    sp: Flags
    wide_gradients: Flags
    overlap_dp: Flags
    overlap_p2p: Flags
    overlap_tp: Flags
    compiled: Flags
    cp_zigzag: Flags
    clock: Array


class Members(NamedTuple):
    """Ranks that communicate, of every plan.

    Attributes:
        number: Which of the lattices, shape `(plans,)`.
        lattices: The different ones.
    """

    number: Ints
    lattices: Sequence[Lattice]

    def take(self, rows: Ints | slice) -> Members:
        """Those of some rows."""
        return Members(self.number[rows], self.lattices)


@dataclass(frozen=True)
class PlanTable:
    """Plans that could run, as columns.

    Attributes:
        columns: Their fields.
        layouts: What `columns.layout` numbers.
        schedules: What `columns.schedule` numbers.
        template: A plan with what all have alike.
    """

    columns: Columns
    layouts: tuple[Layout, ...]
    schedules: tuple[str, ...]
    template: TrainingPlan

    @classmethod
    def of(cls, plans: Sequence[TrainingPlan]) -> PlanTable:
        """The table of these plans, which share attention kernel, dropout, precision, accumulation, sends, graphs.

        Raises:
            InputError: if one that gathers parameters ahead does so by more or less than one layer, for which there is
                no column; to others it is nothing.
        """
        ahead = [p for p in plans if p.zero == 3 and p.overlap_dp]
        for p in ahead:
            if p.prefetch != 1:
                raise InputError(
                    "only plans that gather one layer ahead are screened",
                    path="plan.prefetch",
                    value=p.prefetch,
                    allowed="1",
                )
        layouts = {Layout(p.pp, p.vpp, p.layers_per_stage): None for p in plans}
        schedules = dict.fromkeys(p.schedule for p in plans)
        layout_number = {layout: number for number, layout in enumerate(layouts)}
        schedule_number = {name: number for number, name in enumerate(schedules)}
        rows = [
            (
                *(p.dp, p.tp, p.cp, p.ep, p.dp_replicas, CONTEXT_KINDS.index(p.cp_kind), ORDERS.index(p.rank_order)),
                layout_number[Layout(p.pp, p.vpp, p.layers_per_stage)],
                *(schedule_number[p.schedule], p.micro_batch, p.microbatches, p.zero, RECOMPUTES.index(p.recompute)),
                *(p.recompute_every, p.sp, p.grad_dtype == "fp32", p.overlap_dp, p.overlap_p2p, p.overlap_tp),
                *(p.compiled, p.cp_zigzag, p.clock),
            )
            for p in plans
        ]
        return cls(
            Columns(*(np.array(column) for column in zip(*rows, strict=True))),
            tuple(layouts),
            tuple(schedules),
            ahead[0] if ahead else plans[0],
        )

    def __len__(self) -> int:
        return len(self.columns.dp)

    @cached_property
    def pp(self) -> Ints:
        """Pipeline stages."""
        return np.array([layout.pp for layout in self.layouts], dtype=np.int64)[self.columns.layout]

    @cached_property
    def vpp(self) -> Ints:
        """Model chunks per stage."""
        return np.array([layout.vpp for layout in self.layouts], dtype=np.int64)[self.columns.layout]

    @cached_property
    def lattices(self) -> dict[str, Members]:
        """Which ranks communicate, by the name of the group."""
        c = self.columns
        every = (c.dp, c.tp, c.cp, self.pp, c.ep, c.dp_replicas, c.rank_order)
        first, own = classes(*every)
        each = [
            lattices(ORDERS[order], {"dp": dp, "tp": tp, "cp": cp, "pp": pp}, ep=ep, replicas=replicas)
            for dp, tp, cp, pp, ep, replicas, order in zip(*(column[first].tolist() for column in every), strict=True)
        ]
        found = {}
        for name in each[0]:
            numbers = {lattice: number for number, lattice in enumerate(dict.fromkeys(one[name] for one in each))}
            number = np.array([numbers[one[name]] for one in each], dtype=np.int64)
            found[name] = Members(number[own], [*numbers])
        return found

    def take(self, rows: Ints | slice) -> PlanTable:
        """The plans of some rows."""
        columns = Columns._make(column[rows] for column in self.columns)
        return PlanTable(columns, self.layouts, self.schedules, self.template)

    def plan(self, row: int) -> TrainingPlan:
        """One plan with every field."""
        c = self.columns
        layout = self.layouts[c.layout[row]]
        dp, tp, cp = int(c.dp[row]), int(c.tp[row]), int(c.cp[row])
        return replace(
            self.template,
            n_gpus=dp * tp * cp * layout.pp,
            dp=dp,
            tp=tp,
            cp=cp,
            pp=layout.pp,
            vpp=layout.vpp,
            layers_per_stage=layout.layers,
            ep=int(c.ep[row]),
            dp_replicas=int(c.dp_replicas[row]),
            cp_kind=CONTEXT_KINDS[c.cp_kind[row]],
            rank_order=ORDERS[c.rank_order[row]],
            schedule=self.schedules[c.schedule[row]],
            micro_batch=int(c.micro_batch[row]),
            microbatches=int(c.microbatches[row]),
            zero=int(c.zero[row]),
            recompute=RECOMPUTES[c.recompute[row]],
            recompute_every=int(c.recompute_every[row]),
            sp=bool(c.sp[row]),
            grad_dtype="fp32" if c.wide_gradients[row] else "bf16",
            overlap_dp=bool(c.overlap_dp[row]),
            overlap_p2p=bool(c.overlap_p2p[row]),
            overlap_tp=bool(c.overlap_tp[row]),
            compiled=bool(c.compiled[row]),
            cp_zigzag=bool(c.cp_zigzag[row]),
            clock=float(c.clock[row]),
        )


def classes(*columns: npt.NDArray[np.generic]) -> tuple[Ints, Ints]:
    """Plans by equal values in all columns: the first row of each class, and the class of each row."""
    count = len(columns[0])
    own = np.zeros(count, dtype=np.int64)
    for column in columns:
        values = _numbered(column)
        own = _numbered(own * (values.max(initial=0) + 1) + values)
    first = np.empty(own.max(initial=-1) + 1, dtype=np.int64)
    first[own[::-1]] = np.arange(count)[::-1]
    return first, own


def _numbered(values: npt.NDArray[np.generic]) -> Ints:
    """Place of each value among the different ones, in ascending order."""
    if values.dtype.kind in "bi" and values.size and int(values.max()) < _DENSE and int(values.min()) >= 0:
        whole = values.astype(np.int64)
        seen = np.zeros(int(whole.max()) + 1, dtype=bool)
        seen[whole] = True
        return np.asarray((np.cumsum(seen) - 1)[whole], dtype=np.int64)
    _, inverse = np.unique(values, return_inverse=True)
    return np.asarray(inverse, dtype=np.int64)
