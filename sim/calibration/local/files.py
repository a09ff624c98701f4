"""A profile as files that scenarios can name: device, kernel curves, node and, with several devices, the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sim.calibration.local.fit import FittedCurve
from sim.calibration.local.operands import Machine
from sim.calibration.local.rates import Rates
from sim.core import to_yaml
from sim.hardware import CollectiveSpec, CurveSpec, DeviceSpec, KernelsSpec, LinkSpec, NodeSpec

ASSUMED_W_PER_UNIT: Final = 5.0
"""Power limit per core or multiprocessor [W]: shipped server CPUs and GPUs lie between 2.5 and 6.3 (assumed)."""

ASSUMED_IDLE_FRAC: Final = 0.2
"""Idle power over the limit: shipped devices lie between 0.1 and 0.3 (assumed)."""

_REF: Final = "profile"
_KERNEL_DTYPES: Final = {"fp16": "bf16"}
"""Kernel files have one set of 16-bit curves, under this name."""

_HEADS: Final = {
    "device": "A device as `plansim profile` measured it; node and kernel curves lie beside it.",
    "kernels": "Kernel curves that `plansim profile` fitted; hardware_profiles/kernels/generic.yaml has the forms.",
    "node": "The machine that `plansim profile` measured; in a scenario, cluster: {node: THIS FILE}.",
    "link": "The link between the devices as `plansim profile` measured it.",
}


_EXAMPLE: Final = """\
# Two users who chat with a small model on the machine that `plansim profile` measured: a first run, to change at will.
name: {name}
model: qwen2.5-0.5b
cluster: {{node: {node}.yaml}}
engine: vllm
workload: {{kind: serving, traffic: chat-poisson, concurrency: 2, requests: 20}}
"""


@dataclass(frozen=True)
class FittedLink:
    """An all-reduce over all devices of the machine, `t = alpha + sigma sqrt(wS) + wS/beta` with `w = 2(n-1)/n`.

    Attributes:
        ranks: Devices.
        alpha_s: Start-up time [s].
        sigma_s_per_sqrt_byte: Pipelining term [s per square root of a byte].
        beta_bytes_per_s: Rate of large messages [B/s].
        best_bytes_per_s: Highest rate among the samples, `wS/t` [B/s].
        median_error: Median absolute relative error of the fit.
        p90_error: Its 90th percentile.
    """

    ranks: int
    alpha_s: float
    sigma_s_per_sqrt_byte: float
    beta_bytes_per_s: float
    best_bytes_per_s: float
    median_error: float
    p90_error: float


@dataclass(frozen=True)
class DeviceFiles:
    """The specs of a profile.

    Attributes:
        device: The device.
        kernels: Its curves.
        node: The machine.
        link: The link between its devices; None for one device.
    """

    device: DeviceSpec
    kernels: KernelsSpec
    node: NodeSpec
    link: LinkSpec | None = None

    def write(self, folder: Path) -> list[Path]:
        """Writes one YAML file each in `folder`, which name each other from where they lie, and a scenario to try them.

        The device's file is first, the scenario's last.
        """
        written = []
        for part, spec in (
            ("device", self.device),
            ("kernels", self.kernels),
            ("node", self.node),
            ("link", self.link),
        ):
            if spec is not None:
                path = folder / f"{spec.name}.yaml"
                path.write_text(f"# {_HEADS[part]}\n{to_yaml(_filled(spec.to_file_data()))}", encoding="utf-8")
                written.append(path)
        example = folder / f"{self.device.name}-scenario.yaml"
        example.write_text(_EXAMPLE.format(name=self.device.name, node=self.node.name), encoding="utf-8")
        return [*written, example]


def _filled(data: Any) -> Any:
    """File data without its empty fields, at any depth."""
    if isinstance(data, dict):
        return {key: _filled(value) for key, value in data.items() if value not in ("", [], {}, None)}
    return [_filled(item) for item in data] if isinstance(data, list) else data


def device_files(
    name: str,
    machine: Machine,
    found: Rates,
    curves: Sequence[FittedCurve],
    *,
    date: str,
    link: FittedLink | None = None,
    peak_w: float | None = None,
) -> DeviceFiles:
    """The files of a machine.

    Args:
        name: Name of the device; those of the other files start with it.
        machine: What was measured.
        found: Best rates.
        curves: Fitted curves.
        date: Day of the measurement.
        link: The link between its devices, if there are several.
        peak_w: Power limit of a device, where the user knows it [W].
    """
    refs = {_REF: f"plansim profile on {date}: {machine.title}, {machine.versions}"}
    return DeviceFiles(
        device=_device(name, machine, found, refs, peak_w),
        kernels=_kernels(name, curves, refs),
        node=_node(name, machine, refs, several=link is not None),
        link=None if link is None else _link(name, link, refs),
    )


def _measured(value: float, note: str = "") -> dict[str, Any]:
    return {"value": _rounded(value), "source": "measured", "ref": _REF, "note": note}


def _told(value: float, note: str = "") -> dict[str, Any]:
    """A figure that the system tells."""
    return {**_measured(value, note), "value": value, "confidence": "high"}


def _device(name: str, machine: Machine, found: Rates, refs: dict[str, str], peak_w: float | None) -> DeviceSpec:
    assumed = {"source": "assumed", "ref": "assumed-power", "confidence": "low"}
    limit = ASSUMED_W_PER_UNIT * machine.units if peak_w is None else peak_w
    power = f"PyTorch does not tell: {ASSUMED_W_PER_UNIT:g} W per core or multiprocessor" if peak_w is None else "given"
    data = {
        "name": name,
        "title": machine.title,
        "vendor": machine.vendor,
        "kind": machine.kind,
        "units": _told(machine.units, "threads that compute" if machine.kind == "cpu" else ""),
        "flops": {dtype: _measured(rate, "best product measured") for dtype, rate in found.flops.items()},
        "memory": _told(machine.memory_bytes),
        "memory_bandwidth": _measured(found.bytes_per_s, "best of copies, reads and matrix-vector products"),
        "cache": _told(machine.cache_bytes) if machine.cache_bytes else None,
        "host_bandwidth": _measured(found.host_bytes_per_s) if found.host_bytes_per_s else None,
        "peak_power": {**assumed, "value": limit},
        "idle_power": {**assumed, "value": ASSUMED_IDLE_FRAC * limit},
        "memory_efficiency": _measured(found.copy_frac, "best copy over the best rate"),
        "kernels": f"{name}-kernels.yaml",
        "refs": {**refs, "assumed-power": f"{power}; idle {ASSUMED_IDLE_FRAC:.0%} of it"},
        "note": "Rates are the best measured, not those of a data sheet. Power is assumed; the price is not known.",
    }
    return DeviceSpec.model_validate(data)


def _kernels(name: str, curves: Sequence[FittedCurve], refs: dict[str, str]) -> KernelsSpec:
    return KernelsSpec(
        name=f"{name}-kernels",
        refs=refs,
        curves=tuple(
            CurveSpec(
                kernel=curve.kernel,
                dtype=_KERNEL_DTYPES.get(curve.dtype, curve.dtype),
                params={key: _parameter(value) for key, value in curve.params.items()},
                source="fitted",
                ref=_REF,
                median_error=_rounded(curve.median_error),
                p90_error=_rounded(curve.p90_error),
            )
            for curve in curves
        ),
        note="Fractions are of the best rates measured (see the device). Errors are those on shapes left out of the "
        "fit. Weights and caches were cold, activations warm; floors include PyTorch's dispatch in eager mode.",
    )


def _parameter(value: float) -> float | str:
    return "inf" if value == float("inf") else _rounded(value)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _node(name: str, machine: Machine, refs: dict[str, str], *, several: bool) -> NodeSpec:
    return NodeSpec.model_validate(
        {
            "name": f"{name}-node",
            "title": f"{machine.devices if several else 1}x {machine.title}",
            "device": f"{name}.yaml",
            "devices": _told(machine.devices if several else 1),
            "topology": "switch" if several else "single",
            "link": f"{name}-link.yaml" if several else None,
            "refs": refs,
        }
    )


def _link(name: str, link: FittedLink, refs: dict[str, str]) -> LinkSpec:
    numbers = {
        "alpha_s": _rounded(link.alpha_s),
        "beta_bytes_per_s": _rounded(link.beta_bytes_per_s),
        "sigma_s_per_sqrt_byte": _rounded(link.sigma_s_per_sqrt_byte),
    }
    all_reduce = CollectiveSpec(
        kind="all_reduce",
        form="R3",
        ranks=link.ranks,
        params=numbers,
        ref=_REF,
        median_error=_rounded(link.median_error),
        p90_error=_rounded(link.p90_error),
    )
    return LinkSpec.model_validate(
        {
            "name": f"{name}-link",
            "title": f"Between the devices of {name}",
            "bandwidth": _measured(link.best_bytes_per_s, "per direction and device, best all-reduce"),
            "latency": _measured(link.alpha_s, f"start of an all-reduce of {link.ranks} ranks"),
            "achieved": _measured(1.0, "of the rate measured"),
            "topology": "switch",
            "collectives": [all_reduce.model_dump()],
            "refs": refs,
            "note": "The topology was not looked at: every group of devices is taken to get the same rate.",
        }
    )
