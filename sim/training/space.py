"""All training plans of a space on a cluster, as columns: the valid ones, and how many cannot run and why.

Ranges of fields left open:

- `tp`: divisors of the GPUs that divide heads and widths, inside one scale-up domain or whole ones;
- `pp`: divisors of the GPUs left, up to the number of layers;
- `cp`: powers of two that leave a rank 4,096 tokens of a sequence or more; 1 for short ones;
- `rank_order`: Megatron-LM's two, with data-parallel ranks inside or outside of pipeline stages;
- `dp`: the GPUs left; `ep`: common divisors of `dp` and the experts;
- `micro_batch`: divisors of a rank's share of the batch, up to 16;
- `schedule`: the engine's, without and with virtual stages; `vpp`: 1, and what divides a stage's layers evenly, or 2
  and 4 where the stages do not;
- `zero`: 0 to 3; `recompute`: none, selective and full;
- all else: the engine's default.

Values that a user lists are all tried, also where they cannot run, so that a search can say why. A choice of ranks that
cannot run counts as one plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import gcd
from typing import Any, Final, NamedTuple

import numpy as np

from sim.core import Reason
from sim.hardware import Cluster
from sim.models import ModelSpec, MoE
from sim.plans import TrainingEngineSpec, TrainingPlanSpec, TrainingSpace
from sim.plans.training import RankDimension
from sim.training.blocks import blocks_of, indivisible, unmodelled
from sim.training.columns import ORDERS, RECOMPUTES, Columns, Layout, PlanTable
from sim.training.plan import TrainingPlan, even_layers, resolve_training
from sim.training.ranks import distinct_orders
from sim.training.schedules import SCHEDULES
from sim.training.spec import TrainingWorkload

_LARGEST_MICRO_BATCH: Final = 16
_SHORTEST_SLICE: Final = 4096
_UNEVEN_CHUNKS: Final = (2, 4)
_RANK_ORDERS: Final[tuple[tuple[RankDimension, ...], ...]] = (("tp", "cp", "dp", "pp"), ("tp", "cp", "pp", "dp"))
"""What Megatron-LM can be told, the second by `--use-tp-pp-dp-mapping`."""
_EXAMPLES: Final = 20
"""Plans per reason that are written out in full; all are counted."""


class Degrees(NamedTuple):
    """How many ranks of each kind."""

    dp: int
    tp: int
    cp: int
    pp: int
    ep: int


class _Row(NamedTuple):
    """Ranks and pipeline of plans that differ in what is left; see `Columns` for the fields."""

    degrees: Degrees
    order: tuple[RankDimension, ...]
    layout: Layout
    schedule: str
    micro_batch: int
    microbatches: int


@dataclass
class Rejected:
    """Plans that cannot run.

    Attributes:
        counts: How many by their first reason.
        examples: Some of each, with all their reasons.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, Sequence[Reason]]] = field(default_factory=list)
    _written: Counter[str] = field(default_factory=Counter)

    def add(self, label: str, reasons: Sequence[Reason], *, plans: int = 1) -> None:
        """Counts so many plans that cannot run for these reasons."""
        code = reasons[0].code
        self.counts[code] += plans
        self._written[code] += 1
        if self._written[code] <= _EXAMPLES:
            self.examples.append((label, reasons))


@dataclass(frozen=True)
class TrainingPlans:
    """Lists the plans of a space.

    Attributes:
        space: Values to try.
        model: The model.
        workload: The job.
        engine: The engine's profile.
        cluster: The cluster, all of which a plan uses.
    """

    space: TrainingSpace
    model: ModelSpec
    workload: TrainingWorkload
    engine: TrainingEngineSpec
    cluster: Cluster

    def listed(self) -> tuple[PlanTable | None, Rejected]:
        """The plans that could run if memory allows, None if there are none, and those that cannot."""
        rejected, rows = Rejected(), []
        for degrees in self._degrees():
            spec = TrainingPlanSpec.model_construct(**degrees._asdict())
            found = self._resolve(spec)
            if isinstance(found, tuple):
                rejected.add(_label(degrees), found)
            else:
                rows += [row for row in self._rows(degrees) if self._valid(row, rejected)]
        return (self._table(rows, rejected), rejected) if rows else (None, rejected)

    def _resolve(self, spec: TrainingPlanSpec) -> TrainingPlan | tuple[Reason, ...]:
        return resolve_training(
            spec, workload=self.workload, model=self.model, engine=self.engine, cluster=self.cluster
        )

    # ---- ranks ----

    def _degrees(self) -> Iterator[Degrees]:
        devices, space = self.cluster.n_devices, self.space
        for tp in space.tp or self._tensor_ranks():
            for cp in space.cp or self._context_ranks(devices // tp):
                for pp in space.pp or _divisors(devices // (tp * cp), self.model.n_layers):
                    left = max(1, devices // (tp * cp * pp))
                    for dp in space.dp or (left,):
                        for ep in space.ep or self._expert_ranks(dp):
                            yield Degrees(dp, tp, cp, pp, ep)

    def _tensor_ranks(self) -> list[int]:
        domain = min(self.cluster.domain, self.cluster.n_devices)
        return [
            tp
            for tp in _divisors(self.cluster.n_devices)
            if (tp <= domain or tp % domain == 0) and all(self._divides(tp, i) for i in range(len(self.model.layers)))
        ] or [1]

    def _divides(self, tp: int, index: int) -> bool:
        group = self.model.layers[index]
        if unmodelled(group):
            return tp == 1
        return not any(indivisible(blocks_of(group), tp))

    def _context_ranks(self, left: int) -> list[int]:
        recurrent = any(not unmodelled(group) and blocks_of(group).recurrence for group in self.model.layers)
        most = 1 if recurrent else max(1, self.workload.sequence_length // _SHORTEST_SLICE)
        return [cp for cp in _divisors(left, most) if cp & (cp - 1) == 0]

    def _expert_ranks(self, dp: int) -> list[int]:
        experts = [group.ffn.experts for group in self.model.layers if isinstance(group.ffn, MoE)]
        return _divisors(gcd(dp, *experts)) if experts else [1]

    # ---- pipelines ----

    def _rows(self, degrees: Degrees) -> Iterator[_Row]:
        share = self.workload.global_batch // degrees.dp
        listed = self.space.rank_order or (self.engine.defaults.rank_order, *_RANK_ORDERS)
        orders = distinct_orders(listed, degrees._asdict())
        for schedule, vpp in self._pipelines(degrees.pp):
            layout = self._layout(degrees.pp, vpp)
            for size in self.space.micro_batch or _divisors(share, _LARGEST_MICRO_BATCH):
                for order in orders:
                    yield _Row(degrees, order, layout, schedule, size, share // size)

    def _pipelines(self, pp: int) -> Iterator[tuple[str, int]]:
        """Schedules and virtual stages; chunks that a schedule cannot have are tried only if listed."""
        default = self.engine.defaults
        for vpp in self.space.vpp or self._chunks(pp):
            for name in self.space.schedule or (default.interleaved_schedule if vpp > 1 else default.schedule,):
                listed = self.space.vpp is not None
                if listed or not SCHEDULES.get(name)().reasons(stages=pp, chunks=vpp, microbatches=8 * pp):
                    yield name, vpp

    def _chunks(self, pp: int) -> list[int]:
        layers = self.model.n_layers
        if pp == 1:
            return [1]
        even = _divisors(layers // pp) if layers % pp == 0 else [1]
        return sorted({*even, *(v for v in _UNEVEN_CHUNKS if layers % pp and v * pp <= layers)})

    def _layout(self, pp: int, vpp: int) -> Layout:
        if (pp, vpp) not in self._layouts:
            self._layouts[pp, vpp] = Layout(pp, vpp, even_layers(self.model.n_layers, pp * vpp))
        return self._layouts[pp, vpp]

    @cached_property
    def _layouts(self) -> dict[tuple[int, int], Layout]:
        return {}

    @cached_property
    def _schedule_reasons(self) -> dict[tuple[str, int, int, int], list[Reason]]:
        return {}

    def _valid(self, row: _Row, rejected: Rejected) -> bool:
        """Whether the pipeline can run; if not, it is counted."""
        reasons = self._pipeline_reasons(row)
        if reasons:
            label = f"{_label(row.degrees, vpp=row.layout.vpp)} {row.schedule} mb{row.micro_batch}"
            rejected.add(label, reasons, plans=len(self._choices(row.degrees.tp)))
        return not reasons

    def _pipeline_reasons(self, row: _Row) -> Sequence[Reason]:
        """Why batch, layers or schedule do not go with the pipeline."""
        pp, vpp, layers = row.layout
        unit = row.micro_batch * row.degrees.dp
        whole = not any(batch % unit for batch in self.workload.batches)
        if not whole or 0 in layers[1:-1] or (vpp > 1 and pp == 1):
            given = {**row.degrees._asdict(), "vpp": vpp, "micro_batch": row.micro_batch, "schedule": row.schedule}
            found = self._resolve(TrainingPlanSpec.model_construct(**given))
            assert isinstance(found, tuple)
            return found
        for batch in self.workload.batches:
            key = (row.schedule, pp, vpp, batch // unit)
            if key not in self._schedule_reasons:
                schedule = SCHEDULES.get(row.schedule)()
                self._schedule_reasons[key] = schedule.reasons(stages=pp, chunks=vpp, microbatches=batch // unit)
            if self._schedule_reasons[key]:
                return self._schedule_reasons[key]
        return []

    # ---- what is left ----

    def _choices(self, tp: int) -> list[tuple[Any, ...]]:
        """Values of all other fields, in the order of `Columns`; without tensor parallelism there is no `sp`."""
        space, default = self.space, self.engine.defaults
        zero = space.zero or (0, 1, 2, 3)
        kinds = space.recompute or ("none", "selective", "full")
        again: list[tuple[int, int]] = [
            (RECOMPUTES.index(k), n) for k in kinds for n in (space.recompute_every or (1,)) if k == "full"
        ]
        again += [(RECOMPUTES.index(kind), 1) for kind in kinds if kind != "full"]
        wide = [dtype == "fp32" for dtype in space.grad_dtype or (default.grad_dtype,)]
        switches = [
            *(space.overlap_dp or (default.overlap_dp,), space.overlap_p2p or (default.overlap_p2p,)),
            *(space.overlap_tp or (default.overlap_tp,), space.compiled or (default.compiled,)),
        ]
        sp = (space.sp or (default.sp,)) if tp > 1 else (False,)
        rest = product(sp, wide, *switches, (default.cp_zigzag,), space.clock or (1.0,))
        return [(stage, *pair, *others) for (stage, pair), others in product(product(zero, again), [*rest])]

    def _table(self, rows: Sequence[_Row], rejected: Rejected) -> PlanTable:
        layouts = {row.layout: None for row in rows}
        schedules = dict.fromkeys(row.schedule for row in rows)
        layout = {one: number for number, one in enumerate(layouts)}
        schedule = {name: number for number, name in enumerate(schedules)}
        parts = []
        for alone in (True, False):
            own = [row for row in rows if (row.degrees.tp == 1) == alone]
            if not own:
                continue
            numbers = np.array(
                [
                    (
                        *(d.dp, d.tp, d.cp, d.ep, ORDERS.index(r.order), layout[r.layout]),
                        *(schedule[r.schedule], r.micro_batch, r.microbatches),
                    )
                    for r in own
                    for d in (r.degrees,)
                ]
            )
            choices = [np.array(values) for values in zip(*self._choices(1 if alone else 2), strict=True)]
            fixed = [np.repeat(column, len(choices[0])) for column in numbers.T]
            parts.append([*fixed, *(np.tile(column, len(own)) for column in choices)])
        columns = Columns._make(np.concatenate(column) for column in zip(*parts, strict=True))
        first = rows[0]
        given = {**first.degrees._asdict(), "vpp": first.layout.vpp, "micro_batch": first.micro_batch}
        template = self._resolve(TrainingPlanSpec.model_construct(**given))
        assert isinstance(template, TrainingPlan)
        return PlanTable(columns, tuple(layouts), tuple(schedules), template)


def _divisors(number: int, most: int | None = None) -> list[int]:
    """Divisors in ascending order, up to `most`."""
    last = number if most is None else min(number, most)
    return [n for n in range(1, last + 1) if number % n == 0]


def _label(degrees: Degrees, *, vpp: int = 1) -> str:
    named = {**degrees._asdict(), "vpp": vpp}
    return " ".join(f"{name}{value}" for name, value in named.items() if value > 1 or name == "dp")
