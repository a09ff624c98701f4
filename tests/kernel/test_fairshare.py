"""Max-min fairness: closed forms, its defining property, and transfers in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel import FairShareNetwork, Kernel, max_min_rates


def test_parking_lot() -> None:
    """One long flow over two links and one short flow on each: Bertsekas & Gallager's example."""
    rates = max_min_rates([("a", "b"), ("a",), ("b",), ("b",)], {"a": 1.0, "b": 1.5})
    assert rates == pytest.approx([0.5, 0.5, 0.5, 0.5])
    assert max_min_rates([("a", "b"), ("a",), ("b",)], {"a": 1.0, "b": 3.0}) == pytest.approx([0.5, 0.5, 2.5])


def test_weights_and_free_flows() -> None:
    assert max_min_rates([("a",), ("a",)], {"a": 6.0}, [1.0, 2.0]) == pytest.approx([2.0, 4.0])
    assert max_min_rates([()], {}) == [float("inf")]


@given(
    paths=st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True), min_size=1, max_size=8),
    capacity=st.fixed_dictionaries({link: st.floats(0.5, 100) for link in "abcd"}),
)
def test_every_flow_has_a_full_link_where_none_is_faster(paths: list[list[str]], capacity: dict[str, float]) -> None:
    """The definition of max-min fairness, and no link over capacity."""
    rates = max_min_rates(paths, capacity)
    load = {link: sum(r for r, p in zip(rates, paths, strict=True) if link in p) for link in capacity}
    assert all(load[link] <= capacity[link] * (1 + 1e-9) for link in capacity)
    for rate, path in zip(rates, paths, strict=True):
        assert any(
            load[link] >= capacity[link] * (1 - 1e-9)
            and all(r <= rate * (1 + 1e-9) for r, p in zip(rates, paths, strict=True) if link in p)
            for link in path
        )


def test_transfers_share_then_speed_up() -> None:
    """Two equal flows on one link: the second starts halfway; closed-form finish times."""
    kernel, done = Kernel(), {}
    network = FairShareNetwork(kernel, {"link": 10.0})
    network.send(100.0, ["link"], lambda: done.setdefault("first", kernel.now))
    kernel.at(5.0, lambda: network.send(100.0, ["link"], lambda: done.setdefault("second", kernel.now)))
    kernel.run_all()
    assert done == pytest.approx({"first": 15.0, "second": 20.0})
    assert network.flows == ()


@given(
    sizes=st.lists(st.floats(0, 1e6), min_size=1, max_size=10), gaps=st.lists(st.floats(0, 5), min_size=10, max_size=10)
)
def test_all_bytes_arrive_and_the_link_never_exceeds_its_rate(sizes: list[float], gaps: list[float]) -> None:
    kernel, done = Kernel(), []
    network = FairShareNetwork(kernel, {"link": 1e5})
    start = 0.0
    for size, gap in zip(sizes, gaps, strict=False):
        start += gap
        kernel.at(start, lambda size=size: network.send(size, ["link"], lambda: done.append(kernel.now)))  # type: ignore[misc]
    kernel.run_all()
    assert len(done) == len(sizes)
    assert max(done) >= sum(sizes) / 1e5 - 1e-6
    assert max(done) <= start + sum(sizes) / 1e5 + 1e-6


def test_bad_flows_are_refused() -> None:
    network = FairShareNetwork(Kernel(), {"a": 1.0})
    with pytest.raises(ValueError, match="unknown links"):
        network.send(1.0, ["b"], lambda: None)
    with pytest.raises(ValueError, match="negative"):
        network.send(-1.0, ["a"], lambda: None)
