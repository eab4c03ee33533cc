"""What a browser is sent: the files of the page and no others, each with its policy; a bundle's report as a stranger's page; masks."""

from __future__ import annotations

import base64
import io
import re
from importlib import resources

import numpy as np
import pytest
from PIL import Image

import page_server
from sightline.drawing.maps import table_of
from sightline.errors import ImageError
from sightline.scenes import IGNORED, Segmentation
from sightline.serving import pages
from sightline.serving.explained import explained
from sightline.serving.masks import mask_of


@pytest.fixture(scope="module")
def client():
    testclient = pytest.importorskip("starlette.testclient")
    return testclient.TestClient(page_server.application())


def test_every_file_of_the_page_is_given_out_and_no_other(client):
    folder = resources.files("sightline.serving") / "page"
    there = {entry.name for entry in folder.iterdir()}
    assert there == {*pages.FILES, "index.html", "docs.html", "card.html"}
    for name, kind in pages.FILES.items():
        answer = client.get(f"/page/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content == (folder / name).read_bytes()
    for name in ("", "index.html", "..%2fpages.py", "../pages.py", "pages.py", "%00"):
        assert client.get(f"/page/{name}").status_code == 404


def test_the_page_and_the_report_have_their_colours_from_one_file(client):
    theme = (resources.files("sightline.drawing") / "theme.css").read_text("utf-8")
    answer = client.get("/page/theme.css")
    assert (answer.status_code, answer.headers["content-type"], answer.text) == (200, pages.STYLE, theme)
    for path in ("/", "/docs", "/card/shapes"):
        assert re.findall(r'rel="stylesheet" href="/page/(\w+\.css)"', client.get(path).text) == ["theme.css", "page.css"]
    shared = set(re.findall(r"(--[a-z-]+):", theme))
    assert {"--paper", "--ink", "--accent", "--poor", "--sans"} <= shared
    own = (resources.files("sightline.serving") / "page" / "page.css").read_text("utf-8")
    report = (resources.files("sightline.report") / "report.css").read_text("utf-8").split("@media print")[0]  # paper has its own
    assert not shared & set(re.findall(r"(--[a-z-]+):", own + report))


@pytest.mark.parametrize("path", ["/", "/docs", "/card/shapes", "/page/page.js", "/page/theme.css", "/page/colours.js"])
def test_nothing_inline_or_from_elsewhere_is_allowed(client, path):
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(
        rb"https?://(?!www\.w3\.org/2000/svg)|<style|<script(?! type=\"module\" src=\"/page/)| style=| on\w+=\"", answer.content
    )


def test_no_text_becomes_markup():
    folder = resources.files("sightline.serving") / "page"
    for name in pages.FILES:
        text = (folder / name).read_text("utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc", text), name


def test_what_a_browser_has_is_not_sent_again(client):
    first = client.get("/page/page.css")
    again = client.get("/page/page.css", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/page.css", headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_report_is_shown_as_a_strangers_page(client):
    answer = client.get("/v1/models/shapes/report")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert client.get("/v1/models/shapes/card").headers["content-type"] == "text/markdown; charset=utf-8"
    for last in ("report", "card"):
        answer = client.get(f"/v1/models/absent/{last}")
        assert answer.status_code == 404
        assert answer.json() == {"error": f"There is no {last} of a model 'absent' here: see /v1/models."}


def test_a_mask_has_the_classes_as_its_palette():
    names = ("Background", "road", "sky")
    classes = np.repeat(np.array([[0, 1], [2, IGNORED]], np.uint8), 300, axis=0).repeat(400, axis=1)
    told = mask_of(Segmentation(classes, names, {"sky": 0.9, "road": 0.8, "Background": 0.7}), largest=200)
    table = table_of(names)
    assert told["colours"] == {"sky": f"#{bytes(table[2]).hex()}", "road": f"#{bytes(table[1]).hex()}"}
    small = Image.open(io.BytesIO(base64.b64decode(told["mask"].removeprefix("data:image/png;base64,"))))
    assert (small.mode, small.size) == ("P", (200, 150))
    corners = [(0, 0), (199, 0), (0, 149), (199, 149)]
    assert [small.getpixel(corner) for corner in corners] == [0, 1, 2, IGNORED]
    shown = small.convert("RGBA")
    assert [shown.getpixel(corner)[3] for corner in corners] == [0, 255, 255, 0]
    assert shown.getpixel((199, 0))[:3] == tuple(table[1])


def test_a_small_map_keeps_its_size():
    told = mask_of(Segmentation(np.eye(5, dtype=np.uint8), ("a", "b"), {"a": 0.5, "b": 0.5}))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["mask"].split(",")[1]))))
    assert np.array_equal(pixels, np.eye(5))


def test_an_image_is_explained_from_its_bytes_and_nothing_is_written(tmp_path, monkeypatch):
    from pathlib import Path

    from sightline.config import ExplainConfig
    from sightline.explanation.explain import Explainer
    from test_explain_verb import HEAD, by_hand

    monkeypatch.chdir(tmp_path)
    upright = np.full((200, 400, 3), 20, np.uint8)
    upright[40:80, 300:340] = 255
    file = io.BytesIO()
    Image.fromarray(upright).save(file, "PNG")
    explainer = Explainer(by_hand(fit="pad"), Path("hand.sight"), ExplainConfig(random_maps=3), {"head_weight": HEAD}, {})
    told = explained(explainer, file.getvalue(), "../photo.png")
    assert (told["size"], told["whole"], told["method"], told["nearest"]) == ([400, 200], True, "CAM", [])
    assert told["box"] == pytest.approx([0, -100, 400, 300])
    heat = np.array(told["heat"])
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert abs((column + 0.5) / heat.shape[1] * 400 - 320) <= 400 / heat.shape[1]
    assert abs((row + 0.5) / heat.shape[0] * 400 - 100 - 60) <= 400 / heat.shape[0]
    assert set(told["tested"]) >= {"passed", "sentence", "deletion", "insertion"} or "reason" in told["tested"]
    assert "path" not in told
    with pytest.raises(ImageError, match=r"photo\.png"):
        explained(explainer, b"no image", "../photo.png")
    assert list(tmp_path.iterdir()) == []
