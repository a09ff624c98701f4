"""plansim's own table: any measurements of your own, one configuration a row.

Columns, in any order; those marked * are needed, an empty cell takes what stands in brackets:

- `id`*, `model`* (a name or Hugging Face id of `plansim list models`), `node`* (`plansim list nodes`), `nodes` [1];
- `engine` (`plansim list engines`) [vllm], `engine_version` (for grouping only);
- `tp`*, `replicas` [1], `dp` [1], `pp` [1], `ep` [1], `moe_tp` [dp x tp / ep];
- `weights_dtype`, `kv_dtype`, `max_num_seqs`, `max_num_batched_tokens`, `max_model_len`, `kv_memory_frac` [the
  checkpoint's or the engine's default];
- `concurrency` (closed loop) or `rate` [requests/s] (Poisson arrivals): one of the two;
- `input_tokens`*, `output_tokens`* (exact lengths), `requests` [10 x concurrency, or 2000 in an open loop];
- at least one column named by a metric path, in SI units: `ttft_s`, `tpot_s`, `itl_s`, `e2e_s` (means; also
  `ttft_s.p99` and so on), `output_tokens_per_s_per_gpu`, or any other of docs/metrics.md. An empty cell was not
  measured.

Parallelism that is missing or no whole number gives the row a reason; it is never guessed. The whole run counts, first
wave included. In a closed loop the predicted `output_tokens_per_s_per_gpu` is worked out from predicted TTFT and TPOT
as concurrency x output tokens / (TTFT + (output tokens - 1) x TPOT) / GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sim.core import InputError
from sim.results import METRICS
from sim.validation.formats.base import (
    MEASUREMENTS,
    Line,
    MeasurementFile,
    MeasurementFormat,
    closed_loop,
    exactly,
    load_class,
    open_loop,
)
from sim.validation.rows import ClosedPoint, MeasuredRow

_NEEDED: Final = ("id", "model", "node", "input_tokens", "output_tokens")
_RANKS: Final = ("replicas", "dp", "tp", "pp", "ep", "moe_tp")
_LIMITS: Final = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
_FORMATS: Final = ("weights_dtype", "kv_dtype")
_OTHER: Final = ("nodes", "engine", "engine_version", "kv_memory_frac", "concurrency", "rate", "requests")
_KNOWN: Final = frozenset((*_NEEDED, *_RANKS, *_LIMITS, *_FORMATS, *_OTHER))


@MEASUREMENTS.register("plansim_rows")
class PlansimRows(MeasurementFormat):
    """A table of your own: columns for the configuration and for any metrics; see docs/validation.md."""

    columns = frozenset(_NEEDED)
    assumptions = (
        "exact lengths; 10 x concurrency requests in a closed loop unless the row says, means over the whole run",
        "closed-loop throughput is worked out from predicted TTFT and TPOT",
    )

    @classmethod
    def sniff(cls, columns: Sequence[str]) -> bool:
        """Whether a file with these columns is of this kind."""
        return super().sniff(columns) and any(_is_metric(name) for name in columns)

    @staticmethod
    def read(file: MeasurementFile) -> list[MeasuredRow]:
        """One measured row per row.

        Raises:
            InputError: if a column is neither a setting nor a metric.
        """
        metrics = [name for name in file.columns if _is_metric(name)]
        unknown = [name for name in file.columns if name not in _KNOWN and name not in metrics]
        if unknown:
            raise InputError(
                f"unknown column {unknown[0]!r}",
                file=str(file.path),
                line=1,
                allowed=f"{', '.join(sorted(_KNOWN))}, or a metric path such as ttft_s.p99",
            )
        return [_row(line, file.name, metrics) for line in file.lines]


def _is_metric(name: str) -> bool:
    if name in _KNOWN:
        return False  # `requests` is a setting here, though a metric elsewhere
    head, _, part = name.partition(".")
    return head in METRICS and (not part or part in METRICS[head].parts)


def _row(line: Line, dataset: str, metrics: Sequence[str]) -> MeasuredRow:
    scenario = _scenario(line)
    ranks = _ranks(line)
    concurrency, output = line.whole("concurrency"), line.whole("output_tokens")
    closed = None
    if concurrency and output and isinstance(ranks, dict):
        gpus = ranks.get("replicas", 1) * ranks.get("dp", 1) * ranks["tp"] * ranks.get("pp", 1)
        closed = ClosedPoint(concurrency, output, gpus)
    engine = line.text("engine") or "vllm"
    return MeasuredRow(
        id=line.text("id"),
        dataset=dataset,
        groups={
            "system": line.text("node"),
            "model": line.text("model"),
            "engine": engine,
            "engine version": f"{engine} {line.text('engine_version') or 'not recorded'}",
            "precision": line.text("weights_dtype") or "checkpoint's",
            "mode": "closed loop" if concurrency else "open loop",
            "load": load_class(concurrency) if concurrency else f"{line.text('rate')}/s",
        },
        scenario=None if isinstance(scenario, str) else scenario,
        measured={name: line.measured(name) for name in metrics},
        closed=closed,
        reason=scenario if isinstance(scenario, str) else "",
    )


def _ranks(line: Line) -> dict[str, int] | str:
    """Degrees of parallelism that are given, or what is wrong with them."""
    ranks: dict[str, int] = {}
    for name in _RANKS:
        if not line.text(name):
            continue
        value = line.whole(name)
        if value is None or value < 1:
            return f"implausible parallelism: {name} is {line.text(name)!r}"
        ranks[name] = value
    return ranks if "tp" in ranks else "parallelism is not given: tp is empty"


def _scenario(line: Line) -> dict[str, Any] | str:
    """The scenario of the row, or the reason why there is none."""
    ranks, workload = _ranks(line), _workload(line)
    for found in (ranks, workload):
        if isinstance(found, str):
            return found
    assert isinstance(ranks, dict)
    plan: dict[str, Any] = {**ranks, **{name: line.text(name) for name in _FORMATS if line.text(name)}}
    for name in (*_LIMITS, "nodes"):
        value = line.whole(name)
        if line.text(name) and (value is None or value < 1):
            return f"{name} is {line.text(name)!r}, not a whole number above zero"
        if value is not None and name != "nodes":
            plan[name] = value
    if line.text("kv_memory_frac"):
        plan["kv_memory_frac"] = line.number_of("kv_memory_frac")
    return {
        "name": "measured",
        "model": line.text("model"),
        "cluster": {"node": line.text("node"), "nodes": line.whole("nodes") or 1},
        "engine": line.text("engine") or "vllm",
        "plan": plan,
        "workload": workload,
    }


def _workload(line: Line) -> dict[str, Any] | str:
    """The load of the row, or what is wrong with it."""
    prompt, output, count = (line.whole(name) for name in ("input_tokens", "output_tokens", "requests"))
    if not (prompt and output) or min(prompt, output) < 1:
        return "input_tokens and output_tokens must be whole numbers above zero"
    if line.text("requests") and (count is None or count < 1):
        return f"requests is {line.text('requests')!r}, not a whole number above zero"
    concurrency, rate = line.whole("concurrency"), line.number_of("rate")
    if bool(line.text("concurrency")) == bool(line.text("rate")):
        return "exactly one of concurrency and rate must be given"
    lengths = {"input_tokens": exactly(prompt), "output_tokens": exactly(output)}
    if line.text("concurrency"):
        if concurrency is None or concurrency < 1:
            return f"concurrency is {line.text('concurrency')!r}, not a whole number above zero"
        return closed_loop(concurrency=concurrency, requests=count, **lengths)
    return open_loop(rate=rate, requests=count, **lengths) if rate and rate > 0 else "rate must be above zero"
