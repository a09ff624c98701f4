"""Models: transformer shapes, and their expansion into operators that carry work but no time.

Start in `spec` and `mixers` (what a model file says: layers, and what mixes their tokens), then `operators` (units of
work), `expand` (layers to operators for one rank) with `views` and `looking_back` (attention, indexers and recurrent
states), `shard` (which slice a rank holds, its weights and cache), `parameters` (counts and closed forms) and `hf`
(import of a Hugging Face `config.json`, with one file per family of architectures).
"""

from sim.models.architectures import ARCHITECTURES
from sim.models.cache import LayerCache, kv_heads_per_rank, layer_cache
from sim.models.dtypes import (
    ALIASES,
    FORMATS,
    activation_bytes,
    attention_dtype,
    bytes_per_element,
    canonical_dtype,
    compute_dtype,
)
from sim.models.expand import NORM_PASSES, sequence_operators, token_operators
from sim.models.hf import from_config, read_config
from sim.models.load import load_model, packaged_configs
from sim.models.looking_back import decode_operators, prefill_operators, state_scan
from sim.models.mixers import (
    GQA,
    MLA,
    CompressedAttention,
    FormatName,
    GatedDelta,
    Indexer,
    Mamba2,
    Mixer,
)
from sim.models.operators import (
    AbsorbedProducts,
    AttentionKind,
    Collective,
    DecodeAttention,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
    Operator,
    PrefillAttention,
    Sampling,
    StateScan,
    StateUpdate,
)
from sim.models.parameters import (
    ParamCounts,
    kv_bytes_per_token,
    model_flops_per_token,
    parameter_counts,
    state_bytes_per_sequence,
    state_flops_per_token,
)
from sim.models.shard import (
    Shard,
    kv_bytes_per_token_rank,
    layer_caches,
    layers_of,
    stages,
    state_bytes_rank,
    weight_bytes,
)
from sim.models.spec import Checkpoint, Dense, LayerGroup, ModelSpec, MoE
from sim.models.views import AttentionClass, View, attention_classes, attention_flops_per_key

__all__ = [
    "ALIASES",
    "ARCHITECTURES",
    "FORMATS",
    "GQA",
    "MLA",
    "NORM_PASSES",
    "AbsorbedProducts",
    "AttentionClass",
    "AttentionKind",
    "Checkpoint",
    "Collective",
    "CompressedAttention",
    "DecodeAttention",
    "Dense",
    "Elementwise",
    "Embedding",
    "FormatName",
    "GatedDelta",
    "Gemm",
    "GroupedGemm",
    "Indexer",
    "LayerCache",
    "LayerGroup",
    "Mamba2",
    "Mixer",
    "MoE",
    "ModelSpec",
    "Operator",
    "ParamCounts",
    "PrefillAttention",
    "Sampling",
    "Shard",
    "StateScan",
    "StateUpdate",
    "View",
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
    "layer_cache",
    "layer_caches",
    "layers_of",
    "load_model",
    "model_flops_per_token",
    "packaged_configs",
    "parameter_counts",
    "prefill_operators",
    "read_config",
    "sequence_operators",
    "stages",
    "state_bytes_per_sequence",
    "state_bytes_rank",
    "state_flops_per_token",
    "state_scan",
    "token_operators",
    "weight_bytes",
]
