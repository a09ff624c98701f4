"""What ZB-H1 and ZB-H2 share: 1F1B with the weight gradients late, where they fill the bubble.

Qi et al. (2024), "Zero bubble pipeline parallelism", arXiv:2401.10241, section 2.
"""

from __future__ import annotations

from sim.training.schedules.base import Orders, Pass, PassKind


def late_weights(stages: int, microbatches: int, *, reach: int) -> Orders:
    """1F1B whose device i starts `reach * (p - 1 - i)` forward passes ahead and runs W `reach * i` micro-batches late.

    So every device holds the same number of activations, `reach * (p - 1) + 1`: those that the last devices of 1F1B
    would not use hold what late W need.
    """
    return [_device(device, reach * (stages - 1 - device), reach * device, microbatches) for device in range(stages)]


def _device(stage: int, ahead: int, late: int, microbatches: int) -> list[Pass]:
    ahead = min(ahead, microbatches)
    order = [Pass(PassKind.FORWARD, stage, number) for number in range(ahead)]
    for number in range(microbatches + late):
        if number + ahead < microbatches:
            order.append(Pass(PassKind.FORWARD, stage, number + ahead))
        if number < microbatches:
            order.append(Pass(PassKind.BACKWARD_INPUT, stage, number))
        if 0 <= number - late < microbatches:
            order.append(Pass(PassKind.BACKWARD_WEIGHT, stage, number - late))
    return order
