"""Runs a profile: measures all cases, fits the curves, and puts them into files. Start at `profile`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from sim.calibration.local import shapes
from sim.calibration.local.collective import fit_link, measure_all_reduce
from sim.calibration.local.files import DeviceFiles, FittedLink, device_files
from sim.calibration.local.fit import FittedCurve, fit_kernels
from sim.calibration.local.kernels import build
from sim.calibration.local.operands import Backend, Machine
from sim.calibration.local.rates import rates
from sim.calibration.local.samples import Case, Sample, write_samples
from sim.calibration.local.timing import Progress
from sim.core import InputError
from sim.hardware import device_of

ROUNDS: Final = 15
QUICK_ROUNDS: Final = 7
MEMORY_SHARE: Final = 1 / 16
"""Largest operands of a case, as a share of the device's memory."""

_ORDER: Final = (
    "copy",
    "gemm",
    "attention_decode",
    "attention_prefill",
    "elementwise",
    "embedding",
    "sampling",
)
DEFAULT_DTYPES: Final = {"cpu": ("fp32", "bf16"), "gpu": ("bf16", "fp32")}


@dataclass(frozen=True)
class LocalProfile:
    """What a profile found.

    Attributes:
        name: Name of the device.
        machine: What was measured.
        dtypes: Formats that were asked for.
        samples: The measurements.
        curves: Fitted curves.
        files: The device as files; None where the measurements, cut short, do not suffice.
        interrupted: Whether Ctrl-C cut it short.
    """

    name: str
    machine: Machine
    dtypes: tuple[str, ...]
    samples: tuple[Sample, ...]
    curves: tuple[FittedCurve, ...]
    files: DeviceFiles | None
    interrupted: bool

    def save(self, folder: Path) -> list[Path]:
        """Writes the CSV of all samples and, where there is one, the device with its curves; returns the files."""
        table = folder / f"{self.name}-samples.csv"
        write_samples(self.samples, table)
        return [*(self.files.write(folder) if self.files else []), table]

    def to_json(self) -> dict[str, Any]:
        """Machine, rates, curves and samples as plain data in SI units."""
        device = None if self.files is None else self.files.device
        return {
            "name": self.name,
            "interrupted": self.interrupted,
            "machine": asdict(self.machine),
            "flops": None if device is None else {dtype: rate.value for dtype, rate in device.flops.items()},
            "memory_bytes_per_s": None if device is None else device.memory_bandwidth.value,
            "curves": [_finite(asdict(curve)) for curve in self.curves],
            "samples": [{**asdict(s.case), **asdict(s.timing)} for s in self.samples],
        }


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    """The curve with None for an infinite parameter, which JSON cannot hold."""
    params = {key: None if value == float("inf") else value for key, value in data["params"].items()}
    return {**data, "params": params}


def profile(
    *,
    device: str = "auto",
    dtypes: Sequence[str] | None = None,
    name: str | None = None,
    quick: bool = False,
    threads: int | None = None,
    ranks: int | None = None,
    peak_w: float | None = None,
    progress: Progress | None = None,
    backend: Backend | None = None,
) -> LocalProfile:
    """Measures this machine and fits a device to it; Ctrl-C ends it early with what was measured.

    Args:
        device: `auto`, `cpu` or `cuda`.
        dtypes: Formats to measure; None for fp32 and bf16.
        name: Name of the device; None makes one from the processor's.
        quick: Fewer shapes and readings: seconds instead of minutes.
        threads: Threads of a CPU; None for PyTorch's default.
        ranks: Ranks of the all-reduce; None for all devices. Below two there is none.
        peak_w: Power limit of the device [W]; None assumes one.
        progress: Called with (done, total, what).
        backend: PyTorch on the device, where it is set up already.

    Raises:
        InputError: if PyTorch, the device or a format is missing.
    """
    backend = backend or Backend(device, threads=threads)
    machine = backend.machine
    formats = _formats(dtypes or DEFAULT_DTYPES[machine.kind], backend)
    grid = shapes.QUICK if quick else shapes.ACCELERATOR if machine.kind == "gpu" else shapes.FULL
    rounds = QUICK_ROUNDS if quick else ROUNDS
    samples: list[Sample] = []
    link = None
    try:
        interrupted = _measure(backend, grid, formats, rounds, progress, samples)
        ranks = machine.devices if ranks is None else ranks
        if ranks > 1 and not interrupted:
            reduced = measure_all_reduce(backend, ranks=ranks, rounds=rounds)
            samples += reduced
            link = fit_link(reduced)
    except KeyboardInterrupt:
        interrupted = True
    name = name or _slug(machine)
    files, curves = _fitted(name, machine, samples, link, peak_w)
    return LocalProfile(name, machine, tuple(formats), tuple(samples), tuple(curves), files, interrupted)


def _fitted(
    name: str, machine: Machine, samples: Sequence[Sample], link: FittedLink | None, peak_w: float | None
) -> tuple[DeviceFiles | None, list[FittedCurve]]:
    """The files of the machine and its curves; none where products or copies were not measured."""
    found = rates(samples)
    if found is None:
        return None, []
    today = date.today().isoformat()
    bare = device_files(name, machine, found, [], date=today, peak_w=peak_w)
    curves = fit_kernels(samples, device_of(bare.device))
    return device_files(name, machine, found, curves, date=today, link=link, peak_w=peak_w), curves


def _formats(dtypes: Sequence[str], backend: Backend) -> list[str]:
    """The formats without repetitions, each known to PyTorch."""
    formats = list(dict.fromkeys(dtypes))
    for dtype in formats:
        backend.dtype(dtype)
    if {"bf16", "fp16"} <= set(formats):
        raise InputError("one 16-bit format at a time: their curves have one name", path="--dtypes", value=formats)
    return formats


def _measure(
    backend: Backend,
    grid: shapes.Grid,
    formats: Sequence[str],
    rounds: int,
    progress: Progress | None,
    samples: list[Sample],
) -> bool:
    """Appends samples of all cases, kind by kind; returns whether Ctrl-C cut them short."""
    machine = backend.machine
    limit = MEMORY_SHARE * machine.memory_bytes
    for dtype in formats:
        wanted = shapes.cases(grid, dtype, cache_bytes=machine.eviction_bytes, limit_bytes=limit)
        if backend.on_gpu:
            wanted.append(Case(kind="copy", dtype=dtype, operation="from_host", bytes=2**28))
        pool = backend.pool(dtype, largest_bytes=max(shapes.operand_bytes(case) for case in wanted))
        watch = backend.kernel_stopwatch(pool)
        for kind, group in groupby(sorted(wanted, key=_place), key=lambda case: case.kind):
            with backend.torch.inference_mode():
                works = {case: build(backend, pool, case) for case in group}
                timings, cut = watch.measure(works, rounds=rounds, progress=progress, what=f"{kind} {dtype}")
            samples += [
                Sample(case=case, timing=timing, device=machine.title, versions=machine.versions)
                for case, timing in timings.items()
            ]
            if cut:
                return True
    return False


def _place(case: Case) -> int:
    """Where a case comes in the order of measuring: first what everything else builds on."""
    return _ORDER.index(case.kind)


def _slug(machine: Machine) -> str:
    """A file name from the processor's title, with the number of threads of a CPU."""
    words = "".join(letter if letter.isalnum() else " " for letter in machine.title.lower()).split()
    kept = [word for word in words if word not in ("r", "tm", "processor", "cpu", "gpu", "core")]
    return "-".join([*kept, *([f"{machine.units}t"] if machine.kind == "cpu" else [])])
