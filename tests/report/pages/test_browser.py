"""The report in a real browser: no error, no request, readable at both widths, with names.

Needs chromium (Debian's package will do) and Playwright without its own browsers. Skipped where
there is no browser, unless REQUIRE_BROWSER is set, as in CI.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report.fake_inference import add_inference
from report.fake_sweep import sweep

from obert_sweeps.report.build import build
from obert_sweeps.report.facts.traces import Span, Traces
from obert_sweeps.report.pages.files import write

pytestmark = pytest.mark.slow

WIDTHS = {"desktop": 1280, "phone": 390}
TABLES = 5
LARGEST = 5_000_000  # bytes


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and not os.environ.get("REQUIRE_BROWSER"):
        pytest.skip("no chromium here: apt-get install chromium")
    assert found, "REQUIRE_BROWSER is set and there is no chromium: apt-get install chromium"
    return found


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole document's report, with a curve, layers and a bar for every cell."""
    fake = sweep(seeds=(1, 2))
    fake.finish_as_published({1: -0.1, 2: 0.1})
    fake.cells["t4/qnli/bert_base/prune_ofa/90"].blocked = "needs a corpus: say data_root=DIR"
    for seed in (1, 2):
        fake.finish(
            "t5/mrpc/bert_base/obert/90", seed, accuracy=80.0 + seed / 10, f1=84.0 + seed / 10
        )
    add_inference(fake)
    traces = Traces()
    for k, (name, plan) in enumerate(fake.cells.items()):
        line = [(e / 10, 80.0 + e) for e in range(1, 60)]
        traces.curves[name] = {"score": line, "loss": line}
        traces.layers[name] = {f"layer.{i}.{m}": 0.9 for i in range(12) for m in "qkvoif"}
        stage = fake.stages[plan.finals[1]]
        host = f"node-{k % 3}"
        traces.spans.append(Span(stage.id, stage.name, stage.tags["role"], host, k, k + 5, k == 4))
    folder = tmp_path_factory.mktemp("store") / "report"
    write(build(fake, fake), folder, traces)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


class Seen:
    """A page that was opened, and what it said and asked for meanwhile."""

    def __init__(self, browser: Any, file: Path, width: int, scheme: str = "light") -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri(), wait_until="load")

    def all(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.fixture(scope="module", params=WIDTHS)
def seen(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Seen]:
    found = Seen(browser, page_file, WIDTHS[request.param])
    yield found
    found.page.screenshot(path=page_file.parent / f"{request.param}.png", full_page=True)
    found.page.close()


def test_it_opens_without_an_error_or_a_request(seen: Seen, page_file: Path) -> None:
    seen.all("document.querySelectorAll('details').forEach(d => d.open = true)")
    seen.page.wait_for_timeout(200)
    assert seen.said == []
    outside = [url for url in seen.asked if not url.startswith(("file:", "data:"))]
    assert outside == [] and [u for u in seen.asked if u.startswith("file:")] == [
        page_file.as_uri()
    ]
    assert page_file.stat().st_size < LARGEST


def test_every_plot_has_an_accessible_name(seen: Seen) -> None:
    names = seen.all("[...document.querySelectorAll('svg')].map(s => s.getAttribute('aria-label'))")
    assert len(names) > 40 and all(name and len(name) > 10 for name in names)
    # As the browser itself computes them, for those that are shown.
    for figure in ("#recovery", "#against-sparsity"):
        shown = seen.page.locator(figure).get_by_role("img").count()
        assert shown == seen.page.locator(f"{figure} svg").count() > 0
    assert seen.page.get_by_role("img", name="Table 5, CoLA: Mcc").count() > 0
    assert seen.page.get_by_role("group", name="Timeline of").count() == 1


def test_the_page_fits_its_width_and_tables_scroll_within(seen: Seen) -> None:
    width = seen.page.viewport_size["width"]
    assert seen.all("document.documentElement.scrollWidth") <= width
    seen.all("document.querySelectorAll('details').forEach(d => d.open = true)")
    wide = seen.all(
        "[...document.querySelectorAll('svg, h2, h3, p, .lanes, .scroll')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    smallest = seen.all(
        "Math.min(...[...document.querySelectorAll('.panels svg text')].filter(t => t.textContent)"
        ".map(t => t.getBoundingClientRect().height))"
    )
    assert smallest >= 9  # pixels: readable


def test_verdicts_are_readable_and_told_apart_without_colour(seen: Seen) -> None:
    texts = seen.page.locator("#t5 ~ .scroll .v").all_inner_texts()
    assert {"✓ reproduced", "▼ worse"} <= set(texts)
    contrasts = seen.all(
        """[...document.querySelectorAll('.v')].map(e => {
          const light = c => { const [r, g, b] = c.match(/\\d+/g).map(x => { x /= 255;
              return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4 });
            return .2126 * r + .7152 * g + .0722 * b };
          const s = getComputedStyle(e), a = light(s.color), b = light(s.backgroundColor);
          return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) })"""
    )
    assert min(contrasts) >= 4.5  # WCAG AA


def test_the_five_tables_and_every_section_can_be_reached(seen: Seen) -> None:
    targets = seen.page.locator("nav a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert targets[:TABLES] == [f"#t{n}" for n in range(1, TABLES + 1)]
    missing = seen.all(
        "[...document.querySelectorAll('a[href^=\"#\"]')]"
        ".filter(a => !document.getElementById(a.getAttribute('href').slice(1))).length"
    )
    assert missing == 0


def test_it_is_dark_where_the_reader_s_system_is(browser: Any, page_file: Path) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        found = Seen(browser, page_file, 1280, scheme)
        shades[scheme] = found.all(
            "[document.body, document.querySelector('.panels svg text')]"
            ".map(e => getComputedStyle(e)).map((s, i) => i ? s.fill : s.backgroundColor)"
        )
        found.page.close()
    assert shades["light"] == ["rgb(255, 255, 255)", "rgb(27, 31, 36)"]
    assert shades["dark"] == ["rgb(13, 17, 23)", "rgb(230, 237, 243)"]


def test_it_prints(browser: Any, page_file: Path) -> None:
    found = Seen(browser, page_file, 1030)  # A4 landscape within its margins, at 96 pixels an inch
    found.page.emulate_media(media="print")
    assert found.all("getComputedStyle(document.querySelector('nav')).display") == "none"
    cut = found.all(
        "[...document.querySelectorAll('table.printed')]"
        ".filter(t => t.getBoundingClientRect().right > innerWidth).length"
    )
    assert cut == 0
    claims = found.page.locator(".claim table")
    assert claims.count() > 5 and claims.first.is_visible()  # though folded on the screen
    assert found.page.pdf(prefer_css_page_size=True)[:5] == b"%PDF-"
    found.page.close()
