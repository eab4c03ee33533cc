"""The server's routes behind its guard, over a bundle made by hand: what is answered, and that it is what ``predict --json`` prints."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from found import colour_logits, dense_boxes, model_of, scattered
from served import BLUE, GREEN, KINDS, RED, form, png, write_colours
from sightline.cli import _exit_code
from sightline.config import ServeConfig
from sightline.serving.answers import in_time
from sightline.serving.app import behind_the_guard, create_app
from sightline.serving.batching import Batcher
from sightline.serving.declined import GONE, Declined
from sightline.serving.metrics import Metrics
from sightline.serving.models import Models, Served
from sightline.serving.recording import AccessLog


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("bundle") / "colours.sight")


@contextmanager
def asking(paths, log=None, **settings):
    """A client of a server in this process, and its application."""
    config = ServeConfig(**{"engine": "onnxruntime", "threads": 1, **settings})
    models = Models(paths, config, Metrics()).open()
    access = AccessLog((lambda line: None) if log is None else log.append)
    app = create_app(models, config)
    try:
        yield TestClient(behind_the_guard(app, access), base_url="http://127.0.0.1:8000"), app
    finally:
        models.close()
        access.close()


@pytest.fixture(scope="module")
def client(colours):
    with asking({"colours": colours}) as (found, _):
        yield found


def post(client, *files, names=None, **query):
    body, kind = form(files, names)
    return client.post("/v1/predict", params=query, content=body, headers={"content-type": kind})


# ---- predictions -----------------------------------------------------------------------------------------------------


def test_results_are_what_predict_prints(client, colours, tmp_path, capsys):
    files = {"a.png": RED, "b.png": png((120, 130, 90), (64, 48)), "c.png": b"no image", "d.png": BLUE}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert _exit_code(["predict", str(colours), *(str(tmp_path / name) for name in files), "--json", "--engine", "onnxruntime"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = post(client, *files.values(), names=list(files)).json()
    assert told["model"] == "colours"
    assert [entry["path"] for entry in told["results"]] == list(files)
    for ours, theirs in zip(told["results"], printed, strict=True):
        assert {**ours, "path": ""} == {**theirs, "path": ""}


def test_json_with_base64_is_answered_as_a_form_is(client):
    images = [{"name": f"{place}.png", "data": base64.b64encode(data).decode()} for place, data in enumerate((RED, GREEN))]
    assert client.post("/v1/predict", json={"images": images}).json() == post(client, RED, GREEN).json()


def test_one_bad_image_loses_no_other(client):
    images = [{"data": "not base64!"}, {"data": base64.b64encode(b"no image").decode()}, {"data": base64.b64encode(RED).decode()}]
    bad, worse, good = client.post("/v1/predict", json={"images": images}).json()["results"]
    assert set(bad) == set(worse) == {"path", "error"}
    assert good["predictions"][0]["label"] == "red"


def test_top_limits_the_classes(client):
    assert [len(post(client, RED, top=top).json()["results"][0]["predictions"]) for top in (1, 2, 50)] == [1, 2, 3]


def test_half_a_surrogate_pair_in_a_name_goes_back_as_it_came(client):
    text = b'{"images": [{"name": "\\ud800.png", "data": ""}]}'
    answer = client.post("/v1/predict", content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert json.loads(answer.content)["results"][0]["path"] == "\ud800.png"


def test_an_explanation_stands_with_the_first_image(client):
    first, second = post(client, RED, GREEN, explain="true").json()["results"]
    assert "explanation" not in second
    assert first["size"] == [20, 16]
    found = first["explanation"]
    assert found["label"] == "red"
    assert found["nearest"] == []
    assert np.array(found["heat"]).ndim == 2


@pytest.mark.parametrize(("task", "infer"), [("detect", dense_boxes), ("segment", colour_logits)])
def test_scenes_are_told_with_their_size_and_label_maps_as_pictures(task, infer, colours, tmp_path):
    model = model_of(task, infer)
    pixels, _ = scattered(0, 60, 40, largest=20, count=5)
    path = tmp_path / "scene.png"
    Image.fromarray(pixels).save(path)
    with asking({"colours": colours}) as (client, app):
        models = app.state.models
        how = {
            "decoding": models.decoding,
            "computing": models.computing,
            "limits": models.limits,
            "batch_size": 4,
            "max_wait": 0.0,
            "ahead": 8,
        }
        batcher = Batcher(model, "scenes", **how, metrics=models.metrics)
        old = models.named("colours")
        models._put(Served("colours", old.bundle, model, batcher, old.sha256, {}, old.facts, ()))
        (result,) = post(client, path.read_bytes(), mask="true").json()["results"]
    assert result["size"] == [60, 40]
    assert result["predictions"] == json.loads(json.dumps(model.predict(path).to_json(5)))
    assert ("mask" in result) == (task == "segment")
    if task == "segment":
        assert result["mask"].startswith("data:image/png;base64,")
        assert set(result["colours"]) <= set(KINDS)


# ---- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ask", "status", "says"), [
    (lambda client: post(client), 400, "no image"),
    (lambda client: post(client, RED, top=0), 400, "top"),
    (lambda client: post(client, RED, top="many", explain="perhaps"), 400, "explain"),
    (lambda client: post(client, RED, model="colors"), 404, "Did you mean 'colours'?"),
    (lambda client: client.get("/v1/predict"), 405, "GET"),
    (lambda client: client.get("/nothing"), 404, "/docs"),
    (lambda client: client.get("/v1/models/colours/report"), 404, "report"),
    (lambda client: client.get("/v1/models/other/card"), 404, "other"),
    (lambda client: client.get("/healthz", headers={"host": "example.com"}), 403, ""),
    (lambda client: post(client, *[RED] * 65), 413, ""),
    (lambda client: client.post("/v1/predict", content=b"x", headers={"content-type": "image/png"}), 415, "multipart"),
])  # fmt: skip
def test_whatever_is_wrong_is_one_sentence(client, ask, status, says):
    answer = ask(client)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert says in answer.json()["error"]


def test_with_every_place_taken_a_request_is_for_later_and_then_served(colours):
    with asking({"colours": colours}, queue=2) as (client, app):
        with app.state.places.enter():
            assert post(client, RED).status_code == 200
            answer = post(client, RED, RED)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
        assert post(client, RED, RED).status_code == 200
        assert app.state.places.taken == 0


def test_a_request_that_takes_too_long_is_given_up_and_leaves_its_place(colours):
    with asking({"colours": colours}, timeout=0.05) as (client, app):
        blocked = asyncio.Event()

        async def never(data):
            await blocked.wait()

        app.state.models.named(None).batcher.predict = never
        answer = post(client, RED)
        assert answer.status_code == 504
        assert app.state.places.taken == 0


def test_the_work_of_a_client_that_has_gone_is_cancelled():
    cancelled = []

    async def work():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def receive():
        return {"type": "http.disconnect"}

    async def scenario():
        with pytest.raises(Declined) as caught:
            await in_time(work(), receive, 1000)
        await asyncio.sleep(0)
        return caught.value.status

    assert asyncio.run(scenario()) == GONE
    assert cancelled == [True]


# ---- models and states -----------------------------------------------------------------------------------------------


def test_the_models_are_listed_the_default_first(colours, tmp_path):
    surer = write_colours(tmp_path / "surer.sight", sharpness=80.0, unfit=("Its accuracy is below what was required.",))
    with asking({"colours": colours, "surer": surer}) as (client, _):
        first, second = client.get("/v1/models").json()["models"]
        assert (first["name"], first["default"], second["name"], second["default"]) == ("colours", True, "surer", False)
        assert (first["task"], first["labels"], first["card"], first["report"], first["explains"]) == (
            "classify",
            list(KINDS),
            True,
            False,
            True,
        )
        assert second["unfit"] == ["Its accuracy is below what was required."]
        assert first["sha256"] != second["sha256"]
        less, more = (post(client, GREEN, model=name).json()["results"][0]["predictions"][0]["score"] for name in ("colours", "surer"))
        assert post(client, GREEN).json()["model"] == "colours"
        assert less < more
        assert client.get("/v1/models/colours/card").text == "# Colours\n"


def test_ready_until_it_stops(colours):
    with asking({"colours": colours}) as (client, app):
        assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 200)
        app.state.places.open = False
        assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 503)
        assert post(client, RED).status_code == 503
        assert client.get("/").status_code == 503


def test_figures_count_requests_and_images_and_name_nothing_that_was_sent(colours):
    log = []
    with asking({"colours": colours}, log) as (client, _):
        post(client, RED, b"no image", GREEN, names=["secret-1.png", "secret-2.png", "secret-3.png"])
        client.get("/elsewhere/secret")
        text = client.get("/metrics").text
    assert 'sightline_requests_total{path="/v1/predict",status="200"} 1.0' in text
    assert 'sightline_requests_total{path="other",status="404"} 1.0' in text
    assert 'sightline_images_total{model="colours",result="predicted"} 2.0' in text
    assert 'sightline_images_total{model="colours",result="unreadable"} 1.0' in text
    assert 'sightline_batch_images_sum{model="colours"} 2.0' in text
    assert "sightline_queue_images 0.0" in text
    assert 'sightline_model_info{model="colours"' in text
    assert "secret" not in text
    predicted = next(line for line in log if "/v1/predict" in line)
    assert " POST /v1/predict 200 images=3 " in predicted
    assert predicted.endswith("ms")
    assert not [line for line in log if "secret-" in line]


def test_openapi_tells_of_the_body_and_has_no_outside_asset(client):
    told = client.get("/openapi.json").json()
    assert set(told["paths"]) == {"/v1/predict", "/v1/models", "/healthz", "/readyz", "/metrics"}
    post_it = told["paths"]["/v1/predict"]["post"]
    assert set(post_it["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert "422" not in post_it["responses"]
    assert client.get("/").status_code == 200
    assert client.get("/docs").status_code == 200


# ---- a bundle that is replaced ---------------------------------------------------------------------------------------


def swapped(path, replace):
    """Whether a replaced file was swapped in, and the labels' scores before and after."""
    with asking({"colours": path}) as (client, app):
        models = app.state.models
        before = post(client, GREEN).json()
        replace(path)
        done = asyncio.run(models.swap("colours"))
        return done, before, post(client, GREEN).json(), client.get("/metrics").text


def test_a_replaced_bundle_is_served_from_then_on(colours, tmp_path):
    path = shutil.copy(colours, tmp_path / "colours.sight")
    new = write_colours(tmp_path / "new", sharpness=80.0)
    done, before, after, figures = swapped(path, lambda path: new.replace(path))
    assert done
    assert before["sha256"] != after["sha256"]
    assert before["results"] != after["results"]
    assert 'sightline_swaps_total{model="colours",result="served"} 1.0' in figures
    assert f'sha256="{before["sha256"]}",task="classify"}} 0.0' in figures
    assert f'sha256="{after["sha256"]}",task="classify"}} 1.0' in figures


def test_a_broken_bundle_is_refused_in_one_line_and_the_old_one_serves_on(colours, tmp_path, capsys):
    path = shutil.copy(colours, tmp_path / "colours.sight")

    def broken(path):
        (tmp_path / "new").write_bytes(colours.read_bytes()[:-100])
        (tmp_path / "new").replace(path)

    done, before, after, figures = swapped(path, broken)
    assert not done
    assert before == after
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert 'sightline_swaps_total{model="colours",result="refused"} 1.0' in figures


def test_a_file_is_only_opened_once_it_has_settled_and_a_refused_one_not_again(colours, tmp_path, monkeypatch):
    path = shutil.copy(colours, tmp_path / "colours.sight")
    opened, looks = [], []

    async def scenario(models):
        async def swap(name):
            opened.append(len(looks))
            return False

        async def look(seconds):
            looks.append(seconds)
            if len(looks) == 3:
                path.write_bytes(b"one")
            if len(looks) == 4:
                path.write_bytes(b"one and two")
            if len(looks) == 10:
                raise asyncio.CancelledError
            await pause(0)

        pause = asyncio.sleep
        monkeypatch.setattr(models, "swap", swap)
        monkeypatch.setattr("sightline.serving.models.asyncio.sleep", look)
        with pytest.raises(asyncio.CancelledError):
            await models.watch()

    with asking({"colours": path}) as (_, app):
        asyncio.run(scenario(app.state.models))
    assert opened == [5]
