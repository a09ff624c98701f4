"""Predictions beside public measurements: kernel and collective tables of Vidur and APEX+, and files in PLANSIM_DATA.

Tolerances are what the forms reach, not what one would wish; the kernel tables themselves differ by about 6 % between
library versions.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from sim.core import Array
from sim.costs import CostModel, bind_collective
from sim.hardware import ClusterSpec, Device, load_cluster, load_device
from sim.models import DecodeAttention, Gemm, PrefillAttention, Sampling


def gemm_us(device: str, m: float, n: float, k: float) -> float:
    gemm = Gemm(name="x", cause="x", m=m, n=n, k=k, weights_dtype="fp16")
    return 1e6 * float(CostModel(load_device(device), groups={}).cost(gemm).time_s)


VIDUR = [
    # device, TP, microseconds of the fused gate+up projection 8192 x 57344/TP at 1, 128 and 4096 tokens
    ("h100-sxm", 1, (311, 327, 5709)),
    ("h100-sxm", 4, (81, 87, 1355)),
    ("h100-sxm", 8, (44, 52, 637)),
    ("a100-80-sxm", 1, (580, 720, 16038)),
    ("a100-80-sxm", 4, (150, 202, 3860)),
    ("a100-80-sxm", 8, (77, 103, 1961)),
]


@pytest.mark.parametrize(("device", "tp", "measured"), VIDUR)
def test_up_projection_of_llama_2_70b(device: str, tp: int, measured: tuple[float, ...]) -> None:
    """Profiles of Vidur (MLSys 2024), fp16, CUDA-event times; within 25 %."""
    predicted = [gemm_us(device, m, 57344 / tp, 8192) for m in (1, 128, 4096)]
    assert predicted == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize(
    ("device", "tp", "measured"),
    [("h100-sxm", 1, (171, 166, 2668)), ("h100-sxm", 8, (22, 27, 296)), ("a100-80-sxm", 8, (41, 55, 1062))],
)
def test_down_projection_of_llama_2_70b(device: str, tp: int, measured: tuple[float, ...]) -> None:
    """The same profiles, 28672/TP x 8192; within 30 % (small shards on A100 split over k differently)."""
    predicted = [gemm_us(device, m, 8192, 28672 / tp) for m in (1, 128, 4096)]
    assert predicted == pytest.approx(measured, rel=0.30)


@pytest.mark.parametrize(("batch", "context", "rate"), [(27, 1984, 1443), (96, 1920, 1627), (128, 1920, 1534)])
def test_decode_attention_rate_on_a100(batch: int, context: int, rate: float) -> None:
    """GB/s of decode attention, Llama-2-70B at TP2 (32 query heads, 4 KV heads), Vidur's profile; within 30 %."""
    attention = decode(batch, context, q_heads=32, kv_heads=4)
    seconds = float(CostModel(load_device("a100-80-sxm"), groups={}).cost(attention).time_s)
    assert batch * context * 2048 / seconds / 1e9 == pytest.approx(rate, rel=0.30)


def decode(batch: float | Array, context: float | Array, *, q_heads: float, kv_heads: float) -> DecodeAttention:
    return DecodeAttention(
        name="x",
        cause="x",
        sequences=batch,
        context=np.asarray(batch) * context,
        q_heads=q_heads,
        kv_heads=kv_heads,
        head_dim=128,
        v_dim=128,
        kv_dtype="bf16",
    )


def h100_rows(name: str) -> list[list[str]]:
    root = os.environ.get("PLANSIM_DATA")
    if not root:
        pytest.skip("PLANSIM_DATA is not set: measured kernels are not available")
    path = Path(root) / "kernels" / name
    if not path.is_file():
        pytest.skip(f"{path.name} is not in PLANSIM_DATA/kernels")
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))[1:]


def errors(predicted_s: Array, measured_us: Array) -> tuple[float, float]:
    """Median |error| and median ratio of predictions to measurements."""
    ratio = predicted_s * 1e6 / measured_us
    return float(np.median(np.abs(ratio - 1.0))), float(np.median(ratio))


def h100() -> Device:
    return load_device("h100-sxm")


def test_h100_gemm_table(record_property: pytest.RecordProperty) -> None:
    """GEMM table of BLIS (m, k, n, us), labelled bf16.

    Most rows beat the bf16 roofline (up to 1.27 times the dense peak), so they cannot be bf16 and law 8 flags them.
    They agree with the fp8 form once its quantisation pass, which such a benchmark leaves out, is taken off: to 10 % in
    the median, asserted as 13 %, of which 9 % are bias. Prompts are 12 % slower there, at 0.64 of the fp8 peak: its
    kernels are older than vLLM 0.24's, to which the curve is fitted.
    """
    m, k, n, measured = np.array([row[:4] for row in h100_rows("h100_gemm.csv")], dtype=np.float64).T
    chip = h100()
    roofline = np.maximum(2 * m * n * k / chip.flops["bf16"], 2 * (m * k + k * n + m * n) / chip.memory_bytes_per_s)
    assert np.mean(measured * 1e-6 < roofline) > 0.5
    times = np.empty_like(measured)
    for index, (rows, columns, inner) in enumerate(zip(m, n, k, strict=True)):
        gemm = Gemm(name="x", cause="x", m=rows, n=columns, k=inner, weights_dtype="fp8")
        quantise_s = chip.kernels.get("gemm", "fp8", "vllm")["c"] * rows * inner / chip.memory_bytes_per_s
        times[index] = float(CostModel(chip, groups={}).cost(gemm).time_s) - quantise_s
    error, ratio = errors(times, measured)
    record_property("median_error", error)
    assert error < 0.13
    assert ratio == pytest.approx(1.0, abs=0.11)


def test_h100_decode_attention_table(record_property: pytest.RecordProperty) -> None:
    """Decode attention of BLIS on H100 (754 rows, heads divided by tp): 3.6 % median error, asserted below 6 %."""
    rows = [row for row in h100_rows("h100_attention.csv") if row[0] == "decode"]
    q_heads, kv_heads, _, tp = np.array([row[1:5] for row in rows], dtype=np.float64).T
    batch, context, measured = np.array([row[7:10] for row in rows], dtype=np.float64).T
    costs = CostModel(h100(), groups={})
    times = np.array(
        [
            float(costs.cost(decode(b, c, q_heads=q, kv_heads=max(1.0, kv))).time_s)
            for b, c, q, kv in zip(batch, context, q_heads / tp, kv_heads / tp, strict=True)
        ]
    )
    error, ratio = errors(times, measured)
    record_property("median_error", error)
    assert error < 0.06
    assert ratio == pytest.approx(1.0, abs=0.06)


def test_h100_prefill_attention_table(record_property: pytest.RecordProperty) -> None:
    """Prefill attention of BLIS on H100 (30 rows): about 21 % too slow.

    Those rows reach 0.70-0.77 of the peak, the context tables the form was fitted to 0.60-0.67 at the same shapes
    (FlashAttention-3, vLLM 0.24), so the sources disagree by about 20 %. The bound asserted is 28 %.
    """
    rows = [row for row in h100_rows("h100_attention.csv") if row[0] == "prefill"]
    q_heads, kv_heads = np.array([row[1:3] for row in rows], dtype=np.float64).T
    tokens, measured = np.array([row[6:8] for row in rows], dtype=np.float64).T
    costs = CostModel(h100(), groups={})
    times = np.empty_like(measured)
    for index, (s, q, kv) in enumerate(zip(tokens, q_heads, kv_heads, strict=True)):
        attention = PrefillAttention(
            name="x",
            cause="x",
            chunk=s,
            prefix=0.0,
            q_heads=q,
            kv_heads=kv,
            head_dim=128,
            v_dim=128,
            kv_dtype="bf16",
        )
        times[index] = float(costs.cost(attention).time_s)
    error, _ = errors(times, measured)
    record_property("median_error", error)
    assert error < 0.28


@pytest.mark.parametrize(
    ("rows", "vocab", "milliseconds"), [(48, 32768, 0.35), (128, 32768, 0.63), (64, 131072, 1.05), (128, 131072, 2.3)]
)
def test_a_sampler_that_sorts(rows: int, vocab: int, milliseconds: float) -> None:
    """Top-p by PyTorch's sort, beside sampling without (vLLM pull requests 33538 and 40376); within 20 %."""
    sampling = Sampling(name="x", cause="x", rows=rows, vocab=vocab)
    device = load_device("h100-sxm")
    sorting, plain = (
        float(CostModel(device, groups={}, sorts_logits=sorts).cost(sampling).time_s) for sorts in (True, False)
    )
    assert 1e3 * (sorting - plain) == pytest.approx(milliseconds, rel=0.20)


@pytest.mark.parametrize(
    ("node", "measured"),
    [
        # bytes and microseconds between two RTX PRO 6000, in CUDA graphs (LLMServingSim, 8 and 26 September 2026)
        ("8x-rtx-pro-6000-acs", {40960: 17.5, 557056: 42.6, 1310720: 90.6, 20971520: 1309.0}),
        ("8x-rtx-pro-6000", {40960: 14.6, 557056: 29.2, 1310720: 47.5, 20971520: 587.0}),
    ],
)
def test_all_reduce_of_two_over_pcie(node: str, measured: dict[int, float]) -> None:
    """Through the root complex and direct, each within 15 % (small direct ones are faster in other tables)."""
    group = load_cluster(ClusterSpec(node=node)).group(range(2))
    bound = bind_collective("all_reduce", group, engine="another")
    predicted = [1e6 * float(bound.time_s(np.asarray(float(size)))) for size in measured]
    assert predicted[1:] == pytest.approx(list(measured.values())[1:], rel=0.15)
    assert predicted[0] <= 1.15 * next(iter(measured.values()))
