"""Costs anchored to measured tables: equal to the table on its grid, sane beyond it, and open about what they did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.core import Array
from sim.costs import CostModel, CostsSpec, Fusion, MeasuredKernels
from sim.costs.tables import KernelRows, RatioGrid
from sim.costs.tables.base import padded_rows
from sim.costs.tables.shapes import SHAPES
from sim.hardware import ClusterSpec, CommGroup, load_cluster, load_device
from sim.models import (
    Collective,
    DecodeAttention,
    Gemm,
    GroupedGemm,
    Operator,
    PrefillAttention,
    StateScan,
    StateUpdate,
)
from sim.testing.costs import SyntheticTables

DEVICE = load_device("h100-sxm")
FORMS = CostModel(DEVICE)
GEMM = Gemm(name="x", cause="x", m=1.0, n=4096.0, k=4096.0, weights_dtype="bf16")
HEADS: dict[str, Any] = {"q_heads": 8.0, "kv_heads": 2.0, "head_dim": 128.0, "v_dim": 128.0, "kv_dtype": "bf16"}
DECODE = DecodeAttention(name="x", cause="x", sequences=1.0, context=1.0, **HEADS)
PREFILL = PrefillAttention(name="x", cause="x", chunk=1.0, prefix=0.0, **HEADS)
EXPERTS = GroupedGemm(
    name="x",
    cause="x",
    tokens=1.0,
    experts=64.0,
    total_experts=64.0,
    top_k=4.0,
    hidden=2048.0,
    intermediate=1024.0,
    gated=True,
    weights_dtype="bf16",
)
LAYOUT = {"q_heads": (8.0,), "kv_heads": (2.0,), "head_dim": (128.0,), "window": (0.0,)}
TABLES: dict[str, tuple[Operator, Mapping[str, tuple[float, ...]]]] = {
    "gemm": (GEMM, {"m": (1.0, 16.0, 300.0, 8192.0), "n": (1024.0, 4096.0, 9000.0), "k": (2048.0, 4096.0)}),
    "moe": (
        EXPERTS,
        {"tokens": (1.0, 64.0, 4096.0), "hidden": (2048.0,), "intermediate": (1024.0,), "experts": (64.0,)}
        | {"top_k": (4.0,)},
    ),
    "decode_attention": (DECODE, {"sequences": (1.0, 8.0, 256.0), "context": (64.0, 1024.0, 30000.0)} | LAYOUT),
    "prefill_attention": (PREFILL, {"chunk": (16.0, 500.0, 8192.0)} | LAYOUT),
}
kernels = st.sampled_from(sorted(TABLES))


def factors(kernel: str, seed: int, *, low: float = 1.0, high: float = 1.9) -> Array:
    """Measured over analytic time for every row of the table of `kernel`."""
    count = int(np.prod([len(values) for values in TABLES[kernel][1].values()]))
    return np.exp(np.random.default_rng(seed).uniform(np.log(low), np.log(high), count))


def anchored(kernel: str, factor: Array | float, *, order: Array | None = None) -> tuple[CostModel, KernelRows]:
    operator, grid = TABLES[kernel]
    source = SyntheticTables(FORMS, operator, kernel, grid, factor, order=order)
    rows = source.rows(kernel, "bf16")
    assert isinstance(rows, KernelRows)
    return CostModel(DEVICE, measured=MeasuredKernels({kernel: source}, FORMS.price)), rows


def at(kernel: str, columns: Mapping[str, Array]) -> Operator:
    """The operator of `kernel` with these shapes, in the layout of its table."""
    operator, grid = TABLES[kernel]
    shape = SHAPES[kernel]
    return shape.at_rows(operator, columns, tuple(grid[name][0] for name in shape.layout))


# ---- ratios on a grid ----

axes = st.lists(st.integers(1, 10**6), min_size=1, max_size=5, unique=True).map(sorted).map(np.float64)


@given(axes, axes, st.integers(0, 2**32 - 1))
def test_a_grid_returns_what_it_was_given_in_any_order(first: Array, second: Array, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = (line.ravel() for line in np.meshgrid(first, second, indexing="ij"))
    ratio = random.uniform(1.0, 1.9, x.size)
    order = random.permutation(x.size)
    plain, shuffled = RatioGrid.fit([x, y], ratio), RatioGrid.fit([x[order], y[order]], ratio[order])
    found = plain.at(x, y)
    assert found.ratio == pytest.approx(ratio, rel=1e-9)
    assert found.inside.all()
    assert np.array_equal(plain.log_ratio, shuffled.log_ratio)


@given(axes, st.integers(0, 2**32 - 1), st.floats(1e-6, 1e9))
def test_ratios_stay_within_those_measured_and_are_held_beyond_the_edges(axis: Array, seed: int, x: float) -> None:
    ratio = np.random.default_rng(seed).uniform(0.2, 5.0, axis.size)
    found = RatioGrid.fit([axis], ratio).at(x)
    assert ratio.min() * (1 - 1e-9) <= found.ratio <= ratio.max() * (1 + 1e-9)
    if x < axis[0] * (1 - 1e-6):
        assert found.ratio == pytest.approx(ratio[0])
        assert not found.inside
    if x > axis[-1] * (1 + 1e-6):
        assert found.ratio == pytest.approx(ratio[-1])
        assert not found.inside


@given(st.floats(1.0, 1e4), st.integers(0, 2**32 - 1))
def test_ratios_have_no_jumps(x: float, seed: int) -> None:
    axis = np.array([10.0, 40.0, 100.0, 1000.0])
    grid = RatioGrid.fit([axis], np.random.default_rng(seed).uniform(0.5, 2.0, 4))
    assert grid.at(x).ratio == pytest.approx(grid.at(x * (1 + 1e-7)).ratio, rel=1e-6)


def test_repeats_count_as_their_median_and_gaps_as_outside() -> None:
    x, y = np.array([1.0, 1.0, 1.0, 2.0, 2.0]), np.array([1.0, 1.0, 1.0, 1.0, 4.0])
    grid = RatioGrid.fit([x, y], np.array([1.0, 9.0, 2.0, 3.0, 5.0]))
    assert grid.at(1.0, 1.0).ratio == pytest.approx(2.0)
    gap = grid.at(1.0, 4.0)
    assert gap.ratio == pytest.approx(2.0), "the nearest measured point along the last axis"
    assert not gap.inside
    assert grid.at(2.0, np.array([1.0, 2.0, 4.0])).inside.all()


def test_an_isolated_spike_is_levelled_but_a_ragged_row_is_not() -> None:
    x, y = (line.ravel() for line in np.meshgrid(np.arange(1.0, 6.0), np.arange(1.0, 6.0), indexing="ij"))
    alone = RatioGrid.fit([x, y], np.where((x == 3.0) & (y == 3.0), 9.0, 1.0))
    assert (alone.spikes, float(alone.at(3.0, 3.0).ratio)) == (1, pytest.approx(1.0))
    row = RatioGrid.fit([x, y], np.where(x == 3.0, 9.0, 1.0))
    assert (row.spikes, float(row.at(3.0, 3.0).ratio)) == (0, pytest.approx(9.0))


@given(st.lists(st.floats(1.0, 3.0), min_size=2, max_size=12), st.integers(0, 2**32 - 1))
def test_no_row_is_much_slower_than_one_that_is_larger_by_its_padding(times: list[float], seed: int) -> None:
    count = len(times)
    m = np.concatenate([np.arange(count), np.arange(count)]) + 1.0
    n = np.repeat([64.0, 128.0], count)
    order = np.random.default_rng(seed).permutation(2 * count)
    rows = KernelRows({"m": m[order], "n": n[order]}, np.array([*times, *(9.0 - x for x in times)])[order], "t")
    found, lowered = padded_rows(rows, "m")
    assert lowered == np.count_nonzero(found.time_s < rows.time_s)
    assert (found.time_s <= rows.time_s).all()
    for width in (64.0, 128.0):
        own = np.flatnonzero(rows.columns["n"] == width)
        for at in own:
            larger = own[rows.columns["m"][own] >= rows.columns["m"][at]]
            least = rows.time_s[larger].min()
            assert found.time_s[at] == (rows.time_s[at] if rows.time_s[at] <= 1.25 * least else least)


# ---- costs ----


@settings(deadline=None, max_examples=40)
@given(kernels, st.integers(0, 2**32 - 1))
def test_costs_equal_the_table_on_its_grid_whatever_the_order_of_rows(kernel: str, seed: int) -> None:
    factor = factors(kernel, seed)
    costs, rows = anchored(kernel, factor)
    operator = at(kernel, rows.columns)
    axis = SHAPES[kernel].padded
    wanted = padded_rows(rows, axis)[0] if axis else rows
    assert costs.cost(operator).time_s == pytest.approx(wanted.time_s, rel=1e-9)
    shuffled, _ = anchored(kernel, factor, order=np.random.default_rng(seed).permutation(factor.size))
    assert np.array_equal(shuffled.cost(operator).time_s, costs.cost(operator).time_s)
    (use,) = [use for use in costs.uses.values() if use.source == "measured"]
    assert (use.table, use.look_ups, use.outside) == ("synthetic table", factor.size, 0)


@settings(deadline=None, max_examples=60)
@given(kernels, st.integers(0, 2**32 - 1), st.floats(0.01, 1.0))
def test_measured_costs_never_beat_the_roofline_and_rows_that_do_are_flagged(
    kernel: str, seed: int, low: float
) -> None:
    costs, rows = anchored(kernel, factors(kernel, seed, low=low, high=1.0))
    operator = at(kernel, {name: column * 1.7 for name, column in rows.columns.items()})
    assert np.all(costs.cost(operator).time_s >= costs.price(operator).floor_s * (1 - 1e-9))
    on_grid = costs.cost(at(kernel, rows.columns)).time_s
    floor_s = FORMS.price(at(kernel, rows.columns)).floor_s
    assert np.all(on_grid >= floor_s * (1 - 1e-9))
    if np.any(rows.time_s < floor_s):
        assert any("beat the roofline" in use.note for use in costs.uses.values())


@settings(deadline=None, max_examples=40)
@given(kernels, st.floats(1.0, 4.0), st.floats(1.0, 30.0))
def test_beyond_the_table_costs_follow_the_form(kernel: str, factor: float, beyond: float) -> None:
    costs, rows = anchored(kernel, factor)
    far = {
        name: column[-1:] * (beyond if name in SHAPES[kernel].axes else 1.0) for name, column in rows.columns.items()
    }
    assert costs.cost(at(kernel, far)).time_s == pytest.approx(factor * FORMS.cost(at(kernel, far)).time_s, rel=0.05)


def test_costs_beyond_the_table_are_counted() -> None:
    costs, _ = anchored("gemm", 1.5)
    costs.cost(GEMM)
    costs.cost(at("gemm", {"m": np.array([0.5, 1.0, 1e5]), "n": np.array(4096.0), "k": np.array(4096.0)}))
    use = costs.uses["gemm bf16"]
    assert (use.look_ups, use.outside) == (3, 2)
    assert "2 of 3 look-ups beyond it" in costs.sources["gemm bf16"]


def test_kernels_that_nobody_asked_to_measure_stay_analytic() -> None:
    costs, _ = anchored("gemm", 2.0)
    assert np.array_equal(costs.cost(DECODE).time_s, FORMS.cost(DECODE).time_s)
    assert costs.uses["decode_attention bf16"].source == "analytic"
    assert costs.uses["decode_attention bf16"].note == ""


def test_where_there_is_no_table_the_form_stands_in_and_says_why() -> None:
    source = SyntheticTables(FORMS, *TABLES["gemm"][:1], "gemm", TABLES["gemm"][1], 2.0)
    costs = CostModel(DEVICE, measured=MeasuredKernels({"gemm": source, "decode_attention": source}, FORMS.price))
    assert np.array_equal(costs.cost(DECODE).time_s, FORMS.cost(DECODE).time_s)
    use = costs.uses["decode_attention bf16"]
    assert (use.source, use.note) == ("analytic", "synthetic table has no decode_attention")
    assert use.table.startswith("h100"), "the curve is named too"


STATE: dict[str, Any] = {"heads": 16.0, "state_bytes": 1e6, "channels": 4096.0, "kind": "gated_delta"}
INDEX: dict[str, Any] = {"q_heads": 64.0, "kv_heads": 1.0, "head_dim": 128.0, "v_dim": 0.0, "kv_dtype": "fp8"}


@pytest.mark.parametrize(
    ("operator", "label", "what"),
    [
        (StateUpdate(name="x", cause="x", sequences=8.0, elements=2.5e5, **STATE), "state_update bf16", "recurrent"),
        (StateScan(name="x", cause="x", chunk=500.0, flops_per_token=1e6, **STATE), "state_scan bf16", "recurrent"),
        (
            DecodeAttention(name="x", cause="x", sequences=8.0, context=1e4, kind="indexer", **INDEX),
            "indexer_decode fp8",
            "indexers",
        ),
        (
            PrefillAttention(name="x", cause="x", chunk=500.0, prefix=0.0, kind="indexer", **INDEX),
            "indexer_prefill fp8",
            "indexers",
        ),
        (replace(DECODE, sequences=8.0, context=8192.0, own_keys=True), "decode_attention bf16", "picked"),
        (replace(PREFILL, chunk=500.0, own_keys=True), "prefill_attention bf16", "picked"),
        (replace(PREFILL, chunk=500.0, own_keys=True, kind="sparse"), "sparse_prefill bf16", "picked"),
    ],
)
def test_operators_whose_tables_are_not_read_stay_analytic_and_say_so(
    operator: Operator, label: str, what: str
) -> None:
    """Also where the source has a table that would fit: full attention is no stand-in for a few picked keys."""
    source = SyntheticTables(FORMS, DECODE, "decode_attention", TABLES["decode_attention"][1], 2.0)
    everything = dict.fromkeys(CostsSpec().by_kernel(), source)
    costs = CostModel(DEVICE, measured=MeasuredKernels(everything, FORMS.price))
    assert np.array_equal(costs.cost(operator).time_s, FORMS.cost(operator).time_s)
    (use,) = costs.uses.values()
    assert (use.source, list(costs.uses)) == ("analytic", [label])
    assert what in use.note
    assert use.table, "the curve is named too"


def test_kernels_in_part_measured_say_for_which_part() -> None:
    costs, _ = anchored("decode_attention", 1.5)
    full = replace(DECODE, sequences=8.0, context=8192.0)
    costs.cost(full)
    costs.cost(replace(full, own_keys=True))
    assert costs.uses["decode_attention bf16"].source == "measured"
    assert costs.uses["decode_attention bf16, in part"].source == "analytic"


def test_wider_keys_than_values_are_another_layout() -> None:
    costs, _ = anchored("decode_attention", 1.5)
    other = replace(DECODE, sequences=8.0, context=8192.0, v_dim=64.0)
    assert costs.cost(other).time_s == pytest.approx(1.5 * FORMS.cost(other).time_s)
    use = costs.uses["decode_attention bf16"]
    assert use.outside == use.look_ups == 1


def test_another_layout_is_answered_by_the_nearest_and_counts_as_outside() -> None:
    costs, _ = anchored("decode_attention", 1.5)
    other = DecodeAttention(name="x", cause="x", sequences=8.0, context=8 * 1024.0, **{**HEADS, "q_heads": 16.0})
    assert costs.cost(other).time_s == pytest.approx(1.5 * FORMS.cost(other).time_s)
    use = costs.uses["decode_attention bf16"]
    assert use.outside == use.look_ups == 1
    assert "q_heads 8 stands in for" in use.note


def test_rows_read_from_a_warm_cache_do_not_make_decodes_faster() -> None:
    """A benchmark repeats one small KV, which stays in the cache; serving reads another layer's in between."""
    costs, rows = anchored("decode_attention", 0.3)
    operator = at("decode_attention", rows.columns)
    read_s = np.asarray(FORMS.price(operator).cold_read_s)
    assert 0 < np.count_nonzero(read_s) < read_s.size, "some rows fit into the cache"
    assert np.all(costs.cost(operator).time_s >= read_s)
    assert np.any(rows.time_s < read_s)


def test_chunks_scale_with_the_ratio_of_their_length_and_keep_the_fixed_latency_apart() -> None:
    costs, rows = anchored("prefill_attention", np.array([1.0, 2.0, 3.0]))
    with_prefix = PrefillAttention(name="x", cause="x", chunk=500.0, prefix=4000.0, **HEADS)
    plain, scaled = FORMS.prefill_terms(with_prefix), costs.prefill_terms(with_prefix)
    fixed_s, t0_s = costs.prefill_curve(with_prefix)[0], FORMS.prefill_curve(with_prefix)[0]
    ratio = (rows.time_s[1] - fixed_s) / (FORMS.price(at("prefill_attention", rows.columns)).time_s[1] - t0_s)
    assert 0.9 * t0_s < fixed_s <= t0_s
    for before, after in zip(plain, scaled, strict=True):
        assert after == pytest.approx(ratio * before)


def test_a_slower_clock_scales_measured_costs_as_it_does_the_form() -> None:
    costs, rows = anchored("gemm", 1.5)
    assert costs.cost(GEMM).time_s == pytest.approx(1.5 * FORMS.cost(GEMM).time_s)
    slow = DEVICE.at_clock(0.5)
    source = SyntheticTables(FORMS, GEMM, "gemm", TABLES["gemm"][1], 1.5)
    slower = CostModel(slow, measured=MeasuredKernels({"gemm": source}, FORMS.price)).cost(at("gemm", rows.columns))
    assert slower.time_s == pytest.approx(1.5 * CostModel(slow).cost(at("gemm", rows.columns)).time_s)


def test_parts_keep_their_shares_of_the_time() -> None:
    costs, rows = anchored("gemm", 2.0)
    operator = at("gemm", rows.columns)
    assert np.array_equal(costs.cost(operator).bound(), FORMS.cost(operator).bound())


# ---- collectives ----


def groups(node: str, ranks: int) -> dict[str, CommGroup]:
    return {"tp": load_cluster(node).group(range(ranks))}


def test_collectives_over_another_link_than_the_tables_stay_analytic() -> None:
    group = load_cluster(ClusterSpec(node="8x-rtx-pro-6000-acs")).group(range(8))
    costs = CostModel(DEVICE, groups={"tp": group}, measured=MeasuredKernels({"all_reduce": Rings()}, FORMS.price))
    assert costs.cost(reduce(1e5)).time_s == CostModel(DEVICE, groups={"tp": group}).cost(reduce(1e5)).time_s
    assert costs.uses["all_reduce over tp"].note == "tables hold another link than pcie5-acs"


class Rings:
    """All-reduces of eight ranks that take 50 us, at any size."""

    def rows(self, kernel: str, dtype: str) -> KernelRows | str:
        sizes = np.array([1e3, 1e5, 1e6])
        return KernelRows({"buffer_bytes": sizes, "ranks": np.full(3, 8.0)}, np.full(3, 50e-6), "rings")


def reduce(size_bytes: float) -> Collective:
    return Collective(name="x", cause="x", kind="all_reduce", buffer_bytes=size_bytes, group="tp")


@pytest.mark.parametrize(
    ("node", "ranks", "measured", "why"),
    [
        ("dgx-h100-1", 8, True, ""),
        ("dgx-h100-1", 4, False, "all_reduce is not measured over 4 ranks"),
        ("dgx-h100-2", 16, False, "tables hold one scale-up domain, not 2"),
    ],
)
def test_collectives_are_measured_for_their_ranks_inside_one_domain(
    node: str, ranks: int, measured: bool, why: str
) -> None:
    tables = MeasuredKernels({"all_reduce": Rings()}, FORMS.price)
    costs = CostModel(DEVICE, groups=groups(node, ranks), measured=tables)
    plain = CostModel(DEVICE, groups=groups(node, ranks))
    found = costs.cost(reduce(1e5)).time_s
    assert found == (pytest.approx(50e-6) if measured else plain.cost(reduce(1e5)).time_s)
    use = costs.uses["all_reduce over tp"]
    assert (use.source, use.note) == ("measured" if measured else "analytic", why)
    assert costs.cost(reduce(0.0)).time_s == 0.0


class Slower(Rings):
    """The same of another engine, twice as slow."""

    def rows(self, kernel: str, dtype: str) -> KernelRows | str:
        found = super().rows(kernel, dtype)
        assert isinstance(found, KernelRows)
        return KernelRows(found.columns, 2.0 * found.time_s, "lent rings")


def test_all_reduces_with_norms_take_the_tables_of_the_engine_whose_kernel_it_is() -> None:
    own, lent = (MeasuredKernels({"all_reduce": source}, FORMS.price) for source in (Rings(), Slower()))
    costs = CostModel(
        DEVICE,
        groups=groups("dgx-h100-1", 8),
        measured=own,
        lent={"trtllm": lent},
        fusion=Fusion(norm_bytes=1e5, norm_kernel="trtllm"),
    )
    sizes = np.array([1e3, 1e5, 1e6])
    reduced = replace(reduce(0.0), buffer_bytes=sizes, before_norm=True)
    assert costs.cost(reduced).time_s == pytest.approx([100e-6, 100e-6, 50e-6])
    assert costs.cost(replace(reduced, before_norm=False)).time_s == pytest.approx(50e-6)
    assert {"all_reduce over tp", "all_reduce over tp with norm, of trtllm"} <= set(costs.uses)
