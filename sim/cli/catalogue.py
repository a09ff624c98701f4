"""The kinds of `plansim list`: for each, how to collect its items and which figures to show.

To add a kind, write a function that returns one dict per item and add a line to `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

Item = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of the table: which key of an item it shows, and in what dimension."""

    key: str
    heading: str
    dimension: str | None = None
    numeric: bool = False

    def text(self, value: Any) -> str:
        """`value` as shown in the table; a dash where it is not known."""
        if value is None:
            return "-"
        if self.dimension is not None:
            from sim.core import format_quantity

            return format_quantity(value, self.dimension)
        if isinstance(value, (list, tuple)):
            return ", ".join(map(str, value))
        return f"{value:,.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Catalogue:
    """A kind of thing with a name: what it is, its columns and its items."""

    summary: str
    columns: tuple[Column, ...]
    items: Callable[[], list[Item]]


def _quantity(key: str, heading: str, dimension: str) -> Column:
    return Column(key, heading, dimension, numeric=True)


def _number(key: str, heading: str) -> Column:
    return Column(key, heading, numeric=True)


NAME = Column("name", "name")
ABOUT = Column("about", "what it does")


def plugins(package: str, registry: str) -> Callable[[], list[Item]]:
    """Collects the plug-ins of the registry called `registry` in `package`: name and first docstring line."""

    def collect() -> list[Item]:
        described = getattr(import_module(package), registry).describe()
        return [{"name": name, "about": about} for name, about in described.items()]

    return collect


def _devices() -> list[Item]:
    from sim.core import data_names
    from sim.hardware import load_device

    return [_device(load_device(name)) for name in data_names("hardware_profiles/devices")]


def _device(device: Any) -> Item:
    dense = {dtype: device.flops.get(dtype) for dtype in ("bf16", "fp8")}
    dense["bf16"] = dense["bf16"] or device.flops.get("fp16")
    return {
        "name": device.name,
        "title": device.title,
        "kind": device.kind,
        "memory_bytes": device.memory_bytes,
        "memory_bytes_per_s": device.memory_bytes_per_s,
        "bf16_flops": dense["bf16"],
        "fp8_flops": dense["fp8"],
        "peak_w": device.peak_w,
    }


def _links() -> list[Item]:
    from sim.core import data_names
    from sim.hardware import load_link

    return [
        {
            "name": link.name,
            "topology": link.topology,
            "bytes_per_s": link.bytes_per_s,
            "latency_s": link.latency_s,
        }
        for link in map(load_link, data_names("hardware_profiles/links"))
    ]


def _nodes() -> list[Item]:
    from sim.core import data_names
    from sim.hardware import ClusterSpec, load_cluster

    items = []
    for name in data_names("hardware_profiles/nodes"):
        cluster = load_cluster(ClusterSpec(node=name))
        group = cluster.group(range(cluster.n_devices))
        items.append(
            {
                "name": name,
                "device": cluster.device.name,
                "devices": cluster.n_devices,
                "memory_bytes": cluster.device.memory_bytes * cluster.n_devices,
                "link": None if group.intra is None else group.intra.name,
                "bytes_per_s_per_device": group.bytes_per_s if cluster.n_devices > 1 else None,
                "usd_per_device_hour": cluster.usd_per_device_hour,
            }
        )
    return items


def _models() -> list[Item]:
    from sim.core import data_names
    from sim.models import kv_bytes_per_token, load_model, parameter_counts

    items = []
    for name in data_names("workloads/models"):
        model = load_model(name)
        counts = parameter_counts(model)
        items.append(
            {
                "name": name,
                "hf_id": model.hf_id,
                "parameters": counts.total,
                "active_parameters": counts.active,
                "kv_bytes_per_token": kv_bytes_per_token(model, "bf16"),
                "max_tokens": model.max_position_embeddings,
            }
        )
    return items


KINDS: dict[str, Catalogue] = {
    "devices": Catalogue(
        "dense rates, usable memory",
        (
            NAME,
            Column("title", "device"),
            _quantity("memory_bytes", "memory", "bytes"),
            _quantity("memory_bytes_per_s", "bandwidth", "bytes_per_s"),
            _quantity("bf16_flops", "bf16", "flops"),
            _quantity("fp8_flops", "fp8", "flops"),
            _quantity("peak_w", "power", "w"),
        ),
        _devices,
    ),
}
