"""All training plans of a space on a cluster, as columns: the valid ones, and how many cannot run and why.

Ranges of fields left open:

- `tp`: divisors of the GPUs that divide heads and widths, inside one scale-up domain or whole ones;
- `pp`: divisors of the GPUs left, up to the number of layers;
- `cp`: powers of two that leave a rank 4,096 tokens of a sequence or more; 1 for short ones;
- `cp_kind`: the engine's, all-gather, ring, and Ulysses where it divides the heads;
- `rank_order`: Megatron-LM's two, with data-parallel ranks inside or outside of pipeline stages;
- `dp`: the GPUs left; `ep`: common divisors of `dp` and the experts;
- `dp_replicas`: 1, and with `zero` 3 as few as leave the shards of a replica in one scale-up domain, and about the root
  of those;
- `micro_batch`: divisors of a rank's share of the batch, up to 16;
- `schedule`: the engine's, without and with virtual stages; `vpp`: 1, and what divides a stage's layers evenly, or 2
  and 4 where the stages do not;
- `zero`: 0 to 3; `recompute`: none, selective and full;
- `clock`: the highest, within each `power_cap`;
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
from math import gcd, log
from typing import Any, Final, NamedTuple

import numpy as np

from sim.core import Reason
from sim.hardware import Cluster, clock_within
from sim.models import ModelSpec, MoE
from sim.plans import TrainingEngineSpec, TrainingPlanSpec, TrainingSpace
from sim.plans.training import ContextKind, RankDimension
from sim.training.blocks import Blocks, blocks_of, indivisible, indivisible_scan, unmodelled
from sim.training.columns import CONTEXT_KINDS, ORDERS, RECOMPUTES, Columns, Layout, PlanTable
from sim.training.plan import TrainingPlan, even_layers, power_reasons, resolve_training
from sim.training.ranks import distinct_orders
from sim.training.schedules import SCHEDULES, counted
from sim.training.spec import TrainingWorkload

_LARGEST_MICRO_BATCH: Final = 16
_SHORTEST_SLICE: Final = 4096
_UNEVEN_CHUNKS: Final = (2, 4)
_RANK_ORDERS: Final[tuple[tuple[RankDimension, ...], ...]] = (("tp", "cp", "dp", "pp"), ("tp", "cp", "pp", "dp"))
"""What Megatron-LM can be told, the second by `--use-tp-pp-dp-mapping`."""
_FIRST_CHOICE: Final = Columns._fields.index("zero")
_SP: Final = Columns._fields.index("sp") - _FIRST_CHOICE
_OVERLAP_TP: Final = Columns._fields.index("overlap_tp") - _FIRST_CHOICE
_EXAMPLES: Final = 20
"""Plans per reason that are written out in full; all are counted."""


class Degrees(NamedTuple):
    """How many ranks of each kind, what context-parallel ones exchange, and how many copies of sharded states."""

    dp: int
    tp: int
    cp: int
    pp: int
    ep: int
    cp_kind: ContextKind
    dp_replicas: int

    @property
    def fields(self) -> dict[str, Any]:
        """As fields of a plan; one with copies must share something."""
        return {**self._asdict(), **({"zero": 3} if self.dp_replicas > 1 else {})}


class _Row(NamedTuple):
    """Ranks and pipeline of plans that differ in what is left; see `Columns` for the fields."""

    degrees: Degrees
    order: tuple[RankDimension, ...]
    layout: Layout
    schedule: str
    micro_batch: int
    microbatches: int


class _Kind(NamedTuple):
    """What decides which values other fields can have.

    Attributes:
        alone: No tensor parallelism.
        copied: Several copies of sharded states.
    """

    alone: bool
    copied: bool

    @classmethod
    def of(cls, degrees: Degrees) -> _Kind:
        """That of these ranks."""
        return cls(degrees.tp == 1, degrees.dp_replicas > 1)

    @classmethod
    def every(cls) -> list[_Kind]:
        """All of them."""
        return [cls(alone, copied) for copied in (False, True) for alone in (True, False)]


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
        for cap_w in self.space.power_cap or ():
            if reasons := [*power_reasons(cap_w, self.cluster)]:
                rejected.add(f"power_cap {cap_w:.0f} W", reasons)
        for degrees in self._degrees() if self._clocks else ():
            found = self._resolve(TrainingPlanSpec.model_construct(**degrees.fields))
            if isinstance(found, tuple):
                rejected.add(_label(degrees), found)
            else:
                valid = [row for row in self._rows(degrees) if self._valid(row, rejected)]
                self._count_overlaps(degrees, len(valid), rejected)
                rows += valid if self._shares_states(degrees, len(valid), rejected) else []
        return (self._table(rows, rejected), rejected) if rows else (None, rejected)

    def _resolve(self, spec: TrainingPlanSpec) -> TrainingPlan | tuple[Reason, ...]:
        return resolve_training(
            spec, workload=self.workload, model=self.model, engine=self.engine, cluster=self.cluster
        )

    # ---- ranks ----

    def _degrees(self) -> Iterator[Degrees]:
        devices, space = self.cluster.n_devices, self.space
        for tp in space.tp or self._tensor_ranks():
            for cp in space.cp or self._context_ranks(tp, devices // tp):
                for pp in space.pp or _divisors(devices // (tp * cp), self.model.n_layers):
                    left = max(1, devices // (tp * cp * pp))
                    for dp in space.dp or (left,):
                        for ep in space.ep or self._expert_ranks(dp):
                            for kind, copies in product(self._context_kinds(tp, cp), self._replicas(dp, tp, cp, ep)):
                                yield Degrees(dp, tp, cp, pp, ep, kind, copies)

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

    def _context_ranks(self, tp: int, left: int) -> list[int]:
        scans = [b.recurrence for b in self._blocks if b.recurrence is not None]
        most = max(1, self.workload.sequence_length // _SHORTEST_SLICE)
        powers = [cp for cp in _divisors(left, most) if cp & (cp - 1) == 0]
        return [cp for cp in powers if not any(next(indivisible_scan(scan, tp=tp, cp=cp), None) for scan in scans)]

    def _context_kinds(self, tp: int, cp: int) -> Sequence[ContextKind]:
        """Without context-parallel ranks all kinds are alike."""
        default = self.engine.defaults.cp_kind
        if cp == 1:
            return (self.space.cp_kind or (default,))[:1]
        heads = [b.attention.heads // tp for b in self._blocks if b.attention is not None]
        whole = all(count % cp == 0 for count in heads)
        kinds: tuple[ContextKind, ...] = (default, "all_gather", "ring", "ulysses")
        return self.space.cp_kind or [*dict.fromkeys(kind for kind in kinds if whole or kind != "ulysses")]

    def _replicas(self, dp: int, tp: int, cp: int, ep: int) -> Sequence[int]:
        """Copies of sharded states: one, and where all is sharded those that keep gathers on fast links, and between.

        More copies gather nearer, but reduce as many gradients again between them.
        """
        if self.space.dp_replicas or 3 not in (self.space.zero or (3,)):
            return self.space.dp_replicas or (1,)
        near = min(self.cluster.domain, self.cluster.n_devices) // (tp * cp)
        shards = [n for n in _divisors(dp, near) if n % ep == 0 and n * cp > 1]
        most = dp // shards[-1] if shards else 1
        between = [n for n in _divisors(most)[1:-1] if dp // n % ep == 0]
        middle = [min(between, key=lambda n: abs(log(n * n / most)))] if between else []
        return [1, *middle, most] if most > 1 else [1]

    @cached_property
    def _blocks(self) -> list[Blocks]:
        """Those of every group of layers that training models."""
        return [blocks_of(group) for group in self.model.layers if not unmodelled(group)]

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
        """Schedules and virtual stages; chunks that a schedule cannot have are tried only where they are listed.

        Without stages all schedules are alike. One that cannot run on any chunks of listed stages is tried to say why.
        """
        space, default = self.space, self.engine.defaults
        chunks, possible = space.vpp or self._chunks(pp), dict[tuple[str, int], None]()
        for vpp in chunks:
            for name in space.schedule or (default.interleaved_schedule if vpp > 1 else default.schedule,):
                if space.vpp or not SCHEDULES.get(name)().reasons(stages=pp, chunks=vpp, microbatches=8 * pp):
                    possible[name, vpp] = None
        if pp == 1 and not space.vpp and possible:
            yield next(iter(possible))
            return
        yield from possible
        if space.pp is not None:
            known = {name for name, _ in possible}
            yield from ((name, chunks[0]) for name in space.schedule or () if name not in known)

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
            rejected.add(label, reasons, plans=len(self._choices(_Kind.of(row.degrees))))
        return not reasons

    def _pipeline_reasons(self, row: _Row) -> Sequence[Reason]:
        """Why batch, layers or schedule do not go with the pipeline."""
        pp, vpp, layers = row.layout
        unit = row.micro_batch * row.degrees.dp
        whole = not any(batch % unit for batch in self.workload.batches)
        if not whole or 0 in layers[1:-1] or (vpp > 1 and pp == 1):
            given = {**row.degrees.fields, "vpp": vpp, "micro_batch": row.micro_batch, "schedule": row.schedule}
            found = self._resolve(TrainingPlanSpec.model_construct(**given))
            assert isinstance(found, tuple)
            return found
        for batch in self.workload.batches:
            key = (row.schedule, pp, vpp, batch // unit)
            if key not in self._schedule_reasons:
                schedule = SCHEDULES.get(row.schedule)()
                layout = {"stages": pp, "chunks": vpp, "microbatches": batch // unit}
                self._schedule_reasons[key] = schedule.training_reasons(**layout)
            if found_here := self._schedule_reasons[key]:
                return counted(found_here, batch=batch, dp=row.degrees.dp, micro_batch=row.micro_batch)
        return []

    def _shares_states(self, degrees: Degrees, rows: int, rejected: Rejected) -> bool:
        """Whether plans can have these copies; those that share nothing are counted where they are listed."""
        kind, listed = _Kind.of(degrees), self.space.zero or ()
        if kind.copied and 0 in listed and rows:
            found = self._resolve(TrainingPlanSpec.model_construct(**{**degrees.fields, "zero": 0}))
            assert isinstance(found, tuple)
            rejected.add(
                f"{_label(degrees)} zero0", found, plans=rows * len(self._choices(kind._replace(copied=False), 0))
            )
        return bool(self._choices(kind))

    def _count_overlaps(self, degrees: Degrees, rows: int, rejected: Rejected) -> None:
        """Counts plans that overlap tensor-parallel collectives without sequence parallelism."""
        kind = _Kind.of(degrees)
        every = self._combinations(kind)
        if refused := len(every) - len(self._choices(kind)):
            given = {**degrees.fields, "sp": False, "overlap_tp": True}
            found = self._resolve(TrainingPlanSpec.model_construct(**given))
            assert isinstance(found, tuple)
            if rows:
                rejected.add(f"{_label(degrees)} overlap_tp", found, plans=rows * refused)

    # ---- what is left ----

    def _stages(self, kind: _Kind) -> tuple[int, ...]:
        """What data-parallel ranks share: with copies all of it, or what is listed where the copies are listed too."""
        listed = self.space.zero or (0, 1, 2, 3)
        if not kind.copied:
            return listed
        return tuple(stage for stage in listed if stage == 3 or (stage and self.space.dp_replicas is not None))

    def _choices(self, kind: _Kind, *only: int) -> list[tuple[Any, ...]]:
        """Those of `_combinations` that can run: `overlap_tp` goes with sequence parallelism alone."""
        every = self._combinations(kind, *only)
        return every if kind.alone else [one for one in every if one[_SP] or not one[_OVERLAP_TP]]

    def _combinations(self, kind: _Kind, *only: int) -> list[tuple[Any, ...]]:
        """Values of all other fields, in the order of `Columns`; without tensor parallelism there is no `sp`.

        Args:
            kind: What decides them.
            only: Stages of ZeRO instead of those that go with it.
        """
        space, default = self.space, self.engine.defaults
        zero = only or self._stages(kind)
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
        sp = (False,) if kind.alone else (space.sp or (default.sp,))
        rest = product(sp, wide, *switches, (default.cp_zigzag,), self._clocks)
        return [(stage, *pair, *others) for (stage, pair), others in product(product(zero, again), [*rest])]

    @cached_property
    def _clocks(self) -> tuple[float, ...]:
        """Clocks to try, each within each power cap that one keeps; none if there are only caps that none keeps."""
        device, caps = self.cluster.device, self.space.power_cap or (None,)
        within = [clock_within(device, cap_w) for cap_w in caps if not [*power_reasons(cap_w, self.cluster)]]
        return tuple(dict.fromkeys(min(pair) for pair in product(self.space.clock or (1.0,), within)))

    def _table(self, rows: Sequence[_Row], rejected: Rejected) -> PlanTable:
        layouts = {row.layout: None for row in rows}
        schedules = dict.fromkeys(row.schedule for row in rows)
        layout = {one: number for number, one in enumerate(layouts)}
        schedule = {name: number for number, name in enumerate(schedules)}
        parts = []
        for kind in _Kind.every():
            own = [row for row in rows if _Kind.of(row.degrees) == kind]
            if not own:
                continue
            numbers = np.array(
                [
                    (
                        *(d.dp, d.tp, d.cp, d.ep, d.dp_replicas, CONTEXT_KINDS.index(d.cp_kind)),
                        *(ORDERS.index(r.order), layout[r.layout]),
                        *(schedule[r.schedule], r.micro_batch, r.microbatches),
                    )
                    for r in own
                    for d in (r.degrees,)
                ]
            )
            choices = [np.array(values) for values in zip(*self._choices(kind), strict=True)]
            fixed = [np.repeat(column, len(choices[0])) for column in numbers.T]
            parts.append([*fixed, *(np.tile(column, len(own)) for column in choices)])
        columns = Columns._make(np.concatenate(column) for column in zip(*parts, strict=True))
        first = rows[0]
        given = {**first.degrees.fields, "vpp": first.layout.vpp, "micro_batch": first.micro_batch}
        given["cuda_graphs"] = self.space.cuda_graphs
        template = self._resolve(TrainingPlanSpec.model_construct(**given))
        assert isinstance(template, TrainingPlan)
        return PlanTable(columns, tuple(layouts), tuple(schedules), template)


def _divisors(number: int, most: int | None = None) -> list[int]:
    """Divisors in ascending order, up to `most`."""
    last = number if most is None else min(number, most)
    return [n for n in range(1, last + 1) if number % n == 0]


def _label(degrees: Degrees, *, vpp: int = 1) -> str:
    named = {name: getattr(degrees, name) for name in ("dp", "tp", "cp", "pp", "ep")} | {"vpp": vpp}
    parts = [f"{name}{value}" for name, value in named.items() if value > 1 or name == "dp"]
    parts[0] += f"/{degrees.dp_replicas}" if degrees.dp_replicas > 1 else ""
    return " ".join([*parts, *([degrees.cp_kind] if degrees.cp > 1 else [])])
