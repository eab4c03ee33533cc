"""The page at ``/`` as people meet it, in a real browser: images in, answers out, by mouse, by keyboard, and for a screen reader."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess

import pytest
from PIL import Image

import browser
import page_server

pytest.importorskip("uvicorn", reason="the page needs the extra 'serve'")
pytestmark = pytest.mark.skipif(bool(browser.why_missing()), reason=browser.why_missing() or "chromium is there")
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        started = playwright.chromium.launch(executable_path=browser.CHROMIUM, args=options + camera)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address():
    with page_server.served(page_server.application()) as served:
        yield served


class Visit:
    """A page in the browser, with what it asks for and what the browser complains of."""

    def __init__(self, chromium, address, path="/", width=1280, **how):
        self.context = chromium.new_context(viewport={"width": width, "height": 900}, **how)
        self.page = self.context.new_page()
        self.address, self.complaints, self.requests = address, [], []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address + path)

    def choose(self, model):
        self.page.locator("#model").select_option(model)

    def give(self, *names, data=None):
        files = [{"name": name, "mimeType": "image/png", "buffer": data or page_server.picture()} for name in names]
        self.page.locator("#files").set_input_files(files)

    def drop(self, name, kind="drop"):
        """Drop an image from elsewhere onto the page, or paste it."""
        self.page.evaluate(
            """([name, data, kind]) => {
                const transfer = new DataTransfer();
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type: "image/png" }));
                const init = { bubbles: true, cancelable: true };
                const event = kind === "paste" ? new ClipboardEvent("paste", { ...init, clipboardData: transfer })
                                               : new DragEvent(kind, { ...init, dataTransfer: transfer });
                document.body.dispatchEvent(event);
            }""",
            [name, base64.b64encode(page_server.picture()).decode(), kind],
        )

    @property
    def card(self):
        return self.page.locator("#list > li").first

    def text(self, selector):
        """Of the first card's part, as soon as it is there."""
        found = self.card.locator(selector).first
        found.wait_for()
        return found.inner_text()

    def close(self):
        """Whatever was done, nothing was asked of others, nothing complained of, and nothing is wider than the window."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        self.context.close()
        assert wide <= 0
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith((self.address, "data:", "blob:"))] == []


@pytest.fixture
def visit(chromium, address):
    visits = []

    def opened(path="/", **how):
        visits.append(Visit(chromium, how.pop("address", address), path, **how))
        if path == "/":
            visits[-1].page.locator("#about strong").wait_for()
        return visits[-1]

    yield opened
    for each in visits:
        each.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_image_is_dropped_and_its_label_score_heat_map_and_neighbours_are_seen(visit, width, scheme):
    seen = visit(width=width, color_scheme=scheme)
    seen.drop("photo.png")
    assert seen.text("h3") == "photo.png"
    assert seen.text(".said") == "disc 91.3%"
    assert seen.text(".bars li >> nth=1").split() == ["square", "5.2%"]
    assert seen.text(".level") == "The heat map passed its test"
    assert "they passed both tests" in seen.text(".tested .small")
    assert seen.card.locator(".nearest li").count() == 5
    # The heat is where it was said to be, on a picture that is cropped to its middle.
    hottest = seen.page.evaluate(
        """() => { const canvas = document.querySelector("canvas.heat");
            const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let best = [0, 0];
            for (let place = 0; place < data.length; place += 4) {
                const light = data[place + 3] < 255 ? data[place] * data[place + 3] : 0;
                if (light > best[0]) best = [light, place / 4];
            }
            return [(best[1] % width) / canvas.width, Math.floor(best[1] / width) / canvas.height]; }"""
    )
    assert hottest[0] == pytest.approx((80 + 5 / 7 * 320) / 480, abs=0.06)
    assert hottest[1] == pytest.approx(3.1 / 7, abs=0.06)
    slider = seen.card.get_by_label("Heat map")
    slider.fill("0")
    assert seen.page.evaluate("getComputedStyle(document.querySelector('canvas.heat')).opacity") == "0"
    seen.page.locator("#status", has_text=re.compile("disc, 91%|the heat map is shown")).wait_for(state="attached")
    assert (
        seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {"light": "rgb(252, 252, 251)", "dark": "rgb(19, 23, 26)"}[scheme]
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_boxes_lie_where_they_belong_and_a_slider_hides_the_unsure(visit, width):
    seen = visit(width=width)
    seen.choose("cells")
    seen.give("blood.png")
    assert seen.text(".said") == "2 red cell, 1 white cell, 1 platelet"
    # Both at once: the page may move between two looks.
    stage, box = seen.card.locator(".stage").first.evaluate(
        "stage => [stage, stage.querySelector('.box:last-child')].map((one) => one.getBoundingClientRect().toJSON())"
    )
    shares = [(box["x"] - stage["x"]) / stage["width"], (box["y"] - stage["y"]) / stage["height"], box["width"] / stage["width"]]
    assert shares == pytest.approx([0.55, 0.2, 0.3], abs=0.01)
    assert stage["width"] / stage["height"] == pytest.approx(480 / 320, abs=0.01)
    seen.card.get_by_label("Show from").fill("80")
    assert seen.text(".said") == "1 white cell, 1 red cell"
    assert seen.card.locator(".box").all_inner_texts() == ["red cell 88%", "white cell 97%"]
    seen.card.locator(".objects li").first.hover()
    assert "lit" in seen.card.locator(".box").last.get_attribute("class")


def test_areas_have_their_colours_and_a_legend(visit):
    seen = visit()
    seen.choose("street")
    seen.give("street.png")
    assert seen.text(".bars li").split() == ["road", "40.0%"]
    seen.card.locator("img.mask").wait_for()
    swatches = seen.card.locator(".bars .swatch").evaluate_all("all => all.map((one) => getComputedStyle(one).backgroundColor)")
    assert len(set(swatches)) == 3
    seen.card.get_by_label("Colours").fill("0")
    assert seen.card.locator("img.mask").evaluate("one => one.style.opacity") == "0"


@pytest.mark.parametrize(("name", "says"), [("unsure.png", "The model does not answer"), ("strange.png", "Unlike any training image")])
def test_abstention_is_shown_as_such_with_what_it_means(visit, name, says):
    seen = visit()
    seen.give(name)
    assert says in seen.text(".notice")
    assert "best guess" in seen.text(".notice")
    # What is promised of candidates is not promised of images of another kind.
    assert seen.card.get_by_text("very likely among disc, square and cross").count() == (name == "unsure.png")
    seen.page.locator("#status", has_text="best guess: disc").wait_for(state="attached")


def test_several_images_at_once_one_of_them_bad_another_while_the_server_is_busy(visit):
    seen = visit()
    seen.give("one.png", "bad.png", "busy.png", "strange.png", "five.png")
    seen.page.locator(".said").nth(3).wait_for()
    assert seen.page.locator("#list h3").all_inner_texts() == ["one.png", "bad.png", "busy.png", "strange.png", "five.png"]
    bad = seen.page.locator("#list > li").nth(1)
    assert "This image cannot be used" in bad.inner_text()
    assert "damaged PNG: it ends in the middle of its pixels" in bad.inner_text()
    # Of that many the heat map is shown when it is asked for.
    assert seen.page.locator("canvas.heat").count() == 0
    seen.card.get_by_role("button", name="Show why").click()
    seen.card.locator("canvas.heat").wait_for()
    seen.complaints[:] = [text for text in seen.complaints if "503" not in text]


def test_names_of_classes_and_files_are_text_whatever_they_hold(visit):
    seen = visit()
    seen.choose("hostile")
    seen.drop(f"{page_server.SCRIPT}.png")
    assert page_server.SCRIPT in seen.text(".said")
    assert seen.text("h3") == f"{page_server.SCRIPT}.png"
    seen.card.locator(".nearest").wait_for()
    assert seen.page.locator("img[src=x], main script").count() == 0
    assert seen.page.title() == "hostile: Sightline"


def test_images_are_pasted_and_dragging_shows_where_they_go(visit):
    seen = visit()
    seen.drop("pasted.png", "dragover")
    assert "dropping" in seen.page.locator("body").get_attribute("class")
    seen.drop("pasted.png", "paste")
    assert seen.text(".said") == "disc 91.3%"


def test_everything_can_be_done_by_keyboard(visit):
    seen = visit()
    page = seen.page
    # From now on, not from when one is expected: the browser may not have heard of that when the key is pressed.
    page.on("filechooser", lambda chooser: None)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([{"name": name, "mimeType": "image/png", "buffer": page_server.picture()} for name in ("a.png", "b.png")])
    seen.card.locator(".nearest").wait_for()
    seen.card.get_by_label("Heat map").focus()
    page.keyboard.press("Home")
    assert seen.card.locator("output").inner_text() == "0%"
    seen.card.get_by_role("button", name="Remove a.png").focus()
    page.keyboard.press("Enter")
    assert page.locator("#list h3").all_inner_texts() == ["b.png"]
    assert page.evaluate("document.activeElement.textContent") == "b.png"
    page.get_by_role("button", name="Remove all").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "choose"
    assert not page.locator("#results").is_visible()


def test_json_and_curl_are_copied(visit):
    seen = visit(permissions=["clipboard-read", "clipboard-write"])
    seen.give('it\'s "a" $photo.png')
    seen.card.get_by_role("button", name="Copy JSON").click()
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    assert re.search(r'"path": "it\'s \\"a\\" \$photo\.png",\s+"predictions": \[', copied)
    assert '"size"' not in copied
    seen.card.get_by_role("button", name="Copied").wait_for()
    seen.card.get_by_role("button", name="Copy curl").click()
    seen.card.get_by_role("button", name="Copied").nth(1).wait_for()
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    words = subprocess.run(["sh", "-c", copied.replace("curl", "printf '%s\\n'", 1)], capture_output=True, text=True, check=True).stdout
    assert words.splitlines() == ["-F", 'files=@"it\'s \\"a\\" $photo.png"', f"{seen.address}/v1/predict?model=shapes"]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_camera_is_answered_for_one_question_at_a_time(visit, width):
    seen = visit(width=width, permissions=["camera"])
    under_way, most = set(), []
    seen.page.on("request", lambda request: "/v1/predict" in request.url and (under_way.add(request), most.append(len(under_way))))
    for ended in ("requestfinished", "requestfailed"):
        seen.page.on(ended, lambda request: under_way.discard(request))
    seen.page.get_by_role("button", name="Live camera").click()
    seen.page.locator("#camera-answer .said").wait_for()
    seen.page.get_by_text("Answered in").wait_for()
    seen.page.get_by_role("button", name="Keep this picture").click()
    assert seen.text("h3").startswith("camera ")
    asked = len(most)
    seen.page.get_by_role("button", name="Stop the camera").click()
    assert asked >= 2
    assert not seen.page.locator("#camera").is_visible()
    assert seen.page.evaluate("document.querySelector('#video').srcObject") is None
    # Of the camera's own; a picture that is kept is asked about beside them.
    assert max(most) <= 2


def test_the_model_is_chosen_and_what_is_known_of_it_is_a_click_away(visit):
    seen = visit()
    page = seen.page
    assert page.locator("#about").inner_text().startswith("shapes tells what an image shows. It knows 5 labels: disc, square")
    assert not page.locator("#unfit").is_visible()
    seen.choose("tags")
    assert "Its accuracy of 61% is below" in page.locator("#unfit").inner_text()
    page.get_by_role("link", name="Card").click()
    page.locator("h1", has_text="tags").wait_for()
    assert page_server.SCRIPT in page.locator("li", has_text="A *point*").inner_text()
    assert page.locator("main script, main img").count() == 0
    page.go_back()
    page.get_by_role("link", name="API").click()
    page.locator("h2", has_text="/v1/predict").wait_for()


def test_a_report_from_a_stranger_runs_nothing(visit):
    seen = visit("/v1/models/shapes/report")
    assert seen.page.title() == "Report"
    assert seen.page.locator("p").first.evaluate("one => getComputedStyle(one).color") == "rgb(0, 128, 0)"
    assert seen.complaints, "the browser says what it did not run"
    seen.complaints.clear()
    seen.requests[:] = [url for url in seen.requests if not url.endswith("/x")]


def test_a_single_model_needs_no_chooser_and_the_token_is_asked_for(chromium):
    with page_server.served(page_server.application(only=("shapes",), token="right")) as address:
        seen = Visit(chromium, address)
        seen.page.locator("#token").wait_for()
        assert not seen.page.locator("#give").is_visible()
        seen.page.get_by_label("Token").fill("wrong")
        seen.page.keyboard.press("Enter")
        seen.page.get_by_text("That is not the token of this server.").wait_for()
        seen.page.get_by_label("Token").fill("right")
        seen.page.keyboard.press("Enter")
        seen.page.locator("#give").wait_for()
        assert not seen.page.locator("#chooser").is_visible()
        seen.give("photo.png")
        assert seen.text(".said") == "disc 91.3%"
        assert seen.page.url == f"{address}/"
        seen.complaints[:] = [text for text in seen.complaints if "401" not in text]
        seen.close()


def test_a_server_that_is_gone_is_said_so(visit, chromium):
    with page_server.served(page_server.application()) as address:
        seen = Visit(chromium, address)
        seen.page.locator("#about strong").wait_for()
    seen.give("photo.png")
    assert "The server does not answer" in seen.text(".notice")
    seen.complaints.clear()
    seen.close()


def _two_colours() -> bytes:
    """A green square on red."""
    picture = Image.new("RGB", (160, 120), (120, 10, 10))
    picture.paste((10, 250, 10), (80, 20, 140, 80))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_the_server_itself_answers_the_page_and_its_words(chromium, tmp_path):
    """The real server, with a token, and a bundle that tells colours apart."""
    from served import GREEN, serving, write_colours

    token = "a-token-for-this-test"
    with serving(write_colours(tmp_path / "colours.sight"), "--token", token, errors=tmp_path / "errors.txt") as running:
        seen = Visit(chromium, running.address, f"/?token={token}")
        seen.page.locator("#about strong").wait_for()
        assert seen.page.url == f"{running.address}/"
        seen.give("green.png", data=GREEN)
        assert seen.text(".said").startswith("green ")
        # A picture in one colour says the same everywhere.
        assert "No part of the image speaks for green more" in seen.text(".why")
        seen.give("both.png", data=_two_colours())
        seen.page.locator(".level").wait_for()
        assert seen.page.locator("canvas.heat").count() == 1
        seen.page.evaluate("navigator.clipboard.writeText = (words) => { window.copied = words; return Promise.resolve(); }")
        seen.card.get_by_role("button", name="Copy curl").click()
        assert seen.page.evaluate("window.copied").startswith('curl -H "Authorization: Bearer $SIGHTLINE_TOKEN" -F ')
        seen.page.get_by_role("link", name="Card").click()
        seen.page.locator("h1", has_text="Colours").wait_for()
        seen.page.goto(f"{running.address}/docs")
        seen.page.locator("h2", has_text="/v1/predict").wait_for()
        assert "Retry-After" in seen.page.locator("#operations").inner_text()
        seen.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The text of axe-core, a checker of accessibility, fetched into a temporary folder."""
    if not shutil.which("npm"):
        pytest.skip("npm is not here to fetch axe-core with")
    folder = tmp_path_factory.mktemp("axe")
    words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), "axe-core@4"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not fetch axe-core within two minutes")
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if done.returncode or not script.is_file():
        pytest.skip(f"npm could not fetch axe-core: {done.stderr.strip().splitlines()[:1]}")
    return script.read_text("utf-8")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(visit, axe, width, scheme):
    seen = visit(width=width, color_scheme=scheme)
    seen.page.evaluate(axe)
    assert _serious(seen.page) == []
    for model in ("cells", "street", "tags", "shapes"):
        seen.choose(model)
        seen.give("strange.png", "bad.png")
        seen.card.locator("h3", has_text="strange.png").wait_for()
        seen.card.locator(".bars, .objects").first.wait_for()
    seen.card.locator(".nearest").wait_for()
    assert _serious(seen.page) == []


@pytest.mark.parametrize("path", ["/docs", "/card/shapes"])
def test_axe_finds_nothing_serious_in_words(visit, axe, path):
    seen = visit(path)
    seen.page.locator("main h2, article h1").first.wait_for()
    seen.page.evaluate(axe)
    assert _serious(seen.page) == []


def _serious(page):
    page.wait_for_timeout(300)  # what fades in has no contrast yet
    found = page.evaluate("axe.run()")
    return [
        (violation["id"], node["html"], node["failureSummary"])
        for violation in found["violations"] if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]  # fmt: skip
