"""Laws of a training step: parts sum up, more of a resource never hurts, recomputation adds one forward pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.models import load_model
from sim.training import Sustained, TrainingStep, job_metrics
from sim.training.flops import recomputed_flops
from sim.training.step import COMM_CAUSES
from tests.training.builders import SMALL, gpt, resolved, step_of

PLANS: tuple[dict[str, Any], ...] = (
    {"tp": 1},
    {"tp": 2, "pp": 2, "micro_batch": 2},
    {"tp": 2, "pp": 2, "vpp": 2, "micro_batch": 1},
    {"tp": 4, "sp": True, "recompute": "selective"},
    {"tp": 2, "cp": 2, "zero": 1, "overlap_dp": True},
    {"tp": 1, "zero": 3, "overlap_dp": True, "recompute": "full"},
    {"tp": 2, "zero": 2, "pp": 2, "schedule": "zb_h1"},
)
every_plan = pytest.mark.parametrize("plan", PLANS, ids=str)
BASE = Sustained()


@every_plan
def test_parts_sum_to_the_step(plan: dict[str, Any]) -> None:
    times = step_of(plan).times
    assert sum(times.parts_s.values()) == pytest.approx(times.step_s, rel=1e-12)
    assert min(times.parts_s.values()) >= 0.0


@every_plan
def test_no_step_beats_the_peak_of_its_devices(plan: dict[str, Any]) -> None:
    step = step_of(plan)
    metrics = job_metrics(step)
    peak, _ = step.device.compute_rate("bf16")
    assert 0.0 < step.times.hardware_flops < step.step_s * peak * step.plan.n_gpus
    assert 0.0 <= metrics["exposed_comm_frac"] < 1.0
    by_dimension = sum(metrics[f"exposed_{cause}_frac"] for cause in COMM_CAUSES)
    assert by_dimension == pytest.approx(metrics["exposed_comm_frac"])


@every_plan
@pytest.mark.parametrize("field", ["linear", "attention", "stream", "local_comm", "network"])
def test_nothing_gets_slower_when_the_device_sustains_more(plan: dict[str, Any], field: str) -> None:
    slow = step_of(plan, sustained=replace(BASE, **{field: 0.5})).times.step_s
    fast = step_of(plan, sustained=BASE).times.step_s
    assert fast <= slow * (1 + 1e-12)


def test_a_faster_network_shortens_gradients_across_nodes() -> None:
    plan = {"tp": 8}
    slow, fast = (step_of(plan, gpus=32, sustained=replace(BASE, network=f)).times for f in (0.25, 1.0))
    assert fast.parts_s["dp_comm"] < 0.5 * slow.parts_s["dp_comm"]
    assert fast.parts_s["linear"] == slow.parts_s["linear"]


def test_full_recomputation_adds_one_forward_pass() -> None:
    """Of the layers, collectives included: nothing of embedding, head, loss or optimizer."""
    plan = {"tp": 2, "micro_batch": 8}
    none, full = (step_of({**plan, "recompute": kind}) for kind in ("none", "full"))
    forward = full.stages[0].forward
    vocabulary = forward.parts_s["vocabulary"] + forward.parts_s["host"]
    layers_s = forward.total_s - vocabulary
    added = full.stages[0].backward_input.total_s - none.stages[0].backward_input.total_s
    loss_s = sum(full.costs.time_s(o) for o in full.costs.raw_s if o.name in ("loss_reduce", "vocabulary_reduce"))
    assert added == pytest.approx(layers_s, abs=2.0 * loss_s)
    again = full.times.hardware_flops - none.times.hardware_flops
    heads = 2.0 * SMALL.hidden_size * 51200 * 32 * 1024
    forward_flops = none.stages[0].forward.flops * none.plan.microbatches * none.plan.dp * none.plan.tp
    assert again == pytest.approx(forward_flops - heads, rel=1e-9)


def test_every_second_layer_adds_half_of_it() -> None:
    flops = [step_of({"recompute": "full", "recompute_every": every}).times.hardware_flops for every in (1, 2)]
    none = step_of({}).times.hardware_flops
    assert flops[1] - none == pytest.approx(0.5 * (flops[0] - none))


@pytest.mark.parametrize("microbatches", [4, 8, 32])
def test_the_bubble_of_equal_stages_is_p_minus_1_over_m(microbatches: int) -> None:
    """With 1F1B, of the time that stages work; embedding and head make the last stage longer here, so a bit more."""
    deep = gpt(layers=64, hidden=2048, heads=16, vocab=1024)
    step = step_of({"pp": 4, "tp": 2, "micro_batch": 1}, model=deep, batch=microbatches)
    assert step.times.bubble_s / step.times.busy_s == pytest.approx(3 / microbatches, rel=0.12)


def test_weak_scaling_of_pipelines_and_replicas() -> None:
    """Twice the replicas with twice the batch take the same time but for the reduction of gradients."""
    one, two = (step_of({"tp": 8, "overlap_dp": True, "zero": 1}, gpus=gpus, batch=gpus * 4).times for gpus in (16, 32))
    states = ("dp_comm", "optimizer")  # with ZeRO-1 twice the ranks also share the optimizer's work
    gradients = sum(two.parts_s[cause] - one.parts_s[cause] for cause in states)
    assert two.step_s - one.step_s == pytest.approx(gradients, abs=1e-9)
    assert two.step_s < 1.05 * one.step_s


@given(micro=st.sampled_from([1, 2, 4, 8]), tp=st.sampled_from([1, 2, 4, 8]))
def test_flops_depend_on_the_batch_not_on_the_layout(micro: int, tp: int) -> None:
    base = step_of({"tp": 1, "micro_batch": 1}, batch=64).times.hardware_flops
    assert step_of({"tp": tp, "micro_batch": micro}, batch=64).times.hardware_flops == pytest.approx(base, rel=1e-9)


@pytest.mark.parametrize("layers", [(1, 3, 2, 2), (2, 3, 2, 1), (1, 2, 3, 2)])
def test_uneven_stages_are_valid_and_cost_time(layers: tuple[int, ...]) -> None:
    deep = gpt(layers=8, hidden=4096, heads=32, vocab=1024)
    even, uneven = (
        step_of({"pp": 4, "tp": 2, "layers_per_stage": counts}, model=deep).times for counts in ((2, 2, 2, 2), layers)
    )
    assert uneven.step_s > even.step_s
    assert uneven.busy_s == pytest.approx(even.busy_s, rel=1e-4)  # host waits differ a little


def test_a_lighter_last_stage_makes_room_for_a_large_vocabulary() -> None:
    wide = gpt(layers=8, hidden=2048, heads=16, vocab=256_000)
    even, lighter = (
        step_of({"pp": 4, "tp": 2, "layers_per_stage": counts}, model=wide).times.step_s
        for counts in ((2, 2, 2, 2), (3, 3, 2, 0))
    )
    assert lighter < even


def test_fewer_micro_batches_than_stages_are_valid() -> None:
    step = step_of({"pp": 4, "tp": 2, "micro_batch": 16}, batch=32)
    assert step.plan.microbatches < step.plan.pp
    assert step.times.bubble_s > step.times.busy_s


def test_plain_attention_grows_with_the_square_of_the_sequence() -> None:
    def attention_s(sequence: int, attention: str) -> float:
        return float(step_of({"tp": 1}, sequence=sequence, attention=attention).times.parts_s["attention"])

    for long, short in ((4096, 1024), (32768, 8192)):
        assert attention_s(long, "plain") / attention_s(short, "plain") == pytest.approx(16.0, rel=0.15)
    assert attention_s(8192, "plain") > 2.0 * attention_s(8192, "flash")


def test_experts_are_spread_and_exchanged() -> None:
    mixtral = load_model("mixtral-8x7b")
    given: dict[str, Any] = {"model": mixtral, "engine": "megatron-lm", "node": "dgx-h100", "gpus": 32, "batch": 64}
    alone, spread = (step_of({"tp": 2, "pp": 2, "ep": ep}, **given) for ep in (1, 8))
    assert spread.parameters[0].expert == pytest.approx(alone.parameters[0].expert / 8)
    assert spread.times.parts_s["ep_comm"] > 0.0
    assert "ep_comm" not in alone.times.parts_s
    assert spread.peak_memory.allocated_bytes < alone.peak_memory.allocated_bytes


def test_two_steps_that_share_operator_times_agree() -> None:
    found, things = resolved({"tp": 2, "pp": 2})
    model = things.pop("model")
    shared: dict[Any, float] = {}
    first, second = (TrainingStep(model, found, raw_s=shared, **things).times.step_s for _ in range(2))
    assert first == second == TrainingStep(model, found, **things).times.step_s


@pytest.mark.parametrize("schedule", ["1f1b_vocab_1", "1f1b_vocab_2", "1f1b_interlaced"])
def test_spread_vocabularies_balance_the_stages(schedule: str) -> None:
    """Same work in all, but none waits for the last stage (arXiv 2411.05288)."""
    wide = gpt(layers=8, hidden=2048, heads=16, vocab=256_000)
    plan = {"pp": 8, "tp": 1, "micro_batch": 1}
    last, spread = (step_of({**plan, "schedule": name}, model=wide) for name in ("1f1b", schedule))
    assert spread.times.hardware_flops == pytest.approx(last.times.hardware_flops, rel=1e-6)
    assert sum(spread.times.parts_s.values()) == pytest.approx(spread.times.step_s, rel=1e-12)
    assert spread.times.step_s < 0.6 * last.times.step_s
    assert spread.peak_memory.parameters_bytes < last.peak_memory.parameters_bytes


def test_gradients_added_by_a_kernel_of_their_own_cost_memory_traffic() -> None:
    """Per micro-batch and parameter: the new gradient read (2 B), the sum read and written (4 B each)."""
    plan, deep = {"tp": 2, "micro_batch": 2}, gpt(layers=4, hidden=8192, heads=64, vocab=1024)
    apart, fused = (step_of(plan, engine=f"megatron-lm-{year}", model=deep, sustained=BASE) for year in (2021, 2022))
    added = apart.times.parts_s["norm_activation"] - fused.times.parts_s["norm_activation"]
    streamed_s = 10.0 * 4 * 12 * deep.hidden_size**2 / 2 / apart.device.memory_bytes_per_s * apart.plan.microbatches
    assert streamed_s < added < 1.6 * streamed_s
    assert apart.times.parts_s["linear"] < fused.times.parts_s["linear"]


def test_balanced_slices_of_a_sequence_shorten_the_last_rank() -> None:
    """By 2 - 1/cp of the attention, which rules at long sequences."""
    given: dict[str, Any] = {"sequence": 65536, "batch": 8, "engine": "megatron-lm", "node": "dgx-h100"}
    attention_s = [
        step_of({"cp": 4, "cp_zigzag": zigzag}, **given).times.parts_s["attention"] for zigzag in (True, False)
    ]
    assert attention_s[1] / attention_s[0] == pytest.approx(2.0 - 1.0 / 4.0, rel=0.03)


def test_two_way_pipelines_hide_the_exchange_of_experts() -> None:
    """DualPipe runs one direction's communication beside the other's compute; the rest of the step sums up."""
    mixtral = load_model("mixtral-8x7b")
    given: dict[str, Any] = {"model": mixtral, "engine": "megatron-lm", "node": "dgx-h100", "gpus": 64, "batch": 512}
    one_way, two_way = (step_of({"pp": 4, "ep": 8, "schedule": name}, **given).times for name in ("zb_h1", "dualpipe"))
    assert two_way.parts_s["ep_comm"] < 0.5 * one_way.parts_s["ep_comm"]
    assert sum(two_way.parts_s.values()) == pytest.approx(two_way.step_s, rel=1e-12)
    assert two_way.hardware_flops == pytest.approx(one_way.hardware_flops, rel=1e-9)


@pytest.mark.parametrize("sp", [False, True])
def test_scatter_gather_pays_where_stages_are_on_different_nodes(sp: bool) -> None:
    across = {"tp": 8, "pp": 2, "sp": sp}
    shared, whole = (step_of({**across, "scatter_gather": on}, gpus=16).step_s for on in (True, False))
    assert shared < whole
    alone = {"tp": 1, "pp": 2}
    assert step_of({**alone, "scatter_gather": True}).step_s == step_of({**alone, "scatter_gather": False}).step_s


@pytest.mark.parametrize("overlap", [True, False])
def test_stage_2_reduces_gradients_in_every_micro_batch(overlap: bool) -> None:
    """Stage 1 reduces them once a step, stage 2, which keeps a shard of them alone, once a micro-batch."""

    def dp_comm(zero: int, batch: int) -> tuple[float, float]:
        step = step_of({"zero": zero, "overlap_dp": overlap, "micro_batch": 2}, gpus=16, batch=batch)
        comm_s = step.times.parts_s["dp_comm"] + step.times.hidden_s["dp_comm"]
        return comm_s, step.costs.collective_s("reduce_scatter", 4.0 * step.parameters[0].total, "dp")

    for micro_batches in (1, 2, 6):
        (once_s, reduce_s), (each_s, _) = (dp_comm(zero, 32 * micro_batches) for zero in (1, 2))
        assert each_s - once_s == pytest.approx((micro_batches - 1) * reduce_s)


def test_stage_2_buys_memory_with_time() -> None:
    steps = [step_of({"zero": zero, "overlap_dp": True}, gpus=16, batch=128) for zero in (1, 2, 3)]
    times = [step.step_s for step in steps]
    held = [step.peak_memory.gradients_bytes for step in steps]
    assert times[0] < times[1] < times[2]
    assert held[0] > held[1] == held[2]


@every_plan
@pytest.mark.parametrize("attention", ["full", "causal"])
def test_hardware_flops_are_those_of_the_model_and_of_what_is_computed_again(
    plan: dict[str, Any], attention: str
) -> None:
    metrics = job_metrics(step_of(plan, mfu_attention=attention))
    if plan.get("recompute", "none") == "none":
        assert metrics["hfu_frac"] == metrics["mfu_frac"]
    else:
        assert metrics["hfu_frac"] > metrics["mfu_frac"]


def test_recomputation_counted_is_recomputation_done() -> None:
    """Where plain attention computes the whole square, what is counted is what the operators add up to."""
    for plan in ({"recompute": "full"}, {"recompute": "full", "recompute_every": 2}, {"recompute": "selective"}):
        with_it, without = (step_of({**each, "tp": 4}, attention="plain") for each in (plan, {}))
        added = with_it.times.hardware_flops - without.times.hardware_flops
        counted = 32 * recomputed_flops(
            with_it.model, sequence=1024, kind=with_it.plan.recompute, every=with_it.plan.recompute_every
        )
        assert added == pytest.approx(counted, rel=1e-9)


def test_late_checked_steps_last_as_long_as_the_slowest_device_alone() -> None:
    """ZB-H2 without a barrier between steps has no bubble where its passes are equal (Qi et al. 2024, section 2)."""
    even = gpt(layers=8, hidden=4096, heads=32, vocab=128)
    step = step_of({"pp": 4, "tp": 2, "micro_batch": 1, "schedule": "zb_h2"}, model=even, batch=64)
    passes = step.plan.microbatches * max(stage.total_s for stage in step.stages)
    assert step.schedule.checks_step_late
    assert passes <= step.pipeline.span_s < 1.05 * passes
    assert step.times.bubble_s == pytest.approx(
        float(step.pipeline.idle_s.mean()) - step.pipeline.end_s + step.pipeline.span_s
    )
    assert step.times.bubble_s < 0.5 * float(step.pipeline.idle_s.mean())


def test_gathers_ahead_hide_and_scatters_that_wait_do_not() -> None:
    plan, things = resolved({"zero": 3, "overlap_dp": True, "tp": 1}, gpus=16)
    assert not isinstance(plan, tuple)
    waits = things["engine"].model_copy(update={"overlap_scatter": False})
    hidden, waiting, alone = (
        TrainingStep(
            things["model"], how, workload=things["workload"], engine=engine, cluster=things["cluster"]
        ).times.parts_s["dp_comm"]
        for how, engine in (
            (plan, things["engine"]),
            (plan, waits),
            (replace(plan, overlap_dp=False), things["engine"]),
        )
    )
    assert hidden < waiting < alone


def test_a_batch_ramp_adds_the_steps_of_smaller_batches_to_the_job() -> None:
    """Two parts of 1,024 sequences at batches of 32 and 64, the rest at 96; each step as that batch alone takes."""
    given = {"gpus": 8, "sequence": 1024, "tokens": 8192 * 1024.0}
    plan = {"tp": 4, "pp": 2}
    ramp = {"start": 32, "increment": 32, "samples": 2048}
    job = job_metrics(step_of(plan, batch=96, batch_ramp=ramp, checkpoint={"every_steps": 10, "time": "2 s"}, **given))
    alone = {batch: job_metrics(step_of(plan, batch=batch, **given)) for batch in (32, 64, 96)}
    steps = {32: 1024 / 32, 64: 1024 / 64, 96: 6144 / 96}
    seconds = sum(count * (alone[batch]["step_time_s"] + 0.2) for batch, count in steps.items())
    energy = sum(count * alone[batch]["energy_j"] for batch, count in steps.items())
    assert job["training_time_s"] == pytest.approx(seconds)
    assert job["training_energy_j"] == pytest.approx(energy)
    assert job["step_time_s"] == alone[96]["step_time_s"]
    short = job_metrics(step_of(plan, batch=96, batch_ramp=ramp, **{**given, "tokens": 512 * 1024.0}))
    assert short["training_time_s"] == pytest.approx(512 / 32 * alone[32]["step_time_s"])


def test_a_ramp_whose_batches_cannot_be_dealt_out_is_refused() -> None:
    found, _ = resolved({"micro_batch": 4}, batch=96, batch_ramp={"start": 16, "increment": 16, "samples": 100})
    assert isinstance(found, tuple)
    assert "batch_ramp's batch 16 does not divide by dp 8 x micro_batch 4 = 32" in found[0].message
    step = step_of({"tp": 4, "pp": 2, "vpp": 2}, batch=8, batch_ramp={"start": 1, "increment": 1, "samples": 10})
    assert step.schedule_reasons(), "one micro-batch for two stages"
    with pytest.raises(ValueError, match="never reaches global_batch 96; start at 76"):
        resolved({}, batch=96, batch_ramp={"start": 32, "increment": 20, "samples": 10})


@pytest.mark.parametrize("name", ["1f1b_vocab_1", "1f1b_vocab_2", "1f1b_interlaced"])
def test_a_vocabulary_that_one_stage_holds_is_as_in_1f1b(name: str) -> None:
    given: dict[str, Any] = {"gpus": 8, "batch": 32}
    plain, own = step_of({"tp": 2}, **given), step_of({"tp": 2, "schedule": name}, **given)
    assert own.step_s == pytest.approx(plain.step_s, rel=0.03)
    assert own.times.parts_s.get("pp_comm", 0.0) == 0.0


def test_softmax_of_many_keys_is_no_single_kernel() -> None:
    """Up to 4,096 keys 3 + 4 bytes a score move, beyond 13 + 15: three kernels each way read and write all scores."""
    given: dict[str, Any] = {"engine": "megatron-lm-2022", "model": SMALL, "dropout": False, "batch": 8}
    moved = []
    for sequence in (4096, 4100):
        step = step_of({"tp": 1, "micro_batch": 1}, sequence=sequence, **given)
        assert step.stages
        moved.append({o.name: o.moved_bytes / sequence**2 for o in step.costs.raw_s if "softmax" in o.name})
    assert moved[1]["softmax"] / moved[0]["softmax"] == pytest.approx(13.0 / 3.0)
    assert moved[1]["softmax_backward"] / moved[0]["softmax_backward"] == pytest.approx(15.0 / 4.0)
