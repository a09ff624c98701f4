"""Training runs with their full parallel layout: step times, rates, memory, from many sources and stacks.

A row gives the shape of the model, the layout, and one measured figure (`metric`, `value`, `unit`) with others beside
it in `extra_metrics` (`k=v;k=v`). Times, tokens/s and samples/s are compared as they are; a FLOP rate or utilisation is
turned into seconds by `flops_definition`, and a row without one is not answered. Assumed where a row does not say:

- `micro_batch` 1, or without pipeline stages the largest divisor of a rank's batch up to 8, except for the runs whose
  published scripts fix it (Megatron-LM, SC'21);
- as many micro-batches as pipeline stages (TorchTitan's default) where FSDP2 does not say how it splits a local batch;
- chunks of two layers where stages are interleaved and it is not said how finely, none for SC'21 (its scripts);
- a feed-forward block is gated where its width is not four times the model's, and embeddings are then not tied;
- positions of a GPT are learned (Megatron-LM's default), but for MPT, which has none (ALiBi);
- no recomputation where it is not stated; the engine's own format of gradients;
- prompts packed into a sequence attend to themselves alone;
- runs in torchao's float8 are compiled (TorchTitan's guide requires it: a compiler fuses the casts);
- MegaScale's window of 512 tokens, and operators and data pipeline as in the engine's profile;
- the engine by the source: the profile that describes the stack it names.

Half of the rows, chosen by a hash of their `id`, may be used to fit what devices and engines sustain (`half: fit`); the
scores that count are those of the other half.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

from sim.models import ModelSpec, load_model
from sim.training import even_layers
from sim.validation.flop_rates import PEAKS, Counted, flops_per_step, published_parameters
from sim.validation.formats.base import MEASUREMENTS, Line, MeasurementFile, MeasurementFormat
from sim.validation.rows import MeasuredRow

_Scenario = dict[str, Any]

_NODES: Final = (
    ("A100-40", "dgx-a100-40"),
    ("A100", "dgx-a100"),
    ("H100-96GB HBM2e", "8x-h100-96-500w"),
    ("H100", "dgx-h100"),
    ("H200", "dgx-h200"),
    ("H800", "hgx-h800"),
    ("MI250X", "frontier"),
    ("V100-32GB (DGX-2)", "dgx-2"),
    ("GB200", "gb200-nvl72"),
    ("B200", "dgx-b200"),
)
_PARTS: Final = (("A100", "A100"), ("H100-96GB HBM2e", "H100 500 W"), ("H100", "H100 700 W"))
"""Devices that have a profile of what they sustain, by the beginning of their name in the table."""
_FOUR_ADAPTERS: Final = ("4x200Gb/s HDR", "8x-a100-80-4nic")
_ENGINES: Final = (
    ("MosaicML", "fsdp"),
    ("TorchTitan Jun-2025 H200", "torchtitan-2025"),
    ("TorchTitan", "torchtitan"),
    ("PyTorch FSDP", "fsdp"),
    ("OPT-175B", "fsdp"),
    ("PTD-P vs ZeRO-3", "megatron-lm-2021"),
    ("SC21", "megatron-lm-2021"),
    ("Korthikanti", "megatron-lm-2022"),
    ("vTrain", "megatron-deepspeed"),
    ("MT-NLG", "megatron-deepspeed"),
    ("GLM-130B", "megatron-deepspeed"),
    ("Frontier", "megatron-deepspeed"),
    ("Zero Bubble", "megatron-lm-2022"),
    ("FlashAttention-2", "megatron-lm-2021"),
    ("NeMo 24.07", "nemo"),
)
"""Engine profile by a part of the source's name; `megatron-lm` for all others."""

_PRECISIONS: Final = (("rowwise", "fp8_rowwise"), ("float8", "fp8_dynamic"), ("fp8", "fp8"))
"""Recipe of low precision by a part of its name in the table. FP8 stands in for the tiles of DeepSeek-V3 too: the
kernel curves of tiles are those of serving libraries, slower than its own."""

_SCRIPTS: Final = {
    "GPT 1.7B": {"micro_batch": 16},
    "GPT 39.1B": {"micro_batch": 4},
    "GPT 145.6B": {"micro_batch": 2, "vpp": 2},
    "GPT 1T": {"micro_batch": 1},
    "GPT 1008B": {"micro_batch": 1},
}
"""What the published scripts of Megatron-LM's SC'21 runs fix (examples/sc21)."""

_TP_OVERLAPS: Final = ("Megatron-Core README", "NeMo 24.07")
"""Sources whose text or scripts turn tensor-parallel overlap on: `--tp-comm-overlap` in the README of Megatron-Core
(which says so of all its runs), `ub_tp_comm_overlap` in the launcher's configurations of NeMo."""

_SHIPPED: Final = {"DeepSeek-V3": "deepseek-v3", "Mixtral-8x7B": "mixtral-8x7b"}
"""Models whose shape a row cannot hold: latent attention, dense first layers, experts."""

_SCHEDULES: Final = (
    ("ZB-1p", "zb_h1"),
    ("ZB-2p", "zb_h2"),
    ("DualPipe", "dualpipe"),
    ("1F1B + vocab-1", "1f1b_vocab_1"),
    ("1F1B + vocab-2", "1f1b_vocab_2"),
    ("1F1B + interlaced", "1f1b_interlaced"),
)
_ABLATION: Final[dict[str, _Scenario]] = {
    "parallel transformer block": {"overlap_dp": False, "overlap_p2p": False},
    "sliding window attention": {},
    "TP overlap": {"overlap_tp": True},
    "PP overlap": {"overlap_p2p": True},
    "DP overlap": {"overlap_dp": True},
    "efficient operators": {},
    "misc": {},
    "LAMB": {},
}
"""Steps of MegaScale's ablation, each on top of those before it, and what of the plan they change."""
_MEGASCALE_WINDOW: Final = 512
"""Keys that its layers look back at; the source does not say."""

_PACKED_KEYS: Final = 128
"""Keys that a token of packed SQuAD prompts sees, as a window (assumed): half of some 250 tokens (an order of
magnitude: a context of about 120 words, a question and an answer), each prompt attending to itself (NeMo's packed
sequences). One usable row has such prompts, T1047 of the fitting half: 12 % too slow with whole sequences, 1 % with
this."""

_CHUNK_LAYERS: Final = 2
_LLAMA_3_CHUNKS: Final = 8
"""Chunks per stage of Llama 3 405B: its report takes a layer from the first and the last stage, whose end chunks then
hold the embedding or the LM head alone (arXiv 2407.21783, section 3.3.2), so a chunk has one of 126 + 2 layers."""
_MOST_SEQUENCES: Final = 8
_HOST_OPTIMIZER: Final = "CPU AdamW offload"
"""Optimizer states in host memory."""
_OFFLOADS: Final = ("offload", "Infinity", "CPU", "NVMe", "pods")
_BYTES: Final = {"peak_mem_GB": 1e9, "peak_mem_GiB": 2.0**30}
_GIB_SOURCES: Final = ("Zero Bubble", "Vocabulary Parallelism")
"""Sources that write GB for what their framework prints in GiB: one group's fork of Megatron-LM. Of the latter, runs
that keep the vocabulary on one stage tell: from 32,000 to 256,000 rows, 3,072 wide, peak memory grows by 11.62 (redis
at 2k, T0940 and T0955), 11.63 (1F1B at 4k, T0959 and T0974) and 11.49 (redis at 4k, T0960 and T0975), which is the
11.5 GiB that 18 bytes of states per parameter make; as GB it would be 16.7 to 16.9 bytes, less than there are. 1F1B
at 2k grows by 19.55: its last figure (T0954) is 7.93 above that of redis, an anomaly also to the table, and no row of
the comparison."""


@MEASUREMENTS.register("training_runs")
class TrainingRuns(MeasurementFormat):
    """Training runs with their full parallel layout: step times, rates and memory of many stacks and devices."""

    columns = frozenset({"id", "source", "layers", "hidden", "global_batch", "tp", "pp", "metric", "value", "unit"})
    source = "papers and repositories (Megatron-LM, TorchTitan, vTrain, llm-foundry and others), named row by row"
    assumptions = (
        "micro-batch 1 where not stated, or without stages a divisor of the batch up to 8; 2 layers per chunk",
        "gated feed-forward blocks where the width is not four times the model's; embeddings then not tied",
        "no recomputation where not stated; gradients in the engine profile's own format",
        "packed SQuAD prompts attend to themselves, as a window of 128 keys: half of some 250 tokens (one usable row)",
        "FLOP rates are turned into seconds by the row's definition; utilisations are of the dense 16-bit peak",
    )

    @staticmethod
    def read(file: MeasurementFile) -> list[MeasuredRow]:
        """One measured row per run."""
        return [_row(line, file.name) for line in file.lines]


def half_of(row_id: str) -> str:
    """Which half of the rows this one is in: `fit` or `held out`, by the first byte of the id's SHA-256."""
    return "fit" if hashlib.sha256(row_id.encode()).digest()[0] % 2 == 0 else "held out"


def _row(line: Line, dataset: str) -> MeasuredRow:
    scenario: _Scenario | None = None
    measured: dict[str, float | None] = {"step_time_s": None}
    cannot, why = "", ""
    try:
        scenario = _scenario(line)
        measured, cannot = _measured(line, scenario)
        if cannot and len(measured) == 1:  # nothing else to compare
            scenario, why = None, cannot
    except _UnusableError as found:
        scenario, why = None, str(found)
    source = line.text("source")
    return MeasuredRow(
        id=line.text("id"),
        dataset=dataset,
        groups={
            "half": half_of(line.text("id")),
            "device": next((part for name, part in _PARTS if line.text("gpu").startswith(name)), line.text("gpu")),
            "system": line.text("gpu"),
            "source": source,
            "model": line.text("model"),
            "engine": _engine(source, line),
            "precision": line.text("precision"),
            "mode": "training",
            "engine version": _engine(source, line),
            "load": f"{line.text('n_gpus')} GPUs",
        },
        scenario=scenario,
        measured=measured,
        cannot={"step_time_s": cannot} if cannot else {},
        weight=line.number_of("weight") or 1.0,
        reason=why,
    )


class _UnusableError(Exception):
    """Why a row cannot be set up."""


# ---- what was measured ----


def _measured(line: Line, scenario: _Scenario) -> tuple[dict[str, float | None], str]:
    """Measured values by metric, and why the step time cannot be told."""
    metric, value, found = line.text("metric"), line.number_of("value"), dict[str, float | None]()
    why = ""
    extra = dict(part.split("=", 1) for part in line.text("extra_metrics").split(";") if "=" in part)
    if metric == "iteration_time":
        found["step_time_s"] = value
    elif metric in ("tokens_per_s_per_gpu", "samples_per_s_per_gpu"):
        found[metric] = value
    elif metric.endswith("TFLOPs_per_GPU") or metric in ("MFU", "HFU"):
        seconds = _seconds_of_rate(line, scenario, metric)
        why, found["step_time_s"] = (seconds, None) if isinstance(seconds, str) else ("", seconds)
    else:
        return {"step_time_s": None}, f"{metric or 'no metric'} is no figure of a whole training step"
    for name, unit in _BYTES.items():
        if name in extra:
            factor = 2.0**30 if any(source in line.text("source") for source in _GIB_SOURCES) else unit
            found["peak_memory_bytes"] = float(extra[name]) * factor
    return found, why


def _seconds_of_rate(line: Line, scenario: _Scenario, metric: str) -> float | str:
    """Step time [s] behind a FLOP rate or utilisation, or why it cannot be told."""
    definition, value = line.text("flops_definition"), line.number_of("value")
    model = _model_of(scenario)
    batch, sequence = scenario["workload"]["global_batch"], scenario["workload"]["sequence_length"]
    counted = Counted(model, batch, sequence, published_parameters(line.number_of("n_params"), model))
    flops = flops_per_step(definition, counted) if definition else None
    if flops is None or value is None:
        return f"a FLOP rate without a known definition of FLOPs can't be evaluated ({definition or 'none given'})"
    rate = value * 1e12
    if metric in ("MFU", "HFU"):
        peak = next((peak for name, peak in PEAKS.items() if line.text("gpu").startswith(name)), None)
        if peak is None:
            return f"no peak is known for {line.text('gpu')}"
        rate = value / 100.0 * peak
    return flops / rate / _count(line, "n_gpus")


def _model_of(scenario: _Scenario) -> ModelSpec:
    model = scenario["model"]
    return load_model(model) if isinstance(model, str) else ModelSpec.model_validate(model)


# ---- how it is simulated ----


def _scenario(line: Line) -> _Scenario:
    """The scenario of a run.

    Raises:
        _UnusableError: saying why there is none.
    """
    gpus, source = _count(line, "n_gpus"), line.text("source")
    if line.text("usable") == "no":
        raise _UnusableError("the table marks the row as unusable: an anomaly, or not enough to set it up")
    if line.text("usable") == "RL":
        raise _UnusableError("a step of reinforcement learning holds generation too")
    if line.text("schedule") == "layer microbenchmark":
        raise _UnusableError("a single layer is no training step")
    sharding = line.text("sharding_offload").replace("no offload", "")
    if _HOST_OPTIMIZER in sharding:
        sharding = ""
    if any(word in sharding for word in _OFFLOADS) and "EMA" not in sharding:
        raise _UnusableError(f"offload is not modelled: {sharding}")
    if "LoRA" in line.text("model"):
        raise _UnusableError("rank and targets of its adapters (LoRA) are not in the row")
    micro_batch, plan = _plan(line, gpus)
    workload: _Scenario = {
        "kind": "training",
        "global_batch": _count(line, "global_batch"),
        "sequence_length": _count(line, "seq_len"),
        "precision": _precision(line.text("precision").lower()),
    }
    if line.text("model").startswith("DeepSeek-V3"):  # arXiv 2412.19437, sections 3.3.2 and 3.3.3
        workload |= {"optimizer": "adam_bf16", "quantisation": {"activation_input_8bit": True, "dispatch_8bit": True}}
    if "no FlashAttention" in line.text("model"):
        workload["attention"] = "plain"
    if _HOST_OPTIMIZER in line.text("sharding_offload"):
        workload["optimizer"] = "adam_cpu"
    return {
        "name": "measured",
        "model": _model(line, _engine(source, line)),
        "cluster": _cluster(line, gpus),
        "engine": _engine(source, line),
        "workload": workload,
        "plan": {"micro_batch": micro_batch, **plan},
    }


def _precision(text: str) -> str:
    """The recipe behind the name of a precision; float8 is torchao's, whose scales are of the tensor at hand."""
    return next((recipe for part, recipe in _PRECISIONS if part in text), "bf16")


def _count(line: Line, column: str) -> int:
    found = line.whole(column)
    if found is None or found < 1:
        raise _UnusableError(f"{column} is not recorded as a number: {line.text(column) or 'empty'}")
    return found


def _engine(source: str, line: Line) -> str:
    if "Liger" in line.text("sharding_offload"):
        return "deepspeed-liger"
    if "DeepSpeed" in line.text("sharding_offload"):
        return "deepspeed"
    return next((engine for part, engine in _ENGINES if part in source), "megatron-lm")


def _cluster(line: Line, gpus: int) -> _Scenario:
    gpu = line.text("gpu")
    node = next((node for name, node in _NODES if gpu.startswith(name)), None)
    if node is None:
        raise _UnusableError(f"no node stands for {gpu!r}")
    if _FOUR_ADAPTERS[0] in line.text("interconnect"):
        node = _FOUR_ADAPTERS[1]
    size = {"dgx-2": 16, "gb200-nvl72": 4}.get(node, 8)
    if gpus > size and gpus % size:
        raise _UnusableError(f"{gpus} GPUs do not fill nodes of {size}")
    return {"node": node, "nodes": max(1, gpus // size), "devices_per_node": min(gpus, size)}


def _model(line: Line, engine: str) -> str | _Scenario:
    name = line.text("model")
    for known, shipped in _SHIPPED.items():
        if name.startswith(known):
            return shipped
    layers, hidden, heads = (_count(line, column) for column in ("layers", "hidden", "heads"))
    if hidden % heads:
        raise _UnusableError(f"{heads} heads do not divide a width of {hidden}")
    ffn = _count(line, "ffn")
    gated = ffn != 4 * hidden
    attention = {
        "kind": "gqa",
        "heads": heads,
        "kv_heads": line.whole("kv_heads") or heads,
        "head_dim": hidden // heads,
    }
    steps = _ablation_steps(name)
    if "packed SQuAD" in line.text("notes"):
        attention["window"] = _PACKED_KEYS
    if len(steps) > 1:
        attention["window"] = _MEGASCALE_WINDOW
    block: _Scenario = {"kind": "dense", "intermediate": ffn, "gated": gated}
    if line.whole("n_experts"):
        block = {
            "kind": "moe",
            "experts": _count(line, "n_experts"),
            "top_k": _count(line, "moe_topk"),
            "intermediate": _count(line, "moe_ffn"),
        }
    return {
        "name": "measured",
        "hidden_size": hidden,
        "vocab_size": _count(line, "vocab"),
        "max_position_embeddings": _count(line, "seq_len"),
        "learned_positions": 0 if gated or engine == "fsdp" else _count(line, "seq_len"),
        "tied_embeddings": not gated,
        "norm_bias": not gated,
        "layers": [{"count": layers, "attention": attention, "ffn": block, "parallel": bool(steps)}],
    }


def _ablation_steps(model: str) -> list[str]:
    """Steps of MegaScale's ablation that a run of this name has taken; all of them for its own rows."""
    steps = list(_ABLATION)
    if "MegaScale" in model:
        return steps
    taken = next((i for i, step in enumerate(steps) if f"+{step}" in model), -1)
    return steps[: taken + 1]


def _plan(line: Line, gpus: int) -> tuple[int, _Scenario]:
    """Micro-batch and the other fields of the plan."""
    source, tp, pp, cp = line.text("source"), _count(line, "tp"), _count(line, "pp"), line.whole("cp") or 1
    if gpus % (tp * pp * cp):
        raise _UnusableError(f"tp {tp} x pp {pp} x cp {cp} does not divide {gpus} GPUs")
    scripts = {"vpp": 1, **_SCRIPTS.get(line.text("model"), {})} if "SC21" in source else {}
    dp = gpus // (tp * pp * cp)
    micro_batch = line.whole("micro_batch") or scripts.get("micro_batch") or _assumed_micro_batch(line, dp, pp)
    if "count not stated" in line.text("notes") and "FSDP2" in line.text("sharding_offload"):
        micro_batch = max(1, _count(line, "global_batch") // dp // pp)
    if line.text("micro_batch") and "." in line.text("micro_batch"):
        raise _UnusableError(f"a micro-batch of {line.text('micro_batch')} sequences is a mean of several")
    plan: _Scenario = {"tp": tp, "pp": pp, "cp": cp, "ep": line.whole("ep") or 1}
    if cp > 1 and source.startswith("Llama 3"):
        plan["cp_kind"] = "all_gather"  # section 3.3.2 of the report
    stated = re.search(r"(\d+) chunks", line.text("vpp"))
    vpp = line.whole("vpp") or (int(stated[1]) if stated else scripts.get("vpp", 1))
    if line.text("vpp").startswith("max"):
        vpp = -(-_count(line, "layers") // pp)
    elif source.startswith("Llama 3"):
        vpp = _LLAMA_3_CHUNKS
    elif "interleaved" in line.text("schedule") + line.text("vpp") and not (
        line.whole("vpp") or stated or scripts or pp == 1
    ):
        vpp = _assumed_chunks(line, pp, dp * micro_batch)
    plan["vpp"] = vpp if pp > 1 else 1
    plan.update(_recompute(line.text("recompute")))
    plan.update(_sharding(line.text("sharding_offload"), pp))
    if pp > 1 and "FSDP2" in line.text("sharding_offload"):
        # With pipeline stages FSDP2 keeps gathered parameters, and gradients unreduced, until the last micro-batch.
        plan["zero"] = 1
    plan.update(_schedule(line, plan))
    for step in _ablation_steps(line.text("model")):
        plan.update(_ABLATION[step])
    precision = line.text("precision")
    if "compile" in precision or "float8" in precision:
        plan["compiled"] = True
    told = "AsyncTP" in precision or "async TP" in line.text("model")
    if told or (tp > 1 and any(name in source for name in _TP_OVERLAPS)):
        plan["overlap_tp"] = True
    return micro_batch, plan


def _assumed_micro_batch(line: Line, dp: int, pp: int) -> int:
    """Sequences of a micro-batch where a source does not say: 1, or without stages the largest divisor up to 8."""
    own = _count(line, "global_batch") // dp
    return max((size for size in range(1, _MOST_SEQUENCES + 1) if own % size == 0), default=1) if pp == 1 else 1


def _assumed_chunks(line: Line, pp: int, unit: int) -> int:
    """Chunks per stage where a source interleaves and does not say how finely: `_CHUNK_LAYERS` layers each.

    The schedule's own rule still holds: micro-batches are a multiple of the stages.
    """
    per_stage, microbatches = _count(line, "layers") // pp, _count(line, "global_batch") // unit
    return max(1, per_stage // _CHUNK_LAYERS) if microbatches % pp == 0 else 1


def _recompute(text: str) -> _Scenario:
    found: _Scenario = {"recompute": "none"}
    if text.startswith("full"):
        found = {"recompute": "full"}
    elif text == "selective layer":
        found = {"recompute": "full", "recompute_every": 2}
    elif text == "selective op":
        found = {"recompute": "operators"}
    elif text.startswith("RMSNorm"):
        found = {"recompute": "cheap"}
    elif text.startswith("selective"):
        found = {"recompute": "selective"}
    return {**found, "sp": True} if text.endswith("+ SP") else found


def _sharding(text: str, pp: int) -> _Scenario:
    """What data-parallel ranks share.

    With pipeline stages, what sources call ZeRO-2 is Megatron-LM's distributed optimizer, which reduces whole gradients
    once a step: DeepSpeed has no stage 2 with a pipeline, whose micro-batches would each need a reduction.
    """
    if "ZeRO-3" in text or "FULL_SHARD" in text:
        return {"zero": 3}
    if text.startswith("FSDP (shard opt+grads"):
        return {"zero": 2}
    if "ZeRO-2" in text:
        return {"zero": 2 if pp == 1 else 1}
    if "ZeRO-1" in text or "distributed optimizer" in text:
        return {"zero": 1}
    return {"zero": 0} if text.startswith("none") else {}


def _schedule(line: Line, plan: _Scenario) -> _Scenario:
    text = line.text("schedule")
    if text.endswith("redis"):
        return {"layers_per_stage": _redistributed(line, plan["pp"])}
    for beginning, schedule in _SCHEDULES:
        if text.startswith(beginning):
            return {"schedule": schedule}
    if plan["vpp"] > 1 and plan["pp"] > 1:
        return {"schedule": "interleaved"}
    return {}


def _redistributed(line: Line, pp: int) -> list[int]:
    """Layers per stage such that the stage with the most FLOPs has the least, LM head included.

    A head of `V` rows is worth `V / 12h` layers of a GPT; whole layers move, as in the paper's baseline (Yeung et al.,
    arXiv 2411.05288, section 6.1).
    """
    layers, head = _count(line, "layers"), _count(line, "vocab") / (12.0 * _count(line, "hidden"))
    last = min(range(layers // pp, -1, -1), key=lambda own: max(own + head, -(-(layers - own) // (pp - 1))))
    return [*even_layers(layers - last, pp - 1), last]


def fit_rows(rows: list[MeasuredRow]) -> Iterator[MeasuredRow]:
    """The rows that may be used to fit anything."""
    return (row for row in rows if row.scenario is not None and row.groups["half"] == "fit")
