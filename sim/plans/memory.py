"""Memory of one device under a plan, and how many KV blocks are left for it.

Engines mean different things by their memory fraction (`EngineSpec.kv_memory_of`). vLLM's is of the whole device:
weights, the peak of a profiling run and what the runtime takes are subtracted, the rest is KV blocks
(`vllm/v1/worker/gpu_worker.py`, determine_available_memory). SGLang's is for weights and KV blocks only, of what was
free before the weights came (`sglang/srt/model_executor/model_runner.py`, profile_max_num_token); what it is if nobody
says is in `reserve`. TensorRT-LLM's is of
what is free once weights are loaded and a profiling run is over (`tensorrt_llm/_torch/pyexecutor/_util.py`). The stage
with the fewest blocks sets the number for all.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.hardware import Device
from sim.models import (
    Dense,
    LayerCache,
    ModelSpec,
    MoE,
    Shard,
    activation_bytes,
    kv_bytes_per_token_rank,
    layer_caches,
    layers_of,
    weight_bytes,
)
from sim.plans.engine import ActivationRule, EngineSpec, MemoryShare
from sim.plans.kv_layout import KvPool, kv_pool


@dataclass(frozen=True)
class MemoryFootprint:
    """Memory of one device of the stage with the fewest KV blocks [B]; the parts add up to the device's memory.

    Attributes:
        weights_bytes: Weights.
        kv_cache_bytes: KV blocks.
        activations_bytes: Reserved for the peak of an iteration.
        graphs_bytes: Captured CUDA graphs.
        runtime_bytes: Context and communication buffers.
        free_bytes: What the engine leaves alone.
    """

    weights_bytes: float
    kv_cache_bytes: float
    activations_bytes: float
    graphs_bytes: float
    runtime_bytes: float
    free_bytes: float

    @property
    def total_bytes(self) -> float:
        """Memory of the device that software sees [B]."""
        return sum(self.to_dict().values())

    def to_dict(self) -> dict[str, float]:
        """The parts by name [B]."""
        return {
            "weights_bytes": self.weights_bytes,
            "kv_cache_bytes": self.kv_cache_bytes,
            "activations_bytes": self.activations_bytes,
            "graphs_bytes": self.graphs_bytes,
            "runtime_bytes": self.runtime_bytes,
            "free_bytes": self.free_bytes,
        }


@dataclass(frozen=True)
class StageMemory:
    """What a device of one pipeline stage holds, by tokens and rows of an iteration.

    Attributes:
        weights_bytes: Weights [B].
        kv_bytes_per_token: KV cache per token, as long as windows keep it [B].
        caches: What its layers keep of a sequence, and how many layers keep the same.
        forward_bytes_per_token: Peak of the forward pass per token [B].
        sampling_bytes_per_token: Hidden states alive while sampling, per token [B].
        sampling_bytes_per_row: Logits and their copies per sampled row [B].
        experts_bytes_per_token: Expert buffers per token in a chunk [B].
        buffers_bytes_per_token: Receive buffers of the stage per token [B].
    """

    weights_bytes: float
    kv_bytes_per_token: float
    caches: tuple[tuple[LayerCache, int], ...]
    forward_bytes_per_token: float
    sampling_bytes_per_token: float
    sampling_bytes_per_row: float
    experts_bytes_per_token: float
    buffers_bytes_per_token: float

    def activation_bytes(self, *, tokens: int, rows: int, moe_tokens: int) -> float:
        """Peak of an iteration of `tokens` tokens that samples `rows` rows [B]; see `ActivationRule`."""
        forward = tokens * self.forward_bytes_per_token
        sampling = tokens * self.sampling_bytes_per_token + rows * self.sampling_bytes_per_row
        kept = moe_tokens * self.experts_bytes_per_token + tokens * self.buffers_bytes_per_token
        return max(forward, sampling) + kept


@dataclass(frozen=True)
class MemoryModel:
    """Memory of all stages of a plan shape.

    Attributes:
        stages: Distinct stages, first to last.
        device_bytes: Memory of the device that software sees [B].
        visible_bytes: What the runtime reports as the total and fractions are of [B].
        runtime_bytes: Context and communication buffers [B].
        graph_bytes: Captured graphs [B].
        graphs_in_budget: Whether graphs count within the engine's fraction.
        share_of: What that is a fraction of; see `EngineSpec.kv_memory_of`.
        moe_ranks: Data-parallel ranks whose tokens meet in the expert buffers.
        max_moe_tokens: Tokens of one chunk of the expert buffers.
        frees_windows: Whether KV blocks that a sliding window has left behind are freed.
        states: Recurrent states that a sequence holds in each of its layers.
    """

    stages: tuple[StageMemory, ...]
    device_bytes: float
    visible_bytes: float
    runtime_bytes: float
    graph_bytes: float
    graphs_in_budget: bool
    share_of: MemoryShare
    moe_ranks: int
    max_moe_tokens: int
    frees_windows: bool
    states: int

    def pool(self, stage: StageMemory, block_tokens: int) -> KvPool:
        """What a sequence holds of a stage's KV blocks, and how large those are."""
        return kv_pool(stage.caches, block_tokens=block_tokens, frees_windows=self.frees_windows, states=self.states)

    def activation_bytes(self, stage: StageMemory, *, tokens: int, rows: int) -> float:
        """Peak of an iteration in a stage [B]; no more rows are sampled than there are tokens."""
        moe_tokens = min(tokens * self.moe_ranks, self.max_moe_tokens)
        return stage.activation_bytes(tokens=tokens, rows=min(rows, tokens), moe_tokens=moe_tokens)

    def free_for_kv_bytes(self, stage: StageMemory, *, tokens: int, rows: int, frac: float) -> float:
        """What is left for KV blocks in a stage [B]; negative if the rest does not even fit."""
        if self.share_of == "static":
            return (self.visible_bytes - self.runtime_bytes) * frac - stage.weights_bytes
        taken = stage.weights_bytes + self.runtime_bytes + self.activation_bytes(stage, tokens=tokens, rows=rows)
        taken += self.graph_bytes if self.graphs_in_budget else 0.0
        if self.share_of == "free":
            return (self.visible_bytes - taken) * frac
        return self.visible_bytes * frac - taken

    def kv_blocks(self, *, tokens: int, rows: int, frac: float, block_tokens: int) -> tuple[int, StageMemory]:
        """KV blocks per data-parallel rank and the stage that sets them, where the shortest sequence fills the pool.

        Zero or less if there is no room.
        """
        found: list[tuple[int, int, StageMemory]] = []
        for stage in self.stages:
            pool = self.pool(stage, block_tokens)
            blocks = int(self.free_for_kv_bytes(stage, tokens=tokens, rows=rows, frac=frac) // pool.block_bytes)
            found.append((min(blocks, pool.layout.tokens_in(blocks)), blocks, stage))
        _, blocks, stage = min(found, key=lambda one: one[0])
        return blocks, stage

    def footprint(
        self, stage: StageMemory, *, tokens: int, rows: int, kv_blocks: int, block_tokens: int
    ) -> MemoryFootprint:
        """Memory of a device of `stage` by class."""
        kv = kv_blocks * self.pool(stage, block_tokens).block_bytes
        activations = self.activation_bytes(stage, tokens=tokens, rows=rows)
        taken = stage.weights_bytes + kv + activations + self.graph_bytes + self.runtime_bytes
        free = self.device_bytes - taken
        return MemoryFootprint(stage.weights_bytes, kv, activations, self.graph_bytes, self.runtime_bytes, free)


def memory_model(
    model: ModelSpec, shards: tuple[Shard, ...], device: Device, engine: EngineSpec, *, states: int = 1
) -> MemoryModel:
    """Memory of a plan's stages on a device under an engine, with so many recurrent states of a sequence."""
    shard = shards[0]
    alone = shard.tp == 1 and shard.dp == 1
    distinct = dict.fromkeys(_stage(model, shard, engine.activation) for shard in shards)
    return MemoryModel(
        stages=tuple(distinct),
        device_bytes=device.memory_bytes,
        visible_bytes=device.memory_bytes * engine.visible_memory_frac.value,
        runtime_bytes=(engine.runtime_bytes if alone else engine.runtime_parallel_bytes).value,
        graph_bytes=engine.graph_bytes.value,
        graphs_in_budget=engine.graphs_in_budget,
        share_of=engine.kv_memory_of,
        moe_ranks=shard.dp,
        max_moe_tokens=engine.activation.max_moe_tokens.value,
        frees_windows=engine.frees_windows,
        states=states,
    )


def _stage(model: ModelSpec, shard: Shard, rule: ActivationRule) -> StageMemory:
    element = activation_bytes(model.dtype)
    hidden = element * model.hidden_size
    width = experts = 0.0
    for group, _ in layers_of(model, shard):
        ffn = group.ffn
        if ffn is None:
            continue
        if isinstance(ffn, Dense):
            inner = ffn.intermediate / shard.tp * (1.0 if ffn.gated else 2.0 / 3.0)
        else:
            inner = ffn.shared_intermediate / shard.tp
            experts = max(experts, _expert_buffers(model, ffn, shard))
        width = max(width, inner)
    logits = model.vocab_size * rule.logits_bytes.value
    return StageMemory(
        weights_bytes=weight_bytes(model, shard),
        kv_bytes_per_token=kv_bytes_per_token_rank(model, shard),
        caches=tuple(layer_caches(model, shard).items()),
        forward_bytes_per_token=rule.hidden_copies.value * hidden + rule.intermediate_copies.value * element * width,
        sampling_bytes_per_token=hidden if shard.last else 0.0,
        sampling_bytes_per_row=logits if shard.last else 0.0,
        experts_bytes_per_token=experts,
        buffers_bytes_per_token=rule.pipeline_copies.value * hidden if shard.pp > 1 else 0.0,
    )


def _expert_buffers(model: ModelSpec, ffn: MoE, shard: Shard) -> float:
    """Buffers of the grouped GEMMs per token [B]: inputs and outputs of the chosen experts."""
    inputs = 2.0 if ffn.gated else 1.0
    outer = float(ffn.latent or model.hidden_size)
    widest = max(inputs * ffn.intermediate / shard.moe_tp, outer)
    return activation_bytes(model.dtype) * ffn.top_k * (outer + widest)
