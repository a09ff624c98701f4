"""The page of a training step: what it delivers, where its time goes, its pipeline, and memory over the step."""

from __future__ import annotations

from typing import Final

from sim.report import page
from sim.report.figures import breakdown_bar
from sim.report.memory import memory_timeline, stage_memory_bar
from sim.report.parts import header, provenance_section, scenario_sentence
from sim.report.pipeline import pipeline_gantt
from sim.results import TrainingResult, breakdown_rows, get_metric, metric_title, show, show_metric

_TILES: Final = (
    "step_time_s",
    "tokens_per_s_per_gpu",
    "mfu_frac",
    "bubble_frac",
    "exposed_comm_frac",
    "peak_memory_bytes",
    "cost_usd_per_million_tokens",
    "training_time_s",
)


def training_body(run: TrainingResult) -> list[str]:
    """Parts of the page of a training step, in order."""
    head = header(
        eyebrow=f"plansim run, {run.name}",
        title=f"{run.label or run.name} on {show_metric(run.metrics, 'n_gpus')} GPUs",
        kind="",
        parts=[
            page.paragraph(scenario_sentence(run.scenario)),
            page.tiles(training_tiles(run)),
            page.command(run.launch) if run.launch else "",
        ],
    )
    return [head, *training_sections(run), provenance_section(run.provenance, run.scenario)]


def training_tiles(run: TrainingResult) -> list[tuple[str, str]]:
    """Title and value of the numbers of a step that matter most, those that are defined."""
    shown = [path for path in _TILES if get_metric(run.metrics, path) is not None]
    return [(metric_title(path), show_metric(run.metrics, path)) for path in shown]


def training_sections(run: TrainingResult) -> list[str]:
    """Time, pipeline, memory and all numbers of a step."""
    explained = show(run.breakdown["explains_s"], "s")
    return [
        page.section(
            "time",
            "Where the time goes",
            page.figure_block(
                "time-plot",
                breakdown_bar(run, of="the step"),
                caption=f"Exposed seconds on the rank that all others wait for, over a step of {explained}.",
            ),
            page.details("As a table", page.table(("cause", "seconds", "share"), breakdown_rows(run.breakdown))),
        ),
        _pipeline_section(run),
        _memory_section(run),
        page.section("numbers", "All numbers", page.table(("", ""), run.headline_rows())),
    ]


def _pipeline_section(run: TrainingResult) -> str:
    """The Gantt chart; a sentence where there are too many passes for one, nothing without a pipeline."""
    if run.plan["pp"] == 1:
        return ""
    if not len(run.passes):
        passes = 2 * run.plan["pp"] * run.plan["vpp"] * run.plan["microbatches"]
        text = f"The step has {passes:,} passes, too many to draw; a smaller workload.global_batch has fewer."
        return page.section("pipeline", "Pipeline", page.paragraph(text, "note"))
    about = f"{run.plan['microbatches']} micro-batches through {run.plan['pp']} stages, schedule "
    about += f"{run.plan['schedule']}; gaps are the bubble. Hover to see a pass, drag to look closer."
    about += " Shades tell the chunks of a stage apart." if run.plan["vpp"] > 1 else ""
    about += " Passes of half the height run at the same time." if run.passes["beside"].any() else ""
    return page.section(
        "pipeline", "Pipeline", page.figure_block("pipeline-plot", pipeline_gantt(run.passes), caption=about)
    )


def _memory_section(run: TrainingResult) -> str:
    bars = page.figure_block(
        "memory-plot", stage_memory_bar(run), caption="Memory of one GPU of each pipeline stage at its peak, by class."
    )
    over_time = ""
    if len(run.memory_over_time):
        caption = "What a GPU of some stages has allocated over the step; it rises with each forward pass kept."
        over_time = page.figure_block("memory-time-plot", memory_timeline(run), caption=caption)
    table = page.table(("class", "size"), run.memory_rows(), label="Memory of the fullest GPU by class")
    return page.section("memory", "Memory of one GPU", bars, over_time, page.details("As a table", table))
