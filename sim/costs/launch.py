"""Host side: what launching kernels one by one adds to the time on the device.

The t0 of the kernel forms was measured inside CUDA graphs, so with graphs nothing is added here. In eager mode the
host enqueues every kernel, and an operator cannot take less than that; the two overlap, hence the maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from sim.core import Array
from sim.costs.numeric import Value
from sim.costs.recurrent import SCAN_LAUNCHES
from sim.models import Elementwise, Gemm, GroupedGemm, Operator, PrefillAttention, StateScan

EAGER_LAUNCH_S = 6.0e-6
"""Host time to dispatch one kernel from PyTorch without CUDA graphs (assumed; published traces show 4-10 us)."""


_INSIDE_ATTENTION: Final = frozenset({"rope", "cache_write"})
"""Operators that are part of the call of the attention kernel."""

_BEHIND_REDUCTION: Final = "reduced_norm"
"""Operator that is part of the all-reduce before it."""

_SCALED_ON_THE_FLY: Final = frozenset({"fp8_block"})
"""Formats whose activations get their scales from a call of its own before the GEMM; others are fused with a norm."""


_LATENT_PROMPT_CALLS: Final = 4.0
"""Further calls of latent attention over a prompt: expanded keys are split, copied and joined with their positions."""


TRITON_EXPERT_CALLS: Final = 6.0
"""Launches of MXFP4 experts by Triton's own kernels (triton_kernels: `routing.py`, `matmul_ogs.py`) behind the choice:
histogram, two that sort tokens by expert, two products and a reduction; one more leaves out experts of other ranks.

Each counts as a call: Triton launches from Python, a product with some fifty arguments. No time per call was fitted to
models with such experts.
"""


def host_calls(operators: Iterable[Operator], expert_calls: Callable[[GroupedGemm], float] = lambda op: 1.0) -> float:
    """Calls from Python that a forward pass without CUDA graphs is made of.

    As TensorRT-LLM's PyTorch backend makes them (`tensorrt_llm/_torch/modules`, `models`): one per operator, but
    position and cache are the attention's own, the norm after an all-reduce is fused with it, and scales per block of
    activations take one more. Shared experts take no events, since only CUDA graphs have a stream for them
    (`multi_stream_utils.py` there, `deepseek_v2.py` of SGLang). A scan of recurrent states is as many as it has
    kernels, a grouped GEMM one unless `expert_calls` says otherwise.
    """
    calls = 0.0
    for op in operators:
        fused = isinstance(op, Elementwise) and (op.name in _INSIDE_ATTENTION or op.name == _BEHIND_REDUCTION)
        scaled = isinstance(op, Gemm) and op.weights_dtype in _SCALED_ON_THE_FLY
        calls += op.count * (1.0 + scaled) * (not fused)
        if isinstance(op, GroupedGemm):
            calls += op.count * (expert_calls(op) - 1.0)
        if isinstance(op, PrefillAttention) and op.kind == "mla":
            calls += op.count * _LATENT_PROMPT_CALLS
        if isinstance(op, StateScan):
            calls += op.count * (SCAN_LAUNCHES - 1)
    return calls


def eager_time_s(device_s: Value, *, launches: Value, launch_s: float = EAGER_LAUNCH_S) -> Array:
    """Time [s] of kernels launched one by one: the longer of device work and host dispatch.

    The host runs ahead while kernels are long (prefill) and is waited for while they are short (decode).
    """
    return np.maximum(device_s, np.asarray(launches) * launch_s)
