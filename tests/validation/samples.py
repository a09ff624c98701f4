"""Handwritten rows in the shape of each kind of table; the figures are invented."""

from __future__ import annotations

import gzip
from pathlib import Path

POINT = {
    "id": "p1",
    "arch": "meta-llama/Llama-3.1-70B",
    "backend": "vllm",
    "backend_version": "0.17.0",
    "model_path": "meta-llama/Llama-3.1-70B",
    "system": "h100_sxm",
    "precision": "fp8",
    "mode": "agg",
    "isl": "512",
    "osl": "64",
    "concurrency": "4",
    "n_gpus": "4",
    "batch_size": "4",
    "tp_size": "4",
    "attention_dp_size": "1",
    "moe_tp_size": "1",
    "moe_ep_size": "1",
    "gemm_quant_mode": "fp8",
    "measured_on": "2026-01-01",
    "label": "as recorded",
    "usable": "True",
    "silicon_ttft_ms": "100.0",
    "silicon_tpot_ms": "10.0",
}
OPEN_RUN = {
    "experiment": "r1",
    "model": "Qwen/Qwen2.5-7B-Instruct",
    "gpu": "H100",
    "precision": "FP16",
    "tp": "1",
    "dp": "1",
    "gpu_mem_util": "0.9",
    "max_num_batched_tokens": "2048",
    "workload": "chat",
    "system_prompt_len": "100",
    "question_len": "200",
    "output_len": "50",
    "n_system_prompts": "3",
    "users_per_prompt": "2",
    "load_stages": "10s@2;10s@4",
    "ttft_mean_ms": "30",
    "ttft_p90_ms": "40",
    "ttft_p99_ms": "50",
    "itl_mean_ms": "7",
    "e2e_mean_ms": "400",
    "e2e_p90_ms": "450",
    "e2e_p99_ms": "500",
}
RUN_019 = {
    "gpu": "RTXPRO6000",
    "model": "meta-llama/Llama-3.1-8B",
    "vllm": "0.19.0",
    "tp": "1",
    "dp": "1",
    "ep": "False",
    "dtype": "bfloat16",
    "max_num_seqs": "128",
    "max_num_batched_tokens": "2048",
    "num_requests": "3",
    "arrival": "Poisson ~10/s",
    "input_tokens": "600",
    "output_tokens": "60",
    "ttft_mean_ms": "40",
    "tpot_mean_ms": "12",
    "e2e_mean_ms": "300",
}
RUN_060 = {
    "run_id": "a",
    "engine_version": "0.6.0 (V0)",
    "gpu": "H100-SXM-80GB",
    "model": "Llama-3.1-70B-Instruct",
    "weight_dtype": "bf16",
    "kv_dtype": "bf16",
    "dp": "2",
    "tp": "4",
    "workload": "chat",
    "nominal_rate_rps": "0.5",
    "trace_files": "x_0;x_1",
    "n_requests": "4",
    "prompt_tokens": "800",
    "output_tokens_actual": "80",
    "trace_span_s": "8",
    "mean_e2e_s": "0.6",
    "mean_ttft_s": "0.05",
    "mean_itl_s": "0.02",
    "engine_settings": "gpu-mem-util 0.97; max-num-seqs 256; max-model-len 24272; chunked prefill off",
    "notes": "",
}
TRAINING = {
    "id": "run1",
    "source": "a report",
    "model": "GPT 1B",
    "layers": "24",
    "hidden": "2048",
    "heads": "16",
    "kv_heads": "16",
    "ffn": "8192",
    "vocab": "50257",
    "seq_len": "1024",
    "n_gpus": "8",
    "gpu": "A100-80GB SXM",
    "interconnect": "NVSwitch",
    "tp": "2",
    "pp": "2",
    "dp": "2",
    "cp": "1",
    "ep": "1",
    "vpp": "1",
    "micro_batch": "4",
    "global_batch": "32",
    "precision": "bf16",
    "recompute": "full",
    "sharding_offload": "none (DDP)",
    "schedule": "1F1B",
    "metric": "iteration_time",
    "value": "0.9",
    "unit": "s",
    "extra_metrics": "peak_mem_GiB=20",
    "usable": "yes",
    "flops_definition": "",
    "weight": "1",
}
OWN = {
    "id": "mine",
    "model": "llama-3.1-8b",
    "node": "dgx-h100",
    "tp": "1",
    "concurrency": "4",
    "input_tokens": "256",
    "output_tokens": "32",
    "ttft_s": "0.06",
    "tpot_s": "0.008",
    "output_tokens_per_s_per_gpu": "400",
}


def write(path: Path, *rows: dict[str, str]) -> Path:
    """Writes rows as CSV, gzip where the name says so; the first row gives the columns."""
    columns = [*rows[0]]
    lines = [",".join(columns), *(",".join(row.get(name, "") for name in columns) for row in rows)]
    text = "\n".join(lines) + "\n"
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path
