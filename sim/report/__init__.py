"""Reports: figures, terminal tables and the HTML page, all functions of results.

Start in `html` (the page: verdict, evidence, what it rests on), `pareto` and `figures` (plotly figures, returned and
never shown), `tables` (the terminal), `explain` (why the other plans lost), `timeline` (a run in Perfetto) and
`pipeline` and `memory` (a training step). plotly is imported when the first figure is made, not before.
"""

from sim.report.claims import claims_page, claims_tables
from sim.report.explain import Loss, what_changed, why_lost
from sim.report.figures import breakdown_bar, difference_plot, latency_cdf, memory_bar, rejected_bar
from sim.report.html import html_report, html_text
from sim.report.memory import memory_timeline, stage_memory_bar
from sim.report.pareto import pareto, pareto_views
from sim.report.pipeline import pipeline_gantt
from sim.report.scoreboard import scoreboard_tables
from sim.report.scoreboard_page import scoreboard_page
from sim.report.tables import compare_tables, run_tables, search_tables, training_tables
from sim.report.timeline import save_timeline, timeline

__all__ = [
    "Loss",
    "breakdown_bar",
    "claims_page",
    "claims_tables",
    "compare_tables",
    "difference_plot",
    "html_report",
    "html_text",
    "latency_cdf",
    "memory_bar",
    "memory_timeline",
    "pareto",
    "pareto_views",
    "pipeline_gantt",
    "rejected_bar",
    "run_tables",
    "save_timeline",
    "scoreboard_page",
    "scoreboard_tables",
    "search_tables",
    "stage_memory_bar",
    "timeline",
    "training_tables",
    "what_changed",
    "why_lost",
]
