"""Law 4: the same scenario and seed give the same bytes, for any process, hash seed and number of workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command

ROOT = Path(__file__).resolve().parents[2]
IN_ONE_PROCESS = "import sys; from sim.cli import main; sys.exit(max(main(call.split('|')) for call in sys.argv[1:]))"
SEARCH = [
    *("search", "llama3-70b-azure-conv", "--set", "workload.requests=60"),
    *("--set", "search.space={tp: [4, 8], replicas: 1, max_num_seqs: [64, 256]}", "--set", "search.max_simulated=3"),
]
COMPARE = ["compare", "h100-or-h200", "--set", "workload.requests=60", "--set", "replications=2"]
RUN = ["run", "llama3-8b-small-gpus", "--set", "workload.requests=60", "--set", "plan.router=random"]


def results(folder: Path, *, workers: int, hash_seed: int) -> tuple[str, dict[str, bytes]]:
    """Stdout of a run, a search and a comparison in one fresh process, and the files they saved, by name."""
    spread = ["--workers", str(workers)]
    calls = [
        [*verb, *own, "--json", "--quiet", "--out", str(folder / verb[0])]
        for verb, own in ((RUN, ["--trace"]), (SEARCH, spread), (COMPARE, spread))
    ]
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, *("|".join(call) for call in calls)],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return done.stdout, files


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, bytes]]:
    return results(tmp_path_factory.mktemp("one"), workers=1, hash_seed=1)


def test_two_processes_write_the_same_bytes(one_worker: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    stdout, files = one_worker
    again, more = results(tmp_path, workers=2, hash_seed=2)
    assert stdout == again
    assert files.keys() == more.keys()
    assert [name for name, content in files.items() if content != more[name]] == []


def test_everything_that_can_be_saved_was_compared(one_worker: tuple[str, dict[str, bytes]]) -> None:
    names = one_worker[1].keys()
    for verb in ("run", "search", "compare"):
        for file in ("result.json", "manifest.json", "scenario.yaml", "report.html"):
            assert f"{verb}/{file}" in names
    assert "run/trace.json.gz" in names
    tables = {name for name in names if name.endswith(".parquet")}
    assert {"run/requests.parquet", "run/iterations.parquet", "search/evaluations.parquet"} <= tables


@pytest.mark.parametrize("call", [RUN, [*SEARCH, "--workers", "1"], [*COMPARE, "--workers", "1"]], ids=lambda c: c[0])
def test_another_seed_gives_another_result(call: list[str], plansim: Command) -> None:
    first, second = (plansim(*call, "--json", "--seed", seed) for seed in (0, 1))
    assert (first.code, second.code) == (0, 0)
    assert first.out != second.out
    assert plansim(*call, "--json", "--seed", 0).out == first.out
