"""Every schedule keeps the contract; bubbles and memory are those of the papers."""

import numpy as np
import pytest

from sim.core import InputError
from sim.testing.training import check_schedule, equal_times, random_times
from sim.training import SCHEDULES, PipelineTimes, StageTimes, replay

SHAPES = ((2, 4), (4, 8), (4, 12), (8, 16), (5, 10))
TIMES = ({}, {"forward_s": 1.0, "input_s": 1.3, "weight_s": 0.9}, {"forward_s": 2.0, "input_s": 2.5, "weight_s": 1.0})
"""Equal passes, and two proportions with W shorter than I, as the zero-bubble papers measure."""


def run(name: str, stages: int, microbatches: int, chunks: int = 1, **times: float) -> PipelineTimes:
    return replay(
        SCHEDULES.get(name)(),
        equal_times(stages * chunks, **times),
        stages=stages,
        chunks=chunks,
        microbatches=microbatches,
    )


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_contract(name: str) -> None:
    check_schedule(name)


@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("p", "m"), [*SHAPES, (8, 3), (4, 1)])
def test_bubble_of_gpipe_and_1f1b(name: str, p: int, m: int) -> None:
    # Narayanan et al. (2021), section 2.2: p - 1 stages' worth of one F and one B on top of m of each.
    step = run(name, p, m, forward_s=1.0, input_s=1.3, weight_s=0.9)
    assert step.bubble_over_ideal == pytest.approx((p - 1) / m)
    assert step.bubble_frac == pytest.approx((p - 1) / (m + p - 1))


@pytest.mark.parametrize(("p", "m"), [*SHAPES, (8, 3)])
def test_activations_in_flight(p: int, m: int) -> None:
    assert run("gpipe", p, m).peak_activations.tolist() == [m] * p
    assert run("1f1b", p, m).peak_activations.tolist() == [min(m, p - device) for device in range(p)]


@pytest.mark.parametrize("v", [2, 3, 5])
@pytest.mark.parametrize(("p", "m"), SHAPES)
def test_interleaving_divides_the_bubble(p: int, m: int, v: int) -> None:
    # Narayanan et al. (2021), section 2.2.2: the same number of idle passes, each a v-th as long.
    step = run("interleaved", p, m, chunks=v, forward_s=1.0, input_s=1.3, weight_s=0.9)
    assert step.bubble_over_ideal == pytest.approx((p - 1) / (m * v))
    # Korthikanti et al. (2023), section 4.2.3: the first device holds p (1 + (p - 1) / (p v)) micro-batches.
    assert step.peak_activations[0] / v == pytest.approx(p * (1 + (p - 1) / (p * v)))


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("p", "m"), SHAPES)
def test_zero_bubble_schedules(p: int, m: int, times: dict[str, float]) -> None:
    # Qi et al. (2024), section 2: bubbles (p-1)(F + I - W) and (p-1)(F + I - 2W), memory of p and 2p - 1 micro-batches.
    forward, inputs, weights = times.get("forward_s", 1.0), times.get("input_s", 1.0), times.get("weight_s", 1.0)
    ideal = m * (forward + inputs + weights)
    h1, h2 = run("zb_h1", p, m, **times), run("zb_h2", p, m, **times)
    assert h1.span_s - ideal == pytest.approx((p - 1) * (forward + inputs - weights))
    assert h1.end_s == pytest.approx(h1.span_s)
    assert h1.peak_held.tolist() == [p] * p
    assert h2.span_s - ideal == pytest.approx((p - 1) * (forward + inputs - 2 * weights), abs=1e-9)
    assert h2.peak_held.tolist() == [2 * p - 1] * p


@pytest.mark.parametrize(("p", "m"), SHAPES)
def test_zb_v_has_no_bubble_and_the_memory_of_1f1b(p: int, m: int) -> None:
    step = run("zb_v", p, m, chunks=2)
    assert step.span_bubble_frac == pytest.approx(0.0, abs=1e-12)
    # Where all begin together, what is left is the way of the first micro-batch to the last device.
    assert step.end_s - 6 * m == pytest.approx(p - 1)
    assert (step.peak_held / 2).tolist() == [p] * p


@pytest.mark.parametrize(("p", "m"), [*SHAPES, (16, 32)])
def test_v_half_halves_the_memory_and_the_bubble_of_1f1b(p: int, m: int) -> None:
    step = run("v_half", p, m, chunks=2)
    assert (step.peak_held <= p + 2).all()
    assert step.end_s - 6 * m <= 6 * (p - 1) / 2 + 1e-9  # 1F1B: (p - 1)(F + I + W) of two chunks


@pytest.mark.parametrize("name", ["zb_v", "v_half"])
@pytest.mark.parametrize("p", range(2, 21))
def test_building_blocks_fit_any_number_of_devices(name: str, p: int) -> None:
    assert run(name, p, p + 3, chunks=2).end_s >= 6 * (p + 3)


@pytest.mark.parametrize("hidden", [1e-9, 0.4, 1.0])
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 8), (8, 16), (8, 22)])
def test_dualpipe(p: int, m: int, times: dict[str, float], hidden: float) -> None:
    # DeepSeek-V3 report, table 2: bubble (p/2 - 1)(F&B + B - 3W), activations of p + 1 micro-batches. The bubble is
    # that of the devices in the middle, which run all they can as F&B; outer ones run more of it apart.
    base = equal_times(p, **times)
    pair = StageTimes(base.forward_s, base.backward_input_s, base.backward_weight_s, shared_hidden_frac=hidden)
    step = replay(SCHEDULES.get("dualpipe")(), pair, stages=p, microbatches=m)
    forward, inputs, weights = base.forward_s[0], base.backward_input_s[0], base.backward_weight_s[0]
    backward = inputs + weights
    both = forward + backward - hidden * min(forward, backward)
    assert step.idle_s[p // 2 - 1] == pytest.approx((p / 2 - 1) * (both + backward - 3 * weights), abs=1e-6)
    assert step.idle_s == pytest.approx(step.idle_s[::-1])
    assert step.peak_activations.tolist() == [p + 1] * p


@pytest.mark.parametrize(("name", "barriers"), [("1f1b_vocab_2", 1), ("1f1b_vocab_1", 2)])
@pytest.mark.parametrize(("p", "m"), [(4, 16), (8, 32)])
def test_vocabulary_passes_keep_1f1b(name: str, barriers: int, p: int, m: int) -> None:
    # Yeung et al. (2024), figure 10: one or two more micro-batches in flight, and exchanges hidden in the steady state.
    base = equal_times(p)

    def end_s(microbatches: int, exchange_s: float) -> float:
        times = StageTimes(base.forward_s, base.backward_input_s, base.backward_weight_s, 0.0, 0.0, 0.3, 0.4,
                           exchange_s, exchange_s)  # fmt: skip
        step = replay(SCHEDULES.get(name)(), times, stages=p, microbatches=microbatches)
        assert step.peak_activations.tolist() == [p + barriers - device for device in range(p)]
        return step.end_s

    assert end_s(m + 8, 0.2) - end_s(m, 0.2) == pytest.approx(8 * 3.7)
    assert end_s(m, 0.0) - m * 3.7 <= 3 * (p - 1) + 3 * barriers
    assert end_s(m, 0.2) - end_s(m, 0.0) <= 4 * 0.2 + 1e-9


@pytest.mark.parametrize(("p", "m"), [(2, 8), (5, 20), (8, 32)])
def test_interlaced_vocabulary_passes_hold_half_as_many_again_and_show_every_exchange(p: int, m: int) -> None:
    # Yeung et al. (2024), appendix B: 1.5 times the activations of 1F1B, and a stop of all devices per exchange.
    base = equal_times(p)

    def end_s(microbatches: int, exchange_s: float) -> float:
        times = StageTimes(base.forward_s, base.backward_input_s, base.backward_weight_s, 0.0, 0.0, 0.3, 0.4,
                           0.0, exchange_s)  # fmt: skip
        step = replay(SCHEDULES.get("1f1b_interlaced")(), times, stages=p, microbatches=microbatches)
        assert step.peak_activations[0] == p + p // 2
        assert step.busy_s == pytest.approx(microbatches * (3.7 + exchange_s))
        return step.end_s

    for exchange_s in (0.0, 0.2):
        assert end_s(m + 8, exchange_s) - end_s(m, exchange_s) == pytest.approx(8 * (3.7 + 2 * exchange_s))


@pytest.mark.parametrize("v", [1, 2, 4])
def test_forward_only_fills_and_drains_once(v: int) -> None:
    step = run("forward_only", 4, 8, chunks=v)
    assert step.end_s == pytest.approx(8 * v + 3)


def test_rules_name_the_numbers_and_the_nearest_valid_values() -> None:
    with pytest.raises(InputError, match=r"multiple of 8, not 20; nearest: 16 or 24"):
        run("interleaved", 8, 20, chunks=2)
    with pytest.raises(InputError, match="at least 2, not 1"):
        run("interleaved", 8, 16, chunks=1)
    with pytest.raises(InputError, match="1 virtual stage per device, not 2"):
        run("1f1b", 4, 8, chunks=2)
    with pytest.raises(InputError, match="at least one of microbatches"):
        run("1f1b", 4, 0)
    with pytest.raises(InputError, match=r"twice the stages.*at least 16, not 8"):
        run("dualpipe", 8, 8)


def test_peak_weighs_what_late_weight_passes_keep() -> None:
    step = run("zb_h1", 4, 8)
    bytes_per_stage = np.array([10.0, 20.0, 30.0, 40.0])
    # I frees half: device i has i late W, so of its four micro-batches i hold half.
    peak = step.peak(bytes_per_stage, bytes_per_stage / 2)
    assert peak.tolist() == [b * (4 - late / 2) for late, b in enumerate(bytes_per_stage)]


def test_gradients_are_ready_when_the_last_backward_pass_of_a_stage_ends() -> None:
    step = run("1f1b", 3, 4)
    assert np.diagonal(step.gradients_ready_s).tolist() == pytest.approx([18.0, 16.0, 14.0])
    assert np.diagonal(step.weights_needed_s).tolist() == [0.0, 1.0, 2.0]
    assert np.isnan(step.gradients_ready_s).sum() == 6
    both = run("dualpipe", 4, 8)
    assert np.isfinite(both.gradients_ready_s).sum() == 8, "each device holds two stages"


@pytest.mark.parametrize("name", ["1f1b", "zb_h2", "dualpipe"])
def test_what_is_held_over_time_peaks_at_the_peak_and_ends_empty(name: str) -> None:
    schedule, times = SCHEDULES.get(name)(), random_times(4, seed=3)
    step = replay(schedule, times, stages=4, microbatches=12)
    activation, late = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1.0, 2.0, 1.0, 0.5])
    for device in range(4):
        at_s, held = step.held(device, activation, late)
        assert (np.diff(at_s) >= 0.0).all()
        assert held.max() == pytest.approx(step.peak(activation, late)[device])
        assert held[-1] == pytest.approx(0.0)
        assert at_s[-1] <= step.end_s


def test_published_stage_times_give_the_published_gain_of_vocabulary_parallelism() -> None:
    # Yeung et al. (2024), 4B model on 8 A100, 256k words, s 2048, m 128 [ms]: F 10.5, B 21.0, with the output layer F
    # 36.8, B 52.4; cut over all devices F 11.3, B 22.5 and S, T and small passes 9.9 together. Measured gain: 1.97.
    forward, backward = np.full(8, 10.5), np.full(8, 21.0)
    forward[-1], backward[-1] = 36.8, 52.4
    plain = StageTimes(forward, backward / 2, backward / 2)
    cut = StageTimes(np.full(8, 11.3), np.full(8, 11.25), np.full(8, 11.25), vocabulary_s_s=3.6, vocabulary_t_s=6.3)
    whole = replay(SCHEDULES.get("1f1b")(), plain, stages=8, microbatches=128)
    for name in ("1f1b_vocab_1", "1f1b_vocab_2"):
        step = replay(SCHEDULES.get(name)(), cut, stages=8, microbatches=128)
        assert whole.end_s / step.end_s == pytest.approx(1.97, rel=0.05)


def test_times_that_do_not_fit_are_refused() -> None:
    times = equal_times(4)
    with pytest.raises(InputError, match=r"forward_s.*\(4,\).*\(8,\)"):
        replay(SCHEDULES.get("1f1b")(), times, stages=8, microbatches=8)
    with pytest.raises(InputError, match="0 or more"):
        replay(SCHEDULES.get("1f1b")(), equal_times(4, forward_s=-1.0), stages=4, microbatches=8)
    with pytest.raises(InputError, match=r"slowdown.*\(3,\).*\(4,\)"):
        replay(SCHEDULES.get("1f1b")(), times, stages=4, microbatches=8, slowdown=np.ones(3))
