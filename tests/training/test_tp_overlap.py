"""Tensor-parallel collectives beside products: bounds and directions that hold whatever the times."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.models import Collective, Gemm
from sim.training.operators import TrainingOperator
from sim.training.tp_overlap import beside_products_s
from tests.training.builders import SMALL, gpt, step_of

LARGE = gpt(layers=4, hidden=8192, heads=64, vocab=1024)


def collective(kind: str, size_bytes: float) -> Collective:
    return Collective(name=kind, cause="tp_comm", kind=kind, buffer_bytes=size_bytes, group="tp")  # type: ignore[arg-type]


def pass_of(*kinds: str, size_bytes: float = 1.0) -> list[TrainingOperator]:
    product = Gemm(name="product", cause="linear", m=1024.0, n=64.0, k=64.0, weights_dtype="bf16")
    return [product, *(collective(kind, size_bytes) for kind in kinds)]


def time_s(operator: TrainingOperator) -> float:
    """A second per product with a hundredth more for each launch, one per byte of a collective, no time for sums."""
    if isinstance(operator, Gemm):
        return float(operator.m) / 1024.0 + 0.01
    return float(operator.buffer_bytes) if isinstance(operator, Collective) else 0.0


def shown_s(operators: list[TrainingOperator], **changes: Any) -> float:
    return beside_products_s(operators, time_s, **{"ranks": 8, "streams": 2, "taken": 0.15, **changes})


sizes = st.floats(0.01, 10.0)


@given(sizes, st.floats(0.0, 0.5), st.sampled_from([2, 4, 8]))
def test_no_more_shows_than_there_is_and_no_less_than_no_product_covers(size: float, taken: float, ranks: int) -> None:
    for kinds in (("all_gather", "reduce_scatter"), ("all_gather", "reduce_scatter", "all_gather")):
        found = shown_s(pass_of(*kinds, size_bytes=size), ranks=ranks, taken=taken)
        whole = size * len(kinds)
        assert (
            max(0.0, whole - 2.0 * (1.01 + 0.01 * ranks) / (1.0 - taken)) - 1e-9
            <= found
            <= whole * (1.0 + taken) + 1e-9
        )


@given(sizes, st.floats(0.0, 0.4))
def test_more_multiprocessors_taken_never_help(size: float, taken: float) -> None:
    operators = pass_of("all_gather", "reduce_scatter", size_bytes=size)
    assert shown_s(operators, taken=taken) <= shown_s(operators, taken=taken + 0.1) + 1e-9


@given(sizes)
def test_more_streams_never_hurt(size: float) -> None:
    operators = pass_of("all_gather", "reduce_scatter", size_bytes=size)
    assert shown_s(operators, streams=3) <= shown_s(operators, streams=2) + 1e-9


def test_the_first_piece_and_the_multiprocessors_taken_show() -> None:
    """Ideal pieces: 1/8 of 0.4 s first, the product slowed by 0.15 while the other 0.35 s run."""
    found = beside_products_s(
        pass_of("all_gather", "reduce_scatter", size_bytes=0.2),
        lambda one: float(one.m) / 1024.0 if isinstance(one, Gemm) else time_s(one),
        ranks=8,
        streams=1,
        taken=0.15,
    )
    assert found == pytest.approx(0.05 + 0.15 * 0.35 / 1.15, rel=0.2)


def test_what_is_gathered_again_runs_in_bulk() -> None:
    """Its time does not show, but for the multiprocessors it takes."""
    once = shown_s(pass_of("all_gather", size_bytes=0.1))
    again = shown_s(pass_of("all_gather", "reduce_scatter", "all_gather", size_bytes=0.1))
    assert again == pytest.approx(once + 0.15 * 0.2, rel=0.05)


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
    steps = [step_of({"tp": 8, "overlap_tp": on}, engine="megatron-lm-2021", model=SMALL) for on in (False, True)]
    assert steps[0].step_s == steps[1].step_s
