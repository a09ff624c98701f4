"""The one rule of recommendation, on made-up plans."""

from typing import Any

import pytest

from sim.explore import recommend
from sim.results import Evaluation, SloSpec

SLO = SloSpec(ttft=1.0, attainment=0.9)


def plan(
    label: str, *, cost: float | None = 1.0, gpus: int = 8, ttft: float = 0.5, attained: float = 1.0
) -> Evaluation:
    metrics: dict[str, Any] = {
        "cost_usd_per_million_output_tokens": cost,
        "n_gpus": gpus,
        "ttft_s": {"mean": ttft},
        "slo_attainment_frac": attained,
    }
    return Evaluation({}, label, metrics)


def chosen(*plans: Evaluation, slo: SloSpec | None = SLO) -> str:
    """The label recommended, whatever the order of the front."""
    best, why = recommend(plans, slo)
    backwards, also = recommend(plans[::-1], slo)
    assert best is backwards
    assert why == also
    assert best is not None
    return best.label


def test_the_cheapest_of_those_that_attain_the_slo() -> None:
    assert chosen(plan("dear", cost=2.0), plan("cheap", cost=1.0), plan("late", cost=0.5, attained=0.89)) == "cheap"
    best, why = recommend([plan("a", cost=1.5, gpus=1), plan("b", cost=3.0)], SLO)
    assert best is not None
    assert why == "cheapest of 2 plans that attain the SLO at 1.5 USD per million output tokens, on 1 GPU"


def test_attainment_itself_is_enough() -> None:
    assert chosen(plan("just", cost=1.0, attained=0.9), plan("well", cost=2.0, attained=1.0)) == "just"


def test_costs_within_one_percent_are_equal_and_fewer_gpus_decide() -> None:
    assert chosen(plan("eight", cost=1.0), plan("four", cost=1.0099, gpus=4)) == "four"
    assert chosen(plan("eight", cost=1.0), plan("four", cost=1.0101, gpus=4)) == "eight"
    _, why = recommend([plan("eight", cost=1.0), plan("four", cost=1.005, gpus=4)], SLO)
    assert "of 2 that cost the same, fewest GPUs" in why
    assert "on 4 GPUs" in why


def test_then_the_lowest_ttft_and_at_last_the_name() -> None:
    assert chosen(plan("slow", ttft=0.9), plan("fast", ttft=0.2)) == "fast"
    assert chosen(plan("b"), plan("a")) == "a"


def test_closeness_is_measured_from_the_cheapest() -> None:
    """A chain of near ties does not lead away from the cheapest plan."""
    assert chosen(plan("a", cost=1.0), plan("b", cost=1.008, gpus=4), plan("c", cost=1.016, gpus=1)) == "b"


def test_if_none_attains_it_the_closest_and_it_says_so() -> None:
    far, near = plan("far", cost=0.1, attained=0.3), plan("near", cost=9.0, attained=0.7)
    assert chosen(far, near) == "near"
    _, why = recommend([far, near], SLO)
    assert "no plan attains the SLO" in why
    assert "0.9" in why
    assert "0.7" in why
    assert chosen(plan("more", attained=0.7), plan("fewer", attained=0.7, gpus=2)) == "fewer"


def test_without_an_slo_every_plan_attains_it() -> None:
    assert chosen(plan("cheap", cost=1.0, attained=0.0), plan("good", cost=2.0), slo=None) == "cheap"
    assert "SLO" not in recommend([plan("a")], None)[1]


def test_without_a_price_the_number_of_gpus_decides() -> None:
    assert chosen(plan("eight", cost=None), plan("two", cost=None, gpus=2)) == "two"
    assert "USD" not in recommend([plan("a", cost=None)], SLO)[1]


def test_a_plan_that_emits_nothing_is_never_cheapest() -> None:
    assert chosen(plan("nothing", cost=None, gpus=1), plan("something", cost=100.0)) == "something"


@pytest.mark.parametrize("slo", [SLO, None])
def test_nothing_to_recommend(slo: SloSpec | None) -> None:
    assert recommend([], slo) == (None, "no plan can serve this traffic")
