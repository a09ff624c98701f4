"""Tables of the optional package: units, what is left out, and what happens without it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest

from sim.core import InputError
from sim.costs import CostModel, measured_kernels
from sim.costs.tables import KernelRows, aiconfigurator
from sim.costs.tables.aiconfigurator import DISTRIBUTION, PACKAGE, AiconfiguratorTables, fastest
from sim.hardware import load_cluster, load_device
from sim.models import Collective, DecodeAttention, Gemm
from sim.testing.costs import check_table_source

installed = pytest.mark.skipif(
    find_spec(PACKAGE) is None, reason=f"the package {DISTRIBUTION} is not installed: pip install 'plansim[measured]'"
)
DEVICES = ("a100-80-sxm", "h100-sxm", "h200-sxm", "b200-sxm", "gb200", "l40s")
ENGINES = ("vllm", "sglang", "trtllm")


def source(device: str, engine: str) -> AiconfiguratorTables:
    return AiconfiguratorTables(device=load_device(device), engine=engine, path="")


def rows(device: str, engine: str, kernel: str, dtype: str = "bf16") -> KernelRows:
    found = source(device, engine).rows(kernel, dtype)
    assert isinstance(found, KernelRows), found
    return found


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(InputError, match=PACKAGE) as caught:
        measured_kernels("measured", load_device("a30"), engine="vllm")
    assert caught.value.hint == "pip install 'plansim[measured]'"


@installed
@pytest.mark.parametrize(("device", "engine"), product(DEVICES, ENGINES))
def test_it_keeps_the_contract(device: str, engine: str) -> None:
    assert check_table_source(source(device, engine)) >= 7


@installed
@pytest.mark.parametrize(("device", "engine"), product(DEVICES, ENGINES))
def test_large_products_reach_a_sane_share_of_the_peak(device: str, engine: str) -> None:
    """A wrong unit of time or a wrong dtype would show as less than a third of the dense peak, or more than it."""
    found = rows(device, engine, "gemm")
    m, n, k = (found.columns[name] for name in ("m", "n", "k"))
    flops = 2 * m * n * k
    share = (flops / found.time_s / load_device(device).flops["bf16"])[flops > 5e12]
    assert 0.35 < np.median(share) < 1.0


@installed
@pytest.mark.parametrize("device", ["a100-80-sxm", "h100-sxm", "h200-sxm", "b200-sxm"])
def test_message_sizes_are_bytes(device: str) -> None:
    """512 MB over eight ranks reach a bus bandwidth between 60 % and 110 % of a direction of NVLink (with NVLS)."""
    nvlink = {"a100-80-sxm": 300e9, "h100-sxm": 450e9, "h200-sxm": 450e9, "b200-sxm": 900e9}[device]
    found = rows(device, "vllm", "all_reduce")
    big = (found.columns["ranks"] == 8) & (found.columns["buffer_bytes"] >= 5e8)
    assert big.any()
    bus = 2 * 7 / 8 * found.columns["buffer_bytes"][big] / found.time_s[big]
    assert np.all((bus > 0.6 * nvlink) & (bus < 1.1 * nvlink))


@installed
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_eager_launches_are_left_out(engine: str) -> None:
    """They take at least 15 us whatever the size; kernels in CUDA graphs less than 10 us."""
    found = rows("h100-sxm", engine, "all_reduce")
    assert np.median(found.time_s[found.columns["buffer_bytes"] < 1e4]) < 10e-6


@installed
def test_decodes_read_their_cache_at_the_memory_bandwidth() -> None:
    found = rows("h100-sxm", "vllm", "decode_attention")
    c = found.columns
    moved = c["sequences"] * c["context"] * c["kv_heads"] * 2 * c["head_dim"] * 2.0
    big = (moved > 1e9) & (c["window"] == 0)
    assert 0.5 < np.median(moved[big] / found.time_s[big] / 3.35e12) < 1.0


@installed
def test_windows_cut_the_context() -> None:
    c = rows("h100-sxm", "vllm", "decode_attention").columns
    cut = c["window"] > 0
    assert cut.any()
    assert np.all(c["context"][cut] <= c["window"][cut])


@installed
@pytest.mark.parametrize(
    ("device", "engine", "kernel", "dtype", "reason"),
    [
        ("h100-sxm", "vllm", "gemm", "fp8_block", "bound by the host"),
        ("l40s", "trtllm", "prefill_attention", "fp8", "broken"),
        ("b200-sxm", "trtllm", "gemm", "nvfp4", "one kernel"),
        ("h100-sxm", "vllm", "moe", "fp8", "a sixth of what those of an older version did"),
        ("h100-sxm", "vllm", "mla_prefill", "bf16", "no context_mla_perf of vllm"),
        ("h200-sxm", "sglang", "mla_prefill", "bf16", "kernel for latents"),
        ("h100-sxm", "vllm", "all_to_all", "bf16", "no trtllm_alltoall_perf"),
        ("h100-sxm", "vllm", "gemm", "mxfp4", "no gemm in mxfp4"),
        ("h100-sxm", "vllm", "gemm", "nvfp4", "no rows of nvfp4"),
        ("mi300x", "vllm", "gemm", "bf16", "no tables of mi300x"),
    ],
)
def test_what_is_not_there_or_of_no_use_has_a_reason(
    device: str, engine: str, kernel: str, dtype: str, reason: str
) -> None:
    found = source(device, engine).rows(kernel, dtype)
    assert isinstance(found, str)
    assert reason in found


@installed
def test_experts_in_fp8_on_hopper_were_six_times_faster_in_an_older_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why those rows are not used: the newest table of H100 beside the oldest of H200, in bytes of weights."""
    monkeypatch.setattr(aiconfigurator, "_UNUSABLE", {})
    found = rows("h200-sxm", "vllm", "moe", "fp8")
    tokens, hidden, wide, experts = (found.columns[name] for name in ("tokens", "hidden", "intermediate", "experts"))
    some = (tokens == 256) & (wide >= 1024)
    rate = (3 * hidden * wide * experts / found.time_s)[some]
    assert some.any()
    assert np.median(rate) < 0.2 * load_device("h200-sxm").memory_bytes_per_s


@installed
@pytest.mark.parametrize("device", ["b200-sxm", "gb200", "b300-sxm"])
def test_one_token_of_generated_experts_is_quick_whoever_runs_them(device: str) -> None:
    """Kimi's 384 experts in NVFP4: TensorRT-LLM's own rows of them are CUTLASS's, which take 68 us and more."""
    found = rows(device, "trtllm", "moe", "nvfp4")
    c = found.columns
    one = (c["hidden"] == 7168) & (c["experts"] == 384) & (c["tokens"] == 1) & (c["intermediate"] <= 512)
    assert one.any()
    assert found.time_s[one].max() < 30e-6
    assert "/vllm/" in found.table
    assert "/trtllm/" in rows(device, "trtllm", "moe", "bf16").table


@installed
def test_quantisation_is_taken_out_of_tensorrt_products() -> None:
    """With it the smallest FP8 product takes 12 us; the product alone is no slower than twice the 16-bit one."""
    wide, narrow = rows("h100-sxm", "trtllm", "gemm"), rows("h100-sxm", "trtllm", "gemm", "fp8")
    assert np.median(narrow.time_s[narrow.columns["m"] == 1]) < 2.0 * np.median(wide.time_s[wide.columns["m"] == 1])
    assert "less the quantisation" in narrow.table


@installed
@pytest.mark.parametrize(("device", "engine"), product(("h100-sxm", "b200-sxm"), ENGINES))
def test_analytic_forms_are_near_the_tables_they_were_fitted_to(device: str, engine: str) -> None:
    """Medians of the fits are 5-8 % (GEMM) and 4-10 % (decode attention); 15 % tells a wrong unit or kernel."""
    costs = CostModel(load_device(device), engine=engine)
    found = rows(device, engine, "gemm")
    c = found.columns
    gemm = Gemm(name="x", cause="x", m=c["m"], n=c["n"], k=c["k"], weights_dtype="bf16")
    assert np.median(np.abs(costs.cost(gemm).time_s / found.time_s - 1)) < 0.15
    found = rows(device, engine, "decode_attention")
    heads = {"q_heads": 8.0, "kv_heads": 1.0, "head_dim": 128.0}
    found = found.where(
        np.all([found.columns[name] == value for name, value in {**heads, "window": 0.0}.items()], axis=0)
    )
    c = found.columns
    decode = DecodeAttention(
        name="x", cause="x", sequences=c["sequences"], context=c["sequences"] * c["context"], v_dim=128.0,
        kv_dtype="bf16", **heads,
    )  # fmt: skip
    assert np.median(np.abs(costs.cost(decode).time_s / found.time_s - 1)) < 0.15


@installed
def test_rows_say_which_table_of_which_version_they_are_from(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "h100_sxm/moe/vllm/0.24.0/moe_perf bfloat16"
    assert rows("h100-sxm", "vllm", "moe").table == f"{DISTRIBUTION} {version(DISTRIBUTION)} {place}"
    monkeypatch.setattr(aiconfigurator, "TESTED", "0.1")
    assert "(not 0.1, for which it is read)" in rows("h100-sxm", "vllm", "moe").table


def test_of_several_kernels_for_a_shape_the_fastest_is_kept() -> None:
    columns = {"tokens": np.array([1.0, 2.0, 1.0, 2.0]), "hidden": np.array([8.0, 8.0, 8.0, 9.0])}
    found = fastest(KernelRows(columns, np.array([4.0, 3.0, 2.0, 1.0]), "x"))
    pairs = {(t, h): s for t, h, s in zip(*(found.columns[n] for n in columns), found.time_s, strict=True)}
    assert pairs == {(1.0, 8.0): 2.0, (2.0, 8.0): 3.0, (2.0, 9.0): 1.0}


@installed
@pytest.mark.parametrize("device", ["h100-sxm", "h200-sxm", "b200-sxm"])
def test_latent_decodes_of_modules_less_their_projections_are_those_of_kernels(device: str) -> None:
    """vLLM timed only whole modules; at long contexts what is left is the kernel that SGLang timed alone."""
    module, kernel = (rows(device, engine, "mla_decode") for engine in ("vllm", "sglang"))
    assert module.table.endswith("less its projections")

    def long(table: KernelRows) -> dict[tuple[float, float, float], float]:
        context = np.round(np.log2(table.columns["context"]))
        found = zip(table.columns["q_heads"], table.columns["sequences"], context, table.time_s, strict=True)
        return {(heads, batch, log): time_s for heads, batch, log, time_s in found if log >= 14 and batch >= 16}

    ours, theirs = long(module), long(kernel)
    ratios = [ours[key] / theirs[key] for key in ours.keys() & theirs.keys()]
    assert len(ratios) > 20
    assert np.median(ratios) == pytest.approx(1.0, abs=0.05)


@installed
def test_latent_prompts_of_hopper_that_are_left_out_are_slower_than_whole_modules() -> None:
    """What SGLang really runs, projections and all, takes a third of the kernel that was timed alone for it."""
    tables, names = source("h200-sxm", "sglang"), ("isl", "batch_size", "num_heads")
    alone = tables._read("mla", "context_mla_perf", names, [("kv_cache_dtype", "==", "fp8")])
    whole = tables._read("mla", "wideep_context_mla_perf", names, [("kernel_source", "==", "fa3")])
    assert not isinstance(alone, str)
    assert not isinstance(whole, str)

    def longest(read: Mapping[str, np.ndarray], time_s: np.ndarray) -> float:
        return float(time_s[(read["isl"] == 16384) & (read["batch_size"] == 1) & (read["num_heads"] == 128)].min())

    assert longest(*whole[:2]) < 0.4 * longest(*alone[:2])


@installed
@pytest.mark.parametrize(
    ("device", "engine", "ranks", "link"),
    [
        ("h200-sxm", "sglang", (8,), 450e9),
        ("b200-sxm", "sglang", (8,), 900e9),
        ("gb200", "sglang", (4,), 900e9),
        ("gb200", "trtllm", (2, 4, 8, 16, 32), 900e9),
    ],
)
def test_tokens_of_experts_leave_at_a_sane_share_of_the_link(
    device: str, engine: str, ranks: tuple[int, ...], link: float
) -> None:
    """A wrong unit (some of these tables are in microseconds) or volume would miss by a factor of two or a thousand."""
    found = rows(device, engine, "all_to_all")
    assert tuple(np.unique(found.columns["ranks"])) == ranks
    assert set(found.columns["way"]) == {1.0, 2.0}
    leaves = found.columns["buffer_bytes"] * (1.0 - 1.0 / found.columns["ranks"])
    large = leaves > 1e8
    assert large.any()
    assert np.all((leaves / found.time_s / link)[large] > 0.2)
    assert np.all((leaves / found.time_s / link)[large] < 1.0)
    assert np.all(found.time_s[leaves < 1e5] < 40e-6)


@installed
@pytest.mark.parametrize(("device", "cluster"), [("h200-sxm", "dgx-h200-4"), ("b200-sxm", "hgx-b200-1")])
def test_the_curve_of_an_exchange_is_near_its_table_in_the_bytes_that_the_model_counts(
    device: str, cluster: str
) -> None:
    found = rows(device, "sglang", "all_to_all")
    few = found.where(found.columns["buffer_bytes"] < 1024 * 7168 * 5.3)
    group = load_cluster(cluster).group(range(8))
    costs = CostModel(load_device(device), engine="sglang", groups={"dp": group})
    op = Collective(name="x", cause="x", kind="all_to_all", group="dp", buffer_bytes=few.columns["buffer_bytes"])
    assert np.median(np.abs(costs.cost(op).time_s / few.time_s - 1)) < 0.08


@installed
def test_an_exchange_between_experts_takes_the_rows_of_its_way_and_engine() -> None:
    """Not those of NCCL's all-to-all; results in 16 bit take longer than tokens in 8 bit."""
    cluster = load_cluster("dgx-h200-4")
    tables = measured_kernels("measured", cluster.device, engine="sglang")
    costs = CostModel(cluster.device, engine="sglang", groups={"dp": cluster.group(range(8))}, measured=tables)
    tokens, reached = 128, 8 * (1 - (7 / 8) ** 8)
    for back, bytes_ in ((False, 1.0 + 4 / 128), (True, 2.0)):
        op = Collective(
            name="x",
            cause="x",
            kind="all_to_all",
            group="dp",
            returns=back,
            buffer_bytes=tokens * 7168 * bytes_ * reached,
        )
        assert costs.cost(op).time_s == pytest.approx(67.745e-6 if back else 35.119e-6, rel=1e-3)


@installed
def test_all_reduces_are_those_of_the_engine_s_version() -> None:
    """SGLang's kernel of 0.5.9 takes longer than the one that replaced it; else the current one."""
    small = {}
    for asked in ("0.5.9", "0.5", "", "9.9"):
        tables = AiconfiguratorTables(device=load_device("h100-sxm"), engine="sglang", path="", version=asked)
        found = tables.rows("all_reduce", "bf16")
        assert isinstance(found, KernelRows)
        eight = (found.columns["ranks"] == 8) & (found.columns["buffer_bytes"] == 8192)
        small[asked] = float(found.time_s[eight].min())
        assert ("0.5.9" in found.table) is (asked == "0.5.9")
    assert small["0.5.9"] > 1.3 * small[""]
    assert small["9.9"] == small["0.5"] == small[""]
