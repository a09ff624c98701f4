"""The report in a real browser: no console error, no request, every point of the Pareto plot."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.report import html_report, pareto_views
from sim.testing.results import synthetic_compare, synthetic_run, synthetic_search

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PLOTS = {"run": 3, "search": 5, "compare": 2}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    driver = pytest.importorskip("playwright.sync_api", reason="the Python client of playwright is not installed")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A page opened in the browser, with everything it complained about or asked for."""

    def __init__(self, browser: Any, path: Path, *, scheme: str = "light", width: int = 1200) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-drawn]", timeout=60_000)

    def points(self) -> int:
        """Markers in the Pareto plot."""
        return int(self.page.locator("#pareto-plot .scatterlayer .points path.point").count())


@pytest.mark.parametrize("kind", ["run", "search", "compare"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_quietly_and_offline(chromium: Any, tmp_path: Path, kind: str, scheme: str) -> None:
    make: dict[str, Any] = {"run": synthetic_run, "search": synthetic_search, "compare": synthetic_compare}
    path = html_report(make[kind](), tmp_path / "report.html")
    visit = Visit(chromium, path, scheme=scheme)
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    assert visit.page.locator(".plot .main-svg").count() >= PLOTS[kind]
    assert visit.page.locator("html").get_attribute("data-drawn") == str(PLOTS[kind])
    ink = visit.page.evaluate("getComputedStyle(document.querySelector('.plot .xtick text')).fill")
    assert ink == ("rgb(27, 33, 41)" if scheme == "light" else "rgb(232, 235, 238)")


def test_pareto_plot_has_every_simulated_plan_in_every_view(chromium: Any, tmp_path: Path) -> None:
    found = synthetic_search()
    visit = Visit(chromium, html_report(found, tmp_path / "report.html"))
    assert visit.points() == len(found.simulated)
    options = visit.page.locator("#pareto-plot-choice option").all_inner_texts()
    assert options == list(pareto_views(found))
    title = visit.page.locator("#pareto-plot .xtitle").text_content()
    visit.page.select_option("#pareto-plot-choice", label=options[-1])
    visit.page.wait_for_function("t => document.querySelector('#pareto-plot .xtitle').textContent !== t", arg=title)
    assert visit.points() == len(found.simulated)
    assert visit.complaints == []


def test_hover_tells_the_plan(chromium: Any, tmp_path: Path) -> None:
    found = synthetic_search()
    assert found.recommended is not None
    visit = Visit(chromium, html_report(found, tmp_path / "report.html"))
    star = visit.page.locator("#pareto-plot .scatterlayer .trace").last.locator("path.point")
    box = star.bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.page.wait_for_selector("#pareto-plot .hoverlayer .hovertext")
    assert found.recommended.label in visit.page.locator("#pareto-plot .hoverlayer").text_content()


def test_nothing_offers_to_send_the_data_away(chromium: Any, tmp_path: Path) -> None:
    visit = Visit(chromium, html_report(synthetic_search(), tmp_path / "report.html"))
    titles = visit.page.locator(".modebar-btn").evaluate_all("all => all.map(b => b.dataset.title || '')")
    assert titles
    assert [title for title in titles if "hare" in title or "loud" in title] == []


@pytest.mark.parametrize("width", [400, 800])
def test_narrow_screens_do_not_scroll_sideways(chromium: Any, tmp_path: Path, width: int) -> None:
    visit = Visit(chromium, html_report(synthetic_search(), tmp_path / "report.html"), width=width)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
