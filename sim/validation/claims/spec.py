"""What a file of published claims may say: runs, what a paper found between them, and how that is known. Data only."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import Field, model_validator

from sim.core import Spec

Verdict: TypeAlias = Literal["reproduced", "direction only", "missed", "cannot be evaluated"]
"""What became of a claim, best first but for the last, which says that the question could not be asked."""
Grade: TypeAlias = Literal["measured", "claimed", "read by eye"]
Bound: TypeAlias = Literal["about", "at_least", "at_most"]


class EvidenceSpec(Spec):
    """How a published number is known.

    Attributes:
        where: Table, figure or section of the source.
        grade: A measured value in print, a claim in the text, or a figure read by eye.
        confidence: How far the transcription is to be trusted: `high` where it was checked against the source itself.
        note: What a reader must know.
    """

    where: str
    grade: Grade
    confidence: Literal["high", "medium", "low"] = "medium"
    note: str = ""


class RunSpec(Spec):
    """One run: the file's scenario with some values replaced.

    Attributes:
        like: Another run whose replaced values hold here too.
        set: Values by dotted path, such as `plan.vpp: 4`.
    """

    like: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class WithoutSpec(Spec):
    """The same comparison with the cause of the effect switched off, where the effect must be lost.

    Attributes:
        cause: What is switched off, and how.
        run: The variant without the cause.
        over: The baseline without the cause.
    """

    cause: str
    run: str
    over: str


class ExpectationSpec(Spec):
    """One published number beside what is simulated for it.

    Attributes:
        name: Short name, unique in the file.
        run: The run whose value is taken; a variant where there is a baseline.
        over: The baseline: the value is then the variant's over the baseline's.
        metric: Metric path, `memory.CLASS` of the fullest device, or `seconds.CAUSE` of a training step.
        flops: Instead of a metric, the FLOP rate per device [TFLOP/s] with FLOPs counted by this definition.
        claimed: The published value, in the metric's SI unit, in TFLOP/s, or a ratio.
        bound: Whether the source says about so much, at least so much (`10+ %`) or at most (`up to 11 %`).
        setup: Whether the source states the layout, or a part of it is assumed here.
        evidence: Key of the file's `evidence`.
        without: The check that the effect is lost without its cause.
        row: Row of the table of training runs that holds the same number; its half tells whether efficiency factors
            were fitted to it.
        not_modelled: Why the claim cannot be evaluated; replaces `run`.
        assumptions: What is assumed for this number beyond the file's.
        recorded: The verdict when the file was last checked.
    """

    name: str
    run: str | None = None
    over: str | None = None
    metric: str | None = None
    flops: str | None = None
    claimed: float
    bound: Bound = "about"
    setup: Literal["stated", "assumed"] = "stated"
    evidence: str
    without: WithoutSpec | None = None
    row: str | None = None
    not_modelled: str = ""
    assumptions: tuple[str, ...] = ()
    recorded: Verdict | None = None

    @model_validator(mode="after")
    def _complete(self) -> ExpectationSpec:
        if (self.run is None) == (not self.not_modelled):
            raise ValueError(f"claim {self.name!r} needs either `run` or `not_modelled: why`")
        if self.run is not None and (self.metric is None) == (self.flops is None):
            raise ValueError(f"claim {self.name!r} needs either `metric` or `flops`")
        if self.without is not None and self.over is None:
            raise ValueError(f"claim {self.name!r} has `without` but no baseline `over`, so no effect to lose")
        if self.over is not None and self.claimed <= 0:
            raise ValueError(f"claim {self.name!r} is a ratio, which is above zero")
        return self


class OrderSpec(Spec):
    """How published numbers are ordered, whatever their size.

    Attributes:
        name: Short name, unique in the file.
        order: Whether the values of `of` rise, fall, or are flat.
        of: Names of expectations, in order.
        evidence: Key of the file's `evidence`.
        recorded: The verdict when the file was last checked.
    """

    name: str
    order: Literal["rising", "falling", "flat"]
    of: tuple[str, ...] = Field(min_length=2)
    evidence: str
    recorded: Verdict | None = None


class ClaimsSpec(Spec):
    """The root of a file of published claims about one system.

    Attributes:
        name: Short name, equal to the file's.
        title: The system, for people.
        source: The publication.
        description: What was claimed, in a sentence.
        scenario: What all runs share, as in a scenario file; `name` is not needed.
        runs: Runs by name.
        evidence: How numbers are known, by key.
        assumptions: What the source does not say and is assumed in all runs.
        expect: The published numbers.
        orders: How they are ordered.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    title: str
    source: str
    description: str
    scenario: dict[str, Any] = Field(default_factory=dict)
    runs: dict[str, RunSpec] = Field(default_factory=dict)
    evidence: dict[str, EvidenceSpec]
    assumptions: tuple[str, ...] = ()
    expect: tuple[ExpectationSpec, ...] = Field(min_length=1)
    orders: tuple[OrderSpec, ...] = ()
