"""The report as a reader gets it: every page opened in Chromium, without a network, at two widths.

The site is the real one: a small lab is run, its notebooks are executed on its data, pages written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser

from paytm_lab import Lab, Workload
from paytm_lab.reporting import frames
from paytm_lab.reporting.export import export_notebook
from paytm_lab.reporting.first_page import run_data
from paytm_lab.reporting.page import page as whole_page
from paytm_lab.reporting.site import Report, RunData, build_report, build_site
from tests.browser.browsers import started_browser

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0[0-4]_*.ipynb"))
PAGES = ["index", *(path.stem for path in NOTEBOOKS)]
SIZES = {"phone": (390, 844), "desk": (1280, 900)}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# For each chart: how many marks it drew with some size, whether it is the sentence that stands for
# an empty chart, and texts that stick out of it or lie on one another.
LOOK = """
() => [...document.querySelectorAll('.chart')].map(chart => {
  const plot = chart.querySelector('.plot'), outer = chart.getBoundingClientRect();
  const marks = [...plot.querySelectorAll(
    '.scatterlayer path, .barlayer path, .heatmaplayer text, .table .column-cell, .textpoint text')]
    .filter(m => { const r = m.getBoundingClientRect(); return r.width + r.height > 0; });
  const texts = [...plot.querySelectorAll('.main-svg text')]
    .filter(t => t.textContent.trim() && !t.closest('.hoverlayer') && !t.closest('.table')
                 && getComputedStyle(t).opacity !== '0');
  const box = t => t.getBoundingClientRect();
  const within = r => r.left > outer.left - 2 && r.right < outer.right + 2
    && r.top > outer.top - 2 && r.bottom < outer.bottom + 2;
  const out = texts.filter(t => box(t).width && !within(box(t)));
  const head = texts.filter(t => t.closest('.g-gtitle, .legend') ||
    /gtitle|legendtext/.test(t.getAttribute('class') || ''));
  const over = head.filter((a, i) => head.some((b, j) => j > i && !a.contains(b) && !b.contains(a)
    && box(a).left < box(b).right - 2 && box(b).left < box(a).right - 2
    && box(a).top < box(b).bottom - 3 && box(b).top < box(a).bottom - 3));
  return {
    title: (plot.layout && plot.layout.title && plot.layout.title.text) || '',
    traces: (plot.data || []).length, marks: marks.length,
    sentence: (plot.data || []).length === 1 && plot.data[0].mode === 'text',
    out: out.map(t => t.textContent), over: over.map(t => t.textContent),
  };
})
"""


class Seen(NamedTuple):
    """What a page did when it was opened."""

    problems: list[str]
    charts: list[dict[str, Any]]
    width: int
    text: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, RunData]:
    folder = tmp_path_factory.mktemp("report")
    with Lab(seed=11, data=folder / "data") as lab:
        run = lab.run(Workload(users=400, payments=3_000), command="paytm-lab report --seed 11")
        audit = lab.audit()
        audit.require_clean()
        data = run_data(run, frames.verdict_frame(audit.checks))
    return build_report(folder / "data", data, folder / "site", NOTEBOOKS), data


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


def open_page(browser: Browser, path: Path, size: str, scheme: str = "light") -> Seen:
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        has_touch=size == "phone",
        offline=True,
    )
    page, problems = context.new_page(), []
    page.on("console", lambda said: problems.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith(("file:", "data:", "blob:"))
            else problems.append(f"asked for {asked.url}")
        ),
    )
    page.goto(path.as_uri())
    page.wait_for_function(
        "() => [...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))"
    )
    seen = Seen(
        problems,
        page.evaluate(LOOK),
        page.evaluate("document.documentElement.scrollWidth"),
        page.inner_text("body"),
    )
    context.close()
    return seen


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_offline_and_every_chart_is_drawn(
    made: tuple[Report, RunData], browser: Browser, name: str, size: str
) -> None:
    report, _ = made
    seen = open_page(browser, report.index.parent / f"{name}.html", size)
    assert seen.problems == []
    assert seen.width <= SIZES[size][0], "the page scrolls sideways"
    assert seen.charts, "a page without a chart"
    for chart in seen.charts:
        assert chart["traces"] and chart["marks"], f"an empty panel: {chart['title']}"
        assert not chart["sentence"], f"nothing to draw: {chart['title']}"
        assert chart["out"] == [], f"cut off in {chart['title']}"
        assert chart["over"] == [], f"on one another in {chart['title']}"
    if name != "index":
        expected = next(page.charts for page in report.pages if page.path.stem == name)
        assert len(seen.charts) == expected


def test_the_first_page_says_what_matters(made: tuple[Report, RunData], browser: Browser) -> None:
    report, run = made
    seen = open_page(browser, report.index, "desk", "dark")
    for words in ("Passed", "Every paisa is accounted for", run.command, "seed 11", "3,000",
                  " in flight: queueing included"):  # fmt: skip
        assert words in seen.text
    titles = " ".join(chart["title"] for chart in seen.charts).replace("<br>", " ")
    for word in ("Throughput", "Latency", "crossing shards", "Shard balance", "Fraud", "Events"):
        assert word in titles
    html = report.index.read_text(encoding="utf-8")
    for page in report.pages:
        assert f'href="{page.path.name}"' in html and page.title


@pytest.mark.parametrize("state", ["failed", "unknown"])
def test_a_verdict_that_is_not_clean_is_large_too(
    made: tuple[Report, RunData], browser: Browser, tmp_path: Path, state: str
) -> None:
    report, run = made
    checks = run.verdict.copy()
    checks.loc[3, ["state", "detail"]] = [state, "7 paise are nowhere"]
    changed = RunData(
        **{name: getattr(run, name) for name in RunData.__slots__} | {"verdict": checks}
    )
    seen = open_page(browser, build_site(tmp_path, report.pages, changed), "phone")
    assert seen.text.index(state.capitalize()) < 300
    assert "7 paise are nowhere" in seen.text, "the failing check is open to read"


def test_pages_link_to_one_another_and_to_nothing_else(made: tuple[Report, RunData]) -> None:
    report, _ = made
    names = {path.name for path in report.index.parent.glob("*.html")}
    assert names == {f"{name}.html" for name in PAGES}
    for name in names:
        html = (report.index.parent / name).read_text(encoding="utf-8")
        without_plotly = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
        targets = set(re.findall(r'(?:href|src)="([^"#][^"]*)"', without_plotly))
        assert targets - {"data:,"} <= names, name
        assert html.count("plotly.js v") == 1, "Plotly exactly once"
        for outside in ("cdn.jsdelivr", "MathJax", "mermaid", "require.js", "unpkg"):
            assert outside not in without_plotly


def test_the_same_notebook_and_run_give_the_same_bytes(
    made: tuple[Report, RunData], tmp_path: Path
) -> None:
    report, run = made
    source = report.index.parent / "notebooks" / "02_ledger.ipynb"
    first = export_notebook(source, tmp_path / "1.html").path.read_bytes()
    assert export_notebook(source, tmp_path / "2.html").path.read_bytes() == first
    index = build_site(tmp_path, report.pages, run)
    assert index.read_bytes() == report.index.read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("around", ["", "verdict failed"])
def test_a_table_that_goes_on_has_a_shadow_where_it_does(
    browser: Browser, tmp_path: Path, scheme: str, around: str
) -> None:
    view = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]

    def edges(width: int, scrolled: int) -> list[bytes]:
        inner = f'<div style="width:{width}px;height:60px"></div>'
        body = f'<div class="{around}"><div class="scroll">{inner}</div></div>'
        file = tmp_path / f"{width}.html"
        file.write_text(whole_page(title="a table", body=body), encoding="utf-8")
        view.goto(file.as_uri())
        view.evaluate(f"document.querySelector('.scroll').scrollLeft = {scrolled}")
        box = view.locator(".scroll").bounding_box()
        assert box is not None
        places = (box["x"], box["x"] + box["width"] - 8)
        return [
            view.screenshot(clip={"x": x, "y": box["y"] + 10, "width": 8, "height": 30})
            for x in places
        ]

    left, right = edges(20, 0)
    began, middle, ended = (edges(3_000, scrolled) for scrolled in (0, 700, 99_999))
    view.close()
    assert began[0] == left and began[1] != right
    assert middle[0] != left and middle[1] != right
    assert ended[0] != left and ended[1] == right
