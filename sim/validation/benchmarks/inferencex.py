"""InferenceX (InferenceMAX) `agg_*.json`: a flat object per point, or a list of them; times in seconds.

The file says hardware, framework, precision, parallelism, nominal lengths and requests in flight; the scenario says the
node, the checkpoint and what the engine was told. Lengths are spread evenly in [0.8, 1.0] of nominal, that benchmark's
default, which is not recorded. `dp_attention` means that attention is data parallel over all `tp` GPUs. Deployments
with pools for prefill and decode are not imported: their throughputs are per GPU of each pool.
"""

from __future__ import annotations

from typing import Any, Final

from sim.validation.benchmarks.base import (
    BENCHMARKS,
    FROM_SEND,
    PER_GAP,
    PER_REQUEST,
    WHOLE_RUN,
    BenchmarkFormat,
    BenchmarkRun,
    Figure,
    latency_paths,
    taken,
)
from sim.validation.benchmarks.record import BenchmarkFile, Record
from sim.validation.formats.base import at_least

_KEYS: Final = frozenset({"hw", "infmax_model_prefix", "framework", "tput_per_gpu"})
_NAMES: Final = {"mean": "mean", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
_LATENCIES: Final = (
    Figure("ttft", "ttft_s", FROM_SEND),
    Figure("tpot", "tpot_s", PER_REQUEST),
    Figure("itl", "itl_s", PER_GAP),
    Figure("e2el", "e2e_s", FROM_SEND),
)
_OUTPUT: Final = Figure("output_tput_per_gpu", "output_tokens_per_s", WHOLE_RUN)
_FAMILIES: Final = {"vllm": "vllm", "sglang": "sglang", "trt": "trtllm", "trtllm": "trtllm"}
_SHORTEST: Final = 0.8


@BENCHMARKS.register("inferencex")
class InferenceX(BenchmarkFormat):
    """InferenceX (InferenceMAX) agg_*.json: one point an object."""

    assumptions = (
        "prompts and outputs are uniform in [0.8, 1.0] of nominal",
        "dp_attention is attention data parallelism over all tp GPUs",
    )

    @staticmethod
    def sniff(first: Record) -> bool:
        """Told by its keys."""
        return set(first.data) >= _KEYS

    @staticmethod
    def read(file: BenchmarkFile) -> list[BenchmarkRun]:
        """One run per point."""
        return [_run(record) for record in file.records]


def _run(record: Record) -> BenchmarkRun:
    gpus = record.count("tp")
    rate = () if gpus is None else ((_OUTPUT, "mean", "output_tput_per_gpu", float(gpus)),)
    measured, refused = taken(record, [*latency_paths(_LATENCIES, "{stat}_{name}", names=_NAMES, factor=1.0), *rate])
    prompt, output = record.count("isl"), record.count("osl")
    known = prompt is not None and output is not None
    return BenchmarkRun(
        record,
        measured,
        refused,
        model=record.text("model"),
        engine_family=_FAMILIES.get(record.text("framework"), ""),
        device=record.text("hw").partition("-")[0].partition("_")[0],
        precision=record.text("precision"),
        plan=_plan(record),
        concurrency=record.count("conc"),
        input_law=at_least(prompt, _SHORTEST) if prompt else None,
        output_law=at_least(output, _SHORTEST) if output else None,
        lengths="[0.8, 1.0] of nominal" if known else "",
        reason=_reason(record),
    )


def _yes(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def _plan(record: Record) -> dict[str, int]:
    """Parallelism of a single-node point; experts only where they are spread."""
    tp, ep = record.count("tp"), record.count("ep")
    if tp is None:
        return {}
    ranks = {"tp": 1, "dp": tp} if _yes(record.get("dp_attention")) else {"tp": tp}
    return ranks if ep is None or ep == 1 else {**ranks, "ep": ep}


def _reason(record: Record) -> str:
    if _yes(record.get("disagg")) or _yes(record.get("is_multinode")):
        return "points with pools for prefill and decode or several nodes are not imported"
    if record.text("spec_decoding").lower() not in ("", "none"):
        return "runs with speculative decoding are not compared"
    return ""
