"""Devices as SI numbers: what multiplies a format they lack, and what a lower clock changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import InputError, data_names
from sim.hardware import Device, load_device, load_link

T = 1e12
DEVICES = st.sampled_from(data_names("hardware_profiles/devices"))


@pytest.mark.parametrize(
    ("device", "dtype", "used"),
    [
        ("h100-sxm", "fp8", "fp8"),
        ("h100-sxm", "fp4", "fp8"),
        ("h100-sxm", "int4", "int8"),
        ("a100-80-sxm", "fp8", "bf16"),
        ("a100-80-sxm", "fp4", "bf16"),
        ("v100-32-sxm", "bf16", "fp16"),
        ("v100-32-sxm", "fp8", "fp16"),
        ("tpu-v5e", "fp16", "bf16"),
        ("b200-sxm", "fp4", "fp4"),
        ("epyc-9654", "fp16", "bf16"),
    ],
)
def test_a_missing_format_runs_in_the_next_wider_one(device: str, dtype: str, used: str) -> None:
    chip = load_device(device)
    assert chip.compute_rate(dtype) == (chip.flops[used], used)


@given(DEVICES, st.sampled_from(["bf16", "fp16", "fp8", "fp4", "int8", "int4"]))
def test_every_shipped_device_multiplies_every_format(name: str, dtype: str) -> None:
    rate, used = load_device(name).compute_rate(dtype)
    assert rate == load_device(name).flops[used] > 0


def test_a_format_without_a_way_out_is_an_error() -> None:
    with pytest.raises(InputError, match="tpu-v5e cannot multiply fp32") as caught:
        load_device("tpu-v5e").compute_rate("fp32")
    assert caught.value.allowed == ["bf16", "int4", "int8"]


@given(DEVICES, st.floats(0.01, 1.0))
def test_a_lower_clock_slows_arithmetic_in_proportion_and_nothing_else(name: str, frac: float) -> None:
    chip = load_device(name)
    slow = chip.at_clock(frac)
    assert slow.flops == pytest.approx({dtype: rate * frac for dtype, rate in chip.flops.items()})
    assert slow.vector_flops == pytest.approx(chip.vector_flops * frac)
    assert slow.clock_hz == pytest.approx(chip.clock_hz * frac)
    restored = replace(slow, flops=chip.flops, vector_flops=chip.vector_flops, clock_hz=chip.clock_hz, clock_frac=1.0)
    assert restored == chip


def test_the_top_clock_changes_nothing() -> None:
    chip = load_device("h100-sxm")
    assert chip.at_clock(1.0) is chip


def test_clocks_multiply() -> None:
    chip = load_device("h100-sxm")
    assert chip.at_clock(0.8).at_clock(0.5).clock_frac == pytest.approx(0.4)


@pytest.mark.parametrize("frac", [0.0, -0.5, 1.01])
def test_an_impossible_clock_is_refused(frac: float) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1") as caught:
        load_device("h100-sxm").at_clock(frac)
    assert caught.value.value == frac


def test_vector_arithmetic_is_the_fp32_rate_or_a_share_of_the_matrix_rate() -> None:
    h100, tpu = load_device("h100-sxm"), load_device("tpu-v5e")
    assert h100.vector_flops == h100.flops["fp32"] == pytest.approx(66.9 * T)
    assert tpu.vector_flops == max(tpu.flops.values()) / 16


def test_a_device_cites_its_sources() -> None:
    assert any("H100 datasheet" in source for source in load_device("h100-sxm").sources)


def test_an_unknown_device_is_named_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="unknown device 'h100-smx'; did you mean 'h100-sxm'") as caught:
        load_device("h100-smx")
    assert caught.value.hint == "plansim list devices"


def test_devices_are_read_once() -> None:
    first: Device = load_device("l4")
    assert load_device("l4") is first


def test_a_link_at_another_rate_keeps_a_pair_within_it() -> None:
    mesh = load_link("xgmi4-mi300")
    assert mesh.with_rate(10e9).p2p_bytes_per_s == 10e9
    assert mesh.with_rate(200e9).p2p_bytes_per_s == 64e9
