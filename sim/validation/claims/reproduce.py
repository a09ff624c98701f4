"""Published claims beside what is simulated for them: one row each, with a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sim.results import SCHEMA_VERSION, json_ready
from sim.validation.claims.judge import RANKS, Band, Judged, band_of, in_order, judge_ratio, judge_value
from sim.validation.claims.load import Claims
from sim.validation.claims.runs import Runs
from sim.validation.claims.spec import EvidenceSpec, ExpectationSpec, OrderSpec, Verdict
from sim.validation.formats.training_runs import half_of

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ClaimRow:
    """One published claim and what became of it.

    Attributes:
        name: `FILE/CLAIM`.
        claim: What was published: `metric`, `run`, `over`, `value`, `bound`, or `order` and `of`.
        simulated: The simulated value or ratio, or the values in order; None where there is none.
        band: Lowest and highest value that meets the claim; None where a side is open or there is no band.
        verdict: What became of it.
        reason: Why it is no better; empty where it is reproduced.
        evidence: Source, place, grade and confidence of the published number.
        assumptions: What the source does not say and is assumed.
        without: The cause that was switched off, and what was left; None where that was not asked.
        recorded: The verdict when the file was last checked; None if never.
        fitted: Whether the number is among the measured runs that efficiency factors were fitted to, so that agreement
            is no independent prediction.
        notes: Runs that are judged not to fit in memory, though the published ones did.
    """

    name: str
    claim: Mapping[str, Any]
    simulated: float | tuple[float, ...] | None
    band: Band
    verdict: Verdict
    reason: str
    evidence: Mapping[str, str]
    assumptions: tuple[str, ...] = ()
    without: Mapping[str, Any] | None = None
    recorded: Verdict | None = None
    fitted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """Whether the verdict is worse than the recorded one."""
        return self.recorded is not None and RANKS[self.verdict] < RANKS[self.recorded]


@dataclass(frozen=True)
class Reproduction:
    """All rows of some files of claims.

    Attributes:
        rows: In the order of the files.
        titles: System and source by file name.
    """

    rows: tuple[ClaimRow, ...]
    titles: Mapping[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict."""
        found = Counter(row.verdict for row in self.rows)
        return {verdict: found[verdict] for verdict in RANKS}

    def to_json(self) -> dict[str, Any]:
        """The document that `plansim reproduce --json` prints."""
        body = {"rows": [asdict(row) for row in self.rows], "verdicts": self.counts, "systems": dict(self.titles)}
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "reproduce",
            **{key: json_ready(value) for key, value in body.items()},
        }


def reproduce(files: Sequence[Claims], *, progress: Progress | None = None) -> Reproduction:
    """Simulates the runs of some files of claims and judges each claim.

    Args:
        files: Checked files.
        progress: Called with (done, total, what).

    Raises:
        InputError: if a scenario in a file is wrong.
    """
    rows: list[ClaimRow] = []
    for done, claims in enumerate(files):
        if progress is not None:
            progress(done, len(files), claims.spec.name)
        rows += _judged(claims)
    return Reproduction(
        tuple(rows), {claims.spec.name: f"{claims.spec.title}: {claims.spec.source}" for claims in files}
    )


def _judged(claims: Claims) -> list[ClaimRow]:
    runs, spec = Runs(claims), claims.spec
    values = {one.name: _value(one, runs) for one in spec.expect}
    held = {order.name: _holds(order, values) for order in spec.orders}
    rows = []
    for one in spec.expect:
        named_by = [held[order.name] for order in spec.orders if one.name in order.of]
        rows.append(_row(claims, one, values[one.name], runs, orders=[bool(holds) for holds in named_by]))
    return [*rows, *(_order_row(claims, order, values, held[order.name]) for order in spec.orders)]


def _value(one: ExpectationSpec, runs: Runs) -> float | str:
    """The simulated value or ratio, or why there is none."""
    if one.run is None:
        return one.not_modelled
    return _compared(one, one.run, one.over, runs)


def _compared(one: ExpectationSpec, run: str, over: str | None, runs: Runs) -> float | str:
    found = []
    for name in (run, over):
        if name is None:
            continue
        outcome = runs.outcome(name)
        value = outcome.value(metric=one.metric, flops=one.flops)
        if value is None:
            return outcome.reason or f"{one.metric or one.flops} is undefined in the run {name}"
        found.append(value)
    if over is None:
        return found[0]
    return found[0] / found[1] if found[1] else f"{one.metric} of the baseline {over} is zero"


def _holds(order: OrderSpec, values: Mapping[str, float | str]) -> bool | str:
    found = [values[name] for name in order.of]
    missing = [f"{name}: {value}" for name, value in zip(order.of, found, strict=True) if isinstance(value, str)]
    if missing:
        return missing[0]
    return in_order([value for value in found if isinstance(value, float)], order.order)


def _row(claims: Claims, one: ExpectationSpec, value: float | str, runs: Runs, *, orders: Sequence[bool]) -> ClaimRow:
    spec = claims.spec
    evidence = spec.evidence[one.evidence]
    band: Band = (None, None)
    if one.run is not None:
        ratio = one.over is not None
        band = band_of(one.claimed, ratio=ratio, bound=one.bound, setup=one.setup, grade=evidence.grade)
    without, left = None, None
    if isinstance(value, str):
        judged = Judged("cannot be evaluated", value)
    else:
        if one.without is not None:
            left = _compared(one, one.without.run, one.without.over, runs)
            without = {"cause": one.without.cause, "left": left}
        judged = _verdict(one, value, band, left, orders)
    return ClaimRow(
        name=f"{spec.name}/{one.name}",
        claim={
            "metric": one.metric or (f"TFLOP/s per device, {one.flops}" if one.flops else None),
            "run": one.run,
            "over": one.over,
            "value": one.claimed,
            "bound": one.bound,
        },
        simulated=None if isinstance(value, str) else value,
        band=band,
        verdict=judged.verdict,
        reason=judged.reason,
        evidence=_evidence(claims, evidence),
        assumptions=(*spec.assumptions, *one.assumptions),
        without=without,
        recorded=one.recorded,
        fitted=one.row is not None and half_of(one.row) == "fit",
        notes=tuple(_notes(one, runs)),
    )


def _verdict(
    one: ExpectationSpec,
    value: float,
    band: Band,
    left: float | str | None,
    orders: Sequence[bool],
) -> Judged:
    if isinstance(left, str):
        return Judged("cannot be evaluated", f"the check without the cause: {left}")
    if one.over is None:
        return judge_value(value, one.claimed, band, orders=orders)
    return judge_ratio(value, one.claimed, band, without=left)


def _notes(one: ExpectationSpec, runs: Runs) -> Iterable[str]:
    for name in (one.run, one.over):
        if name is not None and (unfit := runs.outcome(name).unfit):
            yield f"the run {name} is judged not to fit: {unfit}"


def _order_row(claims: Claims, order: OrderSpec, values: Mapping[str, float | str], holds: bool | str) -> ClaimRow:
    if isinstance(holds, str):
        judged = Judged("cannot be evaluated", holds)
    else:
        judged = Judged("reproduced") if holds else Judged("missed", f"the simulated values are not {order.order}")
    found = tuple(value for value in (values[name] for name in order.of) if isinstance(value, float))
    return ClaimRow(
        name=f"{claims.spec.name}/{order.name}",
        claim={"order": order.order, "of": list(order.of)},
        simulated=found if len(found) == len(order.of) else None,
        band=(None, None),
        verdict=judged.verdict,
        reason=judged.reason,
        evidence=_evidence(claims, claims.spec.evidence[order.evidence]),
        assumptions=claims.spec.assumptions,
        recorded=order.recorded,
    )


def _evidence(claims: Claims, evidence: EvidenceSpec) -> dict[str, str]:
    return {"source": claims.spec.source, **evidence.model_dump()}
