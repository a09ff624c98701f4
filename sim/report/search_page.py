"""The page of a search: the recommended plan and why, the front, why the others lost, and what cannot run."""

from __future__ import annotations

from html import escape
from typing import Final

from sim.report import page
from sim.report.explain import why_lost
from sim.report.figures import rejected_bar, rejected_counts
from sim.report.pareto import pareto_drawings
from sim.report.parts import (
    header,
    headline_tiles,
    provenance_section,
    run_sections,
    scenario_sentence,
    status_line,
    verdict,
)
from sim.report.training_page import training_sections, training_tiles
from sim.results import (
    Evaluation,
    RunResult,
    SearchResult,
    TrainingResult,
    metric_title,
    show_bare,
    show_metric,
    space_sentence,
)

_SHOWN_LOSSES: Final = 40
_SHOWN_REJECTED: Final = 200


def search_body(result: SearchResult) -> list[str]:
    """Parts of the page of a search, in order."""
    links = {"pareto": "Pareto front", "lost": "Why the others lost"}
    parts = [_pareto_section(result), _lost_section(result)]
    if isinstance(result.recommended_run, RunResult):
        links |= {"latency": "Latency", "time": "Time", "memory": "Memory"}
        parts += run_sections(result.recommended_run)
    elif isinstance(result.recommended_run, TrainingResult):
        links |= {"time": "Time", "pipeline": "Pipeline", "memory": "Memory"}
        parts += training_sections(result.recommended_run)
    if rejected_counts(result):
        links |= {"rejected": "Impossible plans"}
        parts.append(_rejected_section(result))
    links |= {"basis": "What this rests on"}
    nav = "".join(f'<a href="#{name}">{title}</a>' for name, title in links.items())
    provenance = provenance_section(result.provenance, result.scenario)
    return [_search_header(result), f'<nav aria-label="Sections">{nav}</nav>', *parts, provenance]


def _search_header(result: SearchResult) -> str:
    eyebrow, best = f"plansim search, {result.name}", result.recommended
    about = page.paragraph(scenario_sentence(result.scenario))
    looked = page.paragraph(f"Looked at {space_sentence(result.space)}.", "note")
    warning = status_line("Interrupted: these are the plans simulated so far.", "bad") if result.interrupted else ""
    if best is None:
        parts = [status_line(f"{result.why}.", "bad"), about, looked, warning]
        return header(eyebrow=eyebrow, title="No plan to recommend", kind="bad", parts=parts)
    status, kind = verdict(best.metrics, result.scenario)
    run = result.recommended_run
    tiles = training_tiles(run) if isinstance(run, TrainingResult) else headline_tiles(best.metrics)
    parts = [
        warning,
        page.paragraph(f"Why: {result.why}.", "lead"),
        status_line(status, kind),
        page.tiles(tiles),
        page.command(best.launch) if best.launch else "",
        f"<h3>The question</h3>{about}{looked}",
    ]
    gpus = show_metric(best.metrics, "n_gpus")
    title = (
        f"Run {best.label} on {gpus} GPUs" if kind != "bad" else f"No plan attains the SLO; {best.label} comes closest"
    )
    return header(eyebrow=eyebrow, title=title, kind=kind, parts=parts)


def _pareto_section(result: SearchResult) -> str:
    views = pareto_drawings(result)
    names = ", ".join(metric_title(objective.path) for objective in result.objectives)
    plot = (
        page.figure_chooser(
            "pareto-plot",
            views,
            label="Show",
            caption="Each point is a simulated plan; hover to see it. The dotted line joins the plans that are best in "
            "the two metrics shown; a plan off the line can be on the front by another objective.",
        )
        if views
        else ""
    )
    shown = result.sorted_front()
    front = page.table(result.front_head(), [_front_row(each, result) for each in shown], plan=0, label="Pareto front",
                       chosen=0 if result.recommended is not None else None)  # fmt: skip
    launches = [f"<h3>{escape(each.label)}</h3>{page.command(each.launch)}" for each in shown if each.launch]
    return page.section(
        "pareto",
        "Pareto front",
        page.paragraph(
            f"{len(result.front)} of {len(result.simulated)} simulated plans are on the front: no other is at "
            f"least as good in every objective ({names}) and better in one."
        ),
        plot,
        front if shown else "",
        page.details("Launch command of every plan on the front", *launches) if launches else "",
    )


def _front_row(evaluation: Evaluation, result: SearchResult) -> list[str]:
    return [evaluation.label, *(show_bare(evaluation.metrics, path) for path in result.shown_paths())]


def _rule(result: SearchResult) -> str:
    if isinstance(result.recommended_run, TrainingResult):
        return "among plans that leave some memory free the one with the shortest step, then the most memory left"
    return "among plans that attain the SLO the cheapest, then the fewest GPUs, then the lowest mean TTFT"


def _lost_section(result: SearchResult) -> str:
    losses = why_lost(result)
    if not losses:
        return ""
    rows = [[loss.label, "yes" if loss.on_front else "no", loss.why] for loss in losses]
    head = ("plan", "on the front", "why it lost")
    shown = page.table(head, rows[:_SHOWN_LOSSES], plan=0, text=(1, 2), label="Why the others lost")
    rest = len(rows) - _SHOWN_LOSSES
    return page.section(
        "lost",
        "Why the others lost",
        page.paragraph(
            f"The rule: {_rule(result)}. Changes are against the recommended plan, or against the plan that beats it."
        ),
        shown,
        page.paragraph(f"{rest:,} more are in evaluations.parquet." if rest > 0 else "", "note"),
    )


def _rejected_section(result: SearchResult) -> str:
    counts, rejected = rejected_counts(result), result.rejected
    examples = []
    for code, count in counts.items():
        messages = rejected.loc[rejected["code"] == code, "message"]
        examples.append([code, f"{count:,}", str(messages.iloc[0]) if len(messages) else ""])
    rows = rejected.head(_SHOWN_REJECTED)[["label", "code", "message"]].astype(str).to_numpy().tolist()
    shown = f"{len(rows):,} of {len(rejected):,}" if len(rejected) > len(rows) else f"All {len(rows):,}"
    return page.section(
        "rejected",
        "Plans that cannot run",
        page.figure_block("rejected-plot", rejected_bar(result), caption="Plans by the reason why they cannot run."),
        page.table(("reason", "plans", "for example"), examples, text=(0, 2), label="Reasons"),
        page.details(
            f"{shown} reasons, plan by plan", page.table(("plan", "reason", "in numbers"), rows, plan=0, text=(1, 2))
        )
        if rows
        else "",
    )
