"""Tensor-parallel collectives beside products: bounds and directions that hold whatever the times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.models import Collective, Gemm, ModelSpec, load_model
from sim.training.layer import layer_work
from sim.training.operators import TrainingOperator, WeightGradient
from sim.training.shape import WorkShape
from sim.training.tp_overlap import beside_products_s
from tests.training.builders import SMALL, gpt, step_of

LARGE = gpt(layers=4, hidden=8192, heads=64, vocab=1024)


def collective(kind: str, size_bytes: float) -> Collective:
    return Collective(name=kind, cause="tp_comm", kind=kind, buffer_bytes=size_bytes, group="tp")  # type: ignore[arg-type]


def product(name: str, seconds: float) -> Gemm:
    return Gemm(name=name, cause="linear", m=1024.0 * seconds, n=64.0, k=64.0, weights_dtype="bf16")


def forward_of(fed_s: float, drained_s: float, size_bytes: float = 1.0) -> list[TrainingOperator]:
    products = [product("qkv", fed_s), product("o", drained_s)]
    return [*products, collective("all_gather", size_bytes), collective("reduce_scatter", size_bytes)]


def backward_of(
    fed_s: float, drained_s: float, size_bytes: float = 1.0, *, again: bool = False
) -> list[TrainingOperator]:
    kinds = ["all_gather", "reduce_scatter", *(["all_gather"] if again else [])]
    products = [product("qkv_dgrad", fed_s), product("o_dgrad", drained_s)]
    return [*products, *(collective(kind, size_bytes) for kind in kinds)]


def gradient_of(seconds: float) -> list[TrainingOperator]:
    return [WeightGradient(name="qkv_wgrad", m=1024.0 * seconds, n=64.0, k=64.0, dtype="bf16", sum_bytes=2.0)]


def time_s(operator: TrainingOperator) -> float:
    """A second per 1,024 rows with a hundredth more for each launch, one per byte of a collective, none for sums."""
    if isinstance(operator, (Gemm, WeightGradient)):
        return float(operator.m) / 1024.0 + 0.01
    return float(operator.buffer_bytes) if isinstance(operator, Collective) else 0.0


def shown_s(operators: Sequence[TrainingOperator], **changes: Any) -> float:
    return beside_products_s(operators, time_s, **{"ranks": 8, "streams": 2, "taken": 0.15, **changes})


def hidden_s(operators: Sequence[TrainingOperator], **changes: Any) -> float:
    return sum(time_s(one) for one in operators if isinstance(one, Collective)) - shown_s(operators, **changes)


sizes = st.floats(0.01, 10.0)
seconds = st.floats(0.01, 3.0)


@given(sizes, seconds, seconds, st.floats(0.0, 0.5), st.sampled_from([2, 4, 8]))
def test_a_product_hides_one_collective_and_no_more_than_it_takes(
    size: float, fed_s: float, drained_s: float, taken: float, ranks: int
) -> None:
    """Each transfer has its own product: hidden time is at most the sum of the shorter of the two."""
    fed, drained = min(size, fed_s + 0.01), min(size, drained_s + 0.01)
    for operators in (forward_of(fed_s, drained_s, size), backward_of(fed_s, drained_s, size)):
        assert -1e-9 <= hidden_s(operators, ranks=ranks, taken=taken) <= fed + drained + 1e-9


@given(sizes, seconds, seconds, seconds, st.floats(0.0, 0.5))
def test_in_bulk_every_product_hides_one_collective_too(
    size: float, fed_s: float, drained_s: float, weight_s: float, taken: float
) -> None:
    """What is gathered again is behind gradients of inputs, what is scattered behind those of the same weights."""
    operators, weights = backward_of(fed_s, drained_s, size, again=True), gradient_of(weight_s)
    fed, drained, behind = (min(size, one + 0.01) for one in (fed_s, drained_s, weight_s))
    apart = hidden_s(operators, taken=taken)
    together = hidden_s(operators, weights=weights, taken=taken)
    assert apart + taken * fed >= -1e-9
    assert apart <= fed + drained + 1e-9
    assert -taken * behind - 1e-9 <= together - apart <= behind + 1e-9


def test_products_of_another_block_or_side_hide_nothing() -> None:
    """A gather is beside the products that read what it brings, wherever others have time to spare."""
    gather = collective("all_gather", 1.0)
    for name in ("o", "ffn_out", "qkv_dgrad", "router", "lm_head", "down_0"):
        assert shown_s([product(name, 100.0), gather]) == 1.0
    for name in ("qkv", "q", "in", "ffn_in", "o_dgrad", "ffn_out_dgrad"):
        assert shown_s([product(name, 100.0), gather]) < 0.5


def test_all_reduces_show() -> None:
    assert shown_s([product("qkv", 9.0), product("o", 9.0), collective("all_reduce", 2.0)]) == 2.0


@given(sizes, st.floats(0.0, 0.4))
def test_more_multiprocessors_taken_never_help(size: float, taken: float) -> None:
    operators = forward_of(1.0, 1.0, size)
    assert shown_s(operators, taken=taken) <= shown_s(operators, taken=taken + 0.1) + 1e-9


@given(sizes)
def test_more_streams_never_hurt(size: float) -> None:
    operators = forward_of(1.0, 1.0, size)
    assert shown_s(operators, streams=3) <= shown_s(operators, streams=2) + 1e-9


def test_the_first_and_the_last_piece_and_the_multiprocessors_taken_show() -> None:
    """Ideal pieces: 1/8 of 0.2 s before and after, products slowed by 0.15 while the other 0.35 s run."""
    found = beside_products_s(
        forward_of(1.0, 1.0, 0.2),
        lambda one: float(one.m) / 1024.0 if isinstance(one, Gemm) else time_s(one),
        ranks=8,
        streams=1,
        taken=0.15,
    )
    assert found == pytest.approx(0.05 + 0.15 * 0.35 / 1.15, rel=0.2)


def test_what_is_gathered_again_runs_in_bulk() -> None:
    """Its time does not show, but for the multiprocessors it takes; nor what weights' gradients hide."""
    once = shown_s([product("o_dgrad", 1.0), collective("all_gather", 0.1)])
    again = backward_of(1.0, 1.0, 0.1, again=True)
    assert shown_s(again, weights=gradient_of(1.0)) == pytest.approx(once + 0.15 * 0.2, rel=0.2)
    assert shown_s(again) == pytest.approx(once + 0.15 * 0.1 + 0.1, rel=0.1)


def test_without_products_everything_shows() -> None:
    assert shown_s([collective("all_gather", 2.0)]) == 2.0


@pytest.mark.parametrize("engine", ["megatron-lm", "torchtitan"])
def test_overlap_shortens_steps_and_leaves_products_alone(engine: str) -> None:
    plan = {"tp": 8, "sp": True, "micro_batch": 4}
    plain, beside = (
        step_of({**plan, "overlap_tp": on}, engine=engine, model=LARGE, node="dgx-h100") for on in (False, True)
    )
    assert 0.0 < beside.times.parts_s["tp_comm"] < 0.8 * plain.times.parts_s["tp_comm"]
    assert beside.times.parts_s["linear"] == pytest.approx(plain.times.parts_s["linear"])
    assert beside.peak_memory.working_bytes > plain.peak_memory.working_bytes


def test_engines_that_cannot_cut_products_gain_nothing() -> None:
    """Neither time nor the memory of a buffer for pieces."""
    plan = {"tp": 8, "sp": True}
    steps = [step_of({**plan, "overlap_tp": on}, engine="megatron-lm-2021", model=SMALL) for on in (False, True)]
    assert steps[0].step_s == steps[1].step_s
    assert steps[0].peak_memory == steps[1].peak_memory


def blocks_of_layer(model: ModelSpec) -> Sequence[Any]:
    return layer_work(model, model.layers[-1], WorkShape(micro_batch=1, sequence=4096, tp=8, sp=True)).blocks


def test_mixer_and_feed_forward_block_overlap_apart_and_experts_not_at_all() -> None:
    dense, experts = blocks_of_layer(LARGE), blocks_of_layer(load_model("mixtral-8x7b"))
    assert [{one.name for one in block[0] if isinstance(one, Gemm)} for block in dense] == [
        {"qkv", "o"},
        {"ffn_in", "ffn_out"},
    ]
    assert [{one.name for one in block[0] if isinstance(one, Gemm)} for block in experts] == [{"qkv", "o"}]
    for block in (*dense, *experts):
        assert [one.kind for one in block[0] if isinstance(one, Collective)] == ["all_gather", "reduce_scatter"]


def test_a_split_backward_pass_scatters_in_the_open() -> None:
    """Gradients of weights run later there, so what bulk overlap hides behind them shows."""
    plan = {"tp": 8, "sp": True, "pp": 2, "micro_batch": 4}

    def gained(schedule: str) -> float:
        plain, beside = (
            step_of(
                {**plan, "schedule": schedule, "overlap_tp": on}, engine="megatron-lm", model=LARGE, gpus=16,
                node="dgx-h100",
            ).times.parts_s["tp_comm"]
            for on in (False, True)
        )  # fmt: skip
        return plain - beside

    assert 0.0 < gained("zb_h1") < gained("1f1b")
