"""What a scenario says about a training job. Data only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from sim.core import Spec, TimeS
from sim.models import LayerGroup

Precision = Literal["bf16", "fp16", "fp8", "fp8_dynamic", "fp8_rowwise", "fp8_block", "mxfp8", "nvfp4"]
Optimizer = Literal["adam", "adam_bf16", "adam_8bit", "adam_cpu", "sgd_momentum"]


class CheckpointSpec(Spec):
    """Checkpoints as a fixed cost.

    Attributes:
        every_steps: Steps between two checkpoints.
        time: Time that training stands still for one.
    """

    every_steps: int = Field(ge=1)
    time: TimeS


class BatchRampSpec(Spec):
    """A batch that grows to the job's own in equal parts of its samples (Megatron-LM's `--rampup-batch-size`).

    Attributes:
        start: Sequences of the first steps.
        increment: Sequences that each part has more than the one before.
        samples: Sequences until the whole batch is reached.
    """

    start: int = Field(ge=1)
    increment: int = Field(ge=1)
    samples: int = Field(ge=1)


class QuantisationSpec(Spec):
    """Choices of a recipe in low precision; the defaults are those of the recipe that is published.

    Attributes:
        first_16bit: Layers at the beginning whose products stay in 16 bits.
        last_16bit: Layers at the end, likewise. Embedding, LM head, router and attention always do.
        hadamard: NVFP4: random Hadamard transform of both operands of weight gradients.
        stochastic_rounding: NVFP4: gradients are rounded at random.
        activation_input_8bit: Inputs of activation functions are kept in 8 bits for the backward pass (DeepSeek-V3,
            arXiv 2412.19437, section 3.3.3; `--activation-func-fp8-input-store` of Megatron-Core).
        dispatch_8bit: Tokens go to experts in 8 bits, and so do gradients of their results; what comes back is in 16
            (DeepSeek-V3, section 3.3.2; DeepEP).
        square_weight_scales: NVFP4: scales of weights for squares of 16 x 16, else for 16 along either dimension.
    """

    first_16bit: int = Field(default=0, ge=0)
    last_16bit: int = Field(default=0, ge=0)
    hadamard: bool = True
    stochastic_rounding: bool = True
    activation_input_8bit: bool = False
    dispatch_8bit: bool = False
    square_weight_scales: bool = True


class LoraSpec(Spec):
    """Low-rank adapters on a frozen model.

    Attributes:
        rank: Inner width of an adapter.
        targets: Products that have one: all into attention or a recurrence (`qkv`), out of it (`o`), into the
            feed-forward block and out of it. Routed experts have none.
        base: Format of the frozen weights of the layers; `int8` and `nf4` are unpacked before use (QLoRA).
    """

    rank: int = Field(gt=0)
    targets: tuple[Literal["qkv", "o", "ffn_in", "ffn_out"], ...] = Field(
        default=("qkv", "o", "ffn_in", "ffn_out"), min_length=1
    )
    base: Literal["bf16", "int8", "nf4"] = "bf16"


class EncoderSpec(Spec):
    """An encoder of images or sounds whose output takes the place of token embeddings.

    Attributes:
        hidden_size: Width of its residual stream.
        layers: Its layers, attending in both directions.
        patch_width: Elements of a patch before its embedding, such as 14 x 14 x 3.
        tokens: Patches of an item.
        merge: Neighbouring outputs that become one token of the model.
        items_per_sequence: Items in a sequence, in the mean.
    """

    hidden_size: int = Field(gt=0)
    layers: tuple[LayerGroup, ...] = Field(min_length=1)
    patch_width: int = Field(gt=0)
    tokens: int = Field(gt=0)
    merge: int = Field(default=1, gt=0)
    items_per_sequence: float = Field(gt=0)


class TrainingWorkload(Spec):
    """A training job.

    Attributes:
        kind: `training`.
        global_batch: Sequences of one optimizer step.
        sequence_length: Tokens of a sequence.
        tokens: Tokens to train in all, for time, cost and energy of the job.
        precision: Recipe of the linear layers' products, see `sim.training.precision`; embeddings, LM head and
            attention stay in 16 bits.
        quantisation: Choices of that recipe.
        encoder: An encoder of images or sounds before the model; absent, all tokens are text.
        lora: Adapters are trained, the model is frozen; absent, all of it is trained.
        optimizer: Which states each parameter has: two fp32 moments (`adam`), two in bf16 or in 8 bits, or one fp32;
            or all in host memory, updated there (`adam_cpu`).
        attention: `flash` keeps no score matrix in memory, `plain` does; absent, the engine's.
        dropout: Whether residuals and attention scores have dropout; absent, the engine's.
        mfu_attention: Whether model FLOPs count the whole score matrix or the causal half.
        batch_ramp: Smaller batches at the beginning; absent, all steps have `global_batch`. They count for time, cost
            and energy of the job; all else is of a step of the whole batch.
        checkpoint: Checkpoints; absent, none are counted.
    """

    kind: Literal["training"]
    global_batch: int = Field(ge=1)
    sequence_length: int = Field(ge=1)
    tokens: float | None = Field(default=None, gt=0)
    precision: Precision = "bf16"
    quantisation: QuantisationSpec = Field(default_factory=QuantisationSpec)
    lora: LoraSpec | None = None
    encoder: EncoderSpec | None = None
    optimizer: Optimizer = "adam"
    attention: Literal["flash", "plain"] | None = None
    dropout: bool | None = None
    mfu_attention: Literal["full", "causal"] = "full"
    batch_ramp: BatchRampSpec | None = None
    checkpoint: CheckpointSpec | None = None

    @model_validator(mode="after")
    def _ramp_reaches_the_batch(self) -> TrainingWorkload:
        ramp = self.batch_ramp
        if ramp is not None and (ramp.start >= self.global_batch or (self.global_batch - ramp.start) % ramp.increment):
            near = max(1, self.global_batch - ramp.increment)
            raise ValueError(
                f"`batch_ramp` from {ramp.start} in steps of {ramp.increment} never reaches global_batch "
                f"{self.global_batch}; start at {near}, for example"
            )
        return self

    @property
    def batches(self) -> tuple[int, ...]:
        """Sequences of a step: of each part of the ramp, and last of the whole batch."""
        ramp = self.batch_ramp
        parts = () if ramp is None else tuple(range(ramp.start, self.global_batch, ramp.increment))
        return (*parts, self.global_batch)

    def parts(self, samples: float) -> Iterator[tuple[int, float]]:
        """Batch and steps of each part of a job of so many sequences."""
        *ramp, whole = self.batches
        for batch in ramp:
            assert self.batch_ramp is not None
            own = min(samples, self.batch_ramp.samples / len(ramp))
            samples -= own
            yield batch, own / batch
        yield whole, samples / whole
