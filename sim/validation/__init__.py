"""Validation: predictions beside public measurements, and the errors in between, as a scoreboard anyone can re-run.

Start in `rows` (what a measured row is), then `formats` (one file per kind of table, with what each assumes),
`benchmarks` (results of benchmark tools, one file per tool),
`datasets` (where tables are found), `predict` (one row through the simulator), `score` (all rows) and `summary` (errors
by group, and what peers have published). `other_costs` has the errors with kernel times of another source, `claims`
what papers say of their systems, judged one by one.
Nothing here is fitted to the rows.
"""

from sim.validation.band_files import write_bands
from sim.validation.bands import Sample
from sim.validation.batch import predict_all
from sim.validation.benchmarks import BENCHMARKS, BenchmarkFormat
from sim.validation.claims import (
    ClaimRow,
    Claims,
    ClaimsSpec,
    Reproduction,
    claim_names,
    load_claims,
    reproduce,
)
from sim.validation.datasets import Dataset, dataset_files, find_dataset, read_rows
from sim.validation.digest import digest, regressions
from sim.validation.entries import Entry
from sim.validation.formats import MEASUREMENTS, MeasurementFormat
from sim.validation.other_costs import with_other_costs
from sim.validation.peers import PEERS, PeerFigure
from sim.validation.predict import Compiled, Prediction, predict
from sim.validation.rows import ClosedPoint, MeasuredRow
from sim.validation.score import Scoreboard, entries_of, score
from sim.validation.summary import errors_of, weighted_errors

__all__ = [
    "BENCHMARKS",
    "MEASUREMENTS",
    "PEERS",
    "BenchmarkFormat",
    "ClaimRow",
    "Claims",
    "ClaimsSpec",
    "ClosedPoint",
    "Compiled",
    "Dataset",
    "Entry",
    "MeasuredRow",
    "MeasurementFormat",
    "PeerFigure",
    "Prediction",
    "Reproduction",
    "Sample",
    "Scoreboard",
    "claim_names",
    "dataset_files",
    "digest",
    "entries_of",
    "errors_of",
    "find_dataset",
    "load_claims",
    "predict",
    "predict_all",
    "read_rows",
    "regressions",
    "reproduce",
    "score",
    "weighted_errors",
    "with_other_costs",
    "write_bands",
]
