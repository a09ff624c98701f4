"""`plansim import`: a report of what was read, and Parquet that a scenario can use."""

import gzip
from pathlib import Path

import pytest

from sim.testing.trace_samples import BURSTGPT, TEXTS
from tests.conftest import Command

ENDINGS = {"azure": "csv", "burstgpt": "csv", "vidur": "csv"}


def written(folder: Path, name: str, *, zipped: bool = False) -> Path:
    """The sample of the format `name` as a file."""
    path = folder / f"sample-{name}.{ENDINGS.get(name, 'jsonl')}{'.gz' if zipped else ''}"
    content = TEXTS[name].encode()
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_every_format_becomes_parquet_that_a_scenario_can_use(
    name: str, zipped: bool, plansim: Command, tmp_path: Path
) -> None:
    trace = written(tmp_path, name, zipped=zipped)
    done = plansim("import", trace, "--out", tmp_path / "out", "--json")
    assert done.code == 0
    document = done.document
    report, parquet = document["report"], tmp_path / "out" / f"sample-{name}.parquet"
    assert (document["schema_version"], document["command"]) == (1, "import")
    assert document["written"] == str(parquet)
    assert done.err == f"written to {parquet}\n"
    assert report["format"] == name
    assert report["rows_read"] == report["rows_kept"] + sum(report["dropped"].values())
    runs = [
        plansim("run", "llama3-8b-small-gpus", "--set", f"workload.trace.path={path}", "--json").document
        for path in (trace, parquet)
    ]
    assert runs[0]["metrics"] == runs[1]["metrics"]
    assert runs[0]["metrics"]["requests"]["finished"] == report["rows_kept"]
    assert runs[0]["provenance"]["trace_report"] == report


def test_the_table_says_what_was_dropped(plansim: Command, tmp_path: Path) -> None:
    trace = tmp_path / "burst.csv"
    trace.write_text(BURSTGPT)
    done = plansim("import", trace)
    assert (done.code, done.err) == (0, "")
    for words in ("burstgpt", "rows_kept", "no output tokens: 1"):
        assert words in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["burst.csv"], "nothing is written unasked"


def test_window_and_rate_scale(plansim: Command, tmp_path: Path) -> None:
    trace = written(tmp_path, "mooncake")
    all_of_it = plansim("import", trace, "--json").document["report"]
    part = plansim("import", trace, "--window", "0 s", "5 s", "--rate-scale", 2, "--json").document["report"]
    assert (part["rows_kept"], part["dropped"]["outside the window"]) == (2, 1)
    assert part["span_s"] == pytest.approx(3.052 / 2)
    assert all_of_it["span_s"] == pytest.approx(6.104)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "azzure"], ["did you mean 'azure'", "plansim list traces"]),
        (["--window", "0", "5"], ["window", "unit is missing"]),
        (["--window", "5 s", "1 s"], ["window", "end after it starts"]),
        (["--rate-scale", "0"], ["rate_scale", "0"]),
        (["--rate-scale", "fast"], ["--rate-scale", "fast"]),
    ],
)
def test_wrong_options(options: list[str], words: list[str], plansim: Command, tmp_path: Path) -> None:
    done = plansim("import", written(tmp_path, "azure"), *options)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    for word in words:
        assert word in done.err


def test_a_file_in_the_way_stays(plansim: Command, tmp_path: Path) -> None:
    trace = written(tmp_path, "azure")
    assert plansim("import", trace, "--out", trace).code == 2
    assert trace.read_text() == TEXTS["azure"]
