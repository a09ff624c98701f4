"""Kernel tables of the optional package `aiconfigurator-core` (NVIDIA, Apache-2.0), read where it is installed.

Its tables are Parquet, one per system, family of kernels, engine and version. Latencies are in milliseconds;
`message_size` counts elements; attention rows have one new token (`isl`) after `step` cached ones. What is left out:

- rows of eager launches (host-bound), and tables bound by the host altogether (`_UNUSABLE`);
- experts spread over ranks: vLLM and SGLang rows do not scale with the tokens of a rank, TensorRT-LLM's skewed rows are
  of the most loaded rank; and evenly loaded experts, of which two engines touched only half. Slightly skewed rows with
  all experts on the device are closest to the random choice that is simulated;
- latent prompts of SGLang on Hopper, timed with the kernel for latents: the engine expands keys and values of a prompt
  and takes the ordinary one (`attention_backend_handler.py`; the tables have whole modules too, three times faster);
- exchanges between experts of vLLM, and of TensorRT-LLM without its NVLink kernel: timed from Python, 45 to 250 us for
  one token that SGLang's rows of the same kernels exchange in 9 to 18;
- activation quantisation in the timed region of TensorRT-LLM's FP8 and NVFP4 GEMM, which its engine fuses into the
  kernel before (norm, attention, in FP8 the activation), or does in a kernel of its own (`packed_apart` of profiles);
- NVFP4 experts of TensorRT-LLM where it takes its generated kernels by itself: its rows of them end before results are
  added up, and there are none of more than 256 experts or of B300, only CUTLASS's, up to three times slower. vLLM's
  rows of the same kernels stand in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.core import Array, InputError, load_yaml, require_extra
from sim.costs.tables.base import TABLES, KernelRows, clean_rows
from sim.costs.tables.ratios import RatioGrid
from sim.hardware import Device
from sim.models.routing import reached_ranks

PACKAGE: Final = "aiconfigurator_core"
DISTRIBUTION: Final = "aiconfigurator-core"
TESTED: Final = "0.12.0"
"""Version of the package whose tables the rules of this module were made for."""

_SYSTEMS: Final = {
    "a100-80-pcie": "a100_pcie",
    "a100-80-sxm": "a100_sxm",
    "a30": "a30",
    "b200-sxm": "b200_sxm",
    "b300-sxm": "b300_sxm",
    "gb200": "gb200",
    "gb300": "gb300",
    "h100-pcie": "h100_pcie",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "l4": "l4",
    "l40s": "l40s",
    "arc-pro-b60": "b60",
    "rtx-pro-6000-server": "rtx_pro_6000_server",
}
_ABSORBED: Final = "its rows are of the kernel for latents, whose keys are wider than those of the engine's prompts"
_UNTUNED: Final = "its rows move weights at 0.4 to 0.7 TB/s, a sixth of what those of an older version did"
_ONE_KERNEL: Final = "its rows are of one kernel, which walks K at a third of the rate of others that the engine tries"
_UNUSABLE: Final = {
    ("mla_prefill", "bf16", "sglang", "h100_sxm"): _ABSORBED,
    ("mla_prefill", "fp8", "sglang", "h100_sxm"): _ABSORBED,
    ("mla_prefill", "bf16", "sglang", "h200_sxm"): _ABSORBED,
    ("mla_prefill", "fp8", "sglang", "h200_sxm"): _ABSORBED,
    ("moe", "fp8", "vllm", "h100_sxm"): _UNTUNED,
    ("moe", "fp8", "vllm", "h200_sxm"): _UNTUNED,
    ("gemm", "fp8_block", "vllm", ""): "its rows are bound by the host, not by the kernel",
    ("gemm", "nvfp4", "trtllm", "b200_sxm"): _ONE_KERNEL,
    ("gemm", "nvfp4", "trtllm", "gb200"): _ONE_KERNEL,
    ("prefill_attention", "fp8", "trtllm", "l40s"): "its rows are broken",
}
_GEMM_DTYPES: Final = {"bf16": "bfloat16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4"} | {
    "int4": "int4_wo",
    "int8": "sq",
}
_EXPERT_DTYPES: Final = {
    "bf16": ("bfloat16",),
    "fp8": ("fp8",),
    "fp8_block": ("fp8_block",),
    "nvfp4": ("nvfp4",),
    "int4": ("int4_wo",),
    "mxfp4": ("w4a8_mxfp4_mxfp8", "w4a16_mxfp4"),
}
_CACHE_DTYPES: Final = {"bf16": "bfloat16", "fp8": "fp8"}
_SKEWED: Final = "power_law_1.01"
_GENERATED: Final = "trtllm-gen"
_GENERATED_TIMED_BY: Final = "vllm"
"""Engine with whole rows of the kernels generated for TensorRT-LLM."""

_COLLECTIVES: Final = {
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "all_reduce": "all_reduce",
}
_REPLACED: Final = ("sglang",)
"""Engines whose all-reduce of another version was another kernel."""

_OTHER_MODELS_KERNELS: Final = ("kernel_source", "!=", "triton")
_KERNELS_ALONE: Final = "sglang"
"""Engine whose latent attention was timed without projections on every device."""

_EXCHANGED: Final = {"hidden": 7168, "topk": 8, "experts": 256}
"""Model whose tokens were exchanged in the rows that are read: DeepSeek-V3, the only one that all tables have."""

_DEEPEP_RANKS: Final = {"gb200": 4, "gb300": 4}
"""GPUs of one board, over which DeepEP was timed; eight where not listed."""

_SENT_BYTES: Final = {"nvfp4": 0.5 + 1.0 / 16.0, "fp8": 1.0 + 4.0 / 128.0, "bf16": 2.0}
"""Bytes per element of a token on its way, with scales of blocks of 16 and of 128 elements."""

_FEW_TOKENS: Final = 1024
"""Tokens of a rank up to which DeepEP's low-latency kernels were timed; for more, engines take the others."""

_NOPE: Final = 128.0
_LATENT: Final = 512.0
"""Widths of a head's query without position, which its values share, and of the latent, in DeepSeek-V3."""

_HEADWISE_DTYPES: Final = {"bf16": "bfloat16", "fp8_block": "fp8"}

_HALF_BYTES: Final = 2.0
_PACKING_BYTES: Final = 4.0
"""Bytes moved to quantise an element to NVFP4: fitted to TensorRT-LLM's rows, B200 and GB200 alike."""

Filters = Sequence[tuple[str, str, Any]]


@TABLES.register("measured")
class AiconfiguratorTables:
    """Kernel tables of the package `aiconfigurator-core`, for ten NVIDIA systems and three engines."""

    def __init__(self, *, device: Device, engine: str, path: str, version: str = "") -> None:
        self._root = Path(str(require_extra(PACKAGE, "measured").__file__)).parent / "systems"
        self._engine = engine
        self._version = version
        self._system = _SYSTEMS.get(device.name)
        self._device = device.name
        self._kernels = device.kernels
        self._bytes_per_s = device.memory_bytes_per_s
        self._readers: dict[str, Callable[[str], KernelRows | str]] = {
            "gemm": self._gemm,
            "headwise_gemm": self._headwise,
            "moe": self._experts,
            "decode_attention": lambda dtype: self._attention("generation", dtype),
            "prefill_attention": lambda dtype: self._attention("context", dtype),
            "mla_decode": lambda dtype: self._latent("generation", dtype),
            "mla_prefill": lambda dtype: self._latent("context", dtype),
        }

    def rows(self, kernel: str, dtype: str) -> KernelRows | str:
        """Rows of the engine's current version, or why there are none."""
        if self._system is None:
            return f"{DISTRIBUTION} has no tables of {self._device}"
        for place in ((kernel, dtype, self._engine, ""), (kernel, dtype, self._engine, self._system)):
            if place in _UNUSABLE:
                return f"{DISTRIBUTION} has {kernel} {dtype} of {self._engine}, but {_UNUSABLE[place]}"
        if kernel == "all_to_all":
            return self._exchange()
        if kernel in _COLLECTIVES:
            return self._collective(kernel)
        return self._readers[kernel](dtype)

    # ---- one reader per kernel ----

    def _gemm(self, dtype: str) -> KernelRows | str:
        if dtype not in _GEMM_DTYPES:
            return f"{DISTRIBUTION} has no gemm in {dtype}"
        found = self._read("gemm", "gemm_perf", ("m", "n", "k"), [("gemm_dtype", "==", _GEMM_DTYPES[dtype])])
        if isinstance(found, str):
            return found
        columns, time_s, table = found
        timed_with = {"fp8": self._scaling_s, "nvfp4": self._packing_s}
        if dtype in timed_with and self._engine == "trtllm":
            time_s = time_s - timed_with[dtype](columns["m"], columns["k"])
            table = f"{table}, less the quantisation of activations in its timed region"
        return clean_rows(columns, time_s, table)

    def _headwise(self, dtype: str) -> KernelRows | str:
        """Absorbed projections of DeepSeek-V3: queries into the latent's width before attention, out of it behind."""
        if dtype not in _HEADWISE_DTYPES:
            return f"{DISTRIBUTION} has no absorbed projections in {dtype}"
        names = ("num_tokens", "num_heads", "op_name")
        found = self._read("mla_bmm", "mla_bmm_perf", names, [("bmm_dtype", "==", _HEADWISE_DTYPES[dtype])])
        if isinstance(found, str):
            return found
        read, time_s, table = found
        before = read["op_name"] == "mla_gen_pre"
        k, n = np.where(before, _NOPE, _LATENT), np.where(before, _LATENT, _NOPE)
        return clean_rows({"m": read["num_tokens"], "heads": read["num_heads"], "n": n, "k": k}, time_s, table)

    def _scaling_s(self, m: Array, k: Array) -> Array:
        """Time [s] to scale and convert activations of shape `(m, k)` to FP8, from the tables of those two kernels."""

        total = np.zeros_like(m, dtype=np.float64)
        for name in ("computescale_perf", "scale_matrix_perf"):
            found = self._read("quantize", name, ("m", "k"), [("quant_dtype", "==", "fp8")])
            if not isinstance(found, str):
                columns, time_s, _ = found
                kept = time_s > 0.0
                total += RatioGrid.fit([columns["m"][kept], columns["k"][kept]], time_s[kept]).at(m, k).ratio
        return total

    def _packing_s(self, m: Array, k: Array) -> Array:
        """Time [s] to quantise NVFP4 activations of shape `(m, k)`: the smallest rows over 16-bit ones, and a pass."""
        floors = []
        for dtype in ("nvfp4", "bfloat16"):
            found = self._read("gemm", "gemm_perf", ("m",), [("gemm_dtype", "==", dtype), ("m", "==", 1)])
            floors.append(0.0 if isinstance(found, str) else float(found[1].min()))
        return max(0.0, floors[0] - floors[1]) + _PACKING_BYTES * m * k / self._bytes_per_s

    def _experts(self, dtype: str) -> KernelRows | str:
        wanted = _EXPERT_DTYPES.get(dtype, ())
        names = ("num_tokens", "hidden_size", "inter_size", "num_experts", "topk", "moe_tp_size")
        lent = self._engine == "trtllm" and dtype == "nvfp4"
        lent = lent and self._kernels.library("moe", dtype, self._engine) == _GENERATED
        for candidate in wanted:
            filters = [("moe_dtype", "==", candidate), ("distribution", "==", _SKEWED), ("moe_ep_size", "==", 1)]
            found = self._read("moe", "moe_perf", names, filters, engine=_GENERATED_TIMED_BY if lent else None)
            if not isinstance(found, str):
                break
        else:
            return f"{DISTRIBUTION} has no experts in {dtype} for {self._engine} on {self._device}"
        read, time_s, table = found
        columns = {
            "tokens": read["num_tokens"],
            "hidden": read["hidden_size"],
            "intermediate": read["inter_size"] / read["moe_tp_size"],
            "experts": read["num_experts"],
            "top_k": read["topk"],
        }
        return fastest(clean_rows(columns, time_s, f"{table} {candidate}"))

    def _attention(self, phase: str, dtype: str) -> KernelRows | str:
        if dtype not in _CACHE_DTYPES:
            return f"{DISTRIBUTION} has no attention over a cache in {dtype}"
        names = ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim", "window_size")
        found: _Read | str = ""
        for arithmetic in self._arithmetic(phase, dtype):
            filters = [*_of_cache(phase, dtype), ("attn_dtype", "==", arithmetic), _OTHER_MODELS_KERNELS]
            found = self._read("attention", f"{phase}_attention_perf", names, filters)
            if not isinstance(found, str):
                break
        if isinstance(found, str):
            return found
        read, time_s, table = found
        window = read["window_size"]
        columns = {
            "q_heads": read["num_heads"],
            "kv_heads": read["num_key_value_heads"],
            "head_dim": read["head_dim"],
            "window": window,
        }
        if phase == "generation":
            context = read["isl"] + read["step"]
            attended = np.where(window > 0, np.minimum(context, np.maximum(window, 1)), context)
            columns |= {"sequences": read["batch_size"], "context": attended}
        else:
            columns |= {"chunk": read["isl"]}
        return clean_rows(columns, time_s, table)

    def _arithmetic(self, phase: str, dtype: str) -> tuple[str, ...]:
        """Number formats in which the engine multiplies: over an FP8 cache TensorRT-LLM's prompts do so in FP8."""
        if phase == "generation" or dtype == "bf16":
            return ("bfloat16",)
        return ("fp8",) if self._engine == "trtllm" else ("bfloat16", "fp8")

    def _latent(self, phase: str, dtype: str) -> KernelRows | str:
        if dtype not in _CACHE_DTYPES:
            return f"{DISTRIBUTION} has no latent attention over a cache in {dtype}"
        names = ("batch_size", "isl", "step", "num_heads")
        found = self._read("mla", f"{phase}_mla_perf", names, _of_cache(phase, dtype))
        if isinstance(found, str) and phase == "generation":
            found = self._without_projections(names, dtype)
        if isinstance(found, str):
            return found
        read, time_s, table = found
        if phase == "generation":
            columns = {"sequences": read["batch_size"], "context": read["isl"] + read["step"]}
        else:
            columns = {"chunk": read["isl"]}
        return fastest(clean_rows({**columns, "q_heads": read["num_heads"]}, time_s, table))

    def _without_projections(self, names: Sequence[str], dtype: str) -> _Read | str:
        """Latent decodes of an engine that was timed only with the projections around them (vLLM).

        Projections and launches do not depend on the context: `t(b, s) = module(b, s) - module(b, s0) + kernel(b, s0)`
        for the shortest context `s0`, whose kernel is little more than its launch: that of SGLang stands for it.
        """
        filters = _of_cache("generation", dtype)
        whole = self._read("mla", "mla_generation_module_perf", names, [*filters, ("gemm_type", "==", "bfloat16")])
        alone = self._read("mla", "generation_mla_perf", names, filters, engine=_KERNELS_ALONE)
        if isinstance(whole, str) or isinstance(alone, str):
            return whole if isinstance(whole, str) else str(alone)
        read, time_s, table = whole
        kernel, kernel_s, _ = alone
        short = kernel["step"] == kernel["step"].min()
        floor = RatioGrid.fit([kernel["batch_size"][short], kernel["num_heads"][short]], kernel_s[short])
        shortest = read["step"] == read["step"].min()
        module = RatioGrid.fit([read["batch_size"][shortest], read["num_heads"][shortest]], time_s[shortest])
        where = read["batch_size"], read["num_heads"]
        return read, time_s - module.at(*where).ratio + floor.at(*where).ratio, f"{table}, less its projections"

    def _collective(self, kernel: str) -> KernelRows | str:
        found: _Read | str = ""
        if kernel == "all_reduce":
            names = ("message_size", "num_gpus", "kernel_source")
            filters = [("allreduce_dtype", "==", "bfloat16")]
            version = self._version if self._engine in _REPLACED else ""
            found = self._read("comm", "custom_allreduce_perf", names, filters, version=version)
        if isinstance(found, str):
            filters = [("nccl_dtype", "==", "half"), ("op_name", "==", _COLLECTIVES[kernel])]
            found = self._read("comm", "nccl_perf", ("message_size", "num_gpus"), filters, engine="nccl")
        if isinstance(found, str):
            return found
        read, time_s, table = found
        columns = {"buffer_bytes": read["message_size"] * _HALF_BYTES, "ranks": read["num_gpus"]}
        rows = KernelRows(columns, time_s, table)
        if "kernel_source" in read:
            rows = rows.where(~np.char.endswith(read["kernel_source"].astype(str), "_eager"))
        return fastest(clean_rows(rows.columns, rows.time_s, table))

    def _exchange(self) -> KernelRows | str:
        """Tokens to the experts and results back, by the kernels of the engine, DeepSeek-V3's for all models."""
        if self._engine == "sglang":
            return self._deepep()
        model = [("hidden_size", "==", _EXCHANGED["hidden"]), ("kernel_source", "==", "NVLinkOneSided")]
        names = ("num_tokens", "moe_ep_size", "op_name")
        found = self._read("comm", "trtllm_alltoall_perf", names, model, engine="trtllm")
        if isinstance(found, str):
            return found
        read, time_s, table = found
        way = np.where(read["op_name"] == "alltoall_combine", 2.0, 1.0)
        sent = np.where(way == 2.0, _SENT_BYTES["bf16"], _SENT_BYTES["nvfp4"])
        return _exchanged(read["num_tokens"], read["moe_ep_size"], way, sent, time_s, table)

    def _deepep(self) -> KernelRows | str:
        """DeepEP in SGLang on the GPUs of one board: tokens in FP8, results in 16 bit; times are in microseconds."""
        model = [(f"num_{name}", "==", _EXCHANGED[name]) for name in ("topk", "experts")]
        model += [("hidden_size", "==", _EXCHANGED["hidden"]), ("node_num", "==", 1)]
        ranks = float(_DEEPEP_RANKS.get(str(self._system), 8))
        parts = []
        for name, time in (("ll", "{}_avg_t_us"), ("normal", "{}_transmit_us")):
            for way, sent in (("dispatch", "fp8"), ("combine", "bf16")):
                file, column = f"wideep_deepep_{name}_perf", time.format(way)
                found = self._read("comm", file, ("num_token",), model, time=column, unit_s=1e-6)
                if isinstance(found, str):
                    return found
                read, time_s, table = found
                few = read["num_token"] <= _FEW_TOKENS
                tokens, kept_s = (one[few if name == "ll" else ~few] for one in (read["num_token"], time_s))
                code = np.full(len(tokens), 2.0 if way == "combine" else 1.0)
                bytes_ = np.full(len(tokens), _SENT_BYTES[sent])
                parts.append(_exchanged(tokens, np.full(len(tokens), ranks), code, bytes_, kept_s, table))
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        return fastest(KernelRows(columns, np.concatenate([part.time_s for part in parts]), parts[0].table))

    # ---- files ----

    def _read(
        self,
        family: str,
        name: str,
        columns: Sequence[str],
        filters: Filters,
        *,
        engine: str | None = None,
        time: str = "latency",
        unit_s: float = 1e-3,
        version: str = "",
    ) -> _Read | str:
        """Columns, times [s] and the label of a table; the reason where there is none."""
        engine = engine or self._engine
        folder = self._root / "data" / str(self._system) / family / engine
        file = self._file(folder, name, version)
        if file is None:
            return f"{DISTRIBUTION} has no {name} of {engine} for {self._device}"
        read, times = _read_parquet(file, tuple(columns), tuple(filters), time)
        time_s = unit_s * times
        if not len(time_s):
            wanted = ", ".join(str(value) for _, _, value in filters)
            return f"{DISTRIBUTION} has no rows of {wanted} in {name} of {engine} for {self._device}"
        place = file.relative_to(self._root / "data").with_suffix("").as_posix()
        return read, time_s, f"{DISTRIBUTION} {_installed()} {place}"

    def _file(self, folder: Path, name: str, version: str) -> Path | None:
        """The newest table of this version, else of that which the package calls current, else of the newest.

        Only SGLang's all-reduces are read by version: that kernel was replaced in 2026 (pull request 24363). Other
        families have few tables of older versions, and TensorRT-LLM's of 1.2.0rc5 jump to thrice the time on Hopper.
        """
        files = sorted(folder.glob(f"*/{name}.parquet"), key=lambda file: _ordered(file.parent.name))
        own = [file for file in files if version and f"{file.parent.name}.".startswith(f"{version}.")]
        if own:
            return own[-1]
        current = _current_version(self._root, str(self._system), folder.name)
        return next((file for file in files if file.parent.name == current), files[-1] if files else None)


_Read = tuple[Mapping[str, Array], Array, str]


def _of_cache(phase: str, dtype: str) -> Filters:
    """Rows over a cache in this format; of prompts, those that are alone."""
    cache = ("kv_cache_dtype", "==", _CACHE_DTYPES[dtype])
    return [cache, ("batch_size", "==", 1)] if phase == "context" else [cache]


@lru_cache(maxsize=256)
def _read_parquet(
    file: Path, columns: tuple[str, ...], filters: tuple[tuple[str, str, Any], ...], time: str
) -> tuple[Mapping[str, Array], Array]:
    """Columns and times, in the file's unit, of the rows that pass the filters; columns the file lacks are zero."""
    import pyarrow.parquet as pq

    has = set(pq.read_schema(file).names)
    wanted = [name for name in columns if name in has]
    try:
        table = pq.read_table(file, columns=[*wanted, time], filters=list(filters))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the table: {error}", file=str(file)) from None
    read = {name: table.column(name).to_numpy() for name in wanted}
    lacking = {name: np.zeros(table.num_rows) for name in columns if name not in has}
    return {**read, **lacking}, np.asarray(table.column(time).to_numpy(), dtype=np.float64)


@lru_cache(maxsize=64)
def _current_version(root: Path, system: str, engine: str) -> str | None:
    """Version of an engine that the package queries by default for a system."""
    file = root / "query_versions.yaml"
    if not file.is_file():
        return None
    data = load_yaml(file).data
    for part in ((data.get("overrides") or {}).get(system) or {}, data.get("defaults") or {}):
        if engine in part:
            return str(part[engine]["current"])
    return None


def _installed() -> str:
    """Version of the package, with a remark if it is not the one these rules were made for."""
    found = version(DISTRIBUTION)
    return found if found == TESTED else f"{found} (not {TESTED}, for which it is read)"


def _ordered(name: str) -> tuple[tuple[int, str], ...]:
    """A version as something that sorts by its numbers."""
    return tuple((int(number or 0), text) for number, text in re.findall(r"(\d*)(\D*)", name))


def _exchanged(tokens: Array, ranks: Array, way: Array, sent: Array, time_s: Array, table: str) -> KernelRows:
    """Rows of an exchange from the tokens of a rank: each goes once to the ranks that hold experts of its own.

    Args:
        tokens: Tokens of a rank.
        ranks: Ranks that exchange.
        way: 1 to the experts, 2 for results back.
        sent: Bytes per element on the way.
        time_s: Time [s].
        table: Where the rows are from.
    """
    n = np.asarray(ranks, dtype=np.float64)
    whole = tokens * _EXCHANGED["hidden"] * sent * reached_ranks(n, top_k=_EXCHANGED["topk"])
    return clean_rows({"buffer_bytes": whole, "ranks": n, "way": way}, time_s, table)


def fastest(rows: KernelRows) -> KernelRows:
    """One row per shape, the fastest: where an engine has several kernels for it, its autotuner takes that one."""
    names = list(rows.columns)
    shapes = np.stack([rows.columns[name] for name in names], axis=-1)
    order = np.lexsort((rows.time_s, *(rows.columns[name] for name in names)))
    ordered = shapes[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    kept = order[first]
    return KernelRows({name: rows.columns[name][kept] for name in names}, rows.time_s[kept], rows.table)
