"""Parts that the pages of several results share: the verdict, latency, time, memory, and what a result rests on."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from sim.core import parse_quantity, to_yaml
from sim.report import page
from sim.report.figures import breakdown_bar, latency_cdf, memory_bar
from sim.report.tables import memory_rows
from sim.results import (
    LATENCY_HEAD,
    RunResult,
    breakdown_rows,
    get_metric,
    headline_rows,
    json_ready,
    latency_rows,
    metric_title,
    show,
    show_metric,
    slo_of,
)

_TILES: Final = (
    "slo_attainment_frac",
    "cost_usd_per_million_output_tokens",
    "goodput_max_requests_per_s_per_gpu",
    "ttft_s.p99",
    "tpot_s.p99",
    "output_tokens_per_s_per_gpu",
    "interactivity_tokens_per_s_per_user",
    "energy_j_per_output_token",
)


def header(*, eyebrow: str, title: str, kind: str, parts: list[str]) -> str:
    """The top of a page: the verdict, and what carries it; `kind` is `good`, `bad` or empty."""
    inner = "\n".join(part for part in parts if part)
    style = f"verdict {kind}".strip()
    head = f'<p class="eyebrow">{escape(eyebrow)}</p>\n<h1>{escape(title)}</h1>'
    return f'<header class="{style}">\n{head}\n{inner}\n</header>'


def status_line(text: str, kind: str) -> str:
    """A sentence that stands out, with a capital; empty for empty text."""
    return f'<p class="status {kind}">{escape(text[:1].upper() + text[1:])}</p>' if text else ""


def headline_tiles(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Title and value of the numbers that matter most, those that are defined."""
    known = [path for path in _TILES if get_metric(metrics, path) is not None]
    return [(metric_title(path), show_metric(metrics, path)) for path in known]


def verdict(metrics: Mapping[str, Any], scenario: Mapping[str, Any]) -> tuple[str, str]:
    """Whether the SLO is attained, in words, and `good`, `bad` or nothing without an SLO."""
    slo = slo_of(scenario)
    if slo is None:
        return "", ""
    limits = ", ".join(
        f"{name.removesuffix('_s').upper()} ≤ {show(limit, 's')}" for name, limit in slo.limits_s.items()
    )
    attained = get_metric(metrics, "slo_attainment_frac")
    good = attained is not None and attained >= slo.attainment
    verb = "Attains" if good else "Misses"
    share = f"{show(attained, '1')} of the requests keep it, {show(slo.attainment, '1')} are wanted"
    return f"{verb} the SLO ({limits}): {share}.", "good" if good else "bad"


def scenario_sentence(scenario: Mapping[str, Any]) -> str:
    """What is asked, such as `llama-3.1-70b on 1 x dgx-h100 with vllm; traffic azure-conv-2023 at 4 req/s`."""
    cluster = scenario.get("cluster", "")
    if isinstance(cluster, Mapping):
        cluster = f"{cluster.get('nodes', 1)} x {cluster.get('node', '')}"
    work = scenario.get("workload") or {}
    trace, traffic = work.get("trace"), work.get("traffic")
    source = f"trace {trace['path']}" if trace else f"traffic {traffic}" if isinstance(traffic, str) else "traffic"
    if isinstance(traffic, Mapping):
        source = f"traffic {traffic.get('name', 'written inline')}"
    if not trace and work.get("rate") is not None:
        source += f" at {show(parse_quantity(work['rate'], 'per_s', require_unit=False), 'req/s')}"
    if work.get("concurrency"):
        source += f", {work['concurrency']} requests in flight"
    if work.get("kind") == "training":
        source = f"training with {work['global_batch']} sequences of {work['sequence_length']} tokens a step"
    parts = [str(scenario.get("model", "")), f"on {cluster}" if cluster else ""]
    if scenario.get("engine"):
        parts.append(f"with {scenario['engine']}")
    text = " ".join(part for part in parts if part)
    text = f"{text}; {source}." if work else f"{text}." if text else ""
    about = str(scenario.get("description", "")).strip()
    if not about:
        return text
    return f"{about} {text}" if about.endswith((".", "?", "!")) else f"{about}. {text}"


def provenance_section(provenance: Mapping[str, Any], scenario: Mapping[str, Any]) -> str:
    """What the result rests on: assumptions, sources, versions and the resolved scenario."""
    assumptions = [str(line) for line in provenance.get("assumptions", ())]
    rest = {name: value for name, value in json_ready(provenance).items() if name != "assumptions"}
    yaml = f"<pre>{escape(to_yaml(json_ready(scenario)))}</pre>"
    return page.section(
        "basis",
        "What this rests on",
        "<h3>Assumptions</h3>" if assumptions else "",
        page.bullets(assumptions),
        "<h3>Sources and versions</h3>",
        page.facts(rest),
        page.details("The resolved scenario", yaml) if scenario else "",
    )


def run_sections(run: RunResult) -> list[str]:
    """Latency, breakdown and memory of a run."""
    explained = show(run.breakdown["explains_s"], "s")
    causes = page.table(("cause", "seconds", "share"), breakdown_rows(run.breakdown), label="Time by cause")
    memory = page.table(("class", "size"), memory_rows(run), label="Memory by class")
    return [
        page.section(
            "latency",
            "Latency",
            page.table(("", *LATENCY_HEAD), latency_rows(run.metrics, run.intervals), label="Latencies"),
            page.paragraph(
                "TTFT is the client's, front-end time included. TPOT is one sample per request, ITL one per token gap.",
                "note",
            ),
            page.figure_block(
                "latency-plot",
                latency_cdf(run),
                caption="Share of finished requests whose latency is at most the time shown. Dashed: the SLO's limit.",
            ),
        ),
        page.section(
            "time",
            "Where the time goes",
            page.figure_block(
                "time-plot",
                breakdown_bar(run),
                caption=f"Exposed seconds on the critical path, over {explained} of replica time. "
                "Idle: the replica has no work.",
            ),
            page.details("As a table", causes),
        ),
        page.section(
            "memory",
            "Memory of one GPU",
            page.figure_block(
                "memory-plot", memory_bar(run), caption="The GPU that has the fewest KV blocks, after start-up."
            ),
            page.details("As a table", memory),
        )
        if run.memory
        else "",
        page.section("numbers", "All other numbers", page.table(("", ""), headline_rows(run.metrics))),
    ]
