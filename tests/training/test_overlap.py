"""Streams that share a device: cases worked by hand, closed forms of the usual patterns, laws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.core import InputError, PlansimError
from sim.training import Load, Operation, chunked, gradient_buckets, overlap, sent_behind, sharded_layers

RESOURCES = ("sm", "hbm", "link")


def test_two_that_want_more_than_there_is_slow_each_other_until_one_ends() -> None:
    # HBM 0.9 + 0.6 = 1.5: the collective's 2 s take 3; the product has then done 2 of its 4 s and runs alone.
    run = overlap([
        Operation("product", "compute", 4.0, {"sm": 0.5, "hbm": 0.9}),
        Operation("reduce", "dp", 2.0, {"sm": 0.1, "hbm": 0.6, "link": 1.0}, dimension="dp"),
    ])  # fmt: skip
    assert run.finish_s.tolist() == pytest.approx([5.0, 3.0])
    assert run.slowed_s == pytest.approx({"compute": 1.0, "dp": 1.0})
    assert run.exposed_s == {}


def test_the_largest_ratio_counts() -> None:
    # SM 1.2, HBM 1.4, link 1: the product slows by 1.4 as the copy does, the collective by 1.2. It ends at 1.2; SM and
    # link are then free, HBM is still short, so the others end at 1.4.
    run = overlap([
        Operation("product", "compute", 1.0, {"sm": 1.0, "hbm": 0.4}),
        Operation("reduce", "dp", 1.0, {"sm": 0.2, "link": 1.0}, dimension="dp"),
        Operation("copy", "offload", 1.0, {"hbm": 1.0}, dimension="offload"),
    ])  # fmt: skip
    assert run.finish_s.tolist() == pytest.approx([1.4, 1.2, 1.4])


def test_waits_belong_to_what_ends_them() -> None:
    # Product 1 waits from 1 to 6: 3 s of dp, which the gather queues behind, and 2 s of the gather itself.
    run = overlap([
        Operation("product 0", "compute", 1.0),
        Operation("reduce", "net", 4.0, dimension="dp"),
        Operation("gather", "net", 2.0, dimension="tp"),
        Operation("product 1", "compute", 1.0, after=(2,)),
        Operation("optimizer gather", "net", 1.5, after=(3,), dimension="dp"),
    ])  # fmt: skip
    assert run.end_s == pytest.approx(8.5)
    assert run.exposed_s == pytest.approx({"dp": 3.0 + 1.5, "tp": 2.0})


def test_a_bubble_hides_communication() -> None:
    pause = Operation("wait", "compute", 2.0, dimension="bubble")
    run = overlap([
        Operation("backward", "compute", 1.0),
        Operation("reduce", "dp", 2.5, after=(0,), dimension="dp"),
        pause,
        Operation("backward", "compute", 1.0),
    ])  # fmt: skip
    assert run.exposed_s == {}
    assert run.end_s == pytest.approx(4.0)


@pytest.mark.parametrize(("compute", "comm"), [(1.0, 0.4), (1.0, 1.6)])
def test_gradient_buckets_hide_but_for_the_last(compute: float, comm: float) -> None:
    layers = 12
    operations = gradient_buckets(
        [Load(compute)] * layers, [10.0] * layers, bucket_bytes=10.0, reduce=lambda size: Load(comm * size / 10.0)
    )
    run = overlap(operations)
    assert run.end_s == pytest.approx(max(layers * compute + comm, compute + layers * comm))
    assert run.exposed_s == pytest.approx({"dp": run.end_s - layers * compute})


def test_gradient_buckets_go_when_full_and_lose_nothing() -> None:
    sizes: list[float] = []

    def reduce(size: float) -> Load:
        sizes.append(size)
        return Load(size)

    operations = gradient_buckets([Load(1.0)] * 5, [3.0, 3.0, 3.0, 3.0, 1.0], bucket_bytes=6.0, reduce=reduce)
    assert sizes == [6.0, 6.0, 1.0]
    assert [operation.name for operation in operations if operation.dimension == "dp"] == [
        "reduce behind 1",
        "reduce behind 3",
        "reduce behind 4",
    ]


@pytest.mark.parametrize(("compute", "gather"), [(1.0, 0.3), (1.0, 1.7)])
def test_sharded_layers_gather_one_ahead(compute: float, gather: float) -> None:
    layers = 10
    ahead = overlap(sharded_layers([Load(compute)] * layers, [Load(gather)] * layers))
    assert ahead.end_s == pytest.approx(gather + (layers - 1) * max(compute, gather) + compute)
    none = overlap(sharded_layers([Load(compute)] * layers, [Load(gather)] * layers, ahead=0))
    assert none.end_s == pytest.approx(layers * (compute + gather))


def test_sharded_backward_gathers_before_it_scatters() -> None:
    # A layer's gather (0.4) and scatter (0.5) fit behind 1 s of compute: the first gather and the last scatter show.
    layers = 8
    run = overlap(sharded_layers([Load(1.0)] * layers, [Load(0.4)] * layers, [Load(0.5)] * layers))
    assert run.end_s == pytest.approx(0.4 + layers + 0.5)
    assert run.exposed_s == pytest.approx({"fsdp": 0.9})


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("compute", "comm", "chunks"), [(4.0, 2.0, 1), (4.0, 2.0, 4), (2.0, 6.0, 8)])
def test_chunks_hide_all_but_one(first: bool, compute: float, comm: float, chunks: int) -> None:
    run = overlap(chunked(Load(compute), Load(comm), chunks=chunks, collective_first=first))
    assert run.end_s == pytest.approx((compute + comm + (chunks - 1) * max(compute, comm)) / chunks)


def test_sends_hide_behind_the_next_pass() -> None:
    run = overlap(sent_behind([Load(1.0)] * 5, [Load(0.25)] * 5))
    assert run.exposed_s == pytest.approx({"pp": 0.25})


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"product's use of hbm.*1\.2.*0 to 1"):
        overlap([Operation("product", "compute", 1.0, {"hbm": 1.2})])
    with pytest.raises(PlansimError, match="circle"):
        overlap([Operation("a", "x", 1.0, after=(1,)), Operation("b", "y", 1.0, after=(0,))])
    with pytest.raises(InputError, match="bucket"):
        gradient_buckets([], [], bucket_bytes=0.0, reduce=Load)


@st.composite
def graphs(draw: st.DrawFn, contended: bool = True) -> list[Operation]:
    """Operations on three streams that wait for earlier ones; with `contended` false, nothing is shared."""
    operations: list[Operation] = []
    for at in range(draw(st.integers(1, 12))):
        stream = draw(st.sampled_from(["compute", "dp", "copy"]))
        shares = draw(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3)) if contended else (0.0, 0.0, 0.0)
        after = draw(st.sets(st.integers(0, at - 1), max_size=2)) if at else set()
        operations.append(
            Operation(f"op {at}", stream, draw(st.floats(0.0, 5.0)), dict(zip(RESOURCES, shares, strict=True)),
                      tuple(after), stream)
        )  # fmt: skip
    return operations


@given(graphs())
@settings(max_examples=200, deadline=None)
def test_order_work_and_sums(operations: list[Operation]) -> None:
    run = overlap(operations)
    took = run.finish_s - run.start_s
    alone = np.array([operation.alone_s for operation in operations])
    assert (took >= alone - 1e-9).all()
    for at, operation in enumerate(operations):
        assert all(run.start_s[at] >= run.finish_s[cause] - 1e-9 for cause in operation.after)
    for stream in {operation.stream for operation in operations}:
        mine = [at for at, operation in enumerate(operations) if operation.stream == stream]
        assert (run.start_s[mine[1:]] >= run.finish_s[mine[:-1]] - 1e-9).all()
    # At most three run at once, so nothing slows more than threefold, and the device never rests before the end.
    assert (took <= 3.0 * alone + 1e-9).all()
    assert run.end_s <= 3.0 * alone.sum() + 1e-9
    compute = took[[operation.stream == "compute" for operation in operations]].sum()
    assert compute + sum(run.exposed_s.values()) == pytest.approx(run.end_s, abs=1e-9)


@given(graphs(), st.floats(1.0, 10.0))
@settings(max_examples=100, deadline=None)
def test_enough_of_everything_is_no_contention(operations: list[Operation], more: float) -> None:
    plenty = overlap(operations, capacity=dict.fromkeys(RESOURCES, 3.0 * more))
    alone = overlap([replace(operation, uses={}) for operation in operations])
    np.testing.assert_allclose(plenty.finish_s, alone.finish_s, atol=1e-9)
    assert overlap(operations).end_s >= alone.end_s - 1e-9


@given(graphs(contended=False), st.integers(0, 11), st.floats(0.0, 1.0))
@settings(max_examples=100, deadline=None)
def test_faster_parts_never_slow_what_shares_nothing(operations: list[Operation], at: int, factor: float) -> None:
    at %= len(operations)
    faster = list(operations)
    faster[at] = replace(operations[at], alone_s=operations[at].alone_s * factor)
    assert (overlap(faster).finish_s <= overlap(operations).finish_s + 1e-9).all()
