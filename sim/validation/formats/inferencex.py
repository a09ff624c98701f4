"""Options with which InferenceX (formerly InferenceMAX) launches its servers, where they are not an engine's defaults.

Facts of the benchmark's public launch scripts (`benchmarks/*.sh` of its repository, 2025-10 to 2026-03), not fitted.
Scripts change between the runs that a table holds, and which revision a row ran with is not recorded: one reading is
taken here per engine version and model, where scripts choose by themselves also per day on which they began to be told.
"""

from __future__ import annotations

from typing import Any, Final

from sim.validation.formats.base import Line

DEEPSEEK: Final = ("deepseek-ai/DeepSeek-V3", "nvidia/DeepSeek-R1-NVFP4")
QWEN_HYBRID: Final = "Qwen/Qwen3.5-397B-A17B"
GPT_OSS: Final = "openai/gpt-oss-120b"
KIMI: Final = "moonshotai/Kimi-K2.5"
LLAMA_70B: Final = "meta-llama/Llama-3.1-70B"

RANDOM_TOKENS: Final = 2.0
"""Popularity of experts (`expert_popularity` of a workload) among its requests: prompts are random tokens, with nothing
in common. Fitted: time per token then grows with the batch as by kernel tables; 1.5 to 3 fit nearly as well,
and 1, as texts of one kind have it, fits runs on prompts of text (NVIDIA's of Qwen3-235B)."""

_FEWEST_TOKENS: Final = 8192
"""Least `max_num_tokens` of the TensorRT-LLM scripts from 1.2 on; earlier ones size it for one prompt."""

_MTP_RUNS: Final = ("1.2.0rc6.post3", "1.1.0rc2.post2 of 2026-01-14")
"""Runs of TensorRT-LLM by scripts with multi-token prediction alone (`perf-changelog.yaml`): the benchmark runs what a
change names. Pull requests 632 and 642 brought the first version to those scripts only; 392, of January 2026, added
them with the second version, whose runs of December were without."""

_ACCEPTANCE: Final = (0.85, 0.63, 0.63)
"""Acceptance of DeepSeek's module, not fitted: the first draft as DeepSeek-V3's report has it (arXiv 2412.19437, 5.4.3:
85 to 90 %), later ones so that seven drafts give the 3.2 tokens a step measured with that module on MT-bench, HumanEval
and GSM8K (nebius/MTP-DeepSeek-V3-0324, model card, original module). Taken for Qwen3.5's module too (assumed)."""

_RANKS_RECORDED: Final = "2025-11-15"
"""First day on which the DeepSeek scripts for B200 and H200 were told how attention and experts are divided, which rows
then record; before, they chose it themselves and rows say 1."""

_MOST_USERS: Final = {
    ("h200_sxm", "fp8"): {(1024, 1024): 64, (1024, 8192): 64, (8192, 1024): 32},
    ("b200_sxm", "fp8"): {(1024, 1024): 32, (1024, 8192): 64, (8192, 1024): 64},
    ("b200_sxm", "fp4"): {(1024, 1024): 255, (1024, 8192): 255, (8192, 1024): 32},
}
"""Most users for whom those scripts kept attention tensor parallel, by system, precision, and prompt and output."""

_SPARE_CONTEXT: Final = 200
"""What the benchmark adds to prompt and output for the context limit of a server [tokens]."""

_HOPPER: Final = ("h100_sxm", "h200_sxm")

_BEFORE_MARLIN: Final = ("0.10.", "0.11.", "0.12.")
"""Versions of vLLM that the scripts of gpt-oss on Hopper ran with the engine's own choice of experts' kernels."""

_BEFORE_FUSING: Final = ("0.10.", "0.11.", "0.12.", "0.13.", "0.14.", "0.15.", "0.16.")
"""Versions of vLLM whose all-reduces take in norms only if told to."""

_MANY_IN_FLIGHT: Final = 16
"""From how many requests in flight on the SGLang scripts look at the queue less often."""

_MOST_WITHOUT_DRAFTS: Final = 64
"""Most users of `dsr1-fp8-b200-sglang` without drafts."""

_NUMBERED: Final = "_cfg"
"""What the number of a benchmark's configuration follows in the id of a row."""

_ONLY_THERE: Final = frozenset({QWEN_HYBRID, KIMI})
"""Models of which the table has no other runs: most of their rows without a date repeat a dated one, rounded."""


def measured_there(line: Line) -> bool:
    """Whether a row is a run of InferenceX: it has the date of one, or its model was measured nowhere else."""
    return bool(line.text("measured_on")) or line.text("arch") in _ONLY_THERE


def launch_options(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """Plan fields that the launch script of the row's benchmark sets; none for rows from elsewhere.

    Args:
        line: The row.
        plan: Its ranks.
    """
    if not measured_there(line) or line.text("mode") == "disagg":
        return {}
    engine, model = line.text("backend"), line.text("arch")
    if engine == "vllm":
        return _vllm(line, plan)
    if engine == "sglang" and model in (*DEEPSEEK, QWEN_HYBRID):
        return _sglang(line, plan)
    if engine == "trtllm" and model in DEEPSEEK:
        return _trtllm_deepseek(line, plan)
    if engine == "trtllm" and model == GPT_OSS:
        wait = {"balance_wait": 50} if plan["dp"] > 1 else {}
        kv_dtype = "bf16" if line.text("system") in _HOPPER else "fp8"  # `dtype: auto` in gptoss_fp4_h200_trt
        return {"kv_dtype": kv_dtype, "max_num_batched_tokens": 20000, "kv_memory_frac": 0.85, **wait}
    if engine == "trtllm" and model == LLAMA_70B:
        return _trtllm_llama(line, plan)
    return {}


def _vllm(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """`70b_fp8_h100`, `70b_fp8_h200`, `70b_fp8_b200`, `70b_fp4_b200`, `gptoss_fp4_b200` and `kimik2.5_*`.

    The scripts of Llama, and those of gpt-oss on Blackwell, store keys and values in 8 bit. Those of Llama for H100
    came to that after the others and are read as before: its rows are as short of cache (30 and 60 s to the first
    token) as 16 bits make them, 8 would leave room. Kimi's NVFP4 checkpoint has 8 bit by its own configuration, which
    vLLM's `auto` follows since 0.12. On Hopper the scripts of gpt-oss take Marlin's kernels from 0.13 on (pull
    request 327), which no run without a recorded version had, nor one of 0.11. Those for Blackwell and of Kimi have
    all-reduces take in norms; the others leave that to the engine, which does so by itself since 0.17 (its pull
    request 34299); the early ones for H100 ask for it, of which their rows show nothing. Llama's on Blackwell keep
    iterations with prompts out of CUDA graphs (`cudagraph_mode` is FULL_DECODE_ONLY).
    """
    model, precision = line.text("arch"), line.text("precision")
    hopper, version = line.text("system") in _HOPPER, line.text("backend_version")
    asks, by_itself = model == KIMI or not hopper, bool(version) and not version.startswith(_BEFORE_FUSING)
    fused = _fused(plan, asks) if asks or not by_itself else {}
    if model == LLAMA_70B or (model == GPT_OSS and not hopper):
        graphs = {"prompt_graphs": False} if model == LLAMA_70B and not hopper else {}
        kv_dtype = "bf16" if line.text("system") == "h100_sxm" else "fp8"
        return {"kv_dtype": kv_dtype, "max_num_batched_tokens": 8192, **graphs, **fused}
    if model == GPT_OSS:
        marlin = bool(version) and not version.startswith(_BEFORE_MARLIN)
        return {**({"moe_backend": "marlin"} if marlin else {}), **fused}
    if model == KIMI:
        return {**({"kv_dtype": "fp8"} if precision == "fp4" else {"kv_memory_frac": 0.95}), **fused}
    return {}


def _fused(plan: dict[str, Any], on: bool) -> dict[str, Any]:
    """Whether all-reduces take in norms; with attention data parallelism none can be told to."""
    return {"fuse_all_reduce": on} if plan["dp"] == 1 else {}


def _sglang(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """`dsr1_fp8_b200`, `dsr1_fp4_b200`, `dsr1_fp8_h200`, `qwen3.5_{bf16,fp8,fp4}_b200` and `qwen3.5_fp8_h200`.

    The scripts with multi-token prediction of the FP8 runs on B200 ran on the same version as those without. Where both
    have a row's ranks and users it is taken to be without. Experts are whole where rows do not tell: the FP4 script of
    2025 has `--enable-ep-moe`. That of Qwen3.5 on H200 never passes the ranks of experts that its rows have. Norms go
    into all-reduces for DeepSeek, and for Qwen3.5 in 16 bit and on H200 (`--enable-flashinfer-allreduce-fusion`).
    """
    deepseek, precision = line.text("arch") in DEEPSEEK, line.text("precision")
    if line.text("system") != "b200_sxm":
        own = {"max_num_batched_tokens": 32768, "kv_memory_frac": 0.82}
        qwen = {
            "kv_dtype": "fp8",
            "max_num_batched_tokens": 16384,
            "kv_memory_frac": 0.8,
            "ep": 1,
            "moe_tp": plan["tp"],
            "fuse_all_reduce": True,
        }
        return own if deepseek else qwen
    users = line.whole("concurrency") or 0
    few = users < _MANY_IN_FLIGHT and (deepseek or precision != "fp4")
    whole = deepseek and precision == "fp4" and line.text("measured_on") < _RANKS_RECORDED
    return {
        "kv_dtype": "bf16" if precision == "bf16" else "fp8",
        "max_num_batched_tokens": 16384 if deepseek and precision == "fp4" else 32768,
        "kv_memory_frac": 0.85 if precision == "fp4" else 0.82,
        "queue_interval": 10 if few else 30,
        **(_fused(plan, True) if deepseek or precision == "bf16" else {}),
        **({"ep": plan["tp"], "moe_tp": 1} if whole else {}),
        **_sglang_drafts(line, plan, users),
    }


def _sglang_drafts(line: Line, plan: dict[str, Any], users: int) -> dict[str, Any]:
    """Speculation where scripts with it have the row's ranks and users: SGLang 0.5.9 in FP8 on B200.

    Qwen3.5 with tp 4 and ep 1 (`qwen3.5-fp8-b200-sglang-mtp`, pull requests 897 and 898; without drafts it has tp 4
    and ep 4, or tp 8), DeepSeek with tp 8 and more than 64 users (`dsr1-fp8-b200-sglang-mtp`, pull request 626). With
    fewer users both scripts have DeepSeek's ranks: rows whose id has a configuration's number are of one without
    drafts; those without a number hold runs of both, three without drafts and twelve with, and are read as these. The
    script with drafts has limits of its own. Qwen's leaves a little less memory for caches and keeps states in 16
    bit, which is not modelled; without that the share of memory is not read either.
    """
    if line.text("precision") != "fp8" or line.text("backend_version") != "0.5.9":
        return {}
    ranks = (plan["tp"], plan["dp"], plan["ep"])
    if line.text("arch") == QWEN_HYBRID:
        drafts, limits = (3 if ranks == (4, 1, 1) else 0), {}
    else:
        drafting = users > _MOST_WITHOUT_DRAFTS or _NUMBERED not in line.text("id")
        drafts = 2 if ranks == (8, 1, 1) and drafting else 0
        limits = {"max_num_batched_tokens": 16384, "max_num_seqs": 512}
    return (
        {
            "speculation": {"draft_tokens": drafts, "acceptance": list(_ACCEPTANCE[:drafts])},
            "fuse_all_reduce": True,
            **limits,
        }
        if drafts
        else {}
    )


def _trtllm_deepseek(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """`dsr1_fp8_h200_trt_slurm.sh`, and `dsr1_fp*_b200_trt` with `_slurm.sh`, `.sh` and `_mtp.sh`."""
    ranks = _deepseek_ranks(line, plan)
    plan = {**plan, **ranks}
    waits: dict[str, Any] = {"balance_wait": 60} if plan["dp"] > 1 else {}
    if _fills_batches(line, plan):
        waits = {"batch_wait": 40, "batch_fill": 0.8}
    mtp = _drafts_tokens(line)
    library = _deepseek_library(line, plan)
    return {
        "kv_dtype": "fp8",
        **({"moe_backend": library} if library else {}),
        "kv_memory_frac": _deepseek_kv_frac(line, plan),
        "prompt_graphs": _graphs_of_drafting(line, plan) if mtp else _graphs_of_prompts(line, plan),
        **(_deepseek_drafts(line, plan) if mtp else _deepseek_limits(line, plan)),
        **waits,
        **ranks,
    }


def _deepseek_library(line: Line, plan: dict[str, Any]) -> str:
    """Library of the experts that the scripts choose on B200, empty where it is TensorRT-LLM's own choice.

    In FP8 DeepGEMM until pull requests 594 and 632 made it the generated kernels, with 1.2 and without attention data
    parallelism; in FP4 these, and CUTLASS with attention data parallelism.
    """
    if line.text("system") != "b200_sxm":
        return ""
    if line.text("precision") == "fp4":
        return "cutlass" if plan["dp"] > 1 else "trtllm-gen"
    return "trtllm-gen" if line.text("backend_version").startswith("1.2") and plan["dp"] == 1 else "deepgemm"


def _drafts_tokens(line: Line) -> bool:
    """Whether the run of DeepSeek on TensorRT-LLM was made by a script with multi-token prediction."""
    version = line.text("backend_version")
    return version in _MTP_RUNS or f"{version} of {line.text('measured_on')}" in _MTP_RUNS


def _deepseek_limits(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """Batch limits of the scripts without drafts."""
    concurrency, prompt, _ = _load(line)
    batch = max(1, concurrency // plan["dp"]) if line.text("system") == "h200_sxm" else concurrency
    tokens = (batch + prompt + 64 + 63) // 64 * 64
    version = line.text("backend_version")
    if version and not version.startswith("1.1"):
        tokens = max(tokens, _FEWEST_TOKENS)
    return {"max_num_batched_tokens": tokens, "max_num_seqs": min(batch, tokens)}


def _deepseek_drafts(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """Speculation and batch limits of the scripts with it: three drafts, one with attention data parallelism."""
    concurrency, prompt, _ = _load(line)
    drafts = 1 if plan["dp"] > 1 else 3
    share = (4 if line.text("precision") == "fp4" else 8) if plan["dp"] > 1 else 1
    batch = max(1, concurrency // share)
    return {
        "max_num_batched_tokens": ((1 + drafts) * batch + prompt + 64 + 63) // 64 * 64,
        "max_num_seqs": batch,
        "speculation": {"draft_tokens": drafts, "acceptance": list(_ACCEPTANCE[:drafts])},
    }


def _graphs_of_prompts(line: Line, plan: dict[str, Any]) -> bool:
    """Whether the scripts of TensorRT-LLM 1.2 without drafts turn piecewise CUDA graphs on."""
    concurrency, prompt, output = _load(line)
    if line.text("backend_version") != "1.2.0rc6.post2" or plan["dp"] > 1:
        return False
    if line.text("precision") == "fp4":
        return (prompt, output) == (1024, 1024) and (plan["tp"], plan["ep"]) == (8, 8)
    return concurrency >= (128 if output > 1024 else 64)


def _graphs_of_drafting(line: Line, plan: dict[str, Any]) -> bool:
    """The same for the scripts with drafts."""
    concurrency, prompt, output = _load(line)
    if not line.text("backend_version").startswith("1.2"):
        return False
    if line.text("precision") == "fp8":
        return plan["dp"] == 1 and concurrency > (16 if prompt > 1024 else 8 if output > 1024 else 4)
    if prompt > 1024:
        return False
    few = concurrency == 64 or (concurrency == 32 and output <= 1024)
    return few or (concurrency == 128 and output <= 1024 and plan["dp"] == 1)


def _load(line: Line) -> tuple[int, int, int]:
    """Requests in flight, nominal prompt and nominal output of a row."""
    concurrency, prompt, output = (line.whole(name) or 0 for name in ("concurrency", "isl", "osl"))
    return concurrency, prompt, output


def _fills_batches(line: Line, plan: dict[str, Any]) -> bool:
    """Whether prompts wait to fill an iteration: `dsr1_fp8_b200_trt.sh` of TensorRT-LLM 1.2, short and many."""
    concurrency, prompt, output = _load(line)
    script = line.text("precision") == "fp8" and line.text("system") == "b200_sxm"
    mine = script and line.text("backend_version") == "1.2.0rc6.post2" and plan["dp"] == 1
    return mine and (prompt, output) == (1024, 1024) and 64 <= concurrency < 256


def _deepseek_kv_frac(line: Line, plan: dict[str, Any]) -> float:
    """`free_gpu_memory_fraction` of the DeepSeek scripts."""
    if line.text("system") == "h200_sxm":
        return 0.75
    if line.text("precision") == "fp8" and line.text("backend_version").startswith("1.2"):
        return 0.7 if plan["dp"] > 1 else 0.75 if plan["tp"] == 4 else 0.8
    return 0.8


def _deepseek_ranks(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """Ranks of attention and experts that the scripts chose by themselves, where rows have only the GPUs of a server.

    With more users than `_MOST_USERS` attention is data parallel; experts are divided over all ranks but for few users
    of an FP4 checkpoint.
    """
    if line.text("measured_on") >= _RANKS_RECORDED:
        return {}
    concurrency, prompt, output = _load(line)
    narrow = line.text("precision") == "fp4"
    most = _MOST_USERS.get((line.text("system"), line.text("precision")), {}).get((prompt, output))
    if most is None:
        return {}
    gpus = plan["tp"] * plan["dp"]
    if concurrency > most:
        return {"tp": 1, "dp": gpus, "ep": gpus, "moe_tp": 1}
    few = 32 if gpus == 4 or prompt > 1024 else 8 if output <= 1024 else 16
    return {} if narrow and concurrency <= few else {"ep": gpus, "moe_tp": 1}


def _trtllm_llama(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """`70b_fp8_h200_trt_slurm.sh`, `70b_fp4_b200_trt_slurm.sh`, `70b_fp8_b200_trt_slurm.sh`."""
    _, prompt, output = _load(line)
    roomy = line.text("precision") == "fp8" and line.text("system") == "b200_sxm"
    tokens = 16384 if roomy else prompt + output + _SPARE_CONTEXT
    wait = {"batch_wait": 20, "batch_fill": 0.9} if (prompt, output) == (1024, 1024) and plan["tp"] < 8 else {}
    return {"max_num_batched_tokens": tokens, "max_num_seqs": min(2048, tokens), **wait}
