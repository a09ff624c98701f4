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
    """One column of the table: which key of an item it shows, in what dimension, and divided by what."""

    key: str
    heading: str
    dimension: str | None = None
    numeric: bool = False
    unit: float = 1.0

    @property
    def whole(self) -> bool:
        """Whether its cells stay on one line: names and numbers."""
        return self.numeric or self.key == "name"

    def text(self, value: Any) -> str:
        """`value` as shown in the table; a dash where it is not known."""
        if value is None:
            return "-"
        if self.dimension is not None:
            from sim.core import format_quantity

            return format_quantity(value, self.dimension)
        if self.unit != 1.0:
            return f"{value / self.unit:,.4g}"
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


def _clusters() -> list[Item]:
    from sim.core import data_names
    from sim.hardware import load_cluster

    clusters = {name: load_cluster(name) for name in data_names("hardware_profiles/clusters")}
    return [
        {
            "name": name,
            "node": cluster.node.name,
            "nodes": cluster.n_nodes,
            "devices": cluster.n_devices,
            "device": cluster.device.name,
            "usd_per_device_hour": cluster.usd_per_device_hour,
        }
        for name, cluster in clusters.items()
    ]


def _prices() -> list[Item]:
    from sim.core import data_names, load_data
    from sim.hardware import PriceSpec

    folder = "hardware_profiles/prices"
    prices = {name: load_data(folder, name, PriceSpec, kind="price") for name in data_names(folder)}
    return [
        {
            "name": name,
            "device": price.device,
            "provider": price.provider,
            "kind": price.kind,
            "date": price.date,
            "usd_per_device_hour": price.price.value,
        }
        for name, price in prices.items()
    ]


def _kernels() -> list[Item]:
    from sim.core import data_names, load_data
    from sim.hardware import KernelsSpec

    folder = "hardware_profiles/kernels"
    files = {name: load_data(folder, name, KernelsSpec, kind="kernel") for name in data_names(folder)}
    return [
        {
            "name": name,
            "curves": len(file.curves),
            "kernels": sorted({curve.kernel for curve in file.curves}),
            "dtypes": sorted({curve.dtype for curve in file.curves}),
            "engines": sorted({curve.engine for curve in file.curves}),
        }
        for name, file in files.items()
    ]


def _engines() -> list[Item]:
    from sim.core import data_names
    from sim.plans import load_engine

    return [
        {
            "name": engine.name,
            "title": engine.title,
            "scheduler": engine.scheduler,
            "router": engine.router,
            "weights_dtypes": list(engine.supports.weights_dtypes),
            "kv_dtypes": list(engine.supports.kv_dtypes),
        }
        for engine in map(load_engine, data_names("hardware_profiles/engines"))
    ]


def _training_engines() -> list[Item]:
    from sim.core import data_names
    from sim.plans import load_training_engine

    return [
        {
            "name": engine.name,
            "title": engine.title,
            "zero": engine.defaults.zero,
            "attention": engine.defaults.attention,
            "recompute": engine.defaults.recompute,
            "grad_dtype": engine.defaults.grad_dtype,
        }
        for engine in map(load_training_engine, data_names("hardware_profiles/training_engines"))
    ]


def _traffic() -> list[Item]:
    from sim.core import data_names
    from sim.workloads import load_traffic

    return [
        {
            "name": traffic.name,
            "arrivals": traffic.arrivals.kind,
            "rate_per_s": traffic.arrivals.mean_rate,
            "source": traffic.source,
            "about": traffic.description,
        }
        for traffic in map(load_traffic, data_names("workloads/traffic"))
    ]


def _scenarios() -> list[Item]:
    from sim.core import data_names
    from sim.scenario import load

    specs = {name: load(name).root for name in data_names("scenarios")}
    return [
        {
            "name": name,
            "model": spec.model if isinstance(spec.model, str) else spec.model.name,
            "cluster": spec.cluster if isinstance(spec.cluster, str) else f"{spec.cluster.nodes}x {spec.cluster.node}",
            "variants": len(getattr(spec, "variants", ())),
            "about": spec.description,
        }
        for name, spec in specs.items()
    ]


def _metrics() -> list[Item]:
    from sim.results import METRICS

    return [
        {
            "name": metric.name,
            "unit": metric.unit,
            "better": {"min": "smaller", "max": "larger", None: "-"}[metric.direction],
            "parts": list(metric.parts),
            "short": list(metric.short),
        }
        for metric in METRICS.values()
    ]


def _datasets() -> list[Item]:
    """Known tables of the data folder, and kinds of tables that it has none of."""
    from sim.core import InputError
    from sim.validation import MEASUREMENTS, dataset_files

    about = MEASUREMENTS.describe()
    try:
        files, state = dataset_files(), "not in the folder"
    except InputError:
        files, state = {}, "PLANSIM_DATA names no folder with measured/"
    found = [
        {"name": name, "state": f"found: {path.name}", "about": about[kind]} for name, (path, kind) in files.items()
    ]
    missing = set(about) - {kind for _, kind in files.values()}
    return found + [{"name": name, "state": state, "about": about[name]} for name in sorted(missing)]


def _plugins(summary: str, package: str, registry: str) -> Catalogue:
    return Catalogue(summary, (NAME, ABOUT), plugins(package, registry))


PRICE = _quantity("usd_per_device_hour", "per device", "usd_per_h")

KINDS: dict[str, Catalogue] = {
    "devices": Catalogue(
        "dense rates, usable memory",
        (
            NAME,
            _quantity("memory_bytes", "memory", "bytes"),
            _quantity("memory_bytes_per_s", "bandwidth", "bytes_per_s"),
            _quantity("bf16_flops", "bf16", "flops"),
            _quantity("fp8_flops", "fp8", "flops"),
            _quantity("peak_w", "power", "w"),
            Column("title", "device"),
        ),
        _devices,
    ),
    "links": Catalogue(
        "per direction and device",
        (
            NAME,
            Column("topology", "topology"),
            _quantity("bytes_per_s", "bandwidth", "bytes_per_s"),
            _quantity("latency_s", "latency", "s"),
        ),
        _links,
    ),
    "nodes": Catalogue(
        "memory of all devices, bandwidth per device and direction",
        (
            NAME,
            Column("device", "device"),
            _number("devices", "devices"),
            _quantity("memory_bytes", "memory", "bytes"),
            PRICE,
            _quantity("bytes_per_s_per_device", "bandwidth", "bytes_per_s"),
            Column("link", "link"),
        ),
        _nodes,
    ),
    "clusters": Catalogue(
        "equal nodes and their network",
        (
            NAME,
            Column("node", "node"),
            _number("nodes", "nodes"),
            _number("devices", "devices"),
            Column("device", "device"),
            PRICE,
        ),
        _clusters,
    ),
    "prices": Catalogue(
        "per device and hour, with the day they were read",
        (
            NAME,
            PRICE,
            Column("provider", "provider"),
            Column("kind", "contract"),
            Column("date", "date"),
            Column("device", "device"),
        ),
        _prices,
    ),
    "kernels": Catalogue(
        "kernel-efficiency curves by device family",
        (
            NAME,
            _number("curves", "curves"),
            Column("kernels", "kernels"),
            Column("dtypes", "formats"),
            Column("engines", "engines"),
        ),
        _kernels,
    ),
    "engines": Catalogue(
        "defaults, limits and overheads of serving software",
        (
            NAME,
            Column("title", "engine"),
            Column("scheduler", "scheduler"),
            Column("router", "router"),
            Column("weights_dtypes", "weights"),
            Column("kv_dtypes", "KV cache"),
        ),
        _engines,
    ),
    "training_engines": Catalogue(
        "defaults and overheads of training software",
        (
            NAME,
            Column("title", "engine"),
            _number("zero", "ZeRO"),
            Column("attention", "attention"),
            Column("recompute", "recomputation"),
            Column("grad_dtype", "gradients"),
        ),
        _training_engines,
    ),
    "models": Catalogue(
        "billions of parameters in all and per token, KV cache at 16 bit",
        (
            NAME,
            Column("parameters", "parameters", numeric=True, unit=1e9),
            Column("active_parameters", "active", numeric=True, unit=1e9),
            _quantity("kv_bytes_per_token", "KV per token", "bytes"),
            _number("max_tokens", "tokens"),
            Column("hf_id", "Hugging Face id"),
        ),
        _models,
    ),
    "traffic": Catalogue(
        "arrivals and lengths, made up or fitted to a trace",
        (
            NAME,
            Column("arrivals", "arrivals"),
            _quantity("rate_per_s", "rate", "per_s"),
            Column("source", "source"),
            Column("about", "what it stands for"),
        ),
        _traffic,
    ),
    "scenarios": Catalogue(
        "ready to run: plansim search NAME",
        (
            NAME,
            Column("model", "model"),
            Column("cluster", "cluster"),
            _number("variants", "variants"),
            Column("about", "what it is for"),
        ),
        _scenarios,
    ),
    "metrics": Catalogue(
        "any path is a search objective, such as ttft_s.p99",
        (NAME, Column("unit", "unit"), Column("better", "better"), Column("parts", "parts"), Column("short", "short")),
        _metrics,
    ),
    "schedulers": _plugins("who gets which tokens in an iteration", "sim.serving", "SCHEDULERS"),
    "routers": _plugins("which replica a request goes to", "sim.serving", "ROUTERS"),
    "schedules": _plugins("in which order a training pipeline runs its passes", "sim.training", "SCHEDULES"),
    "collectives": _plugins("algorithms; the fastest for size and links is taken", "sim.costs", "COLLECTIVES"),
    "architectures": _plugins("of Hugging Face configs", "sim.models", "ARCHITECTURES"),
    "arrivals": _plugins("arrival processes of traffic", "sim.workloads", "ARRIVALS"),
    "lengths": _plugins("laws of prompt and output lengths", "sim.workloads", "LENGTHS"),
    "traces": _plugins("formats of recorded traces", "sim.workloads", "TRACES"),
    "algorithms": _plugins("which screened plans a search simulates", "sim.explore", "ALGORITHMS"),
    "cost-sources": _plugins("measured kernel times; `analytic` needs none", "sim.costs", "TABLES"),
    "measurements": _plugins("kinds of tables that validate reads", "sim.validation", "MEASUREMENTS"),
    "benchmarks": _plugins("benchmark tools whose results are read", "sim.validation.benchmarks", "BENCHMARKS"),
    "datasets": Catalogue(
        "tables of measurements for validate",
        (NAME, Column("state", "state"), Column("about", "what it is")),
        _datasets,
    ),
    "launchers": _plugins("write the command that starts a plan", "sim.plans", "LAUNCHERS"),
}
