"""Shipped data is found by name, read once, and a wrong name is answered with the nearest."""

from pathlib import Path

import pytest

from sim.core import InputError, Sourced, Spec, TimeS, data_names, data_root, load_data, resolve_refs
from sim.plans import load_engine


class Delay(Spec):
    delay: Sourced[TimeS]
    refs: dict[str, str] = {}  # noqa: RUF012


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "delays").mkdir()
    text = "delay: {value: 5 us, source: measured, ref: a}\nrefs: {a: 'A paper, 2024'}\n"
    (tmp_path / "delays" / "short.yaml").write_text(text)
    monkeypatch.setattr("sim.core.datafiles.data_root", lambda: tmp_path)
    data_names.cache_clear()
    return tmp_path


def test_root_holds_the_data_folders() -> None:
    assert (data_root() / "hardware_profiles").is_dir()
    assert (data_root() / "workloads").is_dir()


def test_reads_by_name_once(folder: Path) -> None:
    first = load_data("delays", "short", Delay, kind="delay")
    assert first.delay.value == pytest.approx(5e-6)
    assert load_data("delays", "short", Delay, kind="delay") is first
    assert resolve_refs(first.delay, first.refs) == "A paper, 2024"
    assert resolve_refs(first.delay, {}) == "a"
    data_names.cache_clear()


def test_reads_a_path_of_the_users_own(folder: Path) -> None:
    path = folder / "mine.yaml"
    path.write_text("delay: {value: 1 s, source: assumed, ref: a guess}\n")
    assert load_data("delays", str(path), Delay, kind="delay").delay.value == 1.0
    with pytest.raises(InputError, match=r"absent.yaml: no such file"):
        load_data("delays", "absent.yaml", Delay, kind="delay")


def test_wrong_name_suggests(folder: Path) -> None:
    with pytest.raises(InputError, match=r"unknown delay 'shrot'; did you mean 'short'\? \(plansim list delays\)"):
        load_data("delays", "shrot", Delay, kind="delay")
    assert data_names("nowhere") == ()
    data_names.cache_clear()


@pytest.mark.parametrize(
    "text", ["delay: 5 us", "delay: {value: 5 us, ref: a}", "delay: {value: 5, source: assumed, ref: a}"]
)
def test_every_number_needs_its_source(folder: Path, text: str) -> None:
    path = folder / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad.yaml:1 delay"):
        load_data("delays", str(path), Delay, kind="delay")


def test_a_file_takes_what_it_does_not_say_from_the_one_it_extends(tmp_path: Path) -> None:
    base, child = load_engine("vllm"), load_engine("vllm-0.12")
    assert (base.async_scheduling, child.async_scheduling) == (True, False)
    assert (child.name, child.version) == ("vllm-0.12", "0.12")
    times = {"host_per_sequence_s", "kernel_gap_s", "frontend_s", "frontend_token_s"}
    own = {"name", "title", "version", "async_scheduling", "sorts_logits", *times, "fuse_all_reduce", "refs", "note"}
    same = set(type(base).model_fields) - own
    assert all(getattr(base, field) == getattr(child, field) for field in same)


def test_files_that_extend_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(f"name: a\nextends: {second}\n")
    second.write_text(f"name: b\nextends: {first}\n")
    with pytest.raises(InputError, match=r"b\.yaml:2 extends: files extend each other in a circle"):
        load_engine(str(first))
