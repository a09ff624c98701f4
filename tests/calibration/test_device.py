"""A fit of a device profile finds the factors that made the rows, and names those that the rows could not tell."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from sim.calibration import Calibration, calibrate, device_parameters, profile_yaml
from sim.core import InputError
from sim.costs import CostModel
from sim.hardware import Scales, load_device
from sim.models import Gemm
from sim.scenario import load, run
from sim.validation import MeasuredRow, predict
from tests.calibration.builders import closed_loop
from tests.conftest import Command

DEVICE = "h100-sxm"
TRUE = {"memory": 0.85, "compute.bf16": 0.8, "launch": 1.5}
BLIND = ("link", "compute.fp8")
LARGE, SMALL = "llama-3.1-8b", "qwen2.5-0.5b"
DECODES = tuple((concurrency, 64, 12, LARGE) for concurrency in (1, 2, 4, 6, 8))
PROMPTS = tuple((concurrency, prompt, 6, LARGE) for concurrency in (6, 8, 10) for prompt in (2048, 4096))
LAUNCHES = tuple((concurrency, 64, 12, SMALL) for concurrency in (1, 2, 4))
LOADS = (*DECODES, *PROMPTS, *LAUNCHES)


def row(number: int, concurrency: int, prompt: int, output: int, model: str) -> MeasuredRow:
    return closed_loop(
        number,
        model=model,
        engine="vllm-0.12",
        concurrency=concurrency,
        prompt=prompt,
        output={"kind": "constant", "value": output},
        requests=3 * concurrency,
    )


@cache
def made_rows() -> tuple[MeasuredRow, ...]:
    """Rows whose measured values are predictions with the factors of `TRUE`."""
    device = load_device(DEVICE).scaled(Scales(TRUE["memory"], 1.0, TRUE["launch"], {"bf16": TRUE["compute.bf16"]}))
    blank = [row(number, *load_) for number, load_ in enumerate(LOADS)]
    return tuple(replace(one, measured=dict(predict(one, device=device).values)) for one in blank)


@cache
def fit() -> Calibration:
    return calibrate(made_rows(), profile=DEVICE, names=(*TRUE, *BLIND))


def test_true_factors_are_found_and_those_that_nothing_tells_are_named() -> None:
    found = {each.name: each for each in fit().parameters}
    for name, value in TRUE.items():
        assert found[name].identified, name
        assert found[name].low <= value <= found[name].high, name
        assert abs(found[name].value - value) < abs(1.0 - value), "nearer to the truth than the prior"
    for name in BLIND:
        assert not found[name].identified
        assert found[name].value == pytest.approx(1.0, abs=0.02), "no row has a collective or multiplies in 8 bit"
    assert all(after < fit().before[metric] for metric, after in fit().after.items())


def test_the_new_profile_holds_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(profile_yaml(fit(), name="mine", sources="made rows"), encoding="utf-8")
    device = load_device(str(path))
    found = {each.name: each.value for each in fit().parameters}
    assert device.kernels.scales.memory == pytest.approx(found["memory"])
    assert device.kernels.scales.compute == {"bf16": pytest.approx(found["compute.bf16"])}
    assert device.flops == load_device(DEVICE).flops, "the datasheet stays"
    text = path.read_text()
    assert "Not identified by these rows: link, compute.fp8" in text
    assert "90 % between" in text
    assert "calibrated: memory x" in device.kernels.provenance("gemm", "bf16", "vllm")


def test_factors_slow_what_they_are_about_and_never_beat_the_roofline() -> None:
    device = load_device(DEVICE)
    thin, square = (Gemm(name="g", cause="g", m=m, n=8192.0, k=8192.0, weights_dtype="bf16") for m in (1.0, 8192.0))

    def times(scales: Scales) -> tuple[float, float]:
        costs = CostModel(device.scaled(scales))
        return float(costs.cost(thin).time_s), float(costs.cost(square).time_s)

    plain, slow_memory = times(Scales()), times(Scales(memory=0.5))
    assert slow_memory[0] > 1.6 * plain[0]
    assert slow_memory[1] < 1.2 * plain[1]
    slow_compute = times(Scales(compute={"bf16": 0.5}))
    assert slow_compute[0] < 1.2 * plain[0]
    assert slow_compute[1] > 1.6 * plain[1]
    assert times(Scales(compute={"fp8": 0.5})) == plain
    boundless = times(Scales(memory=100.0, compute={"bf16": 100.0}))
    assert boundless[0] >= 2.0 * 8192**2 / device.memory_bytes_per_s
    assert boundless[1] >= 2.0 * 8192**3 / device.flops["bf16"]


def test_bad_input_says_what_is_missing(tmp_path: Path, plansim: Command) -> None:
    with pytest.raises(InputError, match="2 measured rows of h100-sxm can be simulated; a fit needs 5"):
        calibrate(made_rows()[:2], profile=DEVICE)
    with pytest.raises(InputError, match="14 are of h100-sxm"):
        calibrate(made_rows(), profile="a100-80-sxm")
    with pytest.raises(InputError, match="did you mean 'memory'"):
        device_parameters(load_device(DEVICE), ["memry"])
    wrong = [replace(one, measured={name: 1e3 * (x or 0.0) for name, x in one.measured.items()}) for one in made_rows()]
    with pytest.raises(InputError, match="times above what is predicted"):
        calibrate(wrong, profile=DEVICE)
    table = tmp_path / "table.csv"
    table.write_text("id,model,node,concurrency,input_tokens,output_tokens,ttft_s\nr,qwen2.5-0.5b,dgx-h100,1,9,9,0.1\n")
    assert "did you mean 'h100-sxm'" in plansim("calibrate", "h100-sx", "--rows", table).err
    page = tmp_path / "page.csv"
    page.write_text("a,b\n1,2\n")
    assert plansim("calibrate", DEVICE, "--rows", page).code == 2
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: broken\nextends: h100-sxm\nscales: {memory: {value: -1, source: assumed, ref: x}}\n")
    with pytest.raises(InputError, match="must be positive"):
        load_device(str(broken))


def test_a_scenario_runs_on_the_calibrated_device(tmp_path: Path, plansim: Command) -> None:
    header = "id,model,node,tp,concurrency,input_tokens,output_tokens,requests,ttft_s,tpot_s\n"
    lines = [f"r{i},llama-3.2-1b,dgx-h100,1,{1 + i % 3},{100 + 50 * i},12,8,0.080,0.0075\n" for i in range(6)]
    table = tmp_path / "mine.csv"
    table.write_text(header + "".join(lines))
    arguments = ("calibrate", DEVICE, "--rows", table, "--parameter", "launch", "--name", "mine", "--out", tmp_path)
    done = plansim(*arguments, "--json", "-q")
    assert done.code == 0
    assert done.document["device"] == DEVICE
    node = tmp_path / "node.yaml"
    node.write_text("name: node\nextends: dgx-h100\ndevice: mine.yaml\n")
    changes = ["model=llama-3.2-1b", "plan.tp=1", "workload.requests=5"]
    slow, plain = (
        run(load("llama3-8b-small-gpus", overrides=[*changes, f"cluster={{node: {one}}}"])).metrics["tpot_s"]["mean"]
        for one in (node, "dgx-h100")
    )
    assert slow > plain
