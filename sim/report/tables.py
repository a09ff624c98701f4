"""Results as rich tables for the terminal: what was found, why, and how to start it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.columns import Columns
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sim.report.explain import what_changed, why_lost
from sim.report.figures import rejected_counts
from sim.results import (
    HEADLINES,
    LATENCY_HEAD,
    TRAINING_HEADLINES,
    CompareResult,
    RunResult,
    SearchResult,
    TrainingResult,
    breakdown_rows,
    headline_rows,
    latency_rows,
    requests_sentence,
    show,
    show_metric,
    slo_of,
    space_sentence,
)

_MOST_PLANS = 15
_MOST_LOSSES = 8


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (0,)) -> Table:
    """A table whose columns are numbers, aligned right, but for those in `text`."""
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD if any(head) else box.SIMPLE,
        show_header=any(head),
        pad_edge=False,
    )
    for i, name in enumerate(head):
        table.add_column(Text(name), justify="left" if i in text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style="bold green" if row[0].endswith("★") else "") for cell in row))
    return table


def _launch(command: str) -> RenderableType:
    text = Text(overflow="fold")
    for line in command.splitlines():
        note = line.startswith("#")
        shown = line if note else line.replace(" --", " \\\n  --")  # a line each, so that it can be copied
        text.append(f"{shown}\n", style="dim" if note else "cyan")
    text.rstrip()
    return Padding(text, (0, 0, 0, 2))


def run_tables(result: RunResult) -> list[RenderableType]:
    """One run: latencies, other metrics beside where the time goes, memory, and the launch command."""
    metrics = result.metrics
    title = Text.assemble((f"{result.name}: {result.label}", "bold"), f"  ({requests_sentence(metrics)})")
    parts: list[RenderableType] = [
        title,
        _table("Latency", ["", *LATENCY_HEAD], latency_rows(metrics, result.intervals)),
        Columns(
            [
                _table("Delivers", ["", ""], headline_rows(metrics)),
                _table("Time goes to", ["", "seconds", "share"], breakdown_rows(result.breakdown, most=10)),
                _table("Memory of a GPU", ["", ""], memory_rows(result)),
            ],
            padding=(0, 4),
        ),
    ]
    if result.launch:
        parts += [Text("Start it", style="bold"), _launch(result.launch)]
    return parts


def memory_rows(result: RunResult) -> list[list[str]]:
    """Class and size of the memory of the fullest GPU, of either kind where engines of their own compute prompts."""
    if not result.prefill_memory:
        return _sizes(result.memory)
    own = [[f"decode: {name}", size] for name, size in _sizes(result.memory)]
    return [*([f"prefill: {name}", size] for name, size in _sizes(result.prefill_memory)), *own]


def _sizes(memory: Mapping[str, float]) -> list[list[str]]:
    return [[name.removesuffix("_bytes").replace("_", " "), show(size, "bytes")] for name, size in memory.items()]


def training_tables(result: TrainingResult) -> list[RenderableType]:
    """One training step: what it delivers, where its time goes, and memory."""
    return [
        Text(result.title, style="bold"),
        Columns(
            [
                _table("Delivers", ["", ""], result.headline_rows()),
                _table("Time goes to", ["", "seconds", "share"], breakdown_rows(result.breakdown, most=12)),
                _table("Memory of a GPU", ["", ""], result.memory_rows()),
            ],
            padding=(0, 4),
        ),
    ]


def search_tables(result: SearchResult) -> list[RenderableType]:
    """A search: how many plans, the front, the recommended plan, why the others lost, and what cannot run."""
    parts: list[RenderableType] = [Text.assemble((result.name, "bold"), f"  {space_sentence(result.space)}")]
    if result.front:
        shown = result.front_rows(most=_MOST_PLANS)
        left = len(result.front) - len(shown)
        title = f"Pareto front ({len(result.front)} plans{f', {left} not shown' if left else ''})"
        parts.append(_table(title, result.front_head(), shown))
    parts += _recommendation(result)
    losses = why_lost(result)
    if losses:
        rows = [[loss.label, loss.why] for loss in losses[:_MOST_LOSSES]]
        title = f"Why the others lost ({len(rows)} of {len(losses)} simulated plans)"
        parts.append(_table(title, ["plan", "why"], rows, text=(0, 1)))
    rejected = rejected_counts(result)
    if rejected:
        rows = [[code, f"{count:,}", _example(result, code)] for code, count in rejected.items()]
        parts.append(_table("Plans that cannot run", ["reason", "plans", "for example"], rows, text=(0, 2)))
    return parts


def _example(result: SearchResult, code: str) -> str:
    messages = result.rejected.loc[result.rejected["code"] == code, "message"]
    return str(messages.iloc[0]) if len(messages) else ""


def _recommendation(result: SearchResult) -> list[RenderableType]:
    best = result.recommended
    if best is None:
        return [Text.assemble(("No plan to recommend: ", "bold red"), result.why)]
    slo = slo_of(result.scenario)
    attained = best.metrics.get("slo_attainment_frac")
    missed = slo is not None and (attained is None or attained < slo.attainment)
    head = Text.assemble(
        ("Recommended: ", "bold"), (best.label, "bold red" if missed else "bold green"), f", {result.why}"
    )
    rows = headline_rows(best.metrics, TRAINING_HEADLINES if "step_time_s" in best.metrics else HEADLINES)
    half = (len(rows) + 1) // 2
    numbers = Columns([_table("", ["", ""], rows[:half]), _table("", ["", ""], rows[half:])], padding=(0, 4))
    return [head, numbers, _launch(best.launch)] if best.launch else [head, numbers]


def compare_tables(result: CompareResult) -> list[RenderableType]:
    """A comparison: the base and every variant, metric by metric."""
    plans = [[name, run.label, run_sentence(run)] for name, run in result.runs().items()]
    return [
        Text(result.name, style="bold"),
        *(Text(f"  {sentence}") for sentence in what_changed(result)),
        _table("Runs", ["", "plan", run_column(result)], plans, text=(0, 1, 2)),
        _table("Differences", result.head(), result.rows()),
        *([Text(result.legend, style="dim")] if result.legend else []),
    ]


def run_column(result: CompareResult) -> str:
    """What `run_sentence` tells."""
    return "memory" if result.is_training else "requests"


def run_sentence(run: RunResult | TrainingResult) -> str:
    """What became of the requests of a run, or the memory of a training step."""
    if isinstance(run, RunResult):
        return requests_sentence(run.metrics)
    used, free = (show_metric(run.metrics, name) for name in ("peak_memory_bytes", "memory_headroom_bytes"))
    return f"{used} of each GPU, {free} left"
