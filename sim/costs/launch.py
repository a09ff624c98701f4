"""Host side: what launching kernels one by one adds to the time on the device.

The t0 of the kernel forms was measured inside CUDA graphs, so with graphs nothing is added here. In eager mode the
host enqueues every kernel, and an operator cannot take less than that; the two overlap, hence the maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np

from sim.core import Array
from sim.costs.numeric import Value
from sim.costs.recurrent import SCAN_LAUNCHES
from sim.models import (
    AbsorbedProducts,
    DecodeAttention,
    Elementwise,
    Gemm,
    GroupedGemm,
    Operator,
    PrefillAttention,
    StateScan,
    StateUpdate,
)

EAGER_LAUNCH_S = 6.0e-6
"""Host time to dispatch one kernel from PyTorch without CUDA graphs (assumed; published traces show 4-10 us)."""


_INSIDE_ATTENTION: Final = frozenset({"rope", "cache_write"})
"""Operators that are part of the call of the attention kernel."""

BEHIND_REDUCTION: Final = "reduced_norm"
"""Operator that is part of the all-reduce before it."""

_SCALED_ON_THE_FLY: Final = frozenset({"fp8_block"})
"""Formats whose activations get their scales from a call of its own before the GEMM; others are fused with a norm,
or have an operator of their own (`packed_apart` of engine profiles)."""


_WITHIN_LATENT_ATTENTION: Final = frozenset(
    {"qkv_down", "latent_norm", "q", "q_up", "k_up", "v_up", "index_q", "index_k", "index_write"}
)
"""Operators that latent attention calls itself."""


_LATENT_PROMPT_CALLS: Final = 3.0
"""Further calls of latent attention over a prompt: the latent is joined with its position, keys are copied behind
theirs, and queries, keys and values are joined (`MLA.forward_context_default`)."""


_LATENT_DECODE_CALLS: Final = 5.0
"""Calls of latent attention for what decodes beside prompts, a path of its own: two products with absorbed matrices,
attention, and both results copied into one (`MLA.forward_generation`)."""


TRITON_EXPERT_CALLS: Final = 6.0
"""Launches of MXFP4 experts by Triton's own kernels (triton_kernels: `routing.py`, `matmul_ogs.py`) behind the choice:
histogram, two that sort tokens by expert, two products and a reduction; one more leaves out experts of other ranks.

Each counts as a call: Triton launches from Python, a product with some fifty arguments. No time per call was fitted to
models with such experts.
"""


_EXPERT_KERNELS: Final[Mapping[str, float]] = {"trtllm-gen": 4.0, "deepgemm": 12.0}
"""Kernels of experts by library: of TensorRT-LLM's generated ones a sort, two products and a reduction; around
DeepGEMM's padded products permutation, maps, copies and scales are kernels of their own (`fused_moe_deepgemm.py`)."""


_OTHER_EXPERT_KERNELS: Final = 7.0
"""Kernels of experts of other libraries: two or three that sort and gather, two products, activation, reduction."""


def expert_launches(library: str) -> float:
    """Kernels of experts of a library, empty where it is not known."""
    return _EXPERT_KERNELS.get(library, _OTHER_EXPERT_KERNELS)


QUANTISED_PRODUCT_LAUNCHES: Final = 4.0
"""Further kernels of the two absorbed products in FP8 blocks: inputs are quantised before each, results copied to where
they belong after (`fp8_block_scaling_bmm_out` of TensorRT-LLM on Hopper)."""


def scaled_on_the_fly(dtype: str) -> bool:
    """Whether activations get their scales from a kernel of its own before a product with weights of this format."""
    return dtype in _SCALED_ON_THE_FLY


def gemm_launches(op: Gemm) -> float:
    """Kernels, each a call, of one product: one, or two where its activations are scaled first."""
    return 1.0 + scaled_on_the_fly(op.weights_dtype)


def host_calls(
    operators: Iterable[Operator],
    expert_calls: Callable[[GroupedGemm], float] = lambda op: 1.0,
    *,
    from_graphs: bool = False,
    norms_within: bool = True,
) -> float:
    """Calls from Python that a forward pass over prompts is made of.

    As TensorRT-LLM's PyTorch backend makes them (`tensorrt_llm/_torch/modules`, `models`): one per operator, but
    position and cache are the attention's own, the norm after an all-reduce may be fused with it, and scales per
    block of activations take one more. Shared experts take no events, since only CUDA graphs have a stream for them
    (`multi_stream_utils.py` there, `deepseek_v2.py` of SGLang). A scan of recurrent states is as many as it has
    kernels, a grouped GEMM one unless `expert_calls` says otherwise.

    Args:
        operators: Operators of the pass.
        expert_calls: Calls of a grouped GEMM.
        from_graphs: Whether CUDA graphs hold what lies between the attention of one layer and the next. Each is one
            launch then, but attention stays eager: of grouped queries its kernel, of latent ones all but the output
            projection (`compilation/piecewise_optimizer.py` and `MLA.forward_impl` of TensorRT-LLM).
        norms_within: Whether norms behind all-reduces are part of them.
    """
    calls = 0.0
    for op in operators:
        if op.name == BEHIND_REDUCTION and norms_within:
            continue
        if not from_graphs or _stays_eager(op):
            calls += op.count * _calls(op, expert_calls)
        if from_graphs and _ends_graph(op):
            calls += op.count
    return calls


def _calls(op: Operator, expert_calls: Callable[[GroupedGemm], float]) -> float:
    """Calls for one execution of an operator."""
    if isinstance(op, Elementwise):
        return float(op.name not in _INSIDE_ATTENTION)
    if isinstance(op, Gemm):
        return gemm_launches(op)
    if isinstance(op, GroupedGemm):
        return expert_calls(op)
    if isinstance(op, StateScan):
        return SCAN_LAUNCHES
    if isinstance(op, AbsorbedProducts):
        return 0.0
    if isinstance(op, DecodeAttention):
        return _LATENT_DECODE_CALLS * (op.kind == "mla")
    return 1.0 + _LATENT_PROMPT_CALLS * (isinstance(op, PrefillAttention) and op.kind == "mla")


def _stays_eager(op: Operator) -> bool:
    """Whether an operator is launched by itself where graphs hold all but attention."""
    return (
        isinstance(op, PrefillAttention | DecodeAttention | StateScan | StateUpdate)
        or op.name in _WITHIN_LATENT_ATTENTION
    )


def _ends_graph(op: Operator) -> bool:
    """Whether an operator lies between two graphs; an indexer's scores are part of the attention they choose for."""
    return isinstance(op, StateScan) or (isinstance(op, PrefillAttention) and op.kind != "indexer")


def eager_time_s(device_s: Value, *, launches: Value, launch_s: float = EAGER_LAUNCH_S) -> Array:
    """Time [s] of kernels launched one by one: the longer of device work and host dispatch.

    The host runs ahead while kernels are long (prefill) and is waited for while they are short (decode).
    """
    return np.maximum(device_s, np.asarray(launches) * launch_s)
