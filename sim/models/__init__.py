"""Models: transformer shapes, and their expansion into operators that carry work but no time.

Start in `spec` (what a model file says), then `operators` (units of work), `expand` (layers to operators for one
rank), `shard` (which slice a rank holds, its weights and cache), `parameters` (counts and closed forms) and `hf`
(import of a Hugging Face `config.json`, with one file per family of architectures).
"""

from sim.models.architectures import ARCHITECTURES
from sim.models.dtypes import (
    ALIASES,
    FORMATS,
    activation_bytes,
    attention_dtype,
    bytes_per_element,
    canonical_dtype,
    compute_dtype,
)
from sim.models.expand import decode_operators, prefill_operators, sequence_operators, token_operators
from sim.models.hf import from_config, read_config
from sim.models.load import load_model
from sim.models.operators import (
    Collective,
    DecodeAttention,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
    Operator,
    PrefillAttention,
    Sampling,
)
from sim.models.parameters import (
    ParamCounts,
    attention_flops_per_key,
    kv_bytes_per_token,
    model_flops_per_token,
    parameter_counts,
)
from sim.models.shard import (
    AttentionClass,
    Shard,
    attention_classes,
    kv_bytes_per_token_rank,
    kv_heads_per_rank,
    layers_of,
    stages,
    weight_bytes,
)
from sim.models.spec import GQA, MLA, Checkpoint, Dense, FormatName, LayerGroup, ModelSpec, MoE

__all__ = [
    "ALIASES",
    "ARCHITECTURES",
    "FORMATS",
    "GQA",
    "MLA",
    "AttentionClass",
    "Checkpoint",
    "Collective",
    "DecodeAttention",
    "Dense",
    "Elementwise",
    "Embedding",
    "FormatName",
    "Gemm",
    "GroupedGemm",
    "LayerGroup",
    "MoE",
    "ModelSpec",
    "Operator",
    "ParamCounts",
    "PrefillAttention",
    "Sampling",
    "Shard",
    "activation_bytes",
    "attention_classes",
    "attention_dtype",
    "attention_flops_per_key",
    "bytes_per_element",
    "canonical_dtype",
    "compute_dtype",
    "decode_operators",
    "from_config",
    "kv_bytes_per_token",
    "kv_bytes_per_token_rank",
    "kv_heads_per_rank",
    "layers_of",
    "load_model",
    "model_flops_per_token",
    "parameter_counts",
    "prefill_operators",
    "read_config",
    "sequence_operators",
    "stages",
    "token_operators",
    "weight_bytes",
]
