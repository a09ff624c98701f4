"""`plansim profile` as a command: what it writes and says, with a made-up machine in place of PyTorch."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sim.calibration.local as local
from sim.calibration.local import CheckCase, LocalProfile, Sample, Step, read_samples
from sim.calibration.local.operands import Machine
from sim.calibration.local.session import _fitted
from sim.core import load_data
from sim.hardware import DeviceSpec
from tests.calibration.local.conftest import device, machine, samples  # noqa: F401  (fixtures)
from tests.conftest import Command


@pytest.fixture
def measured(machine: Machine, samples: list[Sample]) -> LocalProfile:  # noqa: F811
    files, curves = _fitted("mine", machine, samples, None, None)
    return LocalProfile("mine", machine, ("fp32",), tuple(samples), tuple(curves), files, False)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Makes the command find what it is given; returns the list of what it asked for."""

    def make(found: LocalProfile, cases: Any = ()) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def profile(**options: Any) -> LocalProfile:
            calls.append(options)
            return found

        def check(*_: Any, **__: Any) -> list[CheckCase]:
            if isinstance(cases, BaseException):
                raise cases
            return list(cases)

        monkeypatch.setattr(local, "Backend", lambda kind, threads: SimpleNamespace(device=kind, threads=threads))
        monkeypatch.setattr(local, "profile", profile)
        monkeypatch.setattr(local, "check", check)
        return calls

    return make


def test_options_reach_the_profile_and_files_are_written(
    plansim: Command, measured: LocalProfile, stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    calls = stand_in(measured)
    done = plansim(
        "profile", "--device", "cpu", "--dtypes", "fp32, bf16", "--threads", 3, "--quick", "--peak-power", "90 W",
        "--name", "mine", "--out", tmp_path,
    )  # fmt: skip
    assert done.code == 0
    (options,) = calls
    assert (options["backend"].device, options["backend"].threads) == ("cpu", 3)
    assert (options["dtypes"], options["quick"], options["peak_w"]) == (["fp32", "bf16"], True, 90.0)
    assert "decode_attention" in done.out
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"mine{end}" for end in (".yaml", "-kernels.yaml", "-node.yaml", "-scenario.yaml", "-samples.csv")}
    assert read_samples(tmp_path / "mine-samples.csv") == [*measured.samples]
    assert load_data("hardware_profiles/devices", str(tmp_path / "mine.yaml"), DeviceSpec, kind="device").name == "mine"
    scenario, own = (line for line in done.err.splitlines() if line.startswith("next: "))
    assert scenario == f"next: plansim run {tmp_path / 'mine-scenario.yaml'}"
    assert own.endswith(f"cluster: {{node: {tmp_path / 'mine-node.yaml'}}}")
    run = plansim(*scenario.removeprefix("next: plansim ").split(), "--set", "workload.requests=2", "--json")
    assert run.document["metrics"]["requests"]["finished"] == 2


def test_json_has_the_measurements_and_the_check(
    plansim: Command,
    measured: LocalProfile,
    stand_in: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    step = Step("decode", 2, 1, 128)
    stand_in(measured, [CheckCase("fp32", step, error / 10 + 1.0, 1.0, 0.01, {"lm_head": 1.0}) for error in (-3, 1, 2)])
    done = plansim("profile", "--check", "--json")
    document = done.document
    assert (done.code, document["command"], document["name"]) == (0, "profile", "mine")
    assert [case["error_frac"] for case in document["check"]] == pytest.approx([-0.3, 0.1, 0.2])
    assert document["check_median_error_frac"] == pytest.approx(0.2)
    assert len(document["samples"]) == len(measured.samples)
    assert document["written"] == document["next"] == [*tmp_path.iterdir()] == []
    table = plansim("profile", "--check", "--out", tmp_path / "a", "--quiet")
    assert table.err == ""
    assert "median |error| 20.0%" in table.out


def test_ctrl_c_keeps_what_was_measured(
    plansim: Command, measured: LocalProfile, stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    first = tuple(s for s in measured.samples if s.case.kind == "copy")
    stand_in(LocalProfile("mine", measured.machine, ("fp32",), first, (), None, True))
    done = plansim("profile", "--check", "--out", tmp_path, "--json")
    assert done.code == 130
    assert done.document["interrupted"] is True
    assert done.document["flops"] is None
    assert read_samples(tmp_path / "mine-samples.csv") == [*first]
    assert [path.name for path in tmp_path.iterdir()] == ["mine-samples.csv"]


def test_ctrl_c_in_the_check_keeps_the_profile(
    plansim: Command, measured: LocalProfile, stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    stand_in(measured, KeyboardInterrupt())
    done = plansim("profile", "--check", "--out", tmp_path)
    assert done.code == 130
    assert (tmp_path / "mine.yaml").is_file()


def test_ctrl_c_before_the_first_kernel_leaves_earlier_results(
    plansim: Command, measured: LocalProfile, stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    stand_in(LocalProfile("mine", measured.machine, ("fp32",), (), (), None, True))
    done = plansim("profile", "--out", tmp_path, "--json")
    assert done.code == 130
    assert done.document["error"]["kind"] == "interrupted"
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "../mine"), "--name: not a name; got '../mine'"),
        (("--peak-power", "90 GB"), "--peak-power: unit 'GB' does not fit"),
        (("--peak-power", "0 W"), "--peak-power: a power limit is above zero"),
    ],
)
def test_wrong_options_are_named(
    plansim: Command, measured: LocalProfile, stand_in: Callable[..., Any], arguments: tuple[str, ...], message: str
) -> None:
    calls = stand_in(measured)
    done = plansim("profile", *arguments, "--json")
    assert done.code == 2
    assert message in done.err
    assert calls == []


def test_without_pytorch_it_says_what_to_install(plansim: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    done = plansim("profile", "--json")
    assert done.code == 2
    assert done.err == "error: this needs the package 'torch' (pip install 'plansim[profile]')\n"
    assert json.loads(done.out)["error"]["kind"] == "input"
