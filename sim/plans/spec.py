"""What a user may say about an execution plan, and the space of plans a search looks at. Data only.

Whatever a `PlanSpec` leaves open takes the engine's default in `sim.plans.resolver`; whatever a `PlanSpace` leaves open
takes the range documented in `sim.plans.enumeration`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from sim.core import Frac, InputError, Spec
from sim.models import canonical_dtype
from sim.plans.speculation import SpeculationSpec

Exchange = Literal["all_gather", "all_to_all"]
MoeBackend = Literal["cutlass", "deepgemm", "marlin", "triton", "trtllm-gen"]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[Frac, Field(gt=0, le=1)]


def _format(value: str) -> str:
    try:
        return canonical_dtype(value)
    except InputError as error:
        raise ValueError(str(error)) from None


class PoolSpec(Spec):
    """Engines of one kind; a field left open takes the engine's default.

    One replica has `dp x tp x pp` GPUs. For mixture-of-experts models the experts are spread over the same
    `dp x tp` ranks, as `ep x moe_tp`.

    Attributes:
        replicas: Independent engines behind a router; 1.
        dp: Attention-data-parallel ranks inside one engine; 1.
        tp: Tensor-parallel ranks; 1.
        pp: Pipeline stages; 1.
        ep: Expert-parallel ranks; 1, so that experts are divided by `moe_tp`.
        moe_tp: Tensor-parallel ranks inside an expert; `dp x tp / ep`.
        max_num_seqs: Most sequences that run at once, per data-parallel rank.
        max_num_batched_tokens: Most tokens of an iteration, per data-parallel rank.
        queue_interval: Decode iterations from one look at the queue to the next; 1 (`--scheduler-recv-interval` of
            SGLang).
        balance_wait: Decode iterations after which prompts run even if not every data-parallel rank has one; 0, and
            they never wait for that (`attention_dp_config.timeout_iters` of TensorRT-LLM).
        batch_wait: Decode iterations after which prompts run even if they do not fill `batch_fill`; 0, and they never
            wait for that (`batch_wait_timeout_iters` of TensorRT-LLM; not with attention data parallelism).
        batch_fill: Share of `max_num_batched_tokens` that prompts wait to fill, decoded tokens counted; 1
            (`batch_wait_max_tokens_ratio` of TensorRT-LLM).
        expert_exchange: How tokens get to the experts of other data-parallel ranks: every rank gets all tokens
            (`all_gather`), or each goes only where its experts are (`all_to_all`).
        expert_balancer: Whether a load balancer places and copies experts so that ranks get as many tokens each; false
            (EPLB: `--enable-eplb` of vLLM, SGLang; `moe_config.load_balancer` of TensorRT-LLM). Balance is
            taken as perfect and copies as free: TensorRT-LLM reports 1.1 times the mean with an eighth more slots.
        moe_backend: Library of the experts' kernels; the engine's choice (`moe_config.backend` of TensorRT-LLM,
            `--moe-runner-backend` of SGLang, `VLLM_MXFP4_USE_MARLIN` of vLLM).
        prompt_graphs: Whether iterations with prompts run from CUDA graphs too, attention apart; the engine's choice
            (`torch_compile_config.enable_piecewise_cuda_graph` of TensorRT-LLM, `cudagraph_mode` of vLLM).
        fuse_all_reduce: Whether all-reduces take in the norms behind them; the engine's choice
            (`pass_config.fuse_allreduce_rms` of vLLM, `--enable-flashinfer-allreduce-fusion` of SGLang).
        graph_sizes: Batch sizes [tokens] for which CUDA graphs are captured, rising; the engine's
            (`--cudagraph-capture-sizes` of vLLM; in sequences, of several tokens each with drafts, `--cuda-graph-bs`
            of SGLang and `cuda_graph_config.batch_sizes` of TensorRT-LLM).
        kv_memory_frac: Share of device memory for weights, activations and KV cache.
        router: Name of the router between replicas.
        scheduler: Name of the scheduling policy.
    """

    replicas: Count | None = None
    dp: Count | None = None
    tp: Count | None = None
    pp: Count | None = None
    ep: Count | None = None
    moe_tp: Count | None = None
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    queue_interval: Count | None = None
    balance_wait: Annotated[int, Field(ge=0)] | None = None
    batch_wait: Annotated[int, Field(ge=0)] | None = None
    batch_fill: Share | None = None
    expert_exchange: Exchange | None = None
    expert_balancer: bool | None = None
    moe_backend: MoeBackend | None = None
    prompt_graphs: bool | None = None
    fuse_all_reduce: bool | None = None
    graph_sizes: tuple[Count, ...] | None = None
    kv_memory_frac: Share | None = None
    router: str | None = None
    scheduler: str | None = None

    @field_validator("graph_sizes")
    @classmethod
    def _rising(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or list(value) != sorted(set(value))):
            raise ValueError("graph_sizes must be one or more rising batch sizes; leave them out for the engine's")
        return value


class PlanSpec(PoolSpec):
    """An execution plan; a field left open takes the engine's default.

    Attributes:
        cp: Context-parallel ranks; only 1 is modelled.
        max_model_len: Longest prompt and output together [tokens]; the model's limit or what the KV cache holds.
        weights_dtype: Format of the linear layers; the checkpoint's.
        kv_dtype: Format of the KV cache.
        prefix_caching: Whether requests with equal prefixes share KV blocks; the engine's default, but not for models
            whose layers keep recurrent states.
        speculation: Speculative decoding; none.
        clock: GPU clock over the highest; 1.
        prefill: Engines that compute prompts and hand their KV over, so that the plan's own engines only decode; none,
            and every engine does both.
    """

    cp: Count | None = None
    max_model_len: Count | None = None
    weights_dtype: str | None = None
    kv_dtype: str | None = None
    prefix_caching: bool | None = None
    speculation: SpeculationSpec | None = None
    clock: Share | None = None
    prefill: PoolSpec | None = None

    @field_validator("weights_dtype", "kv_dtype")
    @classmethod
    def _known_format(cls, value: str | None) -> str | None:
        return None if value is None else _format(value)

    @property
    def label(self) -> str:
        """Short text of what is given, such as `2x tp4 fp8`."""
        return plan_label({name: value for name, value in self if value is not None})


def plan_label(given: dict[str, Any]) -> str:
    """Short text for plan fields, degrees of 1 left out, such as `2x dp4 tp2 ep8 fp8 kv-fp8 256 seqs`.

    Engines that only compute prompts stand first: `prefill 2x tp4 | decode tp8`.
    """
    prompts: PoolSpec | None = given.get("prefill")
    if prompts is not None:
        own = {name: value for name, value in given.items() if name != "prefill"}
        first = {name: value for name, value in prompts if value is not None}
        return f"prefill {plan_label(first)} | decode {plan_label(own)}"
    parts = [f"{given['replicas']}x"] if given.get("replicas", 1) > 1 else []
    if given.get("dp", 1) > 1:
        parts.append(f"dp{given['dp']}")
    parts.append(f"tp{given.get('tp', 1)}")
    parts += [f"{name}{given[name]}" for name in ("pp", "cp", "ep") if given.get(name, 1) > 1]
    if "weights_dtype" in given:
        parts.append(given["weights_dtype"])
    if "kv_dtype" in given:
        parts.append(f"kv-{given['kv_dtype']}")
    if "max_num_seqs" in given:
        parts.append(f"{given['max_num_seqs']} seqs")
    if "max_num_batched_tokens" in given:
        parts.append(f"{given['max_num_batched_tokens']} tokens")
    if given.get("queue_interval", 1) > 1:
        parts.append(f"queue every {given['queue_interval']}")
    if given.get("balance_wait"):
        parts.append(f"balance {given['balance_wait']}")
    if given.get("batch_wait"):
        parts.append(f"batch wait {given['batch_wait']}")
    if "expert_exchange" in given:
        parts.append(f"experts by {given['expert_exchange'].replace('_', '-')}")
    if given.get("expert_balancer"):
        parts.append("experts balanced")
    if "moe_backend" in given:
        parts.append(f"experts of {given['moe_backend']}")
    if "fuse_all_reduce" in given:
        parts.append(f"{'' if given['fuse_all_reduce'] else 'no '}norms in all-reduces")
    if "prompt_graphs" in given:
        parts.append(f"{'' if given['prompt_graphs'] else 'no '}prompt graphs")
    if "graph_sizes" in given:
        parts.append(f"graphs of {', '.join(map(str, given['graph_sizes']))}")
    if "max_model_len" in given:
        parts.append(f"length {given['max_model_len']}")
    if "kv_memory_frac" in given:
        parts.append(f"memory {given['kv_memory_frac']:g}")
    if "prefix_caching" in given:
        parts.append("prefix caching" if given["prefix_caching"] else "no prefix caching")
    if given.get("speculation") is not None:
        parts.append(given["speculation"].label)
    if given.get("clock", 1.0) != 1.0:
        parts.append(f"clock {given['clock']:g}")
    parts += [str(given[name]) for name in ("router", "scheduler") if name in given]
    return " ".join(parts)


def one_or_more(value: Any) -> Any:
    """A single value as a list of one; repeated values once."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return list(dict.fromkeys(values)) if all(isinstance(v, (str, int, float)) for v in values) else values


def _values(item: dict[str, Any]) -> list[Any]:
    """Annotations of a space field: one value or a list of them."""
    schema = {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}
    return [Field(min_length=1), BeforeValidator(one_or_more), WithJsonSchema(schema)]


_COUNT = {"type": "integer", "minimum": 1}
Counts = Annotated[tuple[Count, ...], *_values(_COUNT)]
Shares = Annotated[tuple[Share, ...], *_values({"anyOf": [{"type": "number"}, {"type": "string"}]})]
Names = Annotated[tuple[str, ...], *_values({"type": "string"})]


class PlanSpace(Spec):
    """Values to try per plan field, one or a list; a field left open takes a default range.

    The ranges are those of `sim.plans.enumeration`. Number formats other than the checkpoint's change the
    answers of the model, so they are tried only if listed here.

    Attributes:
        replicas: See `PlanSpec`, like all that follow.
        dp: Attention-data-parallel ranks.
        tp: Tensor-parallel ranks.
        pp: Pipeline stages.
        ep: Expert-parallel ranks; values that do not divide `dp x tp` are passed over.
        max_num_seqs: Most sequences per rank.
        max_num_batched_tokens: Most tokens of an iteration per rank.
        max_model_len: Longest request [tokens].
        kv_memory_frac: Share of device memory.
        weights_dtype: Formats of the linear layers.
        kv_dtype: Formats of the KV cache.
        clock: GPU clocks over the highest.
        router: Routers.
        scheduler: Scheduling policies.
    """

    replicas: Counts | None = None
    dp: Counts | None = None
    tp: Counts | None = None
    pp: Counts | None = None
    ep: Counts | None = None
    max_num_seqs: Counts | None = None
    max_num_batched_tokens: Counts | None = None
    max_model_len: Counts | None = None
    kv_memory_frac: Shares | None = None
    weights_dtype: Names | None = None
    kv_dtype: Names | None = None
    clock: Shares | None = None
    router: Names | None = None
    scheduler: Names | None = None

    @field_validator("weights_dtype", "kv_dtype")
    @classmethod
    def _known_formats(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else tuple(dict.fromkeys(_format(name) for name in value))
