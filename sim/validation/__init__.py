"""Validation: predictions beside public measurements, and the errors in between, as a scoreboard anyone can re-run.

Start in `rows` (what a measured row is), then `formats` (one file per kind of table, with what each assumes),
`benchmarks` (results of benchmark tools, one file per tool),
`datasets` (where tables are found), `predict` (one row through the simulator), `score` (all rows) and `summary` (errors
by group, and what peers have published). Nothing here is fitted to the rows.
"""

from sim.validation.band_files import write_bands
from sim.validation.benchmarks import BENCHMARKS, BenchmarkFormat
from sim.validation.datasets import Dataset, dataset_files, find_dataset, read_rows
from sim.validation.formats import MEASUREMENTS, MeasurementFormat
from sim.validation.peers import PEERS, PeerFigure
from sim.validation.predict import Compiled, Prediction, predict
from sim.validation.rows import ClosedPoint, MeasuredRow
from sim.validation.score import Scoreboard, score

__all__ = [
    "BENCHMARKS",
    "MEASUREMENTS",
    "PEERS",
    "BenchmarkFormat",
    "ClosedPoint",
    "Compiled",
    "Dataset",
    "MeasuredRow",
    "MeasurementFormat",
    "PeerFigure",
    "Prediction",
    "Scoreboard",
    "dataset_files",
    "find_dataset",
    "predict",
    "read_rows",
    "score",
    "write_bands",
]
