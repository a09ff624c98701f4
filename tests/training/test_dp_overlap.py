"""Collectives beside compute, from the streams of a device, against closed forms of equal layers."""

from __future__ import annotations

import pytest

from sim.training.dp_overlap import gathered_before_s, reduced_behind_s, sharded_s


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
