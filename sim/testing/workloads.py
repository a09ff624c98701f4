"""Contract suites for arrival processes, length laws and trace importers: what every plug-in must keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sim.core import InputError, stream
from sim.workloads import ArrivalProcess, Marginal, RequestTable, TraceFormat, TraceSpec, read_trace
from sim.workloads.traces import TraceFile


def check_arrivals(process: ArrivalProcess, *, seed: int = 0, count: int = 400) -> None:
    """Ascending from 0, repeatable, nested in the count, and scaled by the rate."""
    times = process.times(count, stream(seed, "arrivals"))
    assert times.shape == (count,)
    assert times[0] == 0
    assert np.all(np.isfinite(times))
    assert np.all(np.diff(times) >= 0)
    assert np.array_equal(times, process.times(count, stream(seed, "arrivals")))
    for fewer in (1, 2, count // 2):
        assert np.array_equal(times[:fewer], process.times(fewer, stream(seed, "arrivals")))
    slow, fast = (process.at_rate(count, rate, stream(seed, "arrivals")) for rate in (2.0, 8.0))
    np.testing.assert_allclose(slow, 4 * fast, rtol=1e-12)
    np.testing.assert_allclose(process.at_rate(count, process.mean_rate, stream(seed, "arrivals")), times, rtol=1e-12)


def check_mean_rate(process: ArrivalProcess, *, count: int = 200_000, tolerance: float = 0.02) -> None:
    """The stated long-run rate is that of a long draw."""
    times = process.times(count, stream(0, "arrivals"))
    assert abs((count - 1) / times[-1] / process.mean_rate - 1) < tolerance


def check_marginal(law: Marginal) -> None:
    """A quantile function: ascending, finite, of at least one whole token, of the shape it is asked for."""
    levels = np.concatenate(([1e-12], np.linspace(1e-6, 1 - 1e-6, 997), [1 - 1e-12]))
    tokens = law.tokens(levels)
    assert tokens.dtype == np.int64
    assert tokens.shape == levels.shape
    assert np.all(np.diff(tokens) >= 0)
    assert tokens[0] >= 1
    assert tokens[-1] < 2**40


def check_importer(importer: type[TraceFormat], path: Path, *, name: str) -> RequestTable:
    """A good file of the format: recognised by its importer, read whole, and accounted for; returns its requests."""
    raw = importer.read(TraceFile(path))
    assert raw.lines.shape == raw.input_tokens.shape == raw.output_tokens.shape
    assert np.all(np.diff(raw.lines) > 0)
    table = read_trace(TraceSpec(path=str(path)))
    assert table.report is not None
    assert table.report.format == name
    assert table.report.rows_kept == len(table)
    assert table.report.rows_read == len(table) + sum(table.report.dropped.values())
    assert table.report.path == path.name
    return table


def check_refused(path: Path, *, line: int | None, about: str, **options: object) -> InputError:
    """A bad file: refused with its name, the line and a message that speaks of `about`; returns the error."""
    found: InputError | None = None
    try:
        read_trace(TraceSpec.model_validate({"path": str(path), **options}))
    except InputError as error:
        found = error
    assert found is not None, f"{path.name} was accepted"
    assert found.file == str(path), str(found)
    assert found.line == line, str(found)
    assert about in str(found), str(found)
    return found
