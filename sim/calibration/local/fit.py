"""Parameters of the cost forms, fitted to samples through the very cost model that simulations use.

Start at `fit_kernels`. Each kernel's form (see `sim.costs`) is fitted in the logarithm of time by robust least squares,
so that a microsecond kernel weighs as much as a second of work, and the errors that go with a curve are those on shapes
left out of the fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from scipy.optimize import least_squares

from sim.calibration.local.samples import Case, Sample
from sim.core import Array, InputError
from sim.costs import CostModel
from sim.hardware import Device, KernelCurves
from sim.models import DecodeAttention, Elementwise, Embedding, Gemm, Operator, PrefillAttention, Sampling

FOLDS: Final = 5
"""Parts of the samples that are left out of a fit in turn."""

HUBER_SCALE: Final = 0.1
"""Relative error beyond which a sample pulls linearly rather than quadratically."""

STARTS: Final = (0.25, 0.7)
"""Where fits start between the bounds of a parameter, on its logarithmic scale; the best end counts."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a form, fitted on a logarithmic scale.

    Attributes:
        name: Its name in the kernel file.
        low: Least value.
        high: Greatest value.
    """

    name: str
    low: float
    high: float


_FLOOR = Parameter("t0_s", 1e-7, 1e-2)
_JOIN = Parameter("p", 1.0, 10.0)
_MEMORY = Parameter("f", 0.005, 1.0)
_COMPUTE = Parameter("e", 0.002, 1.0)

FORMS: Final[Mapping[str, tuple[str, tuple[Parameter, ...], Mapping[str, float]]]] = {
    "gemm": (
        "gemm",
        (_FLOOR, _COMPUTE, _MEMORY, Parameter("f_1", 0.005, 1.0), _JOIN, Parameter("tau_s", 1e-12, 1e-6)),
        {"k_sat": float("inf"), "c": 0.0},
    ),
    "attention_decode": (
        "decode_attention",
        (_FLOOR, _MEMORY, _JOIN, Parameter("tau_s", 1e-9, 1e-2), Parameter("lam_s", 1e-9, 1e-3), _COMPUTE),
        {"a": 1.0},
    ),
    "attention_prefill": (
        "prefill_attention",
        (
            _FLOOR,
            Parameter("e_128", 0.002, 1.0),
            Parameter("a_h", 0.1, 2000.0),
            Parameter("d_h", 0.1, 1000.0),
            Parameter("tau_s", 1e-12, 1e-5),
            _JOIN,
            Parameter("c", 0.01, 50.0),
        ),
        {},
    ),
    "elementwise": ("elementwise", (_FLOOR, _MEMORY), {}),
    "embedding": ("embedding", (_FLOOR, _MEMORY), {}),
    "sampling": ("sampling", (_FLOOR, _MEMORY), {}),
}
"""By kind of sample: the kernel's name in the file, what is fitted, and what is fixed.

Fixed are what a PyTorch product does not do (quantise, split over k) and the exponent of the head dimension, taken as
proportional.
"""


@dataclass(frozen=True)
class FittedCurve:
    """One kernel's curve.

    Attributes:
        kernel: Name in the kernel file.
        dtype: Format of the operands.
        params: Parameters, SI units.
        median_error: Median absolute relative error on shapes left out of the fit.
        p90_error: Its 90th percentile.
        samples: Samples it was fitted to.
    """

    kernel: str
    dtype: str
    params: Mapping[str, float]
    median_error: float
    p90_error: float
    samples: int


@dataclass(frozen=True)
class _Trial(KernelCurves):
    """Curves under trial: the same parameters for whatever kernel is asked for."""

    params: Mapping[str, float] = field(default_factory=dict)

    def get(self, kernel: str, dtype: str, engine: str, library: str = "") -> Mapping[str, float]:
        return self.params

    def provenance(self, kernel: str, dtype: str, engine: str, library: str = "") -> str:
        return "under trial"


def fit_kernels(samples: Iterable[Sample], device: Device) -> list[FittedCurve]:
    """Curves of all kernels and formats that have more samples than their form has parameters.

    Args:
        samples: The measurements.
        device: The device, with the rates that efficiencies are fractions of.
    """
    groups: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.case.kind in FORMS:
            groups[sample.case.kind, sample.case.dtype].append(sample)
    return [
        _fit(kind, dtype, group, device)
        for (kind, dtype), group in groups.items()
        if len(group) > len(FORMS[kind][1]) + 1
    ]


def _fit(kind: str, dtype: str, samples: Sequence[Sample], device: Device) -> FittedCurve:
    kernel, parameters, fixed = FORMS[kind]
    measured = np.array([sample.timing.time_s for sample in samples])
    order, operators = _operators([sample.case for sample in samples])
    measured = measured[order]

    def predicted(values: Mapping[str, float]) -> Array:
        trial = replace(device, kernels=_Trial("trial", {**fixed, **values}))
        costs = CostModel(trial)
        return np.concatenate([np.atleast_1d(costs.cost(operator).time_s) for operator in operators])

    everything = np.ones(len(samples), dtype=bool)
    values = solve(predicted, measured, parameters, everything)
    folds = np.arange(len(samples)) % FOLDS
    left_out = np.zeros(len(samples))
    for fold in range(FOLDS):
        without = solve(predicted, measured, parameters, folds != fold, start=values)
        left_out[folds == fold] = (predicted(without) / measured - 1.0)[folds == fold]
    errors = np.abs(left_out)
    median, p90 = float(np.median(errors)), float(np.quantile(errors, 0.9))
    return FittedCurve(kernel, dtype, {**values, **fixed}, median, p90, len(samples))


def solve(
    predicted: Callable[[Mapping[str, float]], Array],
    measured: Array,
    parameters: Sequence[Parameter],
    used: Array,
    *,
    start: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The parameters with the least robust error of `log(predicted/measured)` over the samples that are `used`.

    Args:
        predicted: Times [s] of all samples at given parameters.
        measured: Measured times [s].
        parameters: What is fitted, within which bounds.
        used: Which samples count.
        start: First guess; None tries several.
    """
    low = np.log([p.low for p in parameters])
    high = np.log([p.high for p in parameters])

    def values(x: Array) -> dict[str, float]:
        return {p.name: float(np.exp(v)) for p, v in zip(parameters, x, strict=True)}

    def residuals(x: Array) -> Array:
        return np.asarray(np.log(predicted(values(x)) / measured)[used])

    guesses = [low + part * (high - low) for part in STARTS]
    if start is not None:
        guesses = [np.log([start[p.name] for p in parameters])]
    inside = 1e-6 * (high - low)
    ends = [
        least_squares(
            residuals, np.clip(guess, low + inside, high - inside), bounds=(low, high), loss="soft_l1",
            f_scale=HUBER_SCALE, x_scale=high - low,
        )
        for guess in guesses
    ]  # fmt: skip
    return values(min(ends, key=lambda end: float(end.cost)).x)


def _operators(cases: Sequence[Case]) -> tuple[list[int], list[Operator]]:
    """Operators that stand for the cases, one per set of fixed shapes, and the order in which they hold the cases."""
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, case in enumerate(cases):
        groups[case.n, case.k, case.heads, case.kv_heads, case.head_dim].append(index)
    order = [index for group in groups.values() for index in group]
    return order, [_operator([cases[index] for index in group]) for group in groups.values()]


def _operator(cases: Sequence[Case]) -> Operator:
    """The operator of cases that differ only in rows, tokens or bytes."""
    first = cases[0]
    label: dict[str, Any] = {"name": first.kind, "cause": first.kind}

    def column(name: str) -> Array:
        return np.array([getattr(case, name) for case in cases], dtype=np.float64)

    heads: dict[str, Any] = {
        "q_heads": float(first.heads),
        "kv_heads": float(first.kv_heads),
        "head_dim": float(first.head_dim),
        "v_dim": float(first.head_dim),
        "kv_dtype": first.dtype,
    }
    if first.kind == "gemm":
        return Gemm(**label, m=column("m"), n=first.n, k=first.k, weights_dtype=first.dtype)
    if first.kind == "attention_decode":
        attended = column("batch") * column("kv_tokens")
        return DecodeAttention(**label, sequences=column("batch"), context=attended, **heads)
    if first.kind == "attention_prefill":
        prefix = column("kv_tokens") - column("query_tokens")
        return PrefillAttention(**label, chunk=column("query_tokens"), prefix=prefix, **heads)
    if first.kind == "embedding":
        return Embedding(**label, tokens=column("m"), width=first.n, dtype=first.dtype)
    if first.kind == "sampling":
        return Sampling(**label, rows=column("m"), vocab=first.n)
    if first.kind == "elementwise":
        return Elementwise(**label, moved_bytes=column("bytes"), dtype=first.dtype)
    raise InputError("no operator stands for this kind", value=first.kind, allowed=[*FORMS])
