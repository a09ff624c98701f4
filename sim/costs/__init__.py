"""From operators to seconds: pure forms per kernel, collectives, and the model that puts them together.

Start with `CostModel` (in `model`), which picks for each operator a form (`gemm`, `attention`, `moe`, `elementwise`,
`collectives`), the device's fitted parameters (`curves`) and the arithmetic (`precision`). The forms are pure
functions of numbers and arrays and can be used alone. `fusion` holds what an engine's kernels do together, `launch`
what launches without CUDA graphs add, `tables` measured kernel times; `choice` says which of the two a scenario wants.
"""

from sim.costs.attention import (
    QUERY_ROWS_PER_TILE,
    DecodeCurve,
    PrefillCurve,
    PrefillTerms,
    decode_attention_terms,
    decode_attention_time_s,
    join_chunks,
    mean_attended_keys,
    prefill_attention_terms,
    prefill_attention_time_s,
)
from sim.costs.choice import ANALYTIC, CostsSpec, measured_kernels
from sim.costs.collectives import (
    COLLECTIVES,
    BoundCollective,
    bind_collective,
    lower_bound_s_per_byte,
    root_form,
    wire_factor,
)
from sim.costs.cost import BOUNDS, OpCost
from sim.costs.elementwise import StreamCurve, stream_time_s
from sim.costs.fusion import NO_FUSION, Fusion, side_by_side_share
from sim.costs.gemm import GemmCurve, gemm_terms, gemm_time_s
from sim.costs.launch import EAGER_LAUNCH_S, eager_time_s, host_calls
from sim.costs.model import CostModel
from sim.costs.moe import (
    MoeCurve,
    busiest_rank_pairs,
    grouped_gemm_terms,
    grouped_gemm_time_s,
)
from sim.costs.numeric import p_norm
from sim.costs.precision import Precision, precision_of
from sim.costs.tables import TABLES, MeasuredKernels
from sim.costs.usage import Use, merged

__all__ = [
    "ANALYTIC",
    "BOUNDS",
    "COLLECTIVES",
    "EAGER_LAUNCH_S",
    "NO_FUSION",
    "QUERY_ROWS_PER_TILE",
    "TABLES",
    "BoundCollective",
    "CostModel",
    "CostsSpec",
    "DecodeCurve",
    "Fusion",
    "GemmCurve",
    "MeasuredKernels",
    "MoeCurve",
    "OpCost",
    "Precision",
    "PrefillCurve",
    "PrefillTerms",
    "StreamCurve",
    "Use",
    "bind_collective",
    "busiest_rank_pairs",
    "decode_attention_terms",
    "decode_attention_time_s",
    "eager_time_s",
    "gemm_terms",
    "gemm_time_s",
    "grouped_gemm_terms",
    "grouped_gemm_time_s",
    "host_calls",
    "join_chunks",
    "lower_bound_s_per_byte",
    "mean_attended_keys",
    "measured_kernels",
    "merged",
    "p_norm",
    "precision_of",
    "prefill_attention_terms",
    "prefill_attention_time_s",
    "root_form",
    "side_by_side_share",
    "stream_time_s",
    "wire_factor",
]
