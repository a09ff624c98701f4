"""Plans with every field known, and plans that cannot run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sim.core import Reason
from sim.hardware import CommGroup
from sim.models import Shard
from sim.plans.kv_layout import KvLayout
from sim.plans.memory import MemoryFootprint, MemoryModel, StageMemory
from sim.plans.placement import Placement
from sim.plans.spec import MoeBackend, PlanSpec, PoolSpec
from sim.plans.speculation import SpeculationSpec

ShapeKey = tuple[int, int, int, int, int, str, str, int, int, str, bool]


@dataclass(frozen=True)
class PlanShape:
    """What of a plan does not depend on its replicas, limits and clock.

    Attributes:
        tp: Tensor-parallel ranks.
        pp: Pipeline stages.
        dp: Attention-data-parallel ranks.
        ep: Expert-parallel ranks.
        moe_tp: Tensor-parallel ranks inside an expert.
        weights_dtype: Format of the linear layers.
        kv_dtype: Format of the KV cache.
        draft_layers: Layers behind the model's that draft tokens for speculation; the shards hold them.
        step_tokens: Tokens of a sequence that an iteration computes; recurrent layers keep the state behind each.
        expert_exchange: How tokens get to the experts of other data-parallel ranks.
        expert_balancer: Whether a load balancer keeps ranks with experts equally busy.
        compute_dtype: Format in which the device multiplies.
        shards: One rank's part of the model per stage.
        groups: Communication groups of one rank by name, per stage.
        placement: Devices of every rank.
        memory: Memory of the stages.
    """

    tp: int
    pp: int
    dp: int
    ep: int
    moe_tp: int
    weights_dtype: str
    kv_dtype: str
    draft_layers: int
    step_tokens: int
    expert_exchange: str
    expert_balancer: bool
    compute_dtype: str
    shards: tuple[Shard, ...]
    groups: tuple[Mapping[str, CommGroup], ...]
    placement: Placement
    memory: MemoryModel

    @property
    def key(self) -> ShapeKey:
        """What two plans must share to have the same shape."""
        ranks = (self.tp, self.pp, self.dp, self.ep, self.moe_tp)
        formats = (self.weights_dtype, self.kv_dtype)
        return (*ranks, *formats, self.draft_layers, self.step_tokens, self.expert_exchange, self.expert_balancer)


@dataclass(frozen=True)
class Infeasible:
    """A plan that cannot run.

    Attributes:
        plan: The plan as asked for.
        label: Short text.
        reasons: Why, at least one.
    """

    plan: PlanSpec
    label: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class ResolvedPlan:
    """A plan that can run, with every field known.

    Attributes:
        shape: Ranks, formats, shards, placement and memory per token.
        label: Short text: ranks, and what differs from the defaults.
        replicas: Engines behind the router.
        max_num_seqs: Most sequences that run at once, per data-parallel rank.
        max_num_batched_tokens: Most tokens of an iteration, per data-parallel rank.
        queue_interval: Decode iterations from one look at the queue to the next.
        balance_wait: Most decode iterations for which prompts wait until every data-parallel rank has one.
        batch_wait: Most decode iterations for which prompts wait until they fill `batch_fill` of the token budget.
        batch_fill: That share.
        moe_backend: Library of the experts' kernels; None, the engine's choice.
        prompt_graphs: Whether iterations with prompts run from CUDA graphs too.
        fuse_all_reduce: Whether all-reduces are told to take in the norms behind them; None, they are not told.
        graph_sizes: Batch sizes [tokens] for which CUDA graphs are captured.
        max_model_len: Longest request [tokens].
        max_model_len_given: Whether the user gave it.
        kv_memory_frac: Share of device memory for weights, activations and KV cache.
        clock: GPU clock over the highest.
        router: Name of the router.
        scheduler: Name of the scheduling policy.
        chunked_prefill: Whether prompts may be split over iterations.
        prefix_caching: Whether requests with equal prefixes share KV blocks.
        block_tokens: Tokens per KV block.
        kv_blocks: KV blocks per data-parallel rank.
        watermark_blocks: Blocks that admission leaves free, per data-parallel rank.
        tightest: The stage that sets the number of KV blocks.
        speculation: Speculative decoding; None without.
        prefill: Engines that compute the prompts, so that these only decode; None, and these do both.
        kv_link: Link of one device over which KV comes from them.
        devices: Devices of every replica where two kinds of engines share the cluster; None, as `placement` has them.
        stand_ins: What is priced as something else, for lack of times of its own.
    """

    shape: PlanShape
    label: str
    replicas: int
    max_num_seqs: int
    max_num_batched_tokens: int
    queue_interval: int
    balance_wait: int
    batch_wait: int
    batch_fill: float
    moe_backend: MoeBackend | None
    prompt_graphs: bool
    fuse_all_reduce: bool | None
    graph_sizes: tuple[int, ...]
    max_model_len: int
    max_model_len_given: bool
    kv_memory_frac: float
    clock: float
    router: str
    scheduler: str
    chunked_prefill: bool
    prefix_caching: bool
    block_tokens: int
    kv_blocks: int
    watermark_blocks: int
    tightest: StageMemory
    speculation: SpeculationSpec | None = None
    prefill: ResolvedPlan | None = None
    kv_link: CommGroup | None = None
    devices: tuple[tuple[int, ...], ...] | None = None
    stand_ins: tuple[str, ...] = ()

    @property
    def pools(self) -> tuple[ResolvedPlan, ...]:
        """Engines for prompts, if there are such, and engines that decode or do both."""
        return (self,) if self.prefill is None else (self.prefill, self)

    @property
    def tp(self) -> int:
        """Tensor-parallel ranks."""
        return self.shape.tp

    @property
    def pp(self) -> int:
        """Pipeline stages."""
        return self.shape.pp

    @property
    def dp(self) -> int:
        """Attention-data-parallel ranks of one engine."""
        return self.shape.dp

    @property
    def ep(self) -> int:
        """Expert-parallel ranks."""
        return self.shape.ep

    @property
    def moe_tp(self) -> int:
        """Tensor-parallel ranks inside an expert."""
        return self.shape.moe_tp

    @property
    def weights_dtype(self) -> str:
        """Format of the linear layers."""
        return self.shape.weights_dtype

    @property
    def kv_dtype(self) -> str:
        """Format of the KV cache."""
        return self.shape.kv_dtype

    @property
    def step_tokens(self) -> int:
        """Tokens of a decoding sequence that an iteration computes."""
        return 1 if self.speculation is None else self.speculation.step_tokens

    @property
    def expert_exchange(self) -> str:
        """How tokens get to the experts of other data-parallel ranks."""
        return self.shape.expert_exchange

    @property
    def expert_balancer(self) -> bool:
        """Whether a load balancer keeps ranks with experts equally busy."""
        return self.shape.expert_balancer

    @property
    def compute_dtype(self) -> str:
        """Format in which the device multiplies."""
        return self.shape.compute_dtype

    @property
    def shards(self) -> tuple[Shard, ...]:
        """One rank's part of the model per stage."""
        return self.shape.shards

    @property
    def stage_groups(self) -> tuple[Mapping[str, CommGroup], ...]:
        """Communication groups of one rank by name (`tp`, `dp`, `ep`, `pp`), per stage."""
        return self.shape.groups

    @property
    def placement(self) -> Placement:
        """Devices of every rank."""
        return self.shape.placement

    @property
    def gpus_per_replica(self) -> int:
        """GPUs of one engine."""
        return self.shape.dp * self.shape.tp * self.shape.pp

    @property
    def n_gpus(self) -> int:
        """GPUs in all."""
        return sum(pool.replicas * pool.gpus_per_replica for pool in self.pools)

    @property
    def n_replicas(self) -> int:
        """Engines in all."""
        return sum(pool.replicas for pool in self.pools)

    @property
    def kv_layout(self) -> KvLayout:
        """What a sequence holds of the KV blocks of a rank."""
        return self.shape.memory.pool(self.tightest, self.block_tokens).layout

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache of one data-parallel rank holds, counted as vLLM reports it: of all layer groups.

        One sequence may be longer where windows free what they leave behind.
        """
        return self.kv_blocks // max(1, self.kv_layout.groups) * self.block_tokens

    @property
    def memory(self) -> MemoryFootprint:
        """Memory of a device of the tightest stage by class."""
        return self.shape.memory.footprint(
            self.tightest,
            tokens=self.max_num_batched_tokens,
            rows=self.max_num_seqs,
            kv_blocks=self.kv_blocks,
            block_tokens=self.block_tokens,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is allowed but worth knowing."""
        notes = []
        placement = self.shape.placement
        if placement.slots == 0:
            notes.append(f"tensor parallelism crosses nodes: {self.tp} ranks, {placement.domain} GPUs share a fabric")
        elif placement.spans_nodes:
            notes.append("each replica spans nodes")
        longest = self.kv_layout.tokens_in(self.kv_blocks)
        if not self.max_model_len_given and self.max_model_len == longest:
            notes.append(f"requests are limited to the {longest} tokens that the KV cache holds")
        if self.prefill is not None and self.balance_wait:
            notes.append("decode engines compute no prompts: balance_wait holds none back there")
        return (*notes, *dict.fromkeys(text for pool in self.pools for text in pool.stand_ins))

    @property
    def shape_key(self) -> tuple[Any, ...]:
        """Equal for plans whose batches cost the same: all but replicas and limits."""
        graphs = (self.prompt_graphs, self.graph_sizes)
        return self.shape.key, self.clock, self.moe_backend, self.fuse_all_reduce, *graphs, self.speculation

    @property
    def cost_key(self) -> tuple[Any, ...]:
        """Equal for plans whose iterations cost the same: all but replicas, router and scheduler."""
        return (*self.shape_key, self.max_num_seqs, self.max_num_batched_tokens, self.max_model_len)

    @property
    def behaviour_key(self) -> tuple[Any, ...]:
        """Equal for plans that differ only in slots and KV blocks, so alike while neither is scarce."""
        first = () if self.prefill is None else (self.prefill.behaviour_key, self.prefill.max_num_seqs)
        waits = (self.queue_interval, self.balance_wait, self.batch_wait, self.batch_fill)
        policies = (self.router, self.scheduler, self.prefix_caching)
        return (*self.shape_key, self.replicas, self.max_num_batched_tokens, *waits, *policies, *first)

    def to_dict(self) -> dict[str, Any]:
        """Every field of `PlanSpec`, so that the answer can be written back into a scenario."""
        own = {name: getattr(self, name) for name in PlanSpec.model_fields if name not in ("cp", "prefill")}
        own["speculation"] = None if self.speculation is None else self.speculation.model_dump(mode="json")
        found = {name: own.get(name, 1) for name in PlanSpec.model_fields if name != "prefill"}
        if self.prefill is not None:
            found["prefill"] = {name: getattr(self.prefill, name) for name in PoolSpec.model_fields}
        return found
