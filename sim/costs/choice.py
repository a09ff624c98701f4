"""What a scenario says about the sources of kernel costs, and the measured tables that follow from it.

Start at `measured_kernels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sim.core import InputError, Spec, did_you_mean
from sim.costs.model import CostModel
from sim.costs.tables import TABLES, MeasuredKernels, TableSource
from sim.hardware import Device

ANALYTIC: Final = "analytic"
_PROFILE: Final = "profile"
_PROFILE_SUFFIX: Final = ".csv"
_DECODES: Final = ("decode_attention", "mla_decode", "indexer_decode", "state_update")
_PROMPTS: Final = ("prefill_attention", "mla_prefill", "sparse_prefill", "indexer_prefill", "state_scan")
_KERNELS: Final[Mapping[str, tuple[str, ...]]] = {
    "gemm": ("gemm",),
    "moe": ("moe",),
    "attention": (*_DECODES, *_PROMPTS),
    "decode_attention": _DECODES,
    "prefill_attention": _PROMPTS,
    "collectives": ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"),
}


class CostsSpec(Spec):
    """Where the times of each kind of kernel come from.

    Each is `analytic` (closed forms with fitted curves), `measured` (tables of the optional package
    aiconfigurator-core) or the path of a CSV of your own measurements. Where a source has no table for a device,
    engine or number format, the analytic curve stands in and the result says so.

    Attributes:
        default: For all kernels that are not named.
        gemm: Dense matrix products.
        moe: Experts.
        attention: Attention, prompts and decodes; indexers, attention over the keys they pick and recurrent states are
            named with it and stay analytic.
        decode_attention: Attention of decodes; before `attention`.
        prefill_attention: Attention of prompts; before `attention`.
        collectives: Communication inside a scale-up domain.
    """

    default: str = ANALYTIC
    gemm: str | None = None
    moe: str | None = None
    attention: str | None = None
    decode_attention: str | None = None
    prefill_attention: str | None = None
    collectives: str | None = None

    def by_kernel(self) -> dict[str, str]:
        """Source by kernel, as `kernel_of` names them."""
        sources = dict.fromkeys((kernel for group in _KERNELS.values() for kernel in group), self.default)
        for group, kernels in _KERNELS.items():
            named = getattr(self, group)
            if named is not None:
                sources |= dict.fromkeys(kernels, named)
        return sources


def measured_kernels(
    costs: str | CostsSpec, device: Device, *, engine: str, version: str = "", base: Path = Path()
) -> MeasuredKernels | None:
    """Measured tables for a device and family of engines as `costs` asks for; None if all costs are analytic.

    Args:
        costs: The choice; text stands for all kernels.
        device: The device at its highest clock, as it was measured.
        engine: Family of the software stack.
        version: Its version, as far as known.
        base: Folder from which paths start.

    Raises:
        InputError: if a source is unknown, its package is absent or its file unreadable.
    """
    spec = CostsSpec(default=costs) if isinstance(costs, str) else costs
    chosen = {kernel: name for kernel, name in spec.by_kernel().items() if name != ANALYTIC}
    if not chosen:
        return None
    rates = (device.memory_bytes_per_s, tuple(sorted(device.flops.items())))
    files = tuple(_stamp(base / name) for name in sorted(set(chosen.values())) if name.endswith(_PROFILE_SUFFIX))
    key = (device.name, engine, version, rates, files, *sorted(chosen.items()))
    if key not in _KNOWN:
        opened = {name: _opened(name, device, engine, version, base) for name in dict.fromkeys(chosen.values())}
        anchor = CostModel(device, engine=engine)
        _KNOWN[key] = MeasuredKernels({kernel: opened[name] for kernel, name in chosen.items()}, anchor.price)
    return _KNOWN[key]


_KNOWN: dict[tuple[Any, ...], MeasuredKernels] = {}
"""Tables already anchored, so that a process reads each once."""


def _stamp(path: Path) -> tuple[str, int]:
    """A file and when it was last changed; 0 for one that is not there."""
    path = path.expanduser()
    return str(path.resolve()), path.stat().st_mtime_ns if path.is_file() else 0


def _opened(name: str, device: Device, engine: str, version: str, base: Path) -> TableSource:
    if name.endswith(_PROFILE_SUFFIX):
        path = str(base / Path(name).expanduser())
        return TABLES.get(_PROFILE)(device=device, engine=engine, version=version, path=path)
    known = [ANALYTIC, *(one for one in TABLES.names() if one != _PROFILE)]
    if name not in known:
        raise InputError(
            f"unknown source of costs {name!r}{did_you_mean(name, known)}", allowed=[*known, "the path of a .csv file"]
        )
    return TABLES.get(name)(device=device, engine=engine, version=version, path="")
