"""Every metric a result can hold: its name, unit, exact definition, which way is better, and short names.

The table `METRICS` is the one place where a metric is defined in words. The JSON, the objectives of a search, the
tables, the report and `docs/metrics.md` all read it; `compute` holds the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sim.core import QUANTILES, InputError, did_you_mean

Direction = Literal["min", "max"]
STATISTICS: Final = ("mean", *QUANTILES)
STATUSES: Final = ("finished", "running", "queued", "rejected", "failed")
COUNTS: Final = ("in", *STATUSES)
_COUNT_DIRECTION: Final[dict[str, Direction | None]] = {
    "in": None,
    "finished": "max",
    **dict.fromkeys(("running", "queued", "rejected", "failed"), "min"),
}


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Attributes:
        name: Key in the JSON, with its unit as suffix.
        title: What tables and figures call it.
        unit: SI unit or a plain ratio of named things; `1` for a fraction, empty for a count.
        direction: Whether smaller or larger is better; None where neither is.
        definition: How it is computed, in full.
        parts: Keys under it: statistics, counts of requests, or none for a plain number.
        short: Other names that a search objective may use.
    """

    name: str
    title: str
    unit: str
    direction: Direction | None
    definition: str
    parts: tuple[str, ...] = ()
    short: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of its numbers, such as `ttft_s.p99`."""
        return tuple(f"{self.name}.{part}" for part in self.parts) or (self.name,)


def _latency(name: str, title: str, unit: str, definition: str, *short: str) -> Metric:
    return Metric(name, title, unit, "min", definition, STATISTICS, short)


_LATENCIES = (
    _latency(
        "ttft_s",
        "TTFT",
        "s",
        "Time to first token: from the client's send to the first output token, front-end time, queueing and prompt "
        "processing included. One sample per request that got its first token.",
        "ttft",
    ),
    _latency(
        "engine_ttft_s",
        "Engine TTFT",
        "s",
        "The same from the engine's receipt of the request, so without front-end time.",
        "engine_ttft",
    ),
    _latency(
        "tpot_s",
        "TPOT",
        "s",
        "Time per output token of one request: (E2E - TTFT) / (output tokens - 1). One sample per finished request; "
        "a request of one token has none. The first token is left out, as vLLM's benchmark does.",
        "tpot",
    ),
    _latency(
        "itl_s",
        "ITL",
        "s",
        "Inter-token latency: the gap between consecutive output tokens. One sample per gap, pooled over all "
        "requests before percentiles are taken, so long answers weigh more than in TPOT.",
        "itl",
    ),
    _latency(
        "e2e_s",
        "E2E",
        "s",
        "End-to-end latency: from the client's send to the last token. One sample per finished request.",
        "e2e",
    ),
    _latency(
        "normalised_latency_s_per_token",
        "Normalised latency",
        "s/tok",
        "E2E over output tokens, as Orca and vLLM's paper report it. One sample per finished request.",
        "normalised_latency",
    ),
    _latency(
        "queueing_s",
        "Queueing",
        "s",
        "From the client's send until a replica first works on the request, front-end time included. One sample per "
        "request that was scheduled.",
        "queueing",
    ),
)
_THROUGHPUT = (
    Metric(
        "requests_per_s",
        "Finished",
        "req/s",
        "max",
        "Finished requests over the measured time.",
    ),
    Metric(
        "output_tokens_per_s",
        "Output",
        "tok/s",
        "max",
        "Output tokens emitted, of unfinished requests too, over the measured time.",
    ),
    Metric(
        "output_tokens_per_s_per_gpu",
        "Output per GPU",
        "tok/s/GPU",
        "max",
        "The same over all GPUs of the deployment.",
        short=("throughput", "throughput_per_gpu"),
    ),
    Metric(
        "total_tokens_per_s_per_gpu",
        "Total per GPU",
        "tok/s/GPU",
        "max",
        "Input tokens of the requests that got their first token, plus output tokens emitted, over the measured "
        "time and all GPUs.",
        short=("total_throughput",),
    ),
)
_SLO = (
    Metric(
        "goodput_requests_per_s",
        "Goodput",
        "req/s",
        "max",
        "Requests that finished within the SLO over the measured time, at the load of this run. Null without an SLO.",
        short=("goodput",),
    ),
    Metric(
        "slo_attainment_frac",
        "SLO attainment",
        "1",
        "max",
        "Requests that keep all limits of the SLO, over all requests that arrived; one that was rejected, failed or "
        "did not finish keeps none. Null without an SLO.",
        short=("attainment", "slo"),
    ),
    Metric(
        "goodput_max_requests_per_s_per_gpu",
        "Max goodput",
        "req/s/GPU",
        "max",
        "The highest arrival rate at which the SLO is still attained, over all GPUs of the deployment; found by "
        "bisection with the same requests sent faster or slower. Present where asked for, zero if no rate attains "
        "it.",
        short=("goodput_max_per_gpu", "goodput_max"),
    ),
)
_EFFICIENCY = (
    Metric(
        "mfu_frac",
        "MFU",
        "1",
        "max",
        "Model FLOPs utilisation: matrix FLOPs that the model needs (2 per active parameter and token, plus "
        "attention: 4 per head dimension, head and attended token; a causal prompt attends to half; plus recurrent "
        "states: 4 or 6 per element and token) over duration, "
        "dense peak rate of the compute format and GPUs. Idle time counts. In training three times as much of a step, "
        "without recomputation, and attention over the whole sequence unless `mfu_attention: causal`.",
        short=("mfu",),
    ),
    Metric(
        "mbu_frac",
        "MBU",
        "1",
        "max",
        "Memory bandwidth utilisation: bytes of weights and KV cache that had to be read over duration, peak "
        "bandwidth and GPUs. Idle time counts.",
        short=("mbu",),
    ),
    Metric("mfu_busy_frac", "MFU while busy", "1", "max", "MFU over the time in which replicas had work."),
    Metric("mbu_busy_frac", "MBU while busy", "1", "max", "MBU over the time in which replicas had work."),
    Metric(
        "busy_frac",
        "Busy",
        "1",
        None,
        "Share of the time, over all replicas, in which there was work.",
    ),
)
_COST = (
    Metric(
        "energy_j", "Energy", "J", "min", "Energy of all GPUs over the duration: power integrated, idle power included."
    ),
    Metric(
        "energy_j_per_output_token",
        "Energy per token",
        "J/tok",
        "min",
        "Mean power of all GPUs over output tokens per second.",
        short=("energy",),
    ),
    Metric(
        "cost_usd_per_million_output_tokens",
        "Cost",
        "USD/1M tok",
        "min",
        "Price per hour of all GPUs, used or idle, over output tokens per hour, times a million. Null without a price.",
        short=("cost",),
    ),
    Metric("usd_per_hour", "Price", "USD/h", "min", "Price of all GPUs. Null without a price.", short=("price",)),
    Metric("gpu_hours", "GPU hours", "h", "min", "GPUs times duration."),
)
_REST = (
    Metric(
        "interactivity_tokens_per_s_per_user",
        "Interactivity",
        "tok/s/user",
        "max",
        "1 over the median TPOT: the speed at which a user reads tokens.",
        short=("interactivity",),
    ),
    Metric("n_gpus", "GPUs", "", "min", "GPUs of the deployment: replicas x dp x tp x pp x cp.", short=("gpus",)),
    Metric(
        "kv_cache_tokens",
        "KV cache",
        "tokens",
        "max",
        "Tokens that the KV blocks of all replicas hold together.",
        short=("kv_cache",),
    ),
    Metric(
        "prefix_hit_frac",
        "Prefix hits",
        "1",
        "max",
        "Prompt tokens found in the prefix cache, over all prompt tokens of the requests that were scheduled; what a "
        "preempted request finds later is not counted. Null where nothing could be found: prefix caching is off, or "
        "the traffic does not say which prompts begin alike.",
        short=("prefix_hits",),
    ),
    Metric("preemptions", "Preemptions", "", "min", "Times a request lost its KV blocks and was computed again."),
    Metric(
        "peak_memory_bytes",
        "Memory per GPU",
        "bytes",
        "min",
        "Memory of the fullest GPU: in serving what it reserves (weights, KV blocks, activations, graphs, runtime), in "
        "training what the framework allocates at the peak (states, activations and buffers).",
        short=("memory",),
    ),
    Metric("duration_s", "Duration", "s", "min", "From time zero, when the first request is due, to the last event."),
    Metric(
        "requests",
        "Requests",
        "",
        None,
        "Requests that arrived (`in`), and what became of them when the run ended: in = finished + running + queued "
        "+ rejected + failed.",
        COUNTS,
    ),
)
_TRAINING = (
    Metric(
        "step_time_s",
        "Step time",
        "s",
        "min",
        "Time between the ends of successive optimizer steps of a training job in steady state: data wait, optimizer "
        "and logging included, checkpoints and evaluation not.",
        short=("step_time",),
    ),
    Metric(
        "tokens_per_s_per_gpu",
        "Tokens per GPU",
        "tok/s/GPU",
        "max",
        "Tokens of a step (global batch times sequence length) over step time and GPUs.",
        short=("training_throughput",),
    ),
    Metric(
        "samples_per_s_per_gpu",
        "Samples per GPU",
        "samples/s/GPU",
        "max",
        "Sequences of a step over step time and GPUs.",
    ),
    Metric(
        "model_tflops_per_gpu",
        "Model FLOPs per GPU",
        "TFLOP/s/GPU",
        "max",
        "Matrix FLOPs that the model needs for a step (forward and twice that backward, active parameters, no "
        "recomputation, attention over the whole sequence unless `mfu_attention: causal`) over step time and GPUs, in "
        "1e12.",
    ),
    Metric(
        "hfu_frac",
        "HFU",
        "1",
        "max",
        "Hardware FLOPs utilisation: FLOPs as in `mfu_frac`, with attention counted in the same way, and those of "
        "recomputation, over step time, dense peak rate and GPUs. Equal to `mfu_frac` where nothing is recomputed.",
        short=("hfu",),
    ),
    Metric(
        "bubble_frac",
        "Bubble",
        "1",
        "min",
        "Idle time of pipeline stages, their mean, over step time.",
        short=("bubble",),
    ),
    Metric(
        "bubble_over_ideal",
        "Bubble over ideal",
        "1",
        "min",
        "Idle time of pipeline stages over the time they work; (p-1)/m for 1F1B with equal stages.",
    ),
    Metric(
        "exposed_comm_frac",
        "Exposed communication",
        "1",
        "min",
        "Time that the critical rank's compute waits for communication, bubble excluded, over step time; the same by "
        "parallel dimension follows.",
        short=("exposed_comm",),
    ),
    *(
        Metric(
            f"exposed_{name}_comm_frac",
            f"Exposed {name.upper()} communication",
            "1",
            "min",
            f"The part of it that {what}.",
        )
        for name, what in (
            ("tp", "tensor-parallel ranks exchange"),
            ("cp", "context-parallel ranks exchange"),
            ("ep", "experts exchange"),
            ("pp", "pipeline stages exchange"),
            ("dp", "data-parallel ranks exchange: gradients, and parameters where they are sharded"),
        )
    ),
    Metric(
        "peak_reserved_bytes",
        "Memory reserved per GPU",
        "bytes",
        "min",
        "What the fullest GPU of a training step shows as used: segments that the framework's caching allocator takes "
        "for its tensors (`sim.training.allocator`), and memory outside it (context, communication buffers). No more "
        "than the device has where the tensors fit. Of the plan that `run` simulates.",
        short=("reserved",),
    ),
    Metric(
        "memory_headroom_bytes",
        "Memory left",
        "bytes",
        "max",
        "Memory of the device besides the runtime's, less the peak of the fullest GPU.",
        short=("headroom",),
    ),
    Metric(
        "goodput_frac",
        "Training goodput",
        "1",
        "max",
        "Steps that count times step time without faults, over wall time; the losses by cause below are the rest.",
    ),
    Metric(
        "checkpoint_loss_frac",
        "Lost to checkpoints",
        "1",
        "min",
        "Time that training stands still for checkpoints, over wall time; the only cause of losses so far.",
    ),
    Metric("energy_j_per_token", "Energy per trained token", "J/tok", "min", "Energy of a step over its tokens."),
    Metric(
        "cost_usd_per_million_tokens",
        "Cost per trained tokens",
        "USD/1M tok",
        "min",
        "Price per hour of all GPUs over tokens trained per hour, checkpoints included, times a million. Null without "
        "a price.",
        short=("training_cost",),
    ),
    Metric("training_time_s", "Training time", "s", "min", "Wall time to train all tokens. Null if not said how many."),
    Metric(
        "training_cost_usd", "Training cost", "USD", "min", "Price of all GPUs over that time. Null without a price."
    ),
    Metric("training_energy_j", "Training energy", "J", "min", "Energy of all steps of the job."),
)
_TABLE = (*_LATENCIES, *_THROUGHPUT, *_SLO, *_EFFICIENCY, *_COST, *_REST, *_TRAINING)
METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _TABLE}
"""Every metric by its name in the JSON, in the order of the JSON."""
TRAINING_ONLY: Final = frozenset(metric.name for metric in _TRAINING)
"""Metrics that a serving run has not."""
_SHORT: Final = {short: metric for metric in _TABLE for short in metric.short}


@dataclass(frozen=True)
class Objective:
    """A metric to optimise.

    Attributes:
        name: As the user wrote it, without a sign.
        path: Full path of the number, such as `ttft_s.p99`.
        maximise: Whether larger is better.
    """

    name: str
    path: str
    maximise: bool

    @property
    def direction(self) -> Direction:
        """`max` or `min`."""
        return "max" if self.maximise else "min"


def metric_of(path: str) -> Metric:
    """The metric that the number at `path` belongs to.

    Raises:
        InputError: if there is no such metric or no such part of it; suggests the nearest.
    """
    head, _, part = path.partition(".")
    metric = METRICS.get(head) or _SHORT.get(head)
    if metric is None:
        known = [*_SHORT, *METRICS]
        raise InputError(
            f"unknown metric {path!r}{did_you_mean(head, known)}",
            allowed=sorted(known),
            hint="docs/metrics.md defines each; a percentile is written as in ttft_s.p99",
        )
    if part and part not in metric.parts:
        raise InputError(f"metric {metric.name!r} has no part {part!r}", allowed=metric.parts or "no suffix")
    return metric


def resolve_metric(name: str) -> Objective:
    """The objective called `name`: a path or short name, with an optional sign: `+` maximises, `-` minimises.

    Without a sign the metric's own direction is taken; without a suffix, the mean.

    Raises:
        InputError: if there is no such metric, or it has no direction of its own and no sign is given.
    """
    sign, bare = (name[0], name[1:]) if name[:1] in {"+", "-"} else ("", name)
    metric = metric_of(bare)
    part = bare.partition(".")[2]
    if metric.parts and not part:
        if "mean" not in metric.parts:
            raise InputError(f"metric {metric.name!r} has several numbers", allowed=metric.paths)
        part = "mean"
    direction = metric.direction if metric.name != "requests" else _COUNT_DIRECTION[part]
    if not sign and direction is None:
        raise InputError(
            f"metric {bare!r} has no better direction", hint=f"write '+{bare}' to maximise or '-{bare}' to minimise"
        )
    path = f"{metric.name}.{part}" if part else metric.name
    return Objective(bare, path, sign == "+" if sign else direction == "max")


def metric_paths(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Every number of `metrics` by its path, such as `ttft_s.p99`, in the order of the JSON."""
    flat: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{part}": number for part, number in value.items()})
        else:
            flat[name] = value
    return flat


def get_metric(metrics: Mapping[str, Any], path: str) -> float | None:
    """The number at `path` in `metrics`; None if it is absent or undefined. Without a suffix, the mean."""
    head, _, part = path.partition(".")
    value = metrics.get(head)
    if isinstance(value, Mapping):
        value = value.get(part or "mean")
    return None if value is None else float(value)


def metric_title(path: str) -> str:
    """What tables and figures call the number at `path`, such as `TTFT p99`; the path itself if it is no metric."""
    head, _, part = path.partition(".")
    metric = METRICS.get(head)
    if metric is None:
        return path
    return f"{metric.title} {part}" if part else metric.title


def metric_unit(path: str) -> str:
    """Unit of the number at `path`; empty for counts and for what is no metric."""
    metric = METRICS.get(path.partition(".")[0])
    return metric.unit if metric is not None else ""
