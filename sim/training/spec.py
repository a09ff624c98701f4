"""What a scenario says about a training job. Data only."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim.core import Spec, TimeS

Precision = Literal["bf16", "fp16", "fp8", "fp8_block"]
Optimizer = Literal["adam", "adam_8bit", "sgd_momentum"]


class CheckpointSpec(Spec):
    """Checkpoints as a fixed cost.

    Attributes:
        every_steps: Steps between two checkpoints.
        time: Time that training stands still for one.
    """

    every_steps: int = Field(ge=1)
    time: TimeS


class TrainingWorkload(Spec):
    """A training job.

    Attributes:
        kind: `training`.
        global_batch: Sequences of one optimizer step.
        sequence_length: Tokens of a sequence.
        tokens: Tokens to train in all, for time, cost and energy of the job.
        precision: Format of the linear layers' products; embeddings, LM head and attention stay in 16 bits under FP8.
        optimizer: Which states each parameter has: two fp32 moments (`adam`), two 8-bit ones, or one fp32.
        attention: `flash` keeps no score matrix in memory, `plain` does; absent, the engine's.
        dropout: Whether residuals and attention scores have dropout; absent, the engine's.
        mfu_attention: Whether model FLOPs count the whole score matrix or the causal half.
        checkpoint: Checkpoints; absent, none are counted.
    """

    kind: Literal["training"]
    global_batch: int = Field(ge=1)
    sequence_length: int = Field(ge=1)
    tokens: float | None = Field(default=None, gt=0)
    precision: Precision = "bf16"
    optimizer: Optimizer = "adam"
    attention: Literal["flash", "plain"] | None = None
    dropout: bool | None = None
    mfu_attention: Literal["full", "causal"] = "full"
    checkpoint: CheckpointSpec | None = None
