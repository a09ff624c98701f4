"""Contract suite for importers of benchmark results: what every one must keep."""

from __future__ import annotations

from pathlib import Path

from sim.core import InputError
from sim.results import METRICS
from sim.scenario import Scenario, load
from sim.validation import Dataset, predict, read_rows
from sim.validation.benchmarks import BENCHMARKS, BenchmarkFile


def check_benchmark(name: str, path: Path, deployment: Scenario) -> Dataset:
    """A good file of the tool: known by its own importer alone, read into rows that can be simulated; returns them."""
    first = BenchmarkFile(path).records[0]
    assert [one for one in BENCHMARKS.names() if BENCHMARKS.get(one).sniff(first)] == [name]
    table = read_rows(path, deployment=deployment)
    assert table.format == name
    assert table.rows
    for row in table.rows:
        assert row.scenario is not None, row.reason
        load(row.scenario)
        assert row.measured
        for metric, value in row.measured.items():
            head, _, part = metric.partition(".")
            assert head in METRICS
            assert not part or part in METRICS[head].parts
            assert value is None or value > 0
        predicted = predict(row)
        assert not predicted.reason
        assert all(value is not None and value > 0 for value in predicted.values.values())
    check_incomplete(path, "the model", "the engine", "the GPUs")
    return table


def check_incomplete(path: Path, *missing: str, deployment: Scenario | None = None) -> InputError:
    """A file that leaves something open: refused once, with all of it named; returns the error."""
    found: InputError | None = None
    try:
        read_rows(path, deployment=deployment)
    except InputError as error:
        found = error
    assert found is not None, f"{path.name} was accepted"
    assert found.file == str(path)
    for one in missing:
        assert one in found.message, str(found)
    return found
