"""Open-loop runs of vLLM 0.15.1 on H100: mean and tail of TTFT and E2E, mean ITL.

Recorded are model, precision, tensor and data parallelism, memory fraction, token budget, and the load: groups of users
that share a system prompt, at rates that change in stages. Not recorded, and assumed for all rows:

- arrivals are Poisson within a stage; the rate is of the whole server;
- every user has one prompt, the system prompt and a question, and sends it again and again, all users in turn: so it
  is with the `shared_prefix` data of inference-perf (github.com/kubernetes-sigs/inference-perf), in whose terms the
  columns are. The engine has prefix caching on, so that it computes a prompt in full only once;
- that client leaves sampling to the server (`inference_perf/apis/completion.py`), which takes top-p and top-k from the
  checkpoint's `generation_config.json` where that has any (`_TRUNCATED`);
- lengths are exact; 16-bit checkpoints have a 16-bit KV cache, FP8 ones too;
- `max_num_seqs` is the engine profile's default; statistics are over the whole run.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sim.validation.formats.base import MEASUREMENTS, Line, MeasurementFile, MeasurementFormat, exactly
from sim.validation.rows import MeasuredRow

_NODES: Final = {"H100": "dgx-h100"}
_FORMATS: Final = {"FP16": "fp16", "BF16": "bf16", "FP8": "fp8"}
_MODELS: Final = {
    "01-ai/Yi-34B": "yi-34b",
}
_TRUNCATED: Final = frozenset(
    {
        "RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic",
        "meta-llama/Llama-2-7b-hf",
        "meta-llama/Llama-3.1-70B-Instruct",
        "Qwen/Qwen2.5-7B-Instruct",
    }
)
"""Checkpoints whose `generation_config.json` has `top_p`; those of Mistral Nemo and Yi have none."""
_GROUPS: Final = ("n_system_prompts", "users_per_prompt")
_STAGE: Final = re.compile(r"(\d+(?:\.\d+)?)s@(\d+(?:\.\d+)?)")
_MEASURED: Final = {
    **{
        f"{name}_s{suffix}": f"{name}_{stat}_ms"
        for name in ("ttft", "e2e")
        for suffix, stat in (("", "mean"), (".p90", "p90"), (".p99", "p99"))
    },
    "itl_s": "itl_mean_ms",
}


@MEASUREMENTS.register("vllm0151_runs")
class Vllm0151Runs(MeasurementFormat):
    """Open-loop runs of vLLM 0.15.1 on H100: mean and tail of TTFT and E2E, mean ITL."""

    columns = frozenset(
        {"experiment", "load_stages", "system_prompt_len", "question_len", "output_len", "tp", "dp", *_GROUPS}
    )
    source = "experiments of the authors of BLIS"
    assumptions = (
        "Poisson arrivals within each stage of the load, statistics over the whole run",
        "each user sends the same prompt, system prompt plus question, again and again; prefix caching is on",
        "sampling as the checkpoint's generation_config.json has it, since the client leaves it open",
        "exact lengths, 16-bit KV cache, max_num_seqs of the engine profile",
    )

    @staticmethod
    def read(file: MeasurementFile) -> list[MeasuredRow]:
        """One measured row per run."""
        return [_row(line, file.name) for line in file.lines]


def _row(line: Line, dataset: str) -> MeasuredRow:
    scenario = _scenario(line)
    reason = scenario if isinstance(scenario, str) else ""
    return MeasuredRow(
        id=line.text("experiment"),
        dataset=dataset,
        groups={
            "system": line.text("gpu"),
            "model": line.text("model"),
            "engine": "vllm",
            "engine version": "vllm 0.15.1",
            "precision": line.text("precision").lower(),
            "mode": "agg",
            "load": line.text("workload"),
        },
        scenario=None if isinstance(scenario, str) else scenario,
        measured={path: line.measured(column, 1e-3) for path, column in _MEASURED.items()},
        reason=reason,
    )


def _scenario(line: Line) -> dict[str, Any] | str:
    """The scenario of the run, or the reason why there is none."""
    node, dtype = _NODES.get(line.text("gpu")), _FORMATS.get(line.text("precision"))
    stages = [(float(seconds), float(rate)) for seconds, rate in _STAGE.findall(line.text("load_stages"))]
    tp, dp = line.whole("tp"), line.whole("dp")
    prompt, question, output = (line.whole(name) for name in ("system_prompt_len", "question_len", "output_len"))
    if node is None:
        return f"no node stands for the GPU {line.text('gpu')!r}"
    if dtype is None:
        return f"unknown precision {line.text('precision')!r}"
    if not (tp and dp):
        return "parallelism is not recorded"
    if not (stages and question and output) or prompt is None:
        return "load or lengths are not recorded"
    groups, users = (line.whole(name) for name in _GROUPS)
    if not (groups and users):
        return "groups of users that share a prompt are not recorded"
    shared = {"groups": groups, "tokens": prompt, "prompts": users}
    limits = {name: line.number_of(column) for name, column in _LIMITS.items()}
    model = line.text("model")
    return {
        "name": "measured",
        "model": _MODELS.get(model, model),
        "cluster": {"node": node, "nodes": -(-tp * dp // 8)},
        "engine": "vllm-0.15",
        "plan": {
            "tp": tp,
            "replicas": dp,
            "weights_dtype": dtype,
            "kv_dtype": "bf16" if dtype == "fp8" else dtype,
            **{name: int(value) if name.startswith("max") else value for name, value in limits.items() if value},
        },
        "workload": {
            **_workload(stages, prompt + question, output, shared),
            "truncated_sampling": model in _TRUNCATED,
        },
    }


_LIMITS: Final = {"max_num_batched_tokens": "max_num_batched_tokens", "kv_memory_frac": "gpu_mem_util"}


def _workload(stages: list[tuple[float, float]], prompt: int, output: int, shared: dict[str, Any]) -> dict[str, Any]:
    windows, start = [], 0.0
    for seconds, rate in stages:
        windows.append({"start": start, "rate": rate})
        start += seconds
    arrivals = {"kind": "piecewise", "period": start, "windows": windows}
    return {
        "traffic": {
            "name": "measured",
            "arrivals": arrivals,
            "lengths": {"input": exactly(prompt), "output": exactly(output)},
            "shared_prefix": shared,
        },
        "requests": round(sum(seconds * rate for seconds, rate in stages)),
    }
