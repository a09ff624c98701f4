"""What the vocabulary-parallel schedules share: 1F1B with S and T passes on every device.

The output layer is cut over all devices of the pipeline instead of weighing on the last one. Each device computes the
scores of its slice of the vocabulary (S) from the last stage's output, which is broadcast; the softmax and the gradient
need exchanges over all devices. Yeung et al. (2024), "Balancing pipeline parallelism with vocabulary parallelism",
arXiv:2411.05288.
"""

from __future__ import annotations

from sim.training.schedules.base import Orders, Pass, PassKind

_FORWARD, _BACKWARD = 1, 2
_INTERVAL = _FORWARD + _BACKWARD
"""Slots of F, of B, and from a micro-batch to the next. S and T are given none: they only need a place in the order."""


def vocabulary_orders(stages: int, microbatches: int, *, barriers: int) -> Orders:
    """1F1B whose backward passes begin `barriers` micro-batches later, so that each exchange has one to hide in.

    S comes after the last device's backward pass of its interval, so that the broadcast has that long. T follows at
    once where the second exchange waits for it, else an interval later, when the exchange is surely over.
    """
    last = stages - 1
    scores = stages + _FORWARD
    gradients = scores + (_INTERVAL if barriers == 1 else _FORWARD)
    orders: Orders = []
    for device in range(stages):
        backward = stages + barriers * _INTERVAL + _BACKWARD * (last - device)
        slots = ((device, PassKind.FORWARD), (scores, PassKind.VOCABULARY_S),
                 (backward, PassKind.BACKWARD), (gradients, PassKind.VOCABULARY_T))  # fmt: skip
        timed = [(slot + _INTERVAL * number, kind, number) for number in range(microbatches) for slot, kind in slots]
        tie = {PassKind.FORWARD: 0, PassKind.VOCABULARY_S: 1, PassKind.BACKWARD: 2, PassKind.VOCABULARY_T: 3}
        timed.sort(key=lambda entry: (entry[0], tie[entry[1]]))
        orders.append([Pass(kind, device, number) for _, kind, number in timed])
    return orders
