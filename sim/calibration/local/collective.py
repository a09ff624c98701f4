"""All-reduce between the devices of a machine: one process a device, NCCL or RCCL on GPUs, gloo on a CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.calibration.local.files import FittedLink
from sim.calibration.local.fit import Parameter, solve
from sim.calibration.local.operands import Backend
from sim.calibration.local.samples import Case, Sample, Timing
from sim.calibration.local.timing import Stopwatch, timing_of
from sim.core import require_extra
from sim.costs import root_form, wire_factor

SIZES_BYTES: Final = tuple(4**power for power in range(5, 13))
"""Buffers of the all-reduce [B]: 1 KiB to 16 MiB, the messages of tensor parallelism."""

_CALLS: Final = 5
_PARAMETERS: Final = (
    Parameter("alpha_s", 1e-7, 1e-1),
    Parameter("sigma_s_per_sqrt_byte", 1e-12, 1e-4),
    Parameter("beta_bytes_per_s", 1e6, 1e13),
)


def measure_all_reduce(backend: Backend, *, ranks: int, rounds: int) -> list[Sample]:
    """Timed all-reduces over `ranks` devices (processes on a CPU), fp32 buffers of `SIZES_BYTES`.

    A reading is that of the slowest rank, which is the one that everybody waits for.
    """
    with tempfile.TemporaryDirectory(prefix="plansim-") as folder:
        multiprocessing: Any = require_extra("torch.multiprocessing", "profile")
        multiprocessing.spawn(_rank, args=(ranks, folder, backend.on_gpu, rounds), nprocs=ranks)
        readings = np.max([np.load(Path(folder) / f"{rank}.npy") for rank in range(ranks)], axis=0)
    machine = backend.machine
    timings: list[Timing] = [timing_of(row.tolist()) for row in readings]
    return [
        Sample(
            case=Case(kind="all_reduce", dtype="fp32", bytes=size, ranks=ranks),
            timing=timing,
            device=machine.title,
            versions=machine.versions,
        )
        for size, timing in zip(SIZES_BYTES, timings, strict=True)
    ]


def _rank(rank: int, ranks: int, folder: str, on_gpu: bool, rounds: int) -> None:
    """One process of the group: writes its readings [s], shape `(sizes, rounds)`, to a file of its own."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if on_gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks
    )
    watch = Stopwatch(torch.cuda.synchronize if on_gpu else lambda: None)
    readings = np.zeros((len(SIZES_BYTES), rounds))
    for row, size in enumerate(SIZES_BYTES):
        buffer = torch.ones(size // 4, device="cuda" if on_gpu else "cpu")
        for column in range(-1, rounds):  # the first round warms up
            dist.barrier()
            reading_s = watch.reading_s(lambda buffer=buffer: dist.all_reduce(buffer), _CALLS)  # type: ignore[misc]
            if column >= 0:
                readings[row, column] = reading_s
    np.save(Path(folder) / f"{rank}.npy", readings)
    dist.destroy_process_group()


def fit_link(samples: Sequence[Sample]) -> FittedLink:
    """The all-reduce form (R3 of `sim.costs.collectives.measured`) fitted to samples of one number of ranks."""
    ranks = samples[0].case.ranks
    sizes = np.array([float(sample.case.bytes) for sample in samples])
    measured = np.array([sample.timing.time_s for sample in samples])

    def predicted(values: Any) -> Any:
        return root_form(
            "all_reduce",
            ranks,
            alpha_s=values["alpha_s"],
            beta_bytes_per_s=values["beta_bytes_per_s"],
            sigma=values["sigma_s_per_sqrt_byte"],
        )(sizes)

    values = solve(predicted, measured, _PARAMETERS, np.ones(len(sizes), dtype=bool))
    errors = np.abs(predicted(values) / measured - 1.0)
    best = float(np.max(wire_factor("all_reduce", ranks) * sizes / measured))
    return FittedLink(
        ranks=ranks,
        alpha_s=values["alpha_s"],
        sigma_s_per_sqrt_byte=values["sigma_s_per_sqrt_byte"],
        beta_bytes_per_s=values["beta_bytes_per_s"],
        best_bytes_per_s=max(best, values["beta_bytes_per_s"]),
        median_error=float(np.median(errors)),
        p90_error=float(np.quantile(errors, 0.9)),
    )
