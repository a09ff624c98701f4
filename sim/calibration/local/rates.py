"""The rates that a machine was seen to reach: what efficiencies are fractions of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sim.calibration.local.samples import Sample
from sim.models import activation_bytes


@dataclass(frozen=True)
class Rates:
    """Best rates among the samples.

    Attributes:
        flops: Of matrix products by dtype [FLOP/s].
        bytes_per_s: Of device memory [B/s]; a copy counts what it reads and what it writes.
        host_bytes_per_s: From the host's memory [B/s], 0 if not measured.
        copy_frac: Best copy over `bytes_per_s`.
    """

    flops: dict[str, float]
    bytes_per_s: float
    host_bytes_per_s: float
    copy_frac: float


def rates(samples: Iterable[Sample]) -> Rates | None:
    """The best rates among the samples; None where products or copies are missing.

    The memory rate is the best of copies, reads and matrix-vector products, so that no measured kernel beats the
    roofline it defines.
    """
    flops: dict[str, float] = {}
    copies, others, host = [0.0], [0.0], [0.0]
    for sample in samples:
        case, time_s = sample.case, sample.timing.time_s
        if case.kind == "gemm":
            flops[case.dtype] = max(flops.get(case.dtype, 0.0), 2.0 * case.m * case.n * case.k / time_s)
            others.append(case.n * case.k * activation_bytes(case.dtype) / time_s)
        elif case.kind == "copy" and case.operation == "copy":
            copies.append(2.0 * case.bytes / time_s)
        elif case.kind == "copy":
            (host if case.operation == "from_host" else others).append(case.bytes / time_s)
    best = max(*copies, *others)
    if not flops or max(copies) == 0.0:
        return None
    return Rates(flops, best, max(host), max(copies) / best)
