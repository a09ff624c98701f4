"""The HTML page: one file, no outside resource, same bytes, hostile text defused, verdict first."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sim.core import InputError
from sim.report import html_report, html_text
from sim.report.page import table
from sim.report.parts import scenario_sentence
from sim.results import RunResult, SearchResult, evaluations_frame, rejected_frame
from sim.testing.results import synthetic_compare, synthetic_run, synthetic_search

MAKERS: list[Callable[[], Any]] = [synthetic_run, synthetic_search, synthetic_compare]
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Collects ids, outside references and data, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.data: dict[str, Any] = {}
        self.words: list[str] = []
        self._script: str | None = None
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        self.outside += [
            str(given[key]) for key in ("src", "href") if key in given and not str(given[key]).startswith("#")
        ]
        self._script = given.get("id") if given.get("type") == "application/json" else None
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            if self._script:
                self.data[self._script] = json.loads(data)
        else:
            self.words.append(data)


@pytest.mark.parametrize("make", MAKERS)
def test_one_file_without_outside_references(make: Callable[[], Any]) -> None:
    page = Page(html_text(make()))
    assert page.outside == []
    assert len(page.ids) == len(set(page.ids))
    assert "Content-Security-Policy" in html_text(make())


@pytest.mark.parametrize("make", MAKERS)
def test_same_bytes(make: Callable[[], Any], tmp_path: Path) -> None:
    one, two = html_report(make(), tmp_path / "a.html"), html_report(make(), tmp_path / "new" / "b.html")
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("make", MAKERS)
def test_every_plot_has_its_data_and_a_caption(make: Callable[[], Any]) -> None:
    page, text = Page(html_text(make())), html_text(make())
    plots = re.findall(r'<div class="plot" id="([^"]+)"', text)
    assert plots
    for plot in plots:
        assert f"{plot}-data" in page.data or f"{plot}-view-0" in page.data
        assert f"{plot}-caption" in page.ids


def test_a_search_says_the_verdict_first() -> None:
    found = synthetic_search()
    assert found.recommended is not None
    text = html_text(found)
    top = text[text.index("<main>") : text.index("<nav")]
    order = [f"<h1>Run {found.recommended.label} on", f"{found.why}.", "Attains the SLO", "vllm serve"]
    places = [top.find(part) for part in order]
    assert places == sorted(places)
    assert places[0] > 0
    assert re.findall("<h2[^>]*>([^<]*)", text) == [
        "Pareto front",
        "Why the others lost",
        "Latency",
        "Where the time goes",
        "Memory of one GPU",
        "All other numbers",
        "Plans that cannot run",
        "What this rests on",
    ]


def test_a_search_without_a_plan() -> None:
    found = SearchResult(
        [], None, "every plan needs more memory", {"generated": 1, "infeasible": {"memory": 1}},
        rejected_frame([("tp1", "memory", "needs 141 GB")]), evaluations_frame([]), [], {}, interrupted=True,
    )  # fmt: skip
    words = " ".join(Page(html_text(found)).words)
    for text in ("No plan to recommend", "Every plan needs more memory", "needs 141 GB", "Interrupted"):
        assert text in words


def test_a_search_in_which_no_plan_attains_the_slo() -> None:
    found = synthetic_search()
    assert found.recommended is not None
    found.recommended.metrics = {**found.recommended.metrics, "slo_attainment_frac": 0.5}
    assert f"<h1>No plan attains the SLO; {found.recommended.label} comes closest" in html_text(found)


def test_a_missed_slo_is_said() -> None:
    run = synthetic_run(speed=0.5)
    words = " ".join(Page(html_text(run)).words)
    assert "Misses the SLO" in words


def test_a_run_without_slo_memory_or_launch() -> None:
    run = synthetic_run()
    run.scenario, run.memory, run.launch = {"name": "bare"}, {}, ""
    words = " ".join(Page(html_text(run)).words)
    assert "Attains the SLO" not in words
    assert "Memory of one GPU" not in words


@pytest.mark.parametrize("hostile", ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<!--"])
def test_hostile_text_stays_text(hostile: str) -> None:
    found = synthetic_search()
    assert found.recommended is not None
    found.scenario["name"] = found.scenario["description"] = hostile
    found.recommended.label = found.recommended.launch = hostile
    found.evaluations.loc[found.evaluations["on_front"], "label"] = hostile
    found.provenance["assumptions"] = [hostile]
    found.rejected = rejected_frame([(hostile, hostile, hostile)])
    found.space["infeasible"] = {hostile: 1}
    page = Page(html_text(found))
    assert hostile in "".join(page.words)
    assert page.outside == []


def test_unwritable_report_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the report"):
        html_report(synthetic_run(), tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        ({}, ""),
        ({"model": "m", "cluster": "c", "engine": "vllm"}, "m on c with vllm."),
        (
            {
                "model": "m",
                "cluster": {"node": "dgx-h100", "nodes": 2},
                "workload": {"traffic": "chat", "rate": "4 req/s"},
            },
            "m on 2 x dgx-h100; traffic chat at 4 req/s.",
        ),
        ({"model": "m", "workload": {"trace": {"path": "a.csv"}, "rate": 9.0}}, "m; trace a.csv."),
        (
            {"model": "m", "workload": {"traffic": {"name": "mine"}, "concurrency": 8}},
            "m; traffic mine, 8 requests in flight.",
        ),
        ({"model": "m", "description": "A test."}, "A test. m."),
    ],
)
def test_scenario_sentence(scenario: dict[str, Any], text: str) -> None:
    assert scenario_sentence(scenario) == text


def test_page_is_not_larger_than_its_data_needs() -> None:
    run: RunResult = synthetic_run()
    assert len(html_text(run).encode()) < 5_200_000  # plotly.js is 4.8 MB of it


def test_a_line_does_not_break_between_number_and_unit() -> None:
    text = table(("Cost [USD/1M tok]",), [["+4.7 %, 12 ms and 3 s in 8 seqs, 2 starts"]])
    assert "Cost [USD/1M\u00a0tok]" in text
    assert "+4.7\u00a0%, 12\u00a0ms and 3\u00a0s in 8 seqs, 2 starts" in text
