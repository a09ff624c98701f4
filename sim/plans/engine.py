"""What an engine profile says: version, scheduler, default limits, host overheads and memory it takes for itself.

Data only. `sim.plans.resolver` applies the defaults, `sim.plans.memory` the memory rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from sim.core import DataBytes, Frac, Sourced, Spec, TimeS, load_data
from sim.models import canonical_dtype
from sim.plans.reserve import StaticReserve
from sim.plans.spec import MoeBackend
from sim.plans.speculation import Method

MemoryShare = Literal["device", "static", "free"]


class LimitDefaults(Spec):
    """Default batch limits of a class of devices; the first entry that fits a device holds.

    Attributes:
        min_memory: Least device memory of the class.
        except_devices: Devices left out: beginnings of their names.
        max_num_seqs: Sequences that run at once, per data-parallel rank.
        max_num_batched_tokens: Tokens of one iteration, per data-parallel rank.
        source: How the values are known.
        ref: Where from: a key of `refs`.
    """

    min_memory: DataBytes = 0.0
    except_devices: tuple[str, ...] = ()
    max_num_seqs: int = Field(gt=0)
    max_num_batched_tokens: int = Field(gt=0)
    source: Literal["datasheet", "measured", "fitted", "assumed"]
    ref: str


class ActivationRule(Spec):
    """Peak memory of the engine's profiling run, which is kept free of KV blocks.

    For T tokens and R logits rows of 2-byte activations, hidden width h, feed-forward width I and V logits, it is the
    larger of the forward pass, `2 T (hidden_copies h + intermediate_copies I/tp)`, and of sampling, `R V
    logits_bytes + 2 T h`; plus expert buffers, `2 T k (h + max(2 I/moe_tp, h))` for k experts per token and at most
    `max_moe_tokens`; plus, with pipeline stages, `pipeline_copies` hidden states received from the stage before.

    Attributes:
        hidden_copies: Hidden states alive at the peak of the forward pass.
        intermediate_copies: Feed-forward widths alive at that peak, gate and up projections counted each.
        logits_bytes: Bytes per logit alive at the peak of sampling [B].
        pipeline_copies: Hidden states in the receive buffers of a stage.
        max_moe_tokens: Tokens of one chunk of the experts' buffers.
    """

    hidden_copies: Sourced[float]
    intermediate_copies: Sourced[float]
    logits_bytes: Sourced[float]
    pipeline_copies: Sourced[float]
    max_moe_tokens: Sourced[int]


class SupportSpec(Spec):
    """What the engine can run.

    Attributes:
        pipeline: Whether it has pipeline stages.
        attention_dp: For which models attention may be data parallel inside one engine.
        expert_parallel: Which expert-parallel degrees it takes: none, any, or all data- and tensor-parallel ranks or
            none of them.
        queue_interval: Whether it can be told to look at its queue only every so many decode iterations.
        balance_wait: Whether it can be told to hold prompts back until every data-parallel rank has one.
        batch_wait: Whether it can be told to hold prompts back until they fill an iteration.
        prompt_graphs: Whether it can be told to run iterations with prompts from CUDA graphs, or not to.
        fuse_all_reduce: Whether it can be told that all-reduces take in the norms behind them, or that they do not.
        moe_backends: Libraries of experts' kernels that it can be told to take.
        speculation: Where drafts of speculative decoding may come from; none, and there is none.
        expert_all_to_all: Whether tokens can go only to the ranks that hold experts of theirs.
        weights_dtypes: Weight formats.
        kv_dtypes: KV cache formats.
        vendors: Makers of the devices it runs on; None, any.
    """

    pipeline: bool = True
    attention_dp: Literal["none", "moe", "all"] = "moe"
    expert_parallel: Literal["none", "all_or_none", "any"] = "all_or_none"
    queue_interval: bool = False
    balance_wait: bool = False
    batch_wait: bool = False
    prompt_graphs: bool = False
    fuse_all_reduce: bool = False
    moe_backends: tuple[MoeBackend, ...] = ()
    speculation: tuple[Method, ...] = ()
    expert_all_to_all: bool = False
    weights_dtypes: tuple[str, ...]
    kv_dtypes: tuple[str, ...]
    vendors: tuple[str, ...] | None = None

    @field_validator("weights_dtypes", "kv_dtypes")
    @classmethod
    def _known_formats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(canonical_dtype(name) for name in value)


class DraftHost(Spec):
    """What the host does in an iteration that verifies drafts, while the device waits.

    Attributes:
        per_draft_s: Time per draft of an iteration: the module's pass that makes it is prepared and launched by itself.
        per_token_s: Time per token that is verified, of all sequences that decode.
    """

    per_draft_s: Sourced[TimeS]
    per_token_s: Sourced[TimeS]


class FusionSpec(Spec):
    """What the engine's kernels do together, or beside each other.

    Attributes:
        within_attention: What its attention kernels do as well, whose measured time holds it.
        shared_experts_beside: Whether shared experts run on a second stream, beside the routed ones.
        shared_experts_tokens: Most tokens of an iteration with which they do; absent, any number.
        one_attention: Whether attention of prompts and decodes of an iteration is one launch of FlashAttention.
        copies_states: Whether a recurrent state is copied back behind the last draft that holds.
        recurrent_inputs_apart: Whether projections of a recurrent layer's gates and decays are products of their own
            where checkpoints have them so.
        one_qk_norm: Whether queries and keys are normed in one kernel.
        packed_apart: Weight formats for which the result of a gated dense block's activation is quantised in a kernel
            of its own, each with the devices, by the beginnings of their names, whose curves are of products without
            it; elsewhere the activation does it, or the product's own time holds it.
        experts_padded_to: By library of MXFP4 experts, the multiple to which their inputs are widened. What they return
            is cut to size behind the all-reduce, which so takes in no norm.
        absorbed_fp8_on: Devices, by the beginnings of their names, on which the absorbed projections of latent
            attention stay in the FP8 blocks of their checkpoint.
        drafts_apart_on: Devices, likewise, on which latent attention that verifies drafts is priced as that of as many
            sequences as there are tokens.
        source: How it is known.
        ref: Where from: a key of `refs`.
    """

    within_attention: tuple[Literal["rope", "cache_write"], ...] = ()
    shared_experts_beside: bool = False
    shared_experts_tokens: int | None = Field(default=None, ge=1)
    one_attention: bool = False
    copies_states: bool = False
    recurrent_inputs_apart: bool = False
    one_qk_norm: bool = False
    packed_apart: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    experts_padded_to: dict[MoeBackend, int] = Field(default_factory=dict)
    absorbed_fp8_on: tuple[str, ...] = ()
    drafts_apart_on: tuple[str, ...] = ()
    source: Literal["datasheet", "measured", "assumed"]
    ref: str

    @field_validator("packed_apart")
    @classmethod
    def _known_formats(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {canonical_dtype(name): devices for name, devices in value.items()}


class AllReduceNorm(Spec):
    """An all-reduce whose kernel also does the residual add and the norm that follow.

    Attributes:
        kernel: Family of engines whose all-reduce it is; absent, the engine's own (FlashInfer's is TensorRT-LLM's).
        devices: Devices that have it, by the beginnings of their names; absent, all.
        most_bytes: Largest buffer that it takes, by devices (the same, with spaces between) and ranks; absent, any.
        most_tokens: Most tokens that it takes; absent, any.
        not_with: Parallelism with which it is left out: pipeline stages, attention data parallelism, several nodes.
        norms_apart_with_qk_norm: Whether dense models that norm queries and keys keep their norms out of it.
        source: How it is known.
        ref: Where from: a key of `refs`.
    """

    kernel: Literal["vllm", "sglang", "trtllm"] | None = None
    devices: tuple[str, ...] = ()
    most_bytes: dict[str, dict[int, DataBytes]] = Field(default_factory=dict)
    most_tokens: int | None = Field(default=None, ge=1)
    not_with: tuple[Literal["pp", "dp", "nodes"], ...] = ()
    norms_apart_with_qk_norm: bool = False
    source: Literal["datasheet", "measured", "assumed"]
    ref: str


class ExpertExchange(Spec):
    """How tokens get to the experts of other attention-data-parallel ranks and their results back.

    Attributes:
        all_to_all: When a token goes only to ranks that hold experts of its own: never, if not asked for (every rank
            gets all tokens), or `wide`, where one scale-up domain has more ranks than a token has experts.
        dispatch_dtypes: By format of the weights, that in which tokens go to the experts, where it is not the model's:
            activations that are quantised before they leave.
        all_to_all_dtypes: The same where they go only to the ranks that hold experts of theirs; what is absent here is
            as in `dispatch_dtypes`.
        source: How it is known.
        ref: Where from: a key of `refs`.
    """

    all_to_all: Literal["never", "wide"] = "never"
    dispatch_dtypes: dict[str, str] = Field(default_factory=dict)
    all_to_all_dtypes: dict[str, str] = Field(default_factory=dict)
    source: Literal["datasheet", "measured", "fitted", "assumed"] = "datasheet"
    ref: str = ""

    @field_validator("dispatch_dtypes", "all_to_all_dtypes")
    @classmethod
    def _known_formats(cls, value: dict[str, str]) -> dict[str, str]:
        return {canonical_dtype(weights): canonical_dtype(sent) for weights, sent in value.items()}

    def sent_as(self, weights: str, *, all_to_all: bool) -> str | None:
        """Format in which tokens go to experts with such weights; None, the model's."""
        own = self.dispatch_dtypes.get(weights)
        return self.all_to_all_dtypes.get(weights, own) if all_to_all else own


class ErrorBand(Spec):
    """How far off predictions for this engine were: factors between which measured values fall, 90 % of the time.

    They hold for a model, device and load among those of `ErrorDomain`. For another one the band is stretched about its
    middle, in the logarithm, as far as rows needed whose model, system or class of load was left out of the fit.

    Attributes:
        metric: What was compared.
        low: Measured over predicted, lower end.
        high: Measured over predicted, upper end.
        new_model: Stretch for a model that was not measured; None where that is unknown.
        new_device: Stretch for a device that was not measured.
        new_load: Stretch for a load outside the measured range.
        rows: Measured rows it rests on.
        groups: Pairs of system and model among them.
        source: How it is known.
        ref: Where from: a key of `refs`.
    """

    metric: Literal["ttft_s", "tpot_s", "output_tokens_per_s_per_gpu"]
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    new_model: float | None = Field(ge=1)
    new_device: float | None = Field(ge=1)
    new_load: float | None = Field(ge=1)
    rows: int = Field(ge=1)
    groups: int = Field(ge=1)
    source: Literal["fitted", "assumed"]
    ref: str


class ErrorDomain(Spec):
    """What was measured to fit the bands of an engine; what lies outside has wider ones.

    Attributes:
        models: Short names of the models.
        devices: Names of the devices.
        concurrency: Fewest and most requests in flight of a closed loop.
        input_tokens: Shortest and longest mean prompt.
        output_tokens: Shortest and longest mean output.
    """

    models: tuple[str, ...] = Field(min_length=1)
    devices: tuple[str, ...] = Field(min_length=1)
    concurrency: tuple[int, int]
    input_tokens: tuple[int, int]
    output_tokens: tuple[int, int]


class EngineSpec(Spec):
    """An engine profile.

    Attributes:
        name: Short name, equal to the file's.
        title: Name for people.
        version: Version that the defaults and the launch command are for.
        family: Whose kernels and collectives are meant.
        launcher: Name of the plug-in that writes its launch command.
        scheduler: Name of its scheduling policy.
        router: Name of the default router between replicas.
        limits: Default batch limits by device class, first match first.
        kv_memory_frac: Share of memory for the KV cache and, as `kv_memory_of` says, for what else.
        kv_memory_of: What that is a share of. `device`: all memory, for weights, activations, runtime and KV cache
            together. `static`: what the runtime leaves, for weights and KV cache. `free`: what weights, activations
            and runtime leave, for the KV cache alone.
        static_reserve: How that share follows from the plan where the engine is not told one; absent, it is
            `kv_memory_frac`.
        kv_dtype: Default KV cache format.
        block_tokens: Tokens per KV block.
        frees_windows: Whether KV blocks that a sliding window has left behind are freed.
        watermark_frac: Share of KV blocks that admission leaves free.
        chunked_prefill: Whether prompts may be split over iterations.
        chunked_prefill_above: Context [tokens] up to which prompts are nevertheless computed whole, with a budget that
            holds the longest; None if the context does not matter.
        prefix_caching: Whether requests with equal prefixes share KV blocks by default.
        async_scheduling: Whether the host prepares the next iteration while the device runs this one.
        graph_sizes: Batch sizes for which CUDA graphs are captured, in the unit of `graphs_of`.
        graphs_of: What the engine counts the sizes of its graphs in; a sequence has several tokens where drafts are
            verified.
        graphs_hold_prompts: Whether iterations with prompts run from these graphs too, attention apart (piecewise
            graphs), padded to the next size like those without, unless a plan tells them not to.
        graph_bytes: Memory of all captured graphs.
        graphs_in_budget: Whether graphs count within `kv_memory_frac`; otherwise they take from the rest.
        visible_memory_frac: Share of a device's listed memory that the runtime reports as its total.
        runtime_bytes: Memory outside the framework's allocator on a device that talks to no other.
        runtime_parallel_bytes: The same with the communication buffers of tensor or data parallelism.
        activation: Peak activation memory.
        host_step_s: Host time per iteration.
        host_per_sequence_s: Host time per sequence of an iteration.
        step_gap_s: With `async_scheduling`, time between two iterations in which the device waits nevertheless: for the
            launch of the graph, for input tensors, for results that the next batch is made from.
        kernel_gap_s: Time from one kernel of a forward pass to the next beyond what kernels take that are repeated by
            themselves, as in tables: for launches that do not overlap, for instructions and operands out of cache.
        host_call_s: Host time per call of a forward pass with prompts, as far as no CUDA graph holds it; absent, or
            where `graphs_hold_prompts`, the host is never behind the device there.
        draft_host: Its work with speculative decoding where that is not beside the device whatever `async_scheduling`
            says; absent, iterations with drafts are scheduled like others.
        frontend_s: Time from the client's send to the engine's queue that all requests spend side by side: HTTP, event
            loops, hand-over between processes.
        frontend_request_s: Work of the front end per request, one after the other.
        frontend_token_s: The same per prompt token: chat template and tokenizer.
        stream_token_s: Work of the front end per output token, one after the other: detokenizer, event loop, HTTP;
            absent, clients see tokens as they are made.
        fusion: What its kernels do together; absent, each operator is a kernel of its own.
        all_reduce_norm: Its all-reduce with the norm behind it; absent, norms are kernels of their own.
        fuse_all_reduce: Whether it takes that by itself, or for which models: their names, or those names but for a
            part behind a dash.
        handover_s: From a prompt that one engine has computed to the queue of another that decodes it: the answer to
            the front end, the choice of an engine, the way there; absent, none.
        sorts_logits: Whether its sampler sorts all logits where requests limit what is sampled (top-k, top-p).
        expert_exchange: How tokens get to experts of other ranks.
        supports: What it can run.
        errors: How far off predictions were; absent, intervals are unknown.
        errors_on: What they were compared with.
        refs: Sources by key.
        note: What a reader must know.
    """

    name: str
    title: str
    version: str = Field(pattern=r"^\d+(\.\d+)*$")
    family: Literal["vllm", "sglang", "trtllm"]
    launcher: str
    scheduler: str
    router: str = "round_robin"
    limits: tuple[LimitDefaults, ...] = Field(min_length=1)
    kv_memory_frac: Sourced[Frac]
    kv_memory_of: MemoryShare = "device"
    static_reserve: StaticReserve | None = None
    kv_dtype: str = "bf16"
    block_tokens: Sourced[int]
    frees_windows: bool = True
    watermark_frac: Sourced[Frac]
    chunked_prefill: bool = True
    chunked_prefill_above: int | None = Field(default=None, gt=0)
    prefix_caching: bool
    async_scheduling: bool
    graph_sizes: tuple[int, ...]
    graphs_of: Literal["tokens", "sequences"] = "tokens"
    graphs_hold_prompts: bool = False
    graph_bytes: Sourced[DataBytes]
    graphs_in_budget: bool
    visible_memory_frac: Sourced[Frac]
    runtime_bytes: Sourced[DataBytes]
    runtime_parallel_bytes: Sourced[DataBytes]
    activation: ActivationRule
    host_step_s: Sourced[TimeS]
    host_per_sequence_s: Sourced[TimeS]
    step_gap_s: Sourced[TimeS] | None = None
    kernel_gap_s: Sourced[TimeS] | None = None
    host_call_s: Sourced[TimeS] | None = None
    draft_host: DraftHost | None = None
    frontend_s: Sourced[TimeS]
    frontend_request_s: Sourced[TimeS]
    frontend_token_s: Sourced[TimeS]
    stream_token_s: Sourced[TimeS] | None = None
    fusion: FusionSpec | None = None
    all_reduce_norm: AllReduceNorm | None = None
    fuse_all_reduce: bool | tuple[str, ...] = True
    handover_s: Sourced[TimeS] | None = None
    sorts_logits: bool = False
    expert_exchange: ExpertExchange = ExpertExchange()
    supports: SupportSpec
    errors: tuple[ErrorBand, ...] = ()
    errors_on: ErrorDomain | None = None
    refs: dict[str, str] = Field(default_factory=dict)
    note: str = ""

    def graphs(self, width: int) -> tuple[int, ...]:
        """Sizes [tokens] of the CUDA graphs that it captures by itself where a sequence has `width` tokens."""
        return tuple(size * width for size in self.graph_sizes) if self.graphs_of == "sequences" else self.graph_sizes

    def fuses_all_reduce(self, model: str) -> bool:
        """Whether all-reduces of the model with this name take in the norms behind them, if it is not told."""
        if isinstance(self.fuse_all_reduce, bool):
            return self.fuse_all_reduce
        return f"{model}-".startswith(tuple(f"{one}-" for one in self.fuse_all_reduce))

    @field_validator("limits")
    @classmethod
    def _some_entry_fits(cls, value: tuple[LimitDefaults, ...]) -> tuple[LimitDefaults, ...]:
        if value[-1].min_memory or value[-1].except_devices:
            raise ValueError("the last entry must fit every device: without `min_memory` and `except_devices`")
        return value

    @model_validator(mode="after")
    def _domain_of_errors(self) -> EngineSpec:
        if self.errors and self.errors_on is None:
            raise ValueError("`errors` need `errors_on`: what predictions were compared with")
        return self

    @field_validator("kv_dtype")
    @classmethod
    def _known_format(cls, value: str) -> str:
        return canonical_dtype(value)


def load_engine(name: str) -> EngineSpec:
    """The engine profile with this name, or in this YAML file.

    Raises:
        InputError: if there is none.
    """
    return load_data("hardware_profiles/engines", name, EngineSpec, kind="engine")


def with_values(engine: EngineSpec, values: Mapping[str, float]) -> EngineSpec:
    """The profile with other values [SI] of some of its numbers that carry a source."""
    return engine.model_copy(
        update={name: getattr(engine, name).model_copy(update={"value": value}) for name, value in values.items()}
    )
