"""A training step without one of the effects that it is made of: what each is worth shows where it is missing.

Start at `EFFECTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sim.calibration.training_cases import Seconds
from sim.models import Collective, Elementwise, Gemm
from sim.training import TrainingStep
from sim.training.costing import TrainingCosts
from sim.training.operators import BatchedGemm, TrainingOperator, WeightGradient, matrix_flops

_Alone = Callable[[TrainingOperator], bool]
_DP_GROUPS: Final = ("dp", "dp_shard", "dp_replica", "expert_dp", "expert_shard")


def without_bubble(step: TrainingStep) -> float:
    """Time [s] of a step whose pipeline never idles."""
    return step.step_s - step.times.parts_s.get("bubble", 0.0)


def without_host(step: TrainingStep) -> float:
    """Time [s] of a step whose kernels launch at once, and whose data and logging take no time."""
    none = {
        name: getattr(step.engine, name).model_copy(update={"value": 0.0})
        for name in ("launch_s", "step_s", "micro_batch_s")
    }
    step.engine = step.engine.model_copy(update=none)
    return step.step_s


def without_vocabulary(step: TrainingStep) -> float:
    """Time [s] of a step without embedding, LM head and loss."""
    return _without(step, lambda operator: operator.cause == "vocabulary")


def without_score_traffic(step: TrainingStep) -> float:
    """Time [s] of a step whose plain attention moves no scores through softmax and dropout."""
    return _without(step, lambda operator: isinstance(operator, Elementwise) and operator.cause == "attention")


def without_dp_communication(step: TrainingStep) -> float:
    """Time [s] of a step whose data-parallel ranks exchange gradients and parameters at once."""
    return _without(step, lambda operator: isinstance(operator, Collective) and operator.group in _DP_GROUPS)


def without_tp_communication(step: TrainingStep) -> float:
    """Time [s] of a step whose tensor-parallel ranks exchange activations at once."""
    return _without(step, lambda operator: isinstance(operator, Collective) and operator.group == "tp")


def without_shape(step: TrainingStep) -> float:
    """Time [s] of a step whose matrix products all run at the rate of very large ones."""
    step.costs = _LargeProducts(step.costs, lambda _: False)
    return step.step_s


EFFECTS: Final[Mapping[str, Seconds]] = {
    "bubble": without_bubble,
    "host time": without_host,
    "vocabulary layers": without_vocabulary,
    "s^2 traffic of plain attention": without_score_traffic,
    "DP and FSDP communication": without_dp_communication,
    "TP communication": without_tp_communication,
    "shape of matrix products": without_shape,
}
"""Time of a step without each effect, from a step that nothing has been asked of yet."""


def _without(step: TrainingStep, dropped: _Alone) -> float:
    step.costs = _Fewer(step.costs, dropped)
    return step.step_s


class _Fewer(TrainingCosts):
    """Costs in which some operators take no time."""

    def __init__(self, whole: TrainingCosts, dropped: _Alone) -> None:
        super().__init__(
            whole.device,
            whole.groups,
            sustained=whole.sustained,
            stream_passes=whole.stream_passes,
            attention_frac=whole.attention_frac,
            network_frac=whole.network_frac,
            raw_s=whole.raw_s,
        )
        self._dropped = dropped

    def time_s(self, operator: TrainingOperator) -> float:
        """Time [s] of all executions of an operator; none for those that are left out."""
        return 0.0 if self._dropped(operator) else super().time_s(operator)


class _LargeProducts(_Fewer):
    """Costs in which a product takes its FLOPs at the best rate of its format, whatever its shape."""

    def time_s(self, operator: TrainingOperator) -> float:
        """Time [s] of all executions of an operator."""
        if not isinstance(operator, (Gemm, BatchedGemm, WeightGradient)):
            return super().time_s(operator)
        dtype = {Gemm: "weights_dtype", WeightGradient: "dtype"}.get(type(operator))
        setup = self._curves.gemm(getattr(operator, dtype) if dtype else "bf16")
        return matrix_flops(operator) / (min(setup.curve.e, 1.0) * setup.flops_per_s) / self._rate(operator)
