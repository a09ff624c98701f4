"""Kernel curves: every shipped file loads, look-ups fall back in order and say so, predictions meet quoted figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import InputError, data_names, load_data
from sim.costs import CostModel, bind_collective, p_norm, precision_of
from sim.costs.collectives import wire_factor
from sim.costs.collectives.measured import CustomMeasured
from sim.hardware import ClusterSpec, KernelCurves, KernelsSpec, LinkSpec, load_cluster, load_device, load_link
from sim.models import DecodeAttention, Gemm, PrefillAttention

FILES = data_names("hardware_profiles/kernels")
DEVICES = data_names("hardware_profiles/devices")
LINKS = data_names("hardware_profiles/links")
ENGINES = ("vllm", "sglang", "trtllm", "another")
FORMATS = ("bf16", "fp16", "fp8", "fp8_block", "int8", "int4", "mxfp4", "nvfp4")
GB = 1e9
PARAMS = {
    "gemm": {"t0_s", "e", "f", "p", "tau_s", "k_sat", "c"},
    "headwise_gemm": {"t0_s", "e", "f", "p", "c"},
    "moe": {"t0_s", "e", "f", "p", "c", "m_0"},
    "decode_attention": {"t0_s", "f", "p", "tau_s", "lam_s", "a", "e"},
    "mla_decode": {"t0_s", "f", "p", "tau_s", "lam_s", "a", "e"},
    "prefill_attention": {"t0_s", "e_128", "a_h", "d_h", "tau_s", "p", "c"},
    "mla_prefill": {"t0_s", "e", "a_h", "tau_s", "p", "c"},
    "sparse_prefill": {"t0_s", "e", "block_heads"},
    "indexer_decode": {"t0_s", "f", "p", "tau_s", "lam_s", "a", "e", "walk_s"},
    "indexer_prefill": {"t0_s", "e", "a_h", "tau_s", "p", "c"},
    "state_update": {"t0_s", "f", "p", "tau_s"},
    "state_scan": {"t0_s", "e", "tau_s", "p", "c"},
    "elementwise": {"t0_s", "f"},
    "embedding": {"t0_s", "f"},
    "sampling": {"t0_s", "f", "launches", "passes"},
}
OPTIONAL = {"decode_attention": {"tail", "mixed_rows"}, "moe": {"i_0"}, "sampling": {"sort_launches", "sort_passes"}}
LONG_BLOCKS = {"decode_attention", "mla_decode", "state_update"}
"""Kernels whose tau is the time of a block, not of a key or a row."""


def kernels(name: str) -> KernelsSpec:
    return load_data("hardware_profiles/kernels", name, KernelsSpec, kind="kernel")


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_complete(name: str) -> None:
    spec = kernels(name)
    keys = [(curve.kernel, curve.dtype, curve.engine, curve.library) for curve in spec.curves]
    assert spec.name == name
    assert len(keys) == len(set(keys))
    assert {curve.ref for curve in spec.curves} == set(spec.refs)
    for curve in spec.curves:
        assert set(curve.params) - OPTIONAL.get(curve.kernel, set()) == PARAMS[curve.kernel]
        if curve.median_error is None or curve.p90_error is None:
            assert curve.source == "assumed", "only what was never fitted has no error"
            continue
        assert curve.source == ("assumed" if name == "generic" else "fitted")
        assert 0.0 < curve.median_error < curve.p90_error < 1.0


@pytest.mark.parametrize("name", FILES)
def test_every_parameter_is_plausible(name: str) -> None:
    for curve in kernels(name).curves:
        numbers = KernelCurves(name).get(curve.kernel, curve.dtype, curve.engine)
        assert 1e-6 < numbers["t0_s"] < 60e-6
        assert numbers.get("p", 1.0) >= 1.0
        assert all(0.0 < numbers[key] <= 1.0 for key in ("e", "f", "e_128") if key in numbers)
        tau_s = numbers.get("tau_s", 1e-9)
        assert 0.0 < tau_s < (1e-5 if curve.kernel in LONG_BLOCKS else 1e-7) or curve.kernel == "indexer_decode"
        assert all(number >= 0.0 for number in numbers.values())


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_curve_that_costs_ask_for_resolves(name: str, engine: str) -> None:
    device = load_device(name)
    wanted = {(kernel, precision_of(device, stored).kernel) for kernel in ("gemm", "moe") for stored in FORMATS}
    wanted |= {(kernel, dtype) for kernel in ("decode_attention", "mla_decode") for dtype in ("bf16", "fp8")}
    wanted |= {("prefill_attention", "bf16"), ("mla_prefill", "bf16")}
    wanted |= {("sparse_prefill", "bf16"), ("indexer_decode", "fp8"), ("indexer_prefill", "fp8")}
    wanted |= {("state_update", "bf16"), ("state_scan", "bf16")}
    for kernel, dtype in wanted:
        found = set(device.kernels.get(kernel, dtype, engine))
        assert found - OPTIONAL.get(kernel, set()) == PARAMS[kernel]
        assert device.kernels.provenance(kernel, dtype, engine)


def family(folder: Path, *curves: tuple[str, str, float]) -> KernelCurves:
    """A family with GEMM curves of these dtypes, engines and t0 [us]."""
    lines = [
        f"  - {{kernel: gemm, dtype: {dtype}, engine: {engine}, source: assumed, ref: test, "
        f"params: {{t0_s: {t0} us, e: 1.2, f: 0.9, p: inf, k_sat: inf}}}}"
        for dtype, engine, t0 in curves
    ]
    path = folder / f"family{abs(hash(curves))}.yaml"
    path.write_text("\n".join(["name: test", "refs: {test: a test}", "curves:", *lines, ""]), encoding="utf-8")
    return KernelCurves(str(path))


def test_the_engine_s_own_curve_comes_first_then_any_then_another_engine_s(tmp_path: Path) -> None:
    every = family(tmp_path, ("bf16", "sglang", 1), ("bf16", "any", 2), ("bf16", "vllm", 3), ("fp8", "vllm", 4))
    assert every.get("gemm", "bf16", "vllm")["t0_s"] == pytest.approx(3e-6)
    assert every.get("gemm", "bf16", "trtllm")["t0_s"] == pytest.approx(2e-6)
    other = family(tmp_path, ("bf16", "sglang", 1), ("bf16", "vllm", 3))
    assert other.get("gemm", "bf16", "trtllm")["t0_s"] == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ("fp8", "fp8_block"),
        ("fp8", "int8"),
        ("fp8_block", "fp8"),
        ("nvfp4", "fp8_block"),
        ("int8", "fp8"),
        ("w4a16", "w8a16"),
        ("w8a16", "bf16"),
        ("fp16", "bf16"),
        ("fp32", "bf16"),
        ("bf16", "fp32"),
        ("tf32", "fp32"),
        ("unheard-of", "bf16"),
    ],
)
def test_the_nearest_dtype_of_the_family_comes_before_the_generic_file(
    tmp_path: Path, asked: str, offered: str
) -> None:
    curves = family(tmp_path, (offered, "sglang", 7))
    assert curves.get("gemm", asked, "vllm")["t0_s"] == pytest.approx(7e-6)


def test_a_library_is_taken_when_asked_for_and_never_otherwise() -> None:
    curves = KernelCurves("b200")
    plain, asked = (curves.get("moe", "fp8_block", "trtllm", name) for name in ("", "trtllm-gen"))
    assert plain != asked
    assert "fp8_block trtllm trtllm-gen, fitted" in curves.provenance("moe", "fp8_block", "trtllm", "trtllm-gen")
    assert curves.get("moe", "fp8_block", "trtllm", "triton") == plain
    assert "stands in for triton" in curves.provenance("moe", "fp8_block", "trtllm", "triton")


@pytest.mark.parametrize(
    ("name", "dtype", "engine", "library"),
    [
        ("b200", "nvfp4", "trtllm", "trtllm-gen"),
        ("gb200", "fp8_block", "trtllm", "deepgemm"),
        ("h200", "fp8_block", "sglang", "triton"),
    ],
)
def test_what_an_engine_takes_by_itself_may_be_asked_for_by_name(
    name: str, dtype: str, engine: str, library: str
) -> None:
    curves = KernelCurves(name)
    assert curves.get("moe", dtype, engine, library) == curves.get("moe", dtype, engine)
    assert f"{engine} {library}, fitted" in curves.provenance("moe", dtype, engine, library)
    assert curves.has_library("moe", dtype, engine, library)
    assert not curves.has_library("moe", dtype, engine, "marlin")


def test_a_family_without_the_kernel_takes_the_generic_curve(tmp_path: Path) -> None:
    curves = family(tmp_path, ("bf16", "any", 7))
    assert curves.get("moe", "fp8", "vllm") == KernelCurves("generic").get("moe", "fp8", "vllm")
    assert curves.provenance("moe", "fp8", "vllm").startswith("generic: moe fp8 any (stands in for ")


def test_no_curve_at_all_is_an_error_that_names_the_file_to_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no efficiency curve for convolution"):
        family(tmp_path, ("bf16", "any", 7)).get("convolution", "bf16", "vllm")


def test_fractions_are_capped_and_inf_is_read(tmp_path: Path) -> None:
    numbers = family(tmp_path, ("bf16", "any", 7)).get("gemm", "bf16", "vllm")
    assert numbers["e"] == 1.0
    assert numbers["f"] == 0.9
    assert np.isinf(numbers["p"])
    assert KernelCurves("a100").get("gemm", "w4a16", "trtllm")["f"] == 1.0


@given(
    st.sampled_from(FILES),
    st.sampled_from(sorted(PARAMS)),
    st.sampled_from(["bf16", "fp8", "fp8_block", "int8", "nvfp4", "w8a16", "w4a16"]),
    st.sampled_from(ENGINES),
)
def test_provenance_says_stands_in_exactly_when_it_does(name: str, kernel: str, dtype: str, engine: str) -> None:
    if kernel.startswith("indexer"):
        dtype = "fp8"  # the only one there is
    own = any(
        curve.kernel == kernel and curve.dtype == dtype and curve.engine in (engine, "any")
        for curve in kernels(name).curves
    )
    text = KernelCurves(name).provenance(kernel, dtype, engine)
    assert ("stands in" in text) != own
    measured_by = ("AIConfigurator", "ml-engineering")
    assert any(source in text for source in measured_by) or kernel in ("embedding", "sampling")


def test_provenance_of_an_engine_s_own_curve() -> None:
    text = KernelCurves("h100").provenance("gemm", "bf16", "vllm")
    assert text.startswith("h100: gemm bf16 vllm, fitted: vLLM 0.24")
    stand_in = KernelCurves("h100").provenance("gemm", "fp8_block", "vllm")
    assert stand_in.startswith("h100: gemm fp8_block sglang (stands in for vllm)")


# ---- figures quoted for the tables that the curves were fitted to ----


@pytest.mark.parametrize("name", LINKS)
def test_fitted_collectives_have_what_their_form_reads(name: str) -> None:
    spec = load_data("hardware_profiles/links", name, LinkSpec, kind="link")
    forms = {
        "R3": {"alpha_s", "beta_bytes_per_s", "sigma_s_per_sqrt_byte"},
        "R5": {"a0_s", "a1_s", "beta_bytes_per_s", "sigma_s_per_sqrt_byte", "b8"},
        "R7": {"a1_s", "a1n_s", "beta1_bytes_per_s", "a2_s", "beta2_bytes_per_s", "sigma_s_per_sqrt_byte", "b8"},
        "R8": {"a0_s", "a1_s", "beta_bytes_per_s"},
    }
    for curve in spec.collectives:
        optional = {"switch_bytes"} if curve.form == "R7" else set()
        assert set(curve.params) - optional == forms[curve.form]
        assert (curve.ranks is not None) == (curve.form == "R3")
        assert (curve.engine is not None) == (curve.form in ("R7", "R8"))
        assert curve.ref in spec.refs
        rates = [rate for key, rate in curve.params.items() if key.startswith("beta")]
        assert all(1e9 < rate < spec.bandwidth.value * 1.35 for rate in rates)


def all_reduce_s(node: str, ranks: int, size_bytes: float, engine: str) -> float:
    group = load_cluster(ClusterSpec(node=node)).group(range(ranks))
    return float(bind_collective("all_reduce", group, engine=engine).time_s(np.asarray(size_bytes)))


@pytest.mark.parametrize(
    ("node", "bus_gb_per_s"),
    [
        ("dgx-a100", (193, 217, 222)),
        ("dgx-h100", (318, 350, 445)),
        ("dgx-h200", (315, 348, 460)),
        ("dgx-b200", (534, 634, 704)),
        ("gb200-nvl72", (530, 628)),
        ("8x-l40s-pcie", (20, 5)),
    ],
)
def test_nccl_bus_rate_at_512_mib(node: str, bus_gb_per_s: tuple[int, ...]) -> None:
    """NCCL 2.27-2.29 all-reduce of 2, 4 and 8 GPUs in the tables of AIConfigurator core 0.12.0, within 10 %."""
    size = 512 * 2.0**20
    for ranks, rate in zip((2, 4, 8), bus_gb_per_s, strict=False):
        found = wire_factor("all_reduce", ranks) * size / all_reduce_s(node, ranks, size, "none") / GB
        assert found == pytest.approx(rate, rel=0.10)


@pytest.mark.parametrize(
    ("node", "floors_us"),
    [
        ("dgx-a100", (10, 14, 21)),
        ("dgx-h100", (5.8, 9.3, 15.6)),
        ("dgx-h200", (6.0, 9.4, 16.0)),
        ("dgx-b200", (10.2, 15.0, 25.1)),
        ("gb200-nvl72", (10.9, 15.6)),
    ],
)
def test_nccl_floors(node: str, floors_us: tuple[float, ...]) -> None:
    """Smallest all-reduce of 2, 4 and 8 GPUs in the same tables, within 8 %."""
    for ranks, floor in zip((2, 4, 8), floors_us, strict=False):
        assert 1e6 * all_reduce_s(node, ranks, 512.0, "none") == pytest.approx(floor, rel=0.08)


@pytest.mark.parametrize(
    ("node", "engine", "floors_us"),
    [
        ("dgx-a100", "vllm", (5, 5, 6)),
        ("dgx-a100", "trtllm", (3.8, 4, 4.4)),
        ("dgx-h100", "vllm", (4.2, 4.5, 4.6)),
        ("dgx-h100", "sglang", (4.2, 4.5, 4.8)),
        ("dgx-h100", "trtllm", (2.6, 2.8, 3.1)),
        ("dgx-h200", "vllm", (4.2, 4.5, 4.6)),
        ("dgx-b200", "vllm", (6.6, 6.7, 7.3)),
        ("dgx-b200", "sglang", (6.6, 6.8, 7.2)),
        ("dgx-b200", "trtllm", (4.6, 4.8, 5.0)),
    ],
)
def test_custom_all_reduce_floors(node: str, engine: str, floors_us: tuple[float, ...]) -> None:
    """Smallest all-reduce of the engines' own kernels in CUDA graphs, the same tables, within 20 %."""
    for ranks, floor in zip((2, 4, 8), floors_us, strict=True):
        assert 1e6 * all_reduce_s(node, ranks, 512.0, engine) == pytest.approx(floor, rel=0.20)


def test_custom_all_reduce_switches_from_one_to_two_shots() -> None:
    """vLLM on H100: near 0.9 MB for four ranks and 0.2 MB for eight, never for two (same tables)."""
    curve = load_link("nvlink4").curve("all_reduce", form="R7", engine="vllm")
    assert curve is not None
    found = []
    for ranks in (2, 4, 8):
        wire = wire_factor("all_reduce", ranks)
        size, value = np.geomspace(1e4, 8e6, 2000), curve.params
        boost = value["b8"] if ranks == 8 else 1.0
        one = value["a1_s"] + value["a1n_s"] * (ranks - 1) + (ranks - 1) * size / value["beta1_bytes_per_s"]
        two = value["a2_s"] + value["sigma_s_per_sqrt_byte"] * np.sqrt(wire * size)
        two = two + wire * size / (value["beta2_bytes_per_s"] * boost)
        found.append(size[np.argmax(two < one)] if np.any(two < one) else np.inf)
    assert np.isinf(found[0])
    assert 0.4e6 < found[1] < 1.8e6
    assert 0.1e6 < found[2] < 0.4e6


def test_sglang_takes_two_shots_from_a_size_on_and_one_over_two_ranks() -> None:
    """Half the size over eight ranks; over two the time stays a line (custom_all_reduce.cuh, SGLang before 0.5.11)."""
    curve = load_link("nvlink5").curve("all_reduce", form="R7", engine="sglang")
    assert curve is not None
    switch, per_byte = curve.params["switch_bytes"], 1 / curve.params["beta1_bytes_per_s"]
    for ranks, at in ((4, switch), (8, switch / 2)):
        group = load_cluster(ClusterSpec(node="dgx-b200")).group(range(ranks))
        timer = CustomMeasured().bind("all_reduce", group, "sglang")
        assert timer is not None
        sizes = np.array([0.5 * at, at - 1.0, at, 2.0 * at])
        below, last, first, above = timer(sizes).tolist()
        assert below < last < first < above
        assert first > 1.2 * last
    timer = CustomMeasured().bind("all_reduce", load_cluster(ClusterSpec(node="dgx-b200")).group(range(2)), "sglang")
    assert timer is not None
    assert np.diff(timer(np.array([1e4, 1e6, 2e6]))) == pytest.approx(per_byte * np.array([0.99e6, 1e6]))


def seconds(device: str, engine: str, operator: Gemm | DecodeAttention) -> float:
    return float(CostModel(load_device(device), engine=engine, groups={}).cost(operator).time_s)


@pytest.mark.parametrize(
    ("device", "dtype", "best_tflop_per_s"),
    [
        ("a100-80-sxm", "bf16", 271.2),
        ("h100-sxm", "bf16", 794.5),
        ("h200-sxm", "bf16", 794.5),
        ("b200-sxm", "bf16", 1745),
        ("gb200", "bf16", 1822),
        ("h100-sxm", "fp8", 1402.6),
        ("b200-sxm", "fp8", 3432),
    ],
)
def test_large_gemm_lies_below_the_best_shape_found_by_others(device: str, dtype: str, best_tflop_per_s: float) -> None:
    """Maximum over shapes (S. Bekman, Machine Learning Engineering, MAMF): an upper bound, which a large square nears.

    Per-tensor fp8 pays for its dynamic quantisation inside the timed region, hence the wider band.
    """
    gemm = Gemm(name="x", cause="x", m=16384.0, n=16384.0, k=16384.0, weights_dtype=dtype)
    rate = 2 * 16384.0**3 / seconds(device, "vllm", gemm) / 1e12
    assert (0.80 if dtype == "bf16" else 0.70) < rate / best_tflop_per_s < 1.05


def mla(heads: float, sequences: float, context: float) -> DecodeAttention:
    return DecodeAttention(
        name="x",
        cause="x",
        sequences=sequences,
        context=sequences * context,
        q_heads=heads,
        kv_heads=1,
        head_dim=576,
        v_dim=512,
        kv_dtype="bf16",
        kind="mla",
    )


def test_mla_decode_of_128_heads_is_compute_bound_on_hopper() -> None:
    """643 TFLOP/s at 1,024 sequences of 16 k on H100 (same tables); within the 90th percentile of the form, 21 %."""
    operator = mla(128.0, 1024.0, 16384.0)
    assert float(operator.flops()) / seconds("h100-sxm", "trtllm", operator) / 1e12 == pytest.approx(643, rel=0.21)


def test_mla_decode_of_few_heads_runs_at_the_memory_bandwidth() -> None:
    """92 % of the bandwidth with 16 heads or fewer (same tables), within 5 %."""
    operator = mla(16.0, 1024.0, 16384.0)
    rate = (
        float(operator.bytes()) / seconds("h100-sxm", "trtllm", operator) / load_device("h100-sxm").memory_bytes_per_s
    )
    assert rate == pytest.approx(0.92, rel=0.05)


@pytest.mark.parametrize(
    ("length", "tflop_per_s"), [(256, 127), (512, 219), (1024, 339), (2048, 450), (4096, 550), (16384, 660)]
)
def test_prefill_attention_rate_on_h100(length: int, tflop_per_s: float) -> None:
    """vLLM 0.24 (FlashAttention 3), causal pairs counted, well filled (same tables); within the form's P90, 25 %.

    Eight prompts in one launch, 64 query heads on 8 KV heads of dimension 128.
    """
    attention = PrefillAttention(
        name="x",
        cause="x",
        chunk=float(length),
        prefix=0.0,
        q_heads=64,
        kv_heads=8,
        head_dim=128,
        v_dim=128,
        kv_dtype="bf16",
    )
    costs = CostModel(load_device("h100-sxm"), engine="vllm", groups={})
    terms, (t0_s, p) = costs.prefill_terms(attention), costs.prefill_curve(attention)
    time_s = t0_s + float(p_norm(8.0 * terms.work_s, terms.walk_s, p)) + 8.0 * float(terms.moved_s)
    assert 8.0 * float(attention.flops()) / time_s / 1e12 == pytest.approx(tflop_per_s, rel=0.25)


@pytest.mark.parametrize(("device", "engine", "frac"), [("h100-sxm", "vllm", 0.93), ("b200-sxm", "trtllm", 0.94)])
def test_decode_attention_of_a_large_cache_reaches_its_fraction(device: str, engine: str, frac: float) -> None:
    operator = DecodeAttention(
        name="x",
        cause="x",
        sequences=512.0,
        context=512.0 * 65536,
        q_heads=8,
        kv_heads=8,
        head_dim=128,
        v_dim=128,
        kv_dtype="bf16",
    )
    rate = float(operator.bytes()) / seconds(device, engine, operator) / load_device(device).memory_bytes_per_s
    assert rate == pytest.approx(frac, rel=0.05)
