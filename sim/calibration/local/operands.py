"""PyTorch's side of a profile: the device, its number formats, and operands that are not in any cache."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Final

from sim.calibration.local.timing import PROCESSOR_TIME, Stopwatch
from sim.core import InputError, require_extra

TORCH_DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Formats that can be profiled, and PyTorch's names for them."""

UNKNOWN_CACHE_BYTES: Final = 32 * 2**20
"""Last-level cache assumed where the system does not tell, only to size what must not fit in it [B]."""

POOL_CACHES: Final = 4.0
"""Size of the pool of cold operands in last-level caches: what is used again has been evicted long before."""


BEFORE_CACHES: Final = 1.0
"""What is read before each kernel, in last-level caches: between two uses of a kernel a model reads the weights of a
layer, which drive the kernel's code and work space out of all caches."""


@dataclass(frozen=True)
class Machine:
    """What is profiled.

    Attributes:
        kind: `cpu` or `gpu`.
        title: Name of the processor.
        vendor: Maker.
        units: Threads that compute (CPU), or multiprocessors (GPU).
        memory_bytes: Memory [B].
        cache_bytes: Last-level cache [B], None if the system does not tell.
        devices: Devices of this kind in the machine.
        versions: Software and threads, for the record.
    """

    kind: str
    title: str
    vendor: str
    units: int
    memory_bytes: float
    cache_bytes: float | None
    devices: int
    versions: str

    @property
    def eviction_bytes(self) -> float:
        """Bytes after which nothing of the caches is left [B]."""
        return self.cache_bytes or UNKNOWN_CACHE_BYTES


class Backend:
    """PyTorch on one device.

    Args:
        device: `auto` (a GPU where there is one), `cpu` or `cuda` (NVIDIA, or AMD through ROCm).
        threads: Threads of a CPU; None for PyTorch's default.

    Raises:
        InputError: if PyTorch is not installed or lacks the device.
    """

    def __init__(self, device: str = "auto", *, threads: int | None = None) -> None:
        self.torch: Any = require_extra("torch", "profile")
        if device not in ("auto", "cpu", "cuda"):
            raise InputError("unknown device", path="--device", value=device, allowed=("auto", "cpu", "cuda"))
        has_gpu = bool(self.torch.cuda.is_available())
        if device == "cuda" and not has_gpu:
            raise InputError(f"PyTorch {self.torch.__version__} sees no GPU here", path="--device", value=device)
        self.on_gpu = has_gpu and device != "cpu"
        self.device = "cuda" if self.on_gpu else "cpu"
        if threads is not None:
            self.torch.set_num_threads(threads)
        self.machine = self._gpu() if self.on_gpu else self._cpu()

    def dtype(self, name: str) -> Any:
        """PyTorch's dtype of the format `name`.

        Raises:
            InputError: if it cannot be profiled.
        """
        if name not in TORCH_DTYPES:
            raise InputError("this format cannot be profiled", path="--dtypes", value=name, allowed=[*TORCH_DTYPES])
        return getattr(self.torch, TORCH_DTYPES[name])

    def stopwatch(self) -> Stopwatch:
        """What times work on the device."""
        if self.on_gpu:
            return Stopwatch(self.torch.cuda.synchronize)
        return Stopwatch(clock=PROCESSOR_TIME) if self.machine.units == 1 else Stopwatch()

    def kernel_stopwatch(self, pool: Pool) -> Stopwatch:
        """What times single kernels: on a CPU each follows a read of weights, as it does in a model."""
        if self.on_gpu:
            return self.stopwatch()
        size = int(self.machine.eviction_bytes * BEFORE_CACHES / pool.element_bytes)
        return replace(self.stopwatch(), before=lambda: pool.take(size).sum())

    def random(self, *shape: int, dtype: str) -> Any:
        """A tensor of uniform numbers in [-0.5, 0.5)."""
        numbers = self.torch.rand(*shape, device=self.device, dtype=self.torch.float32)
        return numbers.sub_(0.5).to(self.dtype(dtype))

    def pool(self, dtype: str, *, largest_bytes: float) -> Pool:
        """Operands of `dtype` that no cache holds; `largest_bytes` is the largest one wanted [B]."""
        size = max(POOL_CACHES * self.machine.eviction_bytes, 2.0 * largest_bytes)
        return Pool(self.random(int(size / self.dtype(dtype).itemsize), dtype=dtype))

    def _cpu(self) -> Machine:
        threads = int(self.torch.get_num_threads())
        title = _processor()
        return Machine(
            kind="cpu",
            title=title,
            vendor=title.split()[0],
            units=threads,
            memory_bytes=_memory_bytes(),
            cache_bytes=_cache_bytes(Path("/sys/devices/system/cpu/cpu0/cache")),
            devices=1,
            versions=f"PyTorch {self.torch.__version__}, {platform.system()} {platform.machine()}, "
            + (f"{threads} threads" if threads > 1 else "1 thread, processor time"),
        )

    def _gpu(self) -> Machine:
        found = self.torch.cuda.get_device_properties(0)
        hip, cuda = self.torch.version.hip, self.torch.version.cuda
        return Machine(
            kind="gpu",
            title=str(found.name),
            vendor="AMD" if hip else "NVIDIA",
            units=int(found.multi_processor_count),
            memory_bytes=float(found.total_memory),
            cache_bytes=float(getattr(found, "L2_cache_size", 0)) or None,
            devices=int(self.torch.cuda.device_count()),
            versions=f"PyTorch {self.torch.__version__}, " + (f"ROCm {hip}" if hip else f"CUDA {cuda}"),
        )


class Pool:
    """A long buffer, cut into operands in turn: by the time a place is used again, it has left the caches.

    Args:
        numbers: The buffer, one-dimensional.
    """

    def __init__(self, numbers: Any) -> None:
        self._numbers = numbers
        self._next = 0
        self.element_bytes = int(numbers.dtype.itemsize)

    def take(self, *shape: int) -> Any:
        """The next operand of this shape."""
        size = prod(shape)
        if self._next + size > self._numbers.numel():
            self._next = 0
        start, self._next = self._next, self._next + size
        return self._numbers[start : start + size].view(*shape)

    def table(self, width: int) -> Any:
        """The whole buffer as rows of `width`."""
        rows = self._numbers.numel() // width
        return self._numbers[: rows * width].view(rows, width)


def _processor() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_bytes() -> float:
    """Memory of the machine [B].

    Raises:
        InputError: if the system does not tell.
    """
    import os

    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        raise InputError("this system does not tell how much memory it has") from None


def _cache_bytes(folder: Path) -> float | None:
    """Size of the highest cache level that Linux lists in `folder` [B]; None where it lists none."""
    factors = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30}
    sizes = {}
    for cache in sorted(folder.glob("index*")):
        text = (cache / "size").read_text(encoding="utf-8").strip()
        sizes[int((cache / "level").read_text(encoding="utf-8"))] = float(text[:-1]) * factors[text[-1]]
    return sizes[max(sizes)] if sizes else None
