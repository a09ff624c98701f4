"""Result files of benchmark tools as measured rows, one importer a file; each file is recognised by its content.

Start in `record` (typed access to JSON), then `base` (what an importer returns, and the definitions of the metrics it
may fill), any importer, and `deployment`: such files name the load and the latencies but hardly ever the engine, the
GPUs or the parallelism. Those come from a scenario that the user gives; nothing is guessed.
"""

from sim.validation.benchmarks.base import BENCHMARKS, BenchmarkFormat, BenchmarkRun
from sim.validation.benchmarks.deployment import measured_rows
from sim.validation.benchmarks.record import BenchmarkFile

__all__ = ["BENCHMARKS", "BenchmarkFile", "BenchmarkFormat", "BenchmarkRun", "measured_rows"]
