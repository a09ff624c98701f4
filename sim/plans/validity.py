"""Whether a model can be divided as a plan says, as reasons with numbers. Memory is checked elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from sim.core import InputError, Reason
from sim.hardware import Cluster, Device
from sim.models import (
    GQA,
    CompressedAttention,
    Dense,
    GatedDelta,
    LayerGroup,
    Mamba2,
    Mixer,
    ModelSpec,
    MoE,
    compute_dtype,
)
from sim.plans.engine import EngineSpec, SupportSpec
from sim.plans.placement import Placement
from sim.plans.speculation import SpeculationSpec

_VOCABULARY_PADDING = 64
_SCALE_BLOCK = 128
_BLACKWELL = ("b200", "b300", "gb200", "gb300")
_KERNEL_DEVICES = {"trtllm-gen": _BLACKWELL, "deepgemm": ("h100", "h20", "h200", "h800", "gh200", *_BLACKWELL)}
"""Devices for whose matrix units alone the kernels of a library are built (sm_100 and 103; DeepGEMM: sm_90 too)."""


def parallel_reasons(
    model: ModelSpec, engine: EngineSpec, *, dp: int, tp: int, pp: int, cp: int, ep: int, moe_tp: int
) -> Iterator[Reason]:
    """Why this model or engine cannot be divided into these ranks."""
    support = engine.supports
    if cp > 1:
        yield Reason("context_parallel", f"context parallelism is not modelled: cp {cp}", {"cp": cp})
    if pp > 1 and not support.pipeline:
        yield Reason("engine", f"{engine.name} has no pipeline stages: pp {pp}", {"pp": pp})
    if pp > model.n_layers:
        yield Reason(
            "layers", f"{pp} pipeline stages for {model.n_layers} layers", {"pp": pp, "layers": model.n_layers}
        )
    padded = -(-model.vocab_size // _VOCABULARY_PADDING) * _VOCABULARY_PADDING
    if padded % tp:
        yield Reason("vocabulary", f"{padded} logits do not divide by tp {tp}", {"logits": padded, "tp": tp})
    yield from _data_parallel(model, engine, dp)
    yield from _experts(model, support, engine.name, ranks=dp * tp, ep=ep, moe_tp=moe_tp)
    for group in model.layers:
        yield from _attention(group, tp)
        yield from _feed_forward(group, tp=tp, ep=ep, moe_tp=moe_tp)


def device_reasons(engine: EngineSpec, device: Device) -> Iterator[Reason]:
    """Why the engine has no software for the device."""
    vendors = engine.supports.vendors
    if vendors is not None and device.vendor not in vendors:
        yield Reason(
            "engine",
            f"{engine.name} runs on devices of {', '.join(vendors)}, not on {device.title} ({device.vendor}); "
            "take another engine (plansim list engines)",
        )


def exchange_reasons(engine: EngineSpec, exchange: str, *, dp: int, ep: int, moe_tp: int) -> Iterator[Reason]:
    """Why tokens cannot get to their experts like that."""
    if exchange != "all_to_all":
        return
    if not engine.supports.expert_all_to_all:
        yield Reason("engine", f"{engine.name} has no all-to-all between experts: expert_exchange must be all_gather")
    if dp == 1 or ep == 1 or moe_tp > 1:
        yield Reason(
            "experts",
            f"an all-to-all joins data-parallel ranks with experts of their own: dp {dp}, ep {ep}, moe_tp {moe_tp}",
            {"dp": dp, "ep": ep, "moe_tp": moe_tp},
        )


def balancer_reasons(balanced: bool, *, ep: int) -> Iterator[Reason]:
    """Why no load balancer can place experts."""
    if balanced and ep == 1:
        yield Reason("experts", "one rank has all experts: expert_balancer needs ep of 2 or more", {"ep": ep})


def default_exchange(
    model: ModelSpec, engine: EngineSpec, cluster: Cluster, *, dp: int, tp: int, moe_tp: int
) -> Literal["all_gather", "all_to_all"]:
    """How the engine exchanges tokens between experts if not told: see `ExpertExchange`."""
    most = max((group.ffn.top_k for group in model.layers if isinstance(group.ffn, MoE)), default=0)
    inside = 1 < dp * tp <= cluster.domain
    wide = dp > 1 and moe_tp == 1 and inside and 0 < most < dp * tp
    return "all_to_all" if wide and engine.expert_exchange.all_to_all == "wide" else "all_gather"


def waiting_reasons(
    engine: EngineSpec, *, queue_interval: int, balance_wait: int, batch_wait: int, dp: int
) -> Iterator[Reason]:
    """Why the engine cannot be told to let requests wait like that."""
    if queue_interval > 1 and not engine.supports.queue_interval:
        yield Reason("engine", f"{engine.name} looks at its queue before every iteration: queue_interval must be 1")
    if balance_wait and not engine.supports.balance_wait:
        yield Reason("engine", f"{engine.name} does not hold prompts back to balance its ranks: balance_wait must be 0")
    if batch_wait and not engine.supports.batch_wait:
        yield Reason("engine", f"{engine.name} does not hold prompts back to fill iterations: batch_wait must be 0")
    elif batch_wait and dp > 1:
        yield Reason(
            "engine",
            f"{engine.name} fills no iterations of {dp} attention-data-parallel ranks: batch_wait must be 0",
            {"batch_wait": batch_wait, "dp": dp},
        )


def backend_reasons(model: ModelSpec, engine: EngineSpec, device: Device, moe_backend: str | None) -> Iterator[Reason]:
    """Why the engine cannot be told to take the experts' kernels of a library for this model on this device."""
    if not moe_backend:
        return
    if not model.is_moe:
        yield Reason("experts", f"{model.name} has no experts: leave moe_backend {moe_backend} out")
        return
    known = [name for name in engine.supports.moe_backends if _runs_on(device, name)]
    if moe_backend not in known:
        offers = f"it knows {', '.join(known)}" if known else "leave moe_backend out"
        where, only = "", ""
        if moe_backend in engine.supports.moe_backends:
            where = f" on {device.title}"
            only = f", whose kernels exist for {', '.join(_KERNEL_DEVICES[moe_backend])}"
        yield Reason("engine", f"{engine.name} cannot be told to take experts of {moe_backend}{where}{only} ({offers})")


def _runs_on(device: Device, library: str) -> bool:
    names = _KERNEL_DEVICES.get(library)
    return names is None or device.name.startswith(names) or Path(device.kernels.name).stem in names


def graph_reasons(
    engine: EngineSpec, sizes: tuple[int, ...] | None, *, prompt_graphs: bool, tokens: int, rows: int, width: int
) -> Iterator[Reason]:
    """Why the engine cannot run from CUDA graphs as asked.

    Args:
        engine: The engine.
        sizes: Batch sizes [tokens] that are asked for; None, and the engine's own are taken as far as it captures them.
        prompt_graphs: Whether prompts are to run from graphs.
        tokens: Most tokens of an iteration, per data-parallel rank.
        rows: Most sequences that run at once, per data-parallel rank.
        width: Tokens of a sequence that an iteration computes.
    """
    usual = engine.graphs_hold_prompts
    if prompt_graphs is not usual and not engine.supports.prompt_graphs:
        lacks = "always has CUDA graphs of prompts" if usual else "has no CUDA graphs of prompts to turn on"
        yield Reason("engine", f"{engine.name} {lacks}: prompt_graphs must be {str(usual).lower()}")
    if not sizes or sizes == engine.graphs(width):
        return
    in_sequences = engine.graphs_of == "sequences"
    most = rows * width if in_sequences else tokens
    if sizes[-1] > most:
        each = f" of {width} tokens each" if width > 1 else ""
        limit = f"max_num_seqs {rows}{each}" if in_sequences else f"max_num_batched_tokens {tokens}"
        yield Reason(
            "graphs",
            f"{engine.name} captures no CUDA graph of {sizes[-1]} tokens, beyond {limit}: graph_sizes may go up to "
            f"{most}",
            {"graph_size": sizes[-1], "most": most},
        )
    uneven = next((size for size in sizes if in_sequences and size % width), None)
    if uneven is not None:
        below, above = uneven // width * width, -(-uneven // width) * width
        nearest = f"{below} or {above}" if below else str(above)
        yield Reason(
            "graphs",
            f"{engine.name} captures CUDA graphs of whole sequences, {width} tokens each with drafts: graph_sizes has "
            f"{uneven}, the nearest is {nearest}",
            {"graph_size": uneven, "step_tokens": width},
        )


def speculation_reasons(engine: EngineSpec, speculation: SpeculationSpec | None, *, pp: int) -> Iterator[Reason]:
    """Why the engine cannot decode speculatively as asked; model files do not say which checkpoints bring a module."""
    if speculation is None:
        return
    known = engine.supports.speculation
    if speculation.method not in known:
        offers = f"it has {', '.join(known)}" if known else "it has no speculative decoding"
        yield Reason("speculation", f"{engine.name} has no drafts by {speculation.method} ({offers})")
    if pp > 1:
        yield Reason("speculation", f"speculative decoding is not modelled with {pp} pipeline stages", {"pp": pp})


def _data_parallel(model: ModelSpec, engine: EngineSpec, dp: int) -> Iterator[Reason]:
    allowed = engine.supports.attention_dp
    if dp == 1 or allowed == "all" or (allowed == "moe" and model.is_moe):
        return
    why = "has no experts" if allowed == "moe" else f"cannot be served so by {engine.name}"
    yield Reason("data_parallel", f"dp {dp} inside an engine: {model.name} {why}; use replicas instead", {"dp": dp})


def _experts(
    model: ModelSpec, support: SupportSpec, engine: str, *, ranks: int, ep: int, moe_tp: int
) -> Iterator[Reason]:
    if not model.is_moe:
        if ep > 1 or moe_tp > 1:
            yield Reason(
                "experts", f"{model.name} has no experts: ep {ep}, moe_tp {moe_tp}", {"ep": ep, "moe_tp": moe_tp}
            )
        return
    if ep * moe_tp != ranks:
        yield Reason(
            "expert_ranks",
            f"ep {ep} x moe_tp {moe_tp} is not dp x tp = {ranks}",
            {"ep": ep, "moe_tp": moe_tp, "ranks": ranks},
        )
    elif ep > 1 and (support.expert_parallel == "none" or (support.expert_parallel == "all_or_none" and ep != ranks)):
        choices = "1" if support.expert_parallel == "none" else f"1 or dp x tp = {ranks}"
        yield Reason("engine", f"{engine} takes ep {choices}, not {ep}", {"ep": ep, "ranks": ranks})


def _attention(group: LayerGroup, tp: int) -> Iterator[Reason]:
    mixer = group.attention
    if mixer is None:
        return
    if mixer.heads % tp:
        what = "heads" if isinstance(mixer, (GatedDelta, Mamba2)) else "query heads"
        yield Reason("heads", f"{mixer.heads} {what} do not divide by tp {tp}", {"heads": mixer.heads, "tp": tp})
    if isinstance(mixer, GatedDelta) and mixer.key_heads % tp:
        yield Reason(
            "heads",
            f"{mixer.key_heads} key heads of linear attention do not divide by tp {tp}",
            {"heads": mixer.key_heads, "tp": tp},
        )
    if isinstance(mixer, CompressedAttention) and mixer.out_groups % tp:
        yield Reason(
            "heads",
            f"{mixer.out_groups} groups of the output projection do not divide by tp {tp}",
            {"groups": mixer.out_groups, "tp": tp},
        )
    shared, what = _shared_heads(mixer)
    if shared % tp and tp % shared:
        yield Reason(
            "kv_heads",
            f"{shared} {what} neither divide by tp {tp} nor can be copied evenly",
            {"kv_heads": shared, "tp": tp},
        )


def _shared_heads(mixer: Mixer) -> tuple[int, str]:
    """Heads that are copied where there are more ranks, and what they are called."""
    if isinstance(mixer, GQA):
        return mixer.kv_heads, "KV heads"
    return (mixer.groups, "groups") if isinstance(mixer, Mamba2) else (1, "KV heads")


def _feed_forward(group: LayerGroup, *, tp: int, ep: int, moe_tp: int) -> Iterator[Reason]:
    ffn = group.ffn
    if ffn is None:
        return
    if isinstance(ffn, Dense):
        if ffn.intermediate % tp:
            yield _width("feed-forward", ffn.intermediate, "tp", tp)
        return
    if ffn.experts % ep:
        yield Reason("experts", f"{ffn.experts} experts do not divide by ep {ep}", {"experts": ffn.experts, "ep": ep})
    if ffn.intermediate % moe_tp:
        yield _width("expert", ffn.intermediate, "moe_tp", moe_tp)
    if ffn.shared_intermediate % tp:
        yield _width("shared expert", ffn.shared_intermediate, "tp", tp)


def _width(what: str, width: int, name: str, ranks: int) -> Reason:
    return Reason("width", f"{what} width {width} does not divide by {name} {ranks}", {"width": width, name: ranks})


def dtype_reasons(
    model: ModelSpec, engine: EngineSpec, device: Device, *, weights: str, kv: str, tp: int, moe_tp: int
) -> Iterator[Reason]:
    """Why these number formats cannot be used."""
    for what, dtype, known in (
        ("weights", weights, engine.supports.weights_dtypes),
        ("KV cache", kv, engine.supports.kv_dtypes),
    ):
        if dtype not in known:
            yield Reason("dtype", f"{engine.name} has no {dtype} {what} (it has {', '.join(known)})")
    try:
        device.compute_rate(compute_dtype(weights))
    except InputError:
        yield Reason("dtype", f"{device.name} can neither multiply {weights} weights nor convert them")
    if weights == "fp8_block":
        yield from _scale_blocks(model, tp, moe_tp)


def _scale_blocks(model: ModelSpec, tp: int, moe_tp: int) -> Iterator[Reason]:
    for group in model.layers:
        ffn = group.ffn
        if ffn is None:
            continue
        width = ffn.intermediate // (tp if isinstance(ffn, Dense) else moe_tp)
        if width % _SCALE_BLOCK:
            yield Reason(
                "scale_blocks",
                f"a shard of {width} columns cuts the {_SCALE_BLOCK}-wide scale blocks of fp8_block weights",
                {"width": width, "block": _SCALE_BLOCK},
            )


def placement_reasons(cluster: Cluster, placement: Placement, replicas: int) -> Iterator[Reason]:
    """Why so many replicas cannot be placed on the cluster."""
    size = placement.tp * placement.dp * placement.pp
    total, have = replicas * size, cluster.n_devices
    numbers = {"needed": total, "devices": have}
    if total > have:
        yield Reason("ranks", f"{replicas} x {size} GPUs are needed, the cluster has {have}", numbers)
    elif not placement.possible:
        yield Reason(
            "placement",
            f"tp {placement.tp} neither fits in a domain of {placement.domain} GPUs nor fills whole ones",
            {"tp": placement.tp, "domain": placement.domain},
        )
    elif replicas > placement.max_replicas:
        yield Reason(
            "placement",
            f"{placement.max_replicas} replicas of {size} GPUs fit without straddling domains of {placement.domain}, "
            f"not {replicas}",
            {"replicas": replicas, "fit": placement.max_replicas},
        )
    elif not placement.compact and cluster.node.nic is None:
        yield Reason("network", f"{size} GPUs span several {cluster.node.name}, which have no network", numbers)
