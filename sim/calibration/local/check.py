"""The closed loop: a small transformer predicted from a profile's files, then run by PyTorch and timed.

The prediction takes the way of `plansim run`: the files are written and read back, the model expands into operators,
and the cost model adds up their times. Nothing of the measured steps goes into it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from sim.calibration.local.files import DeviceFiles
from sim.calibration.local.operands import Backend
from sim.calibration.local.samples import Timing
from sim.calibration.local.timing import Progress
from sim.calibration.local.training import prompt_attention, training_step_s
from sim.calibration.local.transformer import Transformer
from sim.costs import CostModel
from sim.hardware import load_node
from sim.models import (
    GQA,
    Dense,
    LayerGroup,
    ModelSpec,
    attention_classes,
    decode_operators,
    sequence_operators,
    stages,
    token_operators,
    weight_bytes,
)

CACHES_OF_WEIGHTS: Final = 4.0
"""Weights of the checked model in last-level caches at least: as in a real model, none is left from the step before."""

ROUNDS: Final = 7
TRAIN_TOKENS: Final = 256


@dataclass(frozen=True)
class Step:
    """A step of the small transformer.

    Attributes:
        kind: `prefill`, `decode` or `train`.
        batch: Sequences.
        tokens: New tokens per sequence.
        context: Keys that the last new token attends to, per sequence.
    """

    kind: str
    batch: int
    tokens: int
    context: int


STEPS: Final = (
    *(Step("prefill", 1, tokens, tokens) for tokens in (32, 128, 384, 768)),
    *(Step("decode", batch, 1, context) for batch in (1, 2, 4, 8) for context in (128, 768)),
    Step("train", 1, TRAIN_TOKENS, TRAIN_TOKENS),
)
"""What the check runs; most sizes are not among the profile's shapes."""


@dataclass(frozen=True)
class CheckCase:
    """A step, predicted and measured.

    Attributes:
        dtype: Format of weights, cache and activations.
        step: The step.
        predicted_s: From the profile's files [s].
        measured_s: Median of the readings [s].
        spread_frac: Interquartile range of the readings over their median.
        causes_s: The prediction by cause [s]; empty for a training step.
    """

    dtype: str
    step: Step
    predicted_s: float
    measured_s: float
    spread_frac: float
    causes_s: Mapping[str, float]

    @property
    def error_frac(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_s / self.measured_s - 1.0

    def to_json(self) -> dict[str, Any]:
        """The case as plain data."""
        numbers = {"predicted_s": self.predicted_s, "measured_s": self.measured_s, "spread_frac": self.spread_frac}
        return {
            "dtype": self.dtype,
            **asdict(self.step),
            **numbers,
            "error_frac": self.error_frac,
            "causes_s": dict(self.causes_s),
        }


def median_error(cases: Sequence[CheckCase]) -> float:
    """Median absolute relative error of the predictions."""
    return median(abs(case.error_frac) for case in cases)


def small_model(dtype: str, *, cache_bytes: float) -> ModelSpec:
    """A Llama-like model of width 1024, with as many layers as its weights need to outgrow the last-level cache.

    Args:
        dtype: Format of everything.
        cache_bytes: Last-level cache of the device [B].
    """

    def of(layers: int) -> ModelSpec:
        attention = GQA(heads=16, kv_heads=4, head_dim=64)
        return ModelSpec(
            name="check",
            hidden_size=1024,
            vocab_size=16384,
            max_position_embeddings=1024,
            layers=(LayerGroup(count=layers, attention=attention, ffn=Dense(intermediate=2816)),),
            dtype=dtype,
            weights_dtype=dtype,
        )

    def bytes_of(model: ModelSpec) -> float:
        return weight_bytes(model, stages(model)[0])

    one, two = bytes_of(of(1)), bytes_of(of(2))
    missing = CACHES_OF_WEIGHTS * cache_bytes - one
    return of(max(4, 1 + ceil(missing / (two - one))))


def predict(model: ModelSpec, costs: CostModel, step: Step) -> tuple[float, dict[str, float]]:
    """Time of a step of `model` [s], and its parts by cause (none for a training step)."""
    if step.kind == "train":
        return training_step_s(model, costs, batch=step.batch, tokens=step.tokens), {}
    (shard,) = stages(model, kv_dtype=model.dtype)
    sequences, tokens = np.array([float(step.batch)]), np.array([float(step.batch * step.tokens)])
    operators = [*token_operators(model, shard, tokens), *sequence_operators(model, shard, sequences)]
    if step.kind == "decode":
        for cls in attention_classes(model, shard):
            operators += decode_operators(model, shard, sequences, sequences * step.context, cls)
    else:
        operators += prompt_attention(model, batch=step.batch, tokens=step.tokens)
    causes = {cause: float(np.sum(time_s)) for cause, time_s in costs.breakdown(operators).items()}
    return sum(causes.values()), causes


def check(
    files: DeviceFiles,
    backend: Backend,
    *,
    dtypes: Sequence[str],
    steps: Sequence[Step] = STEPS,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> list[CheckCase]:
    """Steps of the small transformer in each format, predicted from `files` and timed on `backend`.

    A half-precision training step is left out: it is trained in fp32.
    """
    with tempfile.TemporaryDirectory(prefix="plansim-") as folder:
        files.write(Path(folder))
        costs = CostModel(load_node(str(Path(folder) / f"{files.node.name}.yaml")).device, engine="any")
        cases = []
        for dtype in dtypes:
            model = small_model(dtype, cache_bytes=backend.machine.eviction_bytes)
            wanted = [step for step in steps if step.kind != "train" or dtype == "fp32"]
            predicted = {step: predict(model, costs, step) for step in wanted}
            measured = _measured(backend, model, wanted, rounds=rounds, progress=progress)
            for step, timing in measured.items():
                time_s, causes = predicted[step]
                cases.append(CheckCase(dtype, step, time_s, timing.time_s, timing.spread_frac, causes))
        return cases


def _measured(
    backend: Backend, model: ModelSpec, steps: Sequence[Step], *, rounds: int, progress: Progress | None
) -> dict[Step, Timing]:
    """Timings of the steps; training comes last, since it changes what is kept in memory."""
    watch, transformer = backend.stopwatch(), Transformer(backend, model)
    inference = {step: _inference(backend, transformer, model, step) for step in steps if step.kind != "train"}
    with backend.torch.inference_mode():
        timings, cut = watch.measure(inference, rounds=rounds, progress=progress, what=f"check {model.dtype}")
    training = {step: _training(backend, transformer, model, step) for step in steps if step.kind == "train"}
    if training and not cut:
        trained, cut = watch.measure(training, rounds=rounds, progress=progress, what="check training")
        timings |= trained
    if cut:
        raise KeyboardInterrupt
    return timings


def _inference(backend: Backend, transformer: Transformer, model: ModelSpec, step: Step) -> Callable[[], object]:
    """A forward pass with sampling."""
    torch, start = backend.torch, step.context - step.tokens
    with torch.inference_mode():
        tokens = torch.randint(model.vocab_size, (step.batch, step.tokens), device=backend.device)
        cache = transformer.cache(step.batch, step.context)
    return lambda: transformer.step(tokens, cache, start=start)


def _training(backend: Backend, transformer: Transformer, model: ModelSpec, step: Step) -> Callable[[], object]:
    """Forward, backward and fused AdamW."""
    torch = backend.torch
    tokens, targets = torch.randint(model.vocab_size, (2, step.batch, step.tokens), device=backend.device)
    weights = [weight.requires_grad_() for weight in transformer.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=1e-4, fused=True)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        transformer.loss(tokens, targets).backward()
        optimiser.step()

    return run
