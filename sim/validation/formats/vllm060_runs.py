"""Runs of vLLM 0.6.0 (V0 engine) of a 70B model on an H100 node, on recorded traces.

Recorded are parallelism, engine settings and totals; for some runs also the requests as they really happened, by
replica (`X_requests.csv.gz` beside `X_runs.csv`). Those runs are simulated replica by replica with their own requests.
Of the others only totals are known: they get Poisson arrivals and lengths that are all equal to the mean, which says
less about tails. Assumed for all:

- "DP" in a run's name means replicas, each an engine of its own;
- chunked prefill is on above a context of 32K tokens, as the engine decides by itself;
- TTFT is the server's own, without front-end time; E2E is the client's;
- custom all-reduce, off in the runs of two ranks, is not told apart from on.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sim.validation.formats.base import MEASUREMENTS, Line, MeasurementFile, MeasurementFormat, exactly, open_loop
from sim.validation.formats.request_files import grouped, request_lines, table_of
from sim.validation.rows import MeasuredRow
from sim.workloads import RequestTable

_NEEDED: Final = ("run_id", "replica", "arrival_s", "prompt_tokens", "output_tokens")
_NODES: Final = {"H100-SXM-80GB": ("dgx-h100", 8)}
_MODELS: Final = {
    "Llama-3.1-70B-Instruct": "meta-llama/Llama-3.1-70B-Instruct",
    "Llama-3.1-70B (base)": "meta-llama/Llama-3.1-70B",
}
_MEASURED: Final = {"e2e_s": "mean_e2e_s", "engine_ttft_s": "mean_ttft_s", "itl_s": "mean_itl_s"}


@MEASUREMENTS.register("vllm060_runs")
class Vllm060Runs(MeasurementFormat):
    """Runs of vLLM 0.6.0 (V0 engine) on recorded traces: mean E2E, server TTFT and ITL."""

    columns = frozenset({"run_id", "engine_settings", "trace_files", "mean_e2e_s", "mean_ttft_s", "mean_itl_s"})
    source = "the APEX+ repository (MIT), with its traces"
    assumptions = (
        "runs whose requests are known are simulated replica by replica with them",
        "runs of which only totals are known get Poisson arrivals and requests of mean length",
        "chunked prefill above a context of 32K tokens; custom all-reduce is not told apart",
    )

    @staticmethod
    def read(file: MeasurementFile) -> list[MeasuredRow]:
        """One measured row per run, with its requests where they are known."""
        requests = grouped(request_lines(file, needed=_NEEDED), lambda line: line.text("run_id"))
        return [_row(line, file.name, requests.get(line.text("run_id"), [])) for line in file.lines]


def _row(line: Line, dataset: str, requests: list[Line]) -> MeasuredRow:
    tables = _tables(requests, line.text("run_id"))
    scenario = _scenario(line, known=bool(tables))
    return MeasuredRow(
        id=line.text("run_id"),
        dataset=dataset,
        groups={
            "system": line.text("gpu"),
            "model": line.text("model"),
            "engine": "vllm",
            "engine version": f"vllm {line.text('engine_version')}",
            "precision": line.text("weight_dtype"),
            "mode": "real requests" if tables else "totals only",
            "load": f"{line.text('workload')} {line.text('nominal_rate_rps')}/s",
            "plan": f"{line.text('dp')}x tp{line.text('tp')}",
        },
        scenario=None if isinstance(scenario, str) else scenario,
        measured={path: line.measured(column) for path, column in _MEASURED.items()},
        requests=tables,
        reason=scenario if isinstance(scenario, str) else "",
    )


def _tables(lines: list[Line], name: str) -> tuple[RequestTable, ...]:
    """One table per replica, each with its own arrivals."""
    replicas = grouped(lines, lambda line: line.whole("replica"))
    return tuple(
        table_of(own, prompt="prompt_tokens", output="output_tokens", name=f"{name} replica {replica}")[0]
        for replica, own in replicas.items()
    )


def _scenario(line: Line, *, known: bool) -> dict[str, Any] | str:
    """The scenario of the run (of one replica where its requests are known), or why there is none."""
    if line.number_of("mean_e2e_s") is None:
        return f"no measurement: {line.text('notes') or 'the row is empty'}"
    gpu, model, tp, dp = line.text("gpu"), line.text("model"), line.whole("tp"), line.whole("dp")
    if gpu not in _NODES or model not in _MODELS:
        return f"no node or model stands for {gpu!r} and {model!r}"
    if not (tp and dp):
        return "parallelism is not recorded"
    workload = _workload(line)
    if isinstance(workload, str):
        return workload
    settings = line.text("engine_settings")
    fraction = re.search(r"gpu-mem-util ([\d.]+)", settings)
    context = re.search(r"max-model-len (\d+)", settings)
    traced = len([name for name in line.text("trace_files").split(";") if name])
    node, size = _NODES[gpu]
    return {
        "name": "measured",
        "model": _MODELS[model],
        "cluster": {"node": node, "nodes": -(-tp * dp // size)},
        "engine": "vllm-0.6",
        "plan": {
            "tp": tp,
            "replicas": 1 if known else min(dp, traced or dp),
            "weights_dtype": line.text("weight_dtype"),
            "kv_dtype": line.text("kv_dtype"),
            **({"kv_memory_frac": float(fraction[1])} if fraction else {}),
            **({"max_model_len": int(context[1])} if context else {}),
        },
        "workload": workload,
    }


def _workload(line: Line) -> dict[str, Any] | str:
    """Poisson arrivals of requests of mean length, from the run's totals."""
    count, prompts, outputs = (
        line.whole("n_requests"),
        line.number_of("prompt_tokens"),
        line.number_of("output_tokens_actual"),
    )
    span_s, nominal = line.number_of("trace_span_s"), line.number_of("nominal_rate_rps")
    if not (count and prompts and outputs):
        return "number or lengths of requests are not recorded"
    rate = count / span_s if span_s else nominal
    if not rate:
        return "the arrival rate is not recorded"
    return open_loop(
        rate=rate, requests=count, input_tokens=exactly(prompts / count), output_tokens=exactly(outputs / count)
    )
