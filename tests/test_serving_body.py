"""serving.body: the images in a form or in JSON, however the body is cut into pieces, and what is said of bodies that are neither."""

from __future__ import annotations

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from served import form
from sightline.config import ServeConfig
from sightline.serving.body import images_of
from sightline.serving.declined import Declined
from sightline.serving.places import Places

CONFIG = ServeConfig(max_files=4)


def read(body: bytes, kind: str, *, pieces: int = 1 << 16, config: ServeConfig = CONFIG, places: Places | None = None):
    """(name, data) of each image."""

    async def chunks():
        for start in range(0, len(body), pieces):
            yield body[start : start + pieces]

    async def whole():
        with ThreadPoolExecutor(1) as threads, (places or Places(100)).enter() as stay:
            found = await images_of(chunks(), kind, config, stay, threads)
            assert stay.images == len(found)
            return [(image.name, image.data) for image in found]

    return asyncio.run(whole())


def refused(body: bytes, kind: str, **more) -> tuple[int, str]:
    with pytest.raises(Declined) as caught:
        read(body, kind, **more)
    assert caught.value.sentence.endswith(".")
    return caught.value.status, caught.value.sentence


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 200))
def test_a_form_gives_the_bytes_that_were_sent_however_it_is_cut(files, pieces):
    body, kind = form(files)
    assert read(body, kind, pieces=pieces) == [(f"{place}.png", data) for place, data in enumerate(files)]


@pytest.mark.parametrize("name", ["a b.jpg", "../../etc/passwd", "Grüße.png", "<script>.png", "a;b=c.png"])
def test_names_are_text_and_stay_as_they_are(name):
    body, kind = form([b"data"], [name])
    assert read(body, kind) == [(name, b"data")]
    assert read(json.dumps({"images": [{"name": name, "data": "AAAA"}]}).encode(), "application/json") == [(name, bytes(3))]


def test_json_holds_base64_and_what_is_none_is_an_image_without_data():
    images = [{"name": "a.jpg", "data": base64.b64encode(b"one").decode()}, {"data": "not base64!"}, {"name": "c", "data": ""}]
    assert read(json.dumps({"images": images}).encode(), "application/json; charset=utf-8") == [
        ("a.jpg", b"one"),
        ("image-2", None),
        ("c", b""),
    ]


@pytest.mark.parametrize(("body", "kind", "status", "says"), [
    (b"", "", 415, "content type"),
    (b"x", "image/jpeg", 415, "multipart/form-data"),
    (b"", "multipart/form-data", 400, "boundary"),
    (b"", "multipart/form-data; boundary=x", 400, "last boundary"),
    (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "no image"),
    (b"nothing of that kind", "multipart/form-data; boundary=x", 400, "cannot be told apart"),
    (b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n', "multipart/form-data; boundary=x", 400, "'files'"),
    (b"--x\r\n\r\n1\r\n--x--\r\n", "multipart/form-data; boundary=x", 400, "'files'"),
    (b"{", "application/json", 400, "not JSON"),
    (b"\xff\xfe", "application/json", 400, "not JSON"),
    (b"[" * 300, "application/json", 400, "not JSON"),
    (b"[]", "application/json", 400, "no list"),
    (b'{"images": {}}', "application/json", 400, "no list"),
    (b'{"images": []}', "application/json", 400, "no image"),
    (b'{"images": [{"url": "http://example.com/a.jpg"}]}', "application/json", 400, "no list"),
    (b'{"images": [{"name": 1, "data": ""}]}', "application/json", 400, "text"),
])  # fmt: skip
def test_what_is_wrong_is_said(body, kind, status, says):
    found, sentence = refused(body, kind)
    assert found == status
    assert says in sentence


@pytest.mark.parametrize("as_json", [False, True])
def test_more_images_than_are_taken_are_too_large_and_more_than_fit_now_are_for_later(as_json):
    def body(count):
        files = [b"data"] * count
        if as_json:
            return json.dumps({"images": [{"data": base64.b64encode(data).decode()} for data in files]}).encode(), "application/json"
        return form(files)

    assert refused(*body(5))[0] == 413
    assert refused(*body(3), config=ServeConfig(queue=2))[0] == 413
    places = Places(3)
    assert refused(*body(4), places=places)[0] == 503
    assert places.taken == 0
    assert len(read(*body(3), places=places)) == 3


def test_json_that_is_nested_too_deeply_is_none():
    many = ServeConfig(max_files=100_000, queue=100_000)
    assert refused(b"[" * 100_000, "application/json", config=many) == refused(b"{", "application/json")


@pytest.mark.parametrize("value", ["{}", "[]", "7"])
def test_json_of_more_values_than_its_images_can_need_is_refused_before_it_is_parsed(value, monkeypatch):
    monkeypatch.setattr("sightline.serving.body.json.loads", lambda text: pytest.fail("it was parsed"))
    status, sentence = refused(f'{{"images": [{",".join([value] * 1000)}]}}'.encode(), "application/json")
    assert status == 413
    assert "more than 4 images can need" in sentence


def test_names_in_json_may_have_brackets_and_commas():
    name = "photos of 2024, [all] {of them}, " * 5
    assert read(json.dumps({"images": [{"name": name, "data": "AAAA"}] * 4}).encode(), "application/json") == [(name, bytes(3))] * 4
