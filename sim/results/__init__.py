"""Results: what is measured, by which exact definition, and the plain tables that hold it. No figures.

Start in `metrics` (every metric in words, the one table that the JSON, objectives, reports and `docs/metrics.md` share)
and `compute` (the arithmetic, and the laws a run must keep). `slo` says what a good request is. `run`, `search` and
`compare` are the results of the three verbs: plain data that prints as one screen, renders as small tables in a
notebook and saves itself; `files` writes them, with the same bytes every time. Figures are in `sim.report`.
"""

from sim.results.compare import COMPARED, CompareResult, Difference, Variant
from sim.results.compute import REQUEST_COLUMNS, GapRuns, RunFacts, compute_metrics
from sim.results.document import metrics_markdown
from sim.results.files import SCHEMA_VERSION, column_units, json_ready, json_text, read_units, write_table
from sim.results.intervals import STEP, Band, band_of, bands_that_hold, intervals_of, training_intervals
from sim.results.metrics import (
    METRICS,
    STATISTICS,
    TRAINING_ONLY,
    Metric,
    Objective,
    get_metric,
    metric_paths,
    metric_title,
    metric_unit,
    resolve_metric,
)
from sim.results.run import RunResult, build_result, no_intervals
from sim.results.search import (
    REJECTED_COLUMNS,
    Evaluation,
    SearchResult,
    evaluations_frame,
    rejected_frame,
    space_sentence,
)
from sim.results.slo import SloSpec, slo_of
from sim.results.text import (
    HEADLINES,
    LATENCY_HEAD,
    axis_title,
    breakdown_rows,
    column_head,
    figures,
    headline_rows,
    latency_rows,
    requests_sentence,
    show,
    show_bare,
    show_change,
    show_metric,
    sorted_parts,
)
from sim.results.training import TRAINING_HEADLINES, TrainingResult

__all__ = [
    "COMPARED",
    "HEADLINES",
    "LATENCY_HEAD",
    "METRICS",
    "REJECTED_COLUMNS",
    "REQUEST_COLUMNS",
    "SCHEMA_VERSION",
    "STATISTICS",
    "STEP",
    "TRAINING_HEADLINES",
    "TRAINING_ONLY",
    "Band",
    "CompareResult",
    "Difference",
    "Evaluation",
    "GapRuns",
    "Metric",
    "Objective",
    "RunFacts",
    "RunResult",
    "SearchResult",
    "SloSpec",
    "TrainingResult",
    "Variant",
    "axis_title",
    "band_of",
    "bands_that_hold",
    "breakdown_rows",
    "build_result",
    "column_head",
    "column_units",
    "compute_metrics",
    "evaluations_frame",
    "figures",
    "get_metric",
    "headline_rows",
    "intervals_of",
    "json_ready",
    "json_text",
    "latency_rows",
    "metric_paths",
    "metric_title",
    "metric_unit",
    "metrics_markdown",
    "no_intervals",
    "read_units",
    "rejected_frame",
    "requests_sentence",
    "resolve_metric",
    "show",
    "show_bare",
    "show_change",
    "show_metric",
    "slo_of",
    "sorted_parts",
    "space_sentence",
    "training_intervals",
    "write_table",
]
