"""The report as a person sees it, in a real browser: nothing overflows, nothing is requested, nothing is complained of."""

from __future__ import annotations

import pytest

import browser
import example_report
from sightline.report.html import render

pytestmark = pytest.mark.skipif(bool(browser.why_missing()), reason=browser.why_missing() or "chromium is there")
EXAMPLES = ("clothing", "tiny", "many_classes", "hostile")


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        started = playwright.chromium.launch(executable_path=browser.CHROMIUM, args=options)
        yield started
        started.close()


@pytest.fixture(scope="module", params=EXAMPLES)
def page_file(request, tmp_path_factory):
    example = getattr(example_report, request.param)()
    path = tmp_path_factory.mktemp("report") / f"{request.param}.html"
    path.write_text(render(example.report, example.blocks, example.pictures), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [360, 800, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window_and_stays_at_home(chromium, page_file, width, scheme):
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert complaints == []
    page.close()


def test_the_verdict_is_in_sight_on_a_phone(chromium, page_file):
    page = chromium.new_page(viewport={"width": 360, "height": 740})
    page.goto(page_file.as_uri())
    box = page.locator("h1, .verdict, [class*=verdict]").first.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 740 or page_file.stem == "hostile"
    page.close()


def test_folded_parts_open_by_keyboard(chromium, page_file):
    page = chromium.new_page(viewport={"width": 800, "height": 900})
    page.goto(page_file.as_uri())
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.evaluate("element => element.open")
    page.close()
