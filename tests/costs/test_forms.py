"""The kernel forms on their own: limits that follow from the formula, and monotonicity in every direction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.costs.attention import (
    DecodeCurve,
    PrefillCurve,
    PrefillTerms,
    block_units,
    decode_attention_terms,
    decode_attention_time_s,
    join_chunks,
    mean_attended_keys,
    prefill_attention_terms,
    prefill_attention_time_s,
)
from sim.costs.elementwise import StreamCurve, stream_time_s
from sim.costs.gemm import GemmCurve, gemm_terms, gemm_time_s
from sim.costs.launch import eager_time_s
from sim.costs.moe import MoeCurve, busiest_rank_pairs, grouped_gemm_terms, grouped_gemm_time_s
from sim.costs.numeric import Value, p_norm
from sim.costs.recurrent import (
    ScanCurve,
    UpdateCurve,
    state_scan_terms,
    state_update_terms,
    state_update_time_s,
)
from sim.models.routing import touched_experts

PEAK, BANDWIDTH = 989e12, 3350e9
GEMM = GemmCurve(t0_s=2.5e-6, e=0.82, f=0.84, p=2.9, tau_s=1.9e-9, k_s=2900.0)
DECODE = DecodeCurve(t0_s=10.8e-6, f=0.93, p=1.3, tau_s=3.7e-6, lam_s=0.78e-6, a=0.41)
PREFILL = PrefillCurve(t0_s=12.8e-6, e_128=0.69, a_h=33.0, d_h=41.0, tau_s=8.8e-9, p=1.5, c=1.0)
MOE = MoeCurve(t0_s=20e-6, e=1.0, f=0.96, p=2.2, c=17.0, m_0=130.0)
sizes = st.floats(1e-5, 1e6)


@given(sizes, sizes, st.floats(1.0, 50.0))
def test_p_norm_lies_between_the_larger_term_and_the_sum(x: float, y: float, p: float) -> None:
    joined = float(p_norm(x, y, p))
    assert max(x, y) <= joined <= (x + y) * (1 + 1e-12)
    assert joined == pytest.approx((x**p + y**p) ** (1 / p), rel=1e-9)


def test_p_norm_limits() -> None:
    assert p_norm(3.0, 4.0, np.inf) == 4.0
    assert p_norm(3.0, 4.0, 1.0) == 7.0
    assert p_norm(0.0, 0.0, 2.0) == 0.0


def gemm(m: float, n: float = 8192, k: float = 8192, **changes: float) -> float:
    rate, bandwidth = changes.get("peak", PEAK), changes.get("bandwidth", BANDWIDTH)
    unpack = changes.get("unpack", np.inf)
    terms = gemm_terms(
        m,
        n,
        k,
        moved_bytes=changes.get("weight_bytes", 2.0) * n * k + 2.0 * m * (n + k),
        flops_per_s=rate,
        bytes_per_s=bandwidth,
        curve=GEMM,
        dequantise_ops_per_s=unpack,
    )
    return float(gemm_time_s(m, terms, GEMM))


def test_large_gemm_reaches_its_fraction_of_the_peak() -> None:
    assert 2 * 65536 * 8192**2 / gemm(65536) / PEAK == pytest.approx(0.82, rel=0.02)


def test_small_gemm_streams_its_weights() -> None:
    floor = 2 * 8192**2 / (0.84 * BANDWIDTH)
    assert floor < gemm(1) < 1.25 * floor


def test_no_rows_no_launch() -> None:
    assert gemm(0) == 0.0


def test_weight_only_formats_save_bytes_but_pay_to_unpack_at_many_rows() -> None:
    assert gemm(1, weight_bytes=0.5, unpack=67e12) < 0.6 * gemm(1)
    assert gemm(8192, weight_bytes=0.5, unpack=67e12) > gemm(8192)


@given(st.floats(1, 1e5), st.floats(64, 3e4), st.floats(64, 3e4), st.floats(1.0, 10.0))
def test_gemm_is_monotone(m: float, n: float, k: float, more: float) -> None:
    assert gemm(m * more, n, k) >= gemm(m, n, k)
    assert gemm(m, n * more, k) >= gemm(m, n, k)
    assert gemm(m, n, k, peak=PEAK * more) <= gemm(m, n, k)
    assert gemm(m, n, k, bandwidth=BANDWIDTH * more) <= gemm(m, n, k)


def decode(
    sequences: float, context: float, units: float = 132.0, *, curve: DecodeCurve = DECODE, whole: bool = False
) -> float:
    attended = sequences * context
    terms = decode_attention_terms(
        sequences,
        attended,
        flops=4 * attended * 8 * 128,
        moved_bytes=attended * 1 * 2 * 128 * 2,
        blocks=sequences,
        head_dim=128.0,
        units=units,
        flops_per_s=PEAK,
        bytes_per_s=BANDWIDTH,
        curve=curve,
        whole=whole,
    )
    return float(decode_attention_time_s(sequences, terms, curve))


@given(st.floats(1, 512), st.floats(1, 1e5), st.floats(1, 4))
def test_decode_attention_grows_with_sequences_and_context(sequences: float, context: float, more: float) -> None:
    assert decode(sequences * more, context) >= decode(sequences, context)
    assert decode(sequences, context * more) >= decode(sequences, context)


def test_decode_attention_of_a_large_cache_is_bandwidth_bound() -> None:
    moved = 256 * 131072 * 512
    assert moved / decode(256, 131072) / BANDWIDTH == pytest.approx(0.93, rel=0.03)


def test_blocks_of_whole_sequences_end_apart() -> None:
    """By `tail` times what a mean block takes, from the count at which nothing is split any more."""
    uneven = replace(DECODE, tail=0.5)
    last_split, units = int(1.6 * 132), 132.0
    assert decode(last_split, 2000, curve=uneven) == decode(last_split, 2000)
    for sequences in (last_split + 1, 1000):
        block_s = 2000 * 512 / (0.93 * BANDWIDTH) * units
        apart_s = decode(sequences, 2000, curve=uneven) - decode(sequences, 2000)
        assert apart_s == pytest.approx(0.5 * block_s, rel=0.01), "whatever the number of sequences"
    assert decode(8, 2000, curve=uneven, whole=True) > decode(8, 2000, curve=uneven), "where nothing is ever split"


def test_nothing_to_decode_takes_no_time() -> None:
    assert decode(0, 0) == 0.0


@given(st.integers(1, 300), st.integers(0, 300), st.one_of(st.none(), st.integers(1, 400)))
def test_mean_attended_keys_equals_the_count(chunk: int, prefix: int, window: int | None) -> None:
    seen = [min(prefix + j + 1, window or 10**9) for j in range(chunk)]
    assert float(mean_attended_keys(chunk, prefix, window)) == pytest.approx(np.mean(seen))


def prefill(chunk: float, prefix: float = 0.0, window: float | None = None) -> float:
    return float(prefill_attention_time_s(prefill_parts(chunk, prefix, window), PREFILL))


def prefill_parts(
    chunk: Value, prefix: Value = 0.0, window: float | None = None, *, curve: PrefillCurve = PREFILL
) -> PrefillTerms:
    return prefill_attention_terms(
        chunk,
        prefix,
        q_heads=8.0,
        flops_per_key=4.0 * 8 * 128,
        head_dim=128.0,
        bytes_per_row=(2 * 8 + 2 * 1) * 128 * 2.0,
        prefix_bytes=np.asarray(prefix) * 2 * 128 * 2.0,
        units=132.0,
        flops_per_s=PEAK,
        bytes_per_s=BANDWIDTH,
        curve=curve,
        window=window,
    )


@given(st.integers(1, 20000), st.integers(0, 50000), st.integers(0, 5000))
def test_prefill_attention_grows_with_chunk_and_prefix(chunk: int, prefix: int, more: int) -> None:
    assert prefill(chunk + more, prefix) >= prefill(chunk, prefix)
    assert prefill(chunk, prefix + more) >= prefill(chunk, prefix)
    assert prefill(chunk, prefix, window=1024) <= prefill(chunk, prefix) * (1 + 1e-12)


def test_chunks_in_one_launch_share_the_fixed_time_and_the_walk() -> None:
    chunks, prefixes = np.array([512.0, 512.0, 2048.0]), np.array([0.0, 4096.0, 0.0])
    together = float(prefill_attention_time_s(join_chunks(prefill_parts(chunks, prefixes)), PREFILL))
    apart = [prefill(c, p) for c, p in zip(chunks, prefixes, strict=True)]
    assert max(apart) < together < sum(apart)


def test_one_long_prompt_costs_no_less_in_two_chunks() -> None:
    assert prefill(8192) < prefill(4096) + prefill(4096, 4096)


@pytest.mark.parametrize("passes", [0.05, 1.0, 3.0])
def test_a_cached_prefix_is_read_once_whatever_the_passes_over_new_rows(passes: float) -> None:
    curve = replace(PREFILL, c=passes)
    more = prefill_parts(64.0, 8192.0, curve=curve).moved_s - prefill_parts(64.0, 0.0, curve=curve).moved_s
    assert float(more) == pytest.approx(8192 * 2 * 128 * 2.0 / BANDWIDTH)


def test_blocks_spread_over_gpu_multiprocessors_and_nothing_else() -> None:
    assert block_units("gpu", 108) == 108
    assert block_units("edge", 16) == 16
    assert block_units("tpu", 1) == block_units("cpu", 96) == block_units("dataflow", 900_000) == 132


def test_busiest_rank_equals_a_random_draw() -> None:
    draw = np.random.default_rng(1)
    loads = [np.bincount(draw.integers(0, 8, 2000), minlength=8).max() for _ in range(500)]
    assert float(busiest_rank_pairs(1000, top_k=2, ep=8)) == pytest.approx(np.mean(loads), rel=0.05)


@pytest.mark.parametrize(("ep", "spread"), [(4, 0.1), (8, 0.3), (32, 0.3)])
@pytest.mark.parametrize(("tokens", "within"), [(8, 0.12), (64, 0.06), (4096, 0.05)])
def test_busiest_of_unequal_ranks_equals_a_random_draw(ep: int, spread: float, tokens: int, within: float) -> None:
    """Ranks picked by a gamma law, counts by chance; where a rank gets a pair or so, its law is no gamma law."""
    draw = np.random.default_rng(2)
    wanted = draw.gamma(1 / spread, spread, size=(4000, ep))
    loads = draw.poisson(tokens * 4 / ep * wanted).max(axis=1)
    found = float(busiest_rank_pairs(tokens, top_k=4, ep=ep, spread=spread))
    assert found == pytest.approx(loads.mean(), rel=within)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(1, 64, exclude_min=True), st.floats(0, 2))
def test_the_busiest_rank_has_its_share_at_least_and_all_at_most(
    tokens: int, more: int, ep: float, spread: float
) -> None:
    few, many = (float(busiest_rank_pairs(each, top_k=2, ep=ep, spread=spread)) for each in (tokens, tokens + more))
    assert tokens * 2 / ep * (1 - 1e-9) <= few <= tokens * 2 * (1 + 1e-9)
    assert few <= many * (1 + 1e-9)
    each_once = float(busiest_rank_pairs(tokens, top_k=2, ep=ep, spread=spread, experts=1))
    assert each_once == pytest.approx(min(few, tokens))


@given(st.integers(1, 20000), st.integers(0, 20000))
def test_experts_never_get_faster_with_more_tokens(tokens: int, more: int) -> None:
    times = []
    for count in (tokens, tokens + more):
        pairs, touched = busiest_rank_pairs(count, top_k=8, ep=4), touched_experts(count, experts=128, top_k=8) / 4
        terms = grouped_gemm_terms(
            pairs,
            touched,
            hidden=4096,
            intermediate=1536,
            matrices=3,
            weight_bytes=2.0,
            flops_per_s=PEAK,
            bytes_per_s=BANDWIDTH,
            curve=MOE,
        )
        times.append(float(grouped_gemm_time_s(pairs, terms, MOE)))
    assert times[1] >= times[0] * (1 - 1e-12)


def test_a_narrow_expert_costs_as_if_it_were_padded() -> None:
    """Columns beside the rows: width i with i_0 more computes and streams as width i + i_0 does."""

    def times(width: float, curve: MoeCurve) -> tuple[float, ...]:
        terms = grouped_gemm_terms(
            512.0,
            100.0,
            hidden=4096,
            intermediate=width,
            matrices=3,
            weight_bytes=1.0,
            flops_per_s=PEAK,
            bytes_per_s=BANDWIDTH,
            curve=curve,
        )
        return tuple(float(part) for part in terms)

    assert times(192, replace(MOE, i_0=64.0)) == pytest.approx(times(256, MOE))


def test_a_single_row_may_stream_the_weights_at_its_own_rate() -> None:
    curve = GemmCurve(t0_s=0.0, e=1.0, f=0.25, p=float("inf"), tau_s=0.0, f_1=0.5)

    def time_s(m: float) -> float:
        terms = gemm_terms(m, 4096, 4096, moved_bytes=1e6, flops_per_s=1e30, bytes_per_s=1e9, curve=curve)
        return float(gemm_time_s(m, terms, curve))

    assert (time_s(1.0), time_s(2.0)) == pytest.approx((2e-3, 4e-3))


UPDATE = UpdateCurve(t0_s=6e-6, f=0.8, p=2.0, tau_s=1e-6)
SCAN = ScanCurve(t0_s=25e-6, e=0.1, tau_s=30e-9, p=4.0, c=1.5)


def scan(chunk: Value, heads: float) -> PrefillTerms:
    row, state = 3000.0 * heads, 65536.0 * heads
    return state_scan_terms(
        chunk,
        flops_per_token=139264.0 * heads,
        bytes_per_row=row,
        state_bytes=state,
        flops_per_s=PEAK,
        bytes_per_s=BANDWIDTH,
        curve=SCAN,
    )


def test_many_state_updates_are_bandwidth_bound() -> None:
    """A thousand states of 4 MB, read and written once each."""
    moved = 1000 * 2 * 4.0e6
    terms = state_update_terms(moved, 1000.0, units=132, bytes_per_s=BANDWIDTH, curve=UPDATE)
    assert state_update_time_s(1000.0, terms, UPDATE) == pytest.approx(moved / (0.8 * BANDWIDTH), rel=0.01)
    assert state_update_time_s(0.0, terms, UPDATE) == 0.0


def test_a_scan_walks_its_sequence_and_heads_fill_the_device() -> None:
    """Few heads take the serial time of their tokens; with many the work counts, whatever the number of sequences."""
    few, many = scan(8192.0, 1.0), scan(8192.0, 1024.0)
    assert p_norm(few.work_s, few.walk_s, SCAN.p) == pytest.approx(8192 * 30e-9, rel=1e-3)
    assert p_norm(many.work_s, many.walk_s, SCAN.p) == pytest.approx(8192 * 1024 * 139264 / (0.1 * PEAK), rel=1e-3)
    halves = join_chunks(scan(np.array([4096.0, 4096.0]), 1024.0))
    assert halves.work_s == pytest.approx(many.work_s)
    assert halves.walk_s == pytest.approx(many.walk_s / 2)
    assert all(part == 0.0 for part in scan(0.0, 8.0))


def test_query_heads_of_rows_with_keys_of_their_own_are_padded() -> None:
    """Sixteen heads cost what 64 do, where a block holds 64."""
    curve = PrefillCurve(t0_s=18e-6, e_128=0.6, a_h=0.0, d_h=0.0, tau_s=0.0, p=1.0, c=0.0, block_heads=64.0)

    def work_s(heads: float) -> float:
        terms = prefill_attention_terms(
            4096.0,
            q_heads=heads,
            flops_per_key=2.0 * heads * 1088,
            head_dim=None,
            bytes_per_row=0.0,
            units=132,
            flops_per_s=PEAK,
            bytes_per_s=BANDWIDTH,
            curve=curve,
            window=2048.0,
        )
        return float(terms.work_s)

    assert work_s(16.0) == pytest.approx(work_s(64.0))
    assert work_s(128.0) == pytest.approx(2 * work_s(64.0))


def test_streaming_kernels() -> None:
    curve = StreamCurve(t0_s=2e-6, f=0.5, launches=3, passes=2)
    assert float(stream_time_s(1e6, bytes_per_s=1e12, curve=curve)) == pytest.approx(6e-6 + 4e-6)
    assert float(stream_time_s(0.0, bytes_per_s=1e12, curve=curve)) == 0.0


def test_eager_launches_hide_behind_long_kernels_only() -> None:
    assert eager_time_s(1e-3, launches=10, launch_s=5e-6) == 1e-3
    assert eager_time_s(1e-6, launches=10, launch_s=5e-6) == pytest.approx(5e-5)
