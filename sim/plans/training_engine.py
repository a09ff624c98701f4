"""What a training engine's profile says: kernels, host overheads, defaults of a plan, states and overlap. Data only."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim.core import DataBytes, Frac, Sourced, Spec, TimeS, load_data
from sim.plans.training import RANK_DIMENSIONS, ContextKind, RankOrder, Recompute, WideDtype, ZeroStage

FOLDER = "hardware_profiles/training_engines"


class LayerKernels(Spec):
    """Kernels that the host launches for one layer.

    Attributes:
        forward: In the forward pass.
        backward: In the backward pass, gradients of inputs and weights together.
    """

    forward: Sourced[float]
    backward: Sourced[float]


class TrainingDefaults(Spec):
    """What a plan takes where it says nothing; see `TrainingPlanSpec`.

    Attributes:
        rank_order: Order in which ranks are numbered.
        zero: Sharding of states.
        recompute: Recomputation.
        sp: Sequence parallelism where there is tensor parallelism.
        cp_zigzag: Balanced slices of the sequence.
        cp_kind: What context-parallel ranks exchange.
        schedule: Pipeline schedule without virtual stages.
        interleaved_schedule: Pipeline schedule with virtual stages.
        grad_dtype: Format of gradients.
        overlap_dp: Data-parallel collectives beside compute.
        prefetch: Layers gathered ahead of the one that computes.
        overlap_p2p: Sends beside compute.
        scatter_gather: Tensor-parallel ranks send a share each to the next stage.
        overlap_tp: Tensor-parallel collectives beside compute.
        compiled: Whether kernels are fused by a compiler.
        cuda_graphs: Whether the kernels of a layer are launched as one graph.
        fused_accumulation: Whether the product of a weight gradient adds to earlier ones itself.
        fused_projections: Whether products that share an input (queries, keys, values; gate and up) are one kernel.
        copies_shards: Whether gathered parameters are copied out of the buffer they arrive in, and gradients into one.
        gathers_again: Whether inputs gathered over tensor-parallel ranks are dropped, and gathered again backward.
        fused_casts: Whether the kernels that make operands of FP8 with scales of earlier steps write them both ways;
            otherwise inputs without a norm in front and gradients are cast, and inputs transposed, in passes of their
            own.
        attention: Attention kernel.
        dropout: Whether layers have dropout.
    """

    rank_order: RankOrder = RANK_DIMENSIONS
    zero: ZeroStage = 0
    recompute: Recompute = "none"
    sp: bool = False
    cp_zigzag: bool = True
    cp_kind: ContextKind = "all_gather"
    schedule: str = "1f1b"
    interleaved_schedule: str = "interleaved"
    grad_dtype: WideDtype = "fp32"
    overlap_dp: bool = False
    prefetch: int = Field(default=1, ge=0)
    overlap_p2p: bool = False
    scatter_gather: bool = True
    overlap_tp: bool = False
    compiled: bool = False
    cuda_graphs: bool = False
    fused_accumulation: bool = True
    copies_shards: bool = False
    gathers_again: bool = True
    fused_projections: bool = True
    fused_casts: bool = True
    attention: Literal["flash", "plain"] = "flash"
    dropout: bool = False


class TrainingEngineSpec(Spec):
    """A training engine's profile.

    Attributes:
        name: Short name, equal to the file's.
        title: Name for people.
        version: Version that it describes.
        fitted_as: Profile whose fitted numbers it shares, fitted to the runs of both; itself if empty.
        defaults: What a plan takes where it says nothing.
        stream_passes: Memory traffic of norms, activations and residuals over that of one fused kernel each.
        compiled_stream_passes: The same where a compiler fuses them.
        kernels: Kernels launched per layer.
        compiled_kernels_frac: Kernels that remain of them where a compiler fuses them.
        attention_frac: Rate of the engine's flash attention over that of FlashAttention-2.
        network_frac: Share of a node's network adapters that its collectives keep busy.
        launch_s: Host time per kernel.
        step_s: Host time per step: data, logging, synchronisation.
        micro_batch_s: Host time per micro-batch and pipeline stage that no kernel hides: data, loss, schedule.
        optimizer_bytes: Memory traffic of the optimizer per parameter, gradient scaling and clipping included.
        host_update_frac: Share of the host's theoretical memory bandwidth that its optimizer reaches there.
        comm_units_frac: Share of the device's multiprocessors that a collective takes from compute beside it.
        chunk_streams: Streams on which pieces of a product run beside pieces of its tensor-parallel collective; 0 if it
            is not cut.
        overlap_scatter: Whether gradients of sharded parameters are reduced beside compute where communication overlaps
            at all; otherwise only gathers are ahead of their use.
        bucket_bytes: Gradients that are reduced together.
        holds_transfers: Whether buffers of transfers between pipeline stages are held for every micro-batch of a step.
        live_parameters: Sharded parameters that are gathered at once, product by product; None gathers whole layers.
        param_master: Whether 16-bit parameters have a copy in 32 bits beside the optimizer's moments.
        master_bytes: What that copy takes; with 2 only the bits that the 16-bit parameter lacks are kept.
        gather_dtype: Format in which sharded parameters are gathered.
        logit_bytes: Bytes per logit alive at the peak of the loss.
        compiled_logit_bytes: The same where a compiler fuses kernels; None if that changes nothing.
        head_gradient_bytes: Bytes per weight of the LM head alive there: its gradient and what is added to it.
        expandable_segments: Whether the framework's allocator grows its segments rather than adding new ones.
        context_bytes: Memory outside the framework's allocator.
        refs: Sources by key.
        note: What a reader must know.
    """

    name: str
    title: str
    version: str
    fitted_as: str = ""
    defaults: TrainingDefaults
    stream_passes: Sourced[float]
    compiled_stream_passes: Sourced[float]
    kernels: LayerKernels
    compiled_kernels_frac: Sourced[Frac]
    attention_frac: Sourced[Frac]
    network_frac: Sourced[Frac]
    launch_s: Sourced[TimeS]
    step_s: Sourced[TimeS]
    micro_batch_s: Sourced[TimeS]
    optimizer_bytes: Sourced[float]
    host_update_frac: Sourced[Frac]
    comm_units_frac: Sourced[Frac]
    chunk_streams: int = Field(default=0, ge=0)
    overlap_scatter: bool = True
    bucket_bytes: Sourced[DataBytes]
    holds_transfers: bool = False
    live_parameters: Sourced[float] | None = None
    param_master: bool = True
    master_bytes: Literal[2, 4] = 4
    gather_dtype: Literal["bf16", "fp32"] = "bf16"
    logit_bytes: Sourced[float]
    compiled_logit_bytes: Sourced[float] | None = None
    head_gradient_bytes: Sourced[float] | None = None
    expandable_segments: bool = False
    context_bytes: Sourced[DataBytes]
    refs: dict[str, str] = Field(default_factory=dict)
    note: str = ""

    @property
    def peak_head_bytes(self) -> float:
        """Bytes per weight of the LM head alive at the peak of the loss besides the weight."""
        return 0.0 if self.head_gradient_bytes is None else self.head_gradient_bytes.value

    def peak_logit_bytes(self, compiled: bool) -> float:
        """Bytes per logit alive at the peak of the loss, with or without fused kernels."""
        fused = self.compiled_logit_bytes if compiled else None
        return (fused or self.logit_bytes).value


def load_training_engine(name: str) -> TrainingEngineSpec:
    """The training engine's profile with this name, or in this YAML file.

    Raises:
        InputError: if there is none.
    """
    return load_data(FOLDER, name, TrainingEngineSpec, kind="training_engine")
