"""Runs of vLLM 0.19 on workstation GPUs, with every request's arrival, first and last token.

Recorded are model, parallelism, batch limits and the requests themselves (`X_requests.csv.gz` beside `X_runs.csv`), so
that arrivals and lengths are the real ones and E2E can be compared request by request. Not recorded, and assumed:

- RTX PRO 6000 is the server edition in a PCIe node of eight whose peers go through the root complex (the authors turned
  ACS and IOMMU off later in 2026, and published the collectives before and after), RTX 4090 stands alone;
- requests go to the engine in process, as token ids (`bench/core/runner.py` there): no front end;
- memory fraction and KV dtype are the engine profile's defaults; recorded KV block counts are not used;
- prompts have nothing in common, but a preempted request may find its own blocks in the prefix cache again;
- `ep` means that experts are spread over all ranks.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.core import Array
from sim.validation.formats.base import MEASUREMENTS, Line, MeasurementFile, MeasurementFormat, exactly, open_loop
from sim.validation.formats.request_files import grouped, request_lines, table_of
from sim.validation.rows import MeasuredRow
from sim.workloads import PromptBlocks, RequestTable

_NEEDED: Final = ("gpu", "model", "tp", "dp", "input_toks", "output_toks", "arrival_s", "last_token_s")
_BLOCK_TOKENS: Final = 16
_NODES: Final = {"RTX4090": ("1x-rtx-4090", 1), "RTXPRO6000": ("8x-rtx-pro-6000-acs", 8)}
_STATISTICS: Final = {"": "mean", ".p50": "p50", ".p90": "p90", ".p95": "p95", ".p99": "p99"}
_MEASURED: Final = {
    f"{name}_s{suffix}": f"{name}_{stat}_ms" for name in ("ttft", "tpot", "e2e") for suffix, stat in _STATISTICS.items()
}


@MEASUREMENTS.register("vllm019_runs")
class Vllm019Runs(MeasurementFormat):
    """Runs of vLLM 0.19 on workstation GPUs, with the times of every request."""

    columns = frozenset({"gpu", "model", "vllm", "tp", "dp", "ep", "num_requests", "ttft_mean_ms", "tpot_mean_ms"})
    source = "the LLMServingSim repository (MIT)"
    assumptions = (
        "RTX PRO 6000 is the server edition in a PCIe node of eight with ACS and IOMMU on, RTX 4090 stands alone",
        "requests go to the engine in process, as token ids: no HTTP, chat template or tokenizer",
        "memory fraction and KV dtype are the engine profile's; recorded KV block counts are not used",
        "prompts have nothing in common; a preempted request may find its own blocks in the prefix cache again",
    )

    @staticmethod
    def read(file: MeasurementFile) -> list[MeasuredRow]:
        """One measured row per run, with its requests where they are known."""
        requests = grouped(request_lines(file, needed=_NEEDED), _key)
        return [_row(line, file.name, requests.get(_key(line), [])) for line in file.lines]


def _key(line: Line) -> Hashable:
    return line.text("gpu"), line.text("model"), line.whole("tp"), line.whole("dp")


def _row(line: Line, dataset: str, requests: list[Line]) -> MeasuredRow:
    tp, dp = line.whole("tp"), line.whole("dp")
    row_id = f"{line.text('gpu')} {line.text('model')} tp{tp} dp{dp}"
    known = _requests(requests, row_id) if requests else None
    scenario = _scenario(line)
    return MeasuredRow(
        id=row_id,
        dataset=dataset,
        groups={
            "system": line.text("gpu"),
            "model": line.text("model"),
            "engine": "vllm",
            "engine version": f"vllm {line.text('vllm')}",
            "precision": {"bfloat16": "bf16"}.get(line.text("dtype"), line.text("dtype")),
            "mode": "real requests" if known else "totals only",
            "load": line.text("arrival"),
        },
        scenario=None if isinstance(scenario, str) else scenario,
        measured={path: line.measured(column, 1e-3) for path, column in _MEASURED.items()},
        requests=(known[0],) if known else (),
        e2e_s=(known[1],) if known else (),
        reason=scenario if isinstance(scenario, str) else "",
    )


def _requests(lines: list[Line], name: str) -> tuple[RequestTable, Array]:
    table, order = table_of(lines, prompt="input_toks", output="output_toks", name=name)
    table = replace(table, blocks=_distinct(table.input_tokens))
    ends = np.array([(line.number_of("last_token_s") or 0.0) - (line.number_of("arrival_s") or 0.0) for line in lines])
    return table, ends[order]


def _distinct(input_tokens: NDArray[np.int64]) -> PromptBlocks:
    """Content of prompts that have nothing in common: a preempted request may still find its own blocks again."""
    counts = -(-input_tokens // _BLOCK_TOKENS)
    return PromptBlocks(_BLOCK_TOKENS, np.arange(counts.sum()), np.concatenate([[0], np.cumsum(counts)]))


def _scenario(line: Line) -> dict[str, Any] | str:
    """The scenario of the run, with mean lengths and rate where its requests are not known; or why there is none."""
    gpu, tp, dp, count = line.text("gpu"), line.whole("tp"), line.whole("dp"), line.whole("num_requests")
    prompts, outputs = line.number_of("input_tokens"), line.number_of("output_tokens")
    if gpu not in _NODES:
        return f"no node stands for the GPU {gpu!r}"
    if not (tp and dp):
        return "parallelism is not recorded"
    if not (count and prompts and outputs):
        return "number or lengths of requests are not recorded"
    rate = line.text("arrival").partition("~")[2].partition("/")[0]
    if not rate.replace(".", "", 1).isdigit():
        return f"the arrival rate cannot be read from {line.text('arrival')!r}"
    node, size = _NODES[gpu]
    limits = {name: line.whole(name) for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len")}
    spread = line.text("ep").lower() == "true"
    return {
        "name": "measured",
        "model": line.text("model"),
        "cluster": {"node": node, "nodes": -(-tp * dp // size)},
        "engine": "vllm-in-process",
        "plan": {
            "tp": tp,
            "dp": dp,
            **({"ep": tp * dp} if spread else {}),
            "weights_dtype": line.text("dtype") or "bf16",
            **{name: value for name, value in limits.items() if value},
        },
        "workload": open_loop(
            rate=float(rate),
            requests=count,
            input_tokens=exactly(prompts / count),
            output_tokens=exactly(outputs / count),
        ),
    }
