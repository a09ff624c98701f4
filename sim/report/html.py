"""One self-contained HTML page per result: the verdict first, then the evidence, then what it rests on."""

from __future__ import annotations

from html import escape
from pathlib import Path

from sim.core import InputError
from sim.report import page
from sim.report.explain import what_changed
from sim.report.figures import difference_plot, latency_cdf
from sim.report.parts import (
    header,
    headline_tiles,
    provenance_section,
    run_sections,
    scenario_sentence,
    status_line,
    verdict,
)
from sim.report.search_page import search_body
from sim.report.tables import run_column, run_sentence
from sim.report.training_page import training_body
from sim.results import CompareResult, RunResult, SearchResult, TrainingResult, requests_sentence, show_metric


def html_report(result: RunResult | TrainingResult | SearchResult | CompareResult, path: Path | str) -> Path:
    """Writes the report of `result` as one HTML file that needs no network.

    Raises:
        InputError: if the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(html_text(result), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report to {str(target)!r}: {error.strerror or error}") from None
    return target


def html_text(result: RunResult | TrainingResult | SearchResult | CompareResult) -> str:
    """The report of `result` as the text of one HTML file."""
    if isinstance(result, SearchResult):
        verb, body = "search", search_body(result)
    elif isinstance(result, CompareResult):
        verb, body = "compare", _compare_body(result)
    elif isinstance(result, TrainingResult):
        verb, body = "run", training_body(result)
    else:
        verb, body = "run", _run_body(result)
    return page.document(title=f"{result.name}: plansim {verb}", body=[*body, _footer()])


# ---- run ----


def _run_body(run: RunResult) -> list[str]:
    status, kind = verdict(run.metrics, run.scenario)
    head = header(
        eyebrow=f"plansim run, {run.name}",
        title=f"{run.label or run.name} on {show_metric(run.metrics, 'n_gpus')} GPUs",
        kind=kind,
        parts=[
            status_line(status, kind),
            page.paragraph(scenario_sentence(run.scenario)),
            page.paragraph(f"Requests: {requests_sentence(run.metrics)}.", "note"),
            page.tiles(headline_tiles(run.metrics)),
            page.command(run.launch) if run.launch else "",
        ],
    )
    return [head, *run_sections(run), provenance_section(run.provenance, run.scenario)]


# ---- compare ----


def _compare_body(result: CompareResult) -> list[str]:
    names = [variant.name for variant in result.variants]
    head = header(
        eyebrow=f"plansim compare, {result.name}",
        title=f"What if: {', '.join(names)}",
        kind="",
        parts=[
            page.bullets(what_changed(result)),
            page.paragraph(scenario_sentence(result.base.scenario), "note"),
            page.table(result.head(), result.rows(), label="Differences from the base"),
            page.paragraph(_about_changes(result), "note"),
        ],
    )
    runs = [[name, run.label, run_sentence(run)] for name, run in result.runs().items()]
    launches = [
        f"<h3>{escape(name)}</h3>{page.command(run.launch)}" for name, run in result.runs().items() if run.launch
    ]
    return [
        head,
        page.section(
            "differences",
            "Differences",
            page.figure_block(
                "difference-plot",
                difference_plot(result),
                caption="Change from the base; bars are 90 % intervals over paired runs, where there are several.",
            ),
        ),
        _latency_section(result),
        page.section(
            "plans",
            "Plans",
            page.table(("", "plan", run_column(result)), runs, text=(0, 1, 2), label="Plans"),
            page.details("Launch commands", *launches) if launches else "",
        ),
        provenance_section(result.base.provenance, result.base.scenario),
    ]


def _about_changes(result: CompareResult) -> str:
    """What stands in brackets."""
    if result.is_training:
        return "In brackets: change from the base."
    return (
        "In brackets: change from the base, mean over paired runs on the same traffic. ≈ marks a change whose 90 % "
        "interval holds zero."
    )


def _latency_section(result: CompareResult) -> str:
    """Latencies of served requests; nothing of training."""
    served = {name: run for name, run in result.runs().items() if isinstance(run, RunResult)}
    if not served:
        return ""
    caption = "Share of finished requests whose latency is at most the time shown, first pair of runs."
    return page.section("latency", "Latency", page.figure_block("latency-plot", latency_cdf(served), caption=caption))


def _footer() -> str:
    return (
        "<noscript><p>The figures need JavaScript; the tables hold the same numbers.</p></noscript><footer>Made "
        "by plansim. This page holds all its data and loads nothing. docs/metrics.md defines every "
        "number.</footer>"
    )
