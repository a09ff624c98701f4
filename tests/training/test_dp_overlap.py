"""Collectives beside compute, from the streams of a device, against closed forms of equal layers."""

from __future__ import annotations

from typing import Any

import pytest

from sim.core import InputError
from sim.training.analytic import Screen
from sim.training.dp_overlap import gathered_before_s, reduced_behind_s, sharded_s
from tests.training.builders import gpt, resolved, step_of


@pytest.mark.parametrize("taken", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("comm_s", [0.5, 4.0, 10.0, 40.0])
def test_all_but_one_piece_hides_while_both_last(comm_s: float, taken: float) -> None:
    """`C - (1 - 1/n) (1 - k) min(C, B)` for n pieces: behind a backward pass, before a forward one, layer by layer."""
    layers, pass_s = 8, 10.0
    equal = [pass_s / layers] * layers
    expected = comm_s - (1 - 1 / layers) * (1 - taken) * min(comm_s, pass_s)
    given = {"layers_s": equal, "layer_bytes": [1.0] * layers, "taken": taken}
    assert reduced_behind_s(comm_s, bucket_bytes=1.0, **given) == pytest.approx(expected)  # type: ignore[arg-type]
    assert gathered_before_s(comm_s, **given) == pytest.approx(expected)  # type: ignore[arg-type]
    assert sharded_s(equal, [comm_s / layers] * layers, taken=taken) == pytest.approx(expected)


def test_one_bucket_for_all_hides_nothing() -> None:
    given = {"layers_s": [1.0] * 4, "layer_bytes": [1.0] * 4, "taken": 0.2}
    assert reduced_behind_s(3.0, bucket_bytes=4.0, **given) == pytest.approx(3.0)  # type: ignore[arg-type]
    assert reduced_behind_s(0.0, bucket_bytes=4.0, **given) == 0.0  # type: ignore[arg-type]


def test_scatters_queue_behind_gathers_in_the_same_stream() -> None:
    """A backward pass moves each layer's parameters in and its gradients out: more of either is never faster."""
    layers = [1.0] * 6
    alone = sharded_s(layers, [0.5] * 6, taken=0.1)
    both = sharded_s(layers, [0.5] * 6, [0.4] * 6, taken=0.1)
    more = sharded_s(layers, [0.5] * 6, [0.8] * 6, taken=0.1)
    assert alone < both < more
    assert both >= 0.5 + 0.4, "the first gather and the last scatter"


def test_gathers_further_ahead_never_take_longer_and_hold_a_layer_more() -> None:
    """Gathered when needed, everything shows, for a scatter queues before the next gather (as llm-foundry's runs tell);
    each layer ahead is another whole layer in memory."""
    given: dict[str, Any] = {"engine": "torchtitan", "node": "dgx-h100", "gpus": 64, "batch": 64}
    model = gpt(layers=8, hidden=2048, heads=16, vocab=1024)
    steps = [step_of({"zero": 3, "prefetch": ahead}, model=model, **given) for ahead in (0, 1, 2, 4)]
    shown = [step.times.parts_s["dp_comm"] for step in steps]
    assert shown[0] > shown[1] >= shown[2] * (1.0 - 1e-9) >= shown[3] * (1.0 - 2e-9)
    assert steps[0].step_s == pytest.approx(step_of({"zero": 3, "overlap_dp": False}, model=model, **given).step_s)
    held = [step.peak_memory.buffers_bytes / steps[0].parameters[0].largest_layer for step in steps]
    assert [more - held[0] for more in held] == pytest.approx([0.0, 2.0, 4.0, 8.0])


def test_the_screen_refuses_what_it_does_not_know() -> None:
    found, things = resolved({"zero": 3, "prefetch": 2}, engine="torchtitan", node="dgx-h100")
    with pytest.raises(InputError, match="one layer ahead"):
        Screen(**things).estimate([found])
