"""From a published FLOP rate to seconds: how each source counts the FLOPs of a step.

Sources differ by up to 1.6 times, so a rate is worth as much as the definition that stands beside it; without one it
cannot be compared with anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sim.models import ModelSpec, parameter_counts
from sim.training.flops import megatron_flops, training_flops


@dataclass(frozen=True)
class Counted:
    """What the FLOPs of a step are counted from.

    Attributes:
        model: The model.
        batch: Sequences of a step.
        sequence: Tokens of a sequence.
        parameters: Parameters as the source gives them.
    """

    model: ModelSpec
    batch: float
    sequence: float
    parameters: float

    @property
    def squares(self) -> float:
        """`L h s^2` of all sequences."""
        return self.batch * self.model.n_layers * self.model.hidden_size * self.sequence**2


def _narayanan(counted: Counted, *, recompute: bool) -> float:
    model = counted.model
    return megatron_flops(
        batch=counted.batch,
        sequence=counted.sequence,
        layers=model.n_layers,
        hidden=model.hidden_size,
        vocab=model.vocab_size,
        recompute=recompute,
    )


def _model_formula(counted: Counted) -> float:
    """Megatron-LM's formula as it is today, for grouped attention and gated blocks too: forward and twice that."""
    return counted.batch * training_flops(counted.model, sequence=counted.sequence)


def _dense(counted: Counted, *, per_square: float) -> float:
    return 6.0 * counted.parameters * counted.batch * counted.sequence + per_square * counted.squares


_DEFINITIONS: Final[dict[str, Callable[[Counted], float]]] = {
    "3(2Ns+4Lds^2)": lambda c: _dense(c, per_square=12.0),
    "6N+12Lhs per token": lambda c: _dense(c, per_square=12.0),
    "6N+12LHQT per token": lambda c: _dense(c, per_square=12.0),
    "6Ns+12Lhs^2": lambda c: _dense(c, per_square=12.0),
    "6N tok + 6s^2dhL": lambda c: _dense(c, per_square=6.0),
    "Megatron formula without recompute": _model_formula,
    "Megatron formula": _model_formula,
    "model FLOPs": _model_formula,
    "model 72Bslh^2": lambda c: _narayanan(c, recompute=False),
    "hardware 96Bslh^2": lambda c: _narayanan(c, recompute=True),
}
"""FLOPs of a step by the beginning of a definition; what follows (`, full attention`, `per GCD`) only explains it."""

PEAKS: Final = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "H800": 989e12, "MI250X": 191.5e12, "V100": 125e12}
"""Dense 16-bit peak [FLOP/s] that published utilisations are a share of, by the beginning of the device's name."""


def flops_per_step(definition: str, counted: Counted) -> float | None:
    """FLOPs of a step by this definition; None if it is not known."""
    plain = re.sub(r"\s+", " ", definition).strip()
    known = sorted((name for name in _DEFINITIONS if plain.startswith(name)), key=len)
    return _DEFINITIONS[known[-1]](counted) if known else None


def published_parameters(text: float | None, model: ModelSpec) -> float:
    """The source's own parameter count, or that of the shape."""
    return float(parameter_counts(model).total) if text is None else text
