"""Exit codes, one JSON document on stdout, one message on stderr, no traceback, results kept: with a stand-in API."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sim.cli.app import VERBS
from sim.cli.output import workers_or_cores
from sim.core import InfeasibleError, InputError, PlansimError, Reason
from tests.cli.conftest import FakeApi
from tests.conftest import Command

SIMULATING = ("run", "search", "compare")


def raise_(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("verb", SIMULATING)
def test_options_reach_the_api(verb: str, plansim: Command, api: FakeApi) -> None:
    done = plansim(verb, "x.yaml", "--set", "plan.tp=4", "--set", "a=b", "--seed", 7, "--json")
    assert api.calls[0] == ("load", {"source": "x.yaml", "overrides": ["plan.tp=4", "a=b"]})
    assert api.calls[1][0] == verb
    assert api.calls[1][1]["seed"] == 7
    assert done.document["metrics"] == {"slo_attainment_frac": 0.5}


def test_workers_default_to_the_cores(plansim: Command, api: FakeApi) -> None:
    plansim("search", "x.yaml", "--json")
    plansim("search", "x.yaml", "--json", "--workers", 3)
    assert [options["workers"] for verb, options in api.calls if verb == "search"] == [workers_or_cores(None), 3]


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (InputError("no such file", file="x.yaml", hint="look"), 2, "input"),
        (
            InfeasibleError("no plan fits", [Reason("memory", "90 GB of 80 GB", {"needed_bytes": 9e10})]),
            3,
            "infeasible",
        ),
        (PlansimError("odd"), 1, "internal"),
        (RuntimeError("odd\nmore"), 1, "internal"),
        (MemoryError(), 1, "internal"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
@pytest.mark.parametrize("verb", SIMULATING)
def test_failures(verb: str, error: BaseException, code: int, kind: str, plansim: Command, api: FakeApi) -> None:
    api.action = lambda: raise_(error)
    plain = plansim(verb, "x.yaml", "--no-report")
    assert plain.code == code
    assert plain.out == ""
    assert plain.err.startswith("error: ")
    with_json = plansim(verb, "x.yaml", "--json")
    assert with_json.code == code
    assert with_json.document["command"] == verb
    assert with_json.document["schema_version"] == 1
    assert with_json.document["error"]["kind"] == kind
    assert with_json.document["error"]["exit_code"] == code
    assert f"error: {with_json.document['error']['message']}\n" == with_json.err


def test_infeasible_document_has_the_reasons(plansim: Command, api: FakeApi) -> None:
    api.action = lambda: raise_(InfeasibleError("no plan fits", [Reason("memory", "too much", {"needed_bytes": 9e10})]))
    done = plansim("run", "x.yaml", "--json")
    assert done.document["infeasible"] == [{"code": "memory", "message": "too much", "numbers": {"needed_bytes": 9e10}}]
    assert "[memory] too much" in done.err


def test_traceback_only_on_request(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sim.cli import main

    api.action = lambda: raise_(RuntimeError("odd"))
    assert main(["run", "x.yaml"]) == 1
    assert "PLANSIM_DEBUG=1" in capsys.readouterr().err
    monkeypatch.setenv("PLANSIM_DEBUG", "1")
    assert main(["run", "x.yaml"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "x.yaml", "--nonsense"],
        ["run", "x.yaml", "--seed", "soon"],
        ["run", "x.yaml", "--seed", "-1"],
        ["search", "x.yaml", "--workers", "0"],
        ["list"],
        ["list", "divices"],
        ["schema", "scenarios.yaml"],
    ],
)
def test_usage_errors_exit_2(arguments: list[str], plansim: Command, api: FakeApi) -> None:
    plain = plansim(*arguments)
    assert plain.code == 2
    assert plain.err.startswith("error: ")
    assert len(plain.err.splitlines()) == 1
    assert plansim(*arguments, "--json").document["error"]["exit_code"] == 2
    assert api.calls == []


def test_near_misses_are_suggested(plansim: Command) -> None:
    assert "did you mean 'devices'?" in plansim("list", "divices").err
    assert "did you mean 'scenario'?" in plansim("schema", "scenarios").err


@pytest.mark.parametrize("verb", SIMULATING)
def test_unwritable_folder_is_found_before_simulating(
    verb: str, plansim: Command, api: FakeApi, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("earlier")
    for folder in (file, file / "below", "/proc/nothing-here"):
        done = plansim(verb, "x.yaml", "--out", folder)
        assert done.code == 2
        assert "--out: cannot write results to" in done.err
    assert {call[0] for call in api.calls} == {"load"}
    assert file.read_text() == "earlier"


@pytest.mark.parametrize("verb", SIMULATING)
def test_results_are_saved(verb: str, plansim: Command, api: FakeApi, tmp_path: Path) -> None:
    done = plansim(verb, "x.yaml", "--out", tmp_path / "new" / "folder", "--no-report", "--json")
    assert (tmp_path / "new" / "folder" / "manifest.json").read_text() == "new"
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["manifest.json"]
    assert f"saved in {tmp_path / 'new' / 'folder'}" in done.err
    assert "saved" not in plansim(verb, "x.yaml", "--out", tmp_path, "--no-report", "--json", "--quiet").err


@pytest.mark.parametrize("error", [RuntimeError("disk"), KeyboardInterrupt()])
def test_earlier_results_stay(
    error: BaseException, plansim: Command, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").write_text("earlier")

    def half(folder: Path) -> None:
        (folder / "manifest.json").write_text("half")
        raise error

    monkeypatch.setattr(api.result, "save", half)
    assert plansim("run", "x.yaml", "--out", tmp_path, "--no-report", "--json").code in (1, 130)
    assert (tmp_path / "manifest.json").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_nothing_is_written_unasked(
    plansim: Command, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in SIMULATING:
        plansim(verb, "x.yaml", "--json")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("attained", "code"), [(0.98, 4), (0.99, 0), (None, 4)])
@pytest.mark.parametrize("verb", ["run", "search"])
def test_check(verb: str, attained: float | None, code: int, plansim: Command, api: FakeApi) -> None:
    api.slo = SimpleNamespace(attainment=0.99)
    api.result.metrics = {"slo_attainment_frac": attained}
    api.result.recommended = api.result
    done = plansim(verb, "x.yaml", "--check", "--json")
    assert done.code == code
    assert done.document["metrics"] == {"slo_attainment_frac": attained}
    assert ("SLO not met" in done.err) == (code == 4)
    assert plansim(verb, "x.yaml", "--json").code == 0


def test_check_needs_an_slo(plansim: Command, api: FakeApi) -> None:
    for verb in ("run", "search"):
        done = plansim(verb, "x.yaml", "--check", "--json")
        assert done.code == 2
        assert "needs an SLO" in done.err
    assert {call[0] for call in api.calls} == {"load"}


def test_interrupted_search_keeps_what_was_done(plansim: Command, api: FakeApi, tmp_path: Path) -> None:
    api.result.interrupted = True
    api.result.recommended = api.result
    done = plansim("search", "x.yaml", "--out", tmp_path, "--no-report", "--json")
    assert done.code == 130
    assert done.document["metrics"]
    assert (tmp_path / "manifest.json").is_file()


def test_a_search_interrupted_before_its_first_plan_leaves_earlier_results(
    plansim: Command, api: FakeApi, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text("earlier")
    api.result.interrupted = True
    done = plansim("search", "x.yaml", "--out", tmp_path, "--no-report", "--json")
    assert done.code == 130
    assert done.document["error"]["kind"] == "interrupted"
    assert (tmp_path / "manifest.json").read_text() == "earlier"


def test_search_without_a_feasible_plan(plansim: Command, api: FakeApi) -> None:
    done = plansim("search", "x.yaml", "--json")
    assert done.code == 3
    assert done.document["metrics"]
    assert "no feasible plan" in done.err


def test_non_finite_numbers_never_reach_stdout(plansim: Command, api: FakeApi) -> None:
    api.result.metrics = {"slo_attainment_frac": float("nan")}
    done = plansim("run", "x.yaml", "--json")
    assert done.code == 1
    assert json.loads(done.out)["error"]["kind"] == "internal"


def test_every_verb_has_help(plansim: Command) -> None:
    for verb in VERBS:
        done = plansim(verb, "--help")
        assert done.code == 0
        assert "--json" in done.out


def test_no_arguments_show_help(plansim: Command) -> None:
    assert plansim().code == 0
    assert "search" in plansim("-h").out


def test_version(plansim: Command) -> None:
    import sim

    assert plansim("--version").out == f"plansim {sim.__version__}\n"
