"""A server that keeps to the HTTP contract and answers by the name of a file, so that the page can be looked at without a model.

``python tests/page_server.py`` serves it at http://127.0.0.1:8123 for looking at by hand.
"""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SCRIPT = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
SHAPES = ("disc", "square", "cross", "ring", "star")
MODELS = {
    "shapes": ("classify", SHAPES), "tags": ("tag", SHAPES), "cells": ("detect", ("red cell", "white cell", "platelet")),
    "street": ("segment", ("background", "road", "tree", "sky")), "hostile": ("classify", (SCRIPT, "disc")),
}  # fmt: skip


def picture(size: tuple[int, int] = (480, 320)) -> bytes:
    """A rendered photograph: a disc and two squares on a ground that grows lighter."""
    across, down = np.meshgrid(np.linspace(60, 130, size[0]), np.linspace(0, 60, size[1]))
    drawn = Image.fromarray(np.stack([across + down, across + 20, 150 - down / 2], axis=-1).astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    width, height = size
    pen.ellipse((0.55 * width, 0.2 * height, 0.85 * width, 0.65 * height), fill=(225, 130, 60))
    pen.rectangle((0.1 * width, 0.5 * height, 0.3 * width, 0.8 * height), fill=(70, 160, 140))
    pen.rectangle((0.36 * width, 0.62 * height, 0.5 * width, 0.84 * height), fill=(200, 190, 90))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return file.getvalue()


def about(name: str, task: str, labels: tuple[str, ...], default: str) -> dict[str, Any]:
    plain = {"name": name, "task": task, "labels": list(labels), "sha256": "0" * 64, "created": "2026-01-01T00:00:00", "engine": "a fake"}
    unfit = ["Its accuracy of 61% is below the 90% that were required."] if name == "tags" else []
    return {
        **plain,
        "default": name == default,
        "unfit": unfit,
        "report": True,
        "card": True,
        "nearest": True,
        "explains": task != "segment",
    }


def result(model: str, name: str, data: bytes, explain: bool, mask: bool) -> dict[str, Any]:
    task, labels = MODELS[model]
    if "bad" in name:
        return {"path": name, "error": "damaged PNG: it ends in the middle of its pixels"}
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    found: dict[str, Any] = {"path": name, **_prediction(task, labels, name, width, height)}
    if explain or mask:
        found["size"] = [width, height]
    if mask and task == "segment":
        from sightline.serving.masks import mask_of

        found |= mask_of(_areas(labels, width, height))
    return found | ({"explanation": _explanation(labels[0], width, height)} if explain else {})


def _prediction(task: str, labels: tuple[str, ...], name: str, width: int, height: int) -> dict[str, Any]:
    if task == "detect":
        places = (
            (0.55, 0.2, 0.85, 0.65, 0.97, 1),
            (0.1, 0.5, 0.3, 0.8, 0.88, 0),
            (0.36, 0.62, 0.5, 0.84, 0.41, 0),
            (0, 0, 0.1, 0.1, 0.31, 2),
        )
        boxes = [([x0 * width, y0 * height, x1 * width, y1 * height], score, labels[label]) for x0, y0, x1, y1, score, label in places]
        return {"predictions": [{"label": label, "score": score, "box": box} for box, score, label in boxes]}
    if task == "segment":
        return {
            "predictions": [
                {"label": label, "score": 0.9, "share": share} for label, share in zip(labels[1:], (0.4, 0.25, 0.2), strict=True)
            ]
        }
    sure = not any(word in name for word in ("unsure", "strange"))
    scores = (0.913, 0.052, 0.02, 0.01, 0.005) if sure else (0.41, 0.33, 0.16, 0.06, 0.04)
    caution = {"abstained": not sure, "unfamiliar": "strange" in name, "candidates": list(labels[: 1 if sure else 3])}
    return {"predictions": [{"label": label, "score": score} for label, score in zip(labels, scores, strict=False)], **caution}


def _areas(labels: tuple[str, ...], width: int, height: int) -> Any:
    from sightline.scenes import Segmentation

    classes = np.zeros((height, width), np.uint8)
    classes[height // 2 :], classes[: height // 3], classes[height // 3 : height // 2, : width // 2] = 1, 3, 2
    return Segmentation(classes, labels, dict.fromkeys(labels, 0.9))


def _explanation(label: str, width: int, height: int) -> dict[str, Any]:
    y, x = np.mgrid[0:7, 0:7]
    heat = np.exp(-((x - 4.5) ** 2 + (y - 2.6) ** 2) / 2.5)
    heat = np.where(heat < 0.05, 0, heat / heat.max())
    thumb = io.BytesIO()
    Image.open(io.BytesIO(picture((96, 64)))).save(thumb, "JPEG")
    address = f"data:image/jpeg;base64,{base64.b64encode(thumb.getvalue()).decode()}"
    return {
        "label": label, "score": 0.913, "answer": label, "given": [label], "method": "CAM", "heat": heat.round(4).tolist(),
        "box": [(width - height) / 2, 0, (width + height) / 2, height], "size": [width, height], "whole": False,
        "how": "CAM: how much each part adds to the label's score, read off the network's last layers.",
        "tested": {"deletion": 0.2, "passed": True, "sentence": "Taking away the hottest parts first leaves a mean score of 0.20."},
        "trust": {"trusted": True, "sentence": "Its heat maps can be relied on: they passed both tests on 40 test images."},
        "nearest": [{"label": label, "similarity": 0.97 - 0.03 * place, "thumb": address} for place in range(5)],
    }  # fmt: skip


def application(default: str = "shapes", only: tuple[str, ...] = (), token: str = "") -> Any:
    """The contract's routes over the page's; with a ``token``, a request without its cookie is answered 401, as by the guard."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, RedirectResponse
    from starlette.routing import Route

    from sightline.serving import pages

    shown = {name: about(name, *MODELS[name], default) for name in only or MODELS}
    busy = {"left": 1}

    async def models(request: Request) -> JSONResponse:
        if token and "known=yes" not in request.headers.get("cookie", ""):
            return JSONResponse({"error": "This server asks for its token."}, 401)
        return JSONResponse({"models": list(shown.values()), "token": bool(token)})

    async def predict(request: Request) -> JSONResponse:
        asked = request.query_params
        (file,) = (await request.form()).getlist("files")
        if "busy" in file.filename and busy["left"]:
            busy["left"] -= 1
            return JSONResponse({"error": "The server is busy with 128 images."}, 503, {"Retry-After": "1"})
        data, wanted = await file.read(), [asked.get(name) == "true" for name in ("explain", "mask")]
        return JSONResponse(
            {"model": asked["model"], "sha256": "0" * 64, "results": [result(asked["model"], file.filename, data, *wanted)]}
        )

    async def openapi(request: Request) -> JSONResponse:
        operation = {"summary": "What is on images", "responses": {"200": {"description": "A result for each image."}}}
        return JSONResponse({"info": {"title": "Sightline", "version": "1"}, "paths": {"/v1/predict": {"post": operation}}})

    async def entered(request: Request) -> Any:
        right = request.query_params.get("token") == token
        answer = RedirectResponse("/", 303) if right else JSONResponse({"error": "This server asks for its token."}, 401)
        if right:
            answer.set_cookie("known", "yes", httponly=True, samesite="strict")
        return answer

    def member(name: str, role: str) -> bytes | None:
        page = (
            f"<!DOCTYPE html><html lang=en><title>Report</title><style>p {{ color: green }}</style><p>Report of {name}</p>{SCRIPT}</html>"
        )
        card = (
            f"---\nlicense: unknown\n---\n\n# {name}\n\n- A *point* of {SCRIPT}\n\n| a | b |\n| --- | --- |\n| 1 | `2` |\n\n**Bold** words."
        )
        return {"report": page, "card": card}[role].encode() if name in shown else None

    routes = [Route("/v1/models", models), Route("/v1/predict", predict, methods=["POST"]), Route("/openapi.json", openapi)]
    with_token = Starlette(routes=[Route("/", entered)])
    plain = Starlette(routes=[*routes, *pages.routes(member)])

    async def either(scope: Any, receive: Any, send: Any) -> None:
        gives = scope["type"] == "http" and scope["path"] == "/" and scope["query_string"].startswith(b"token=")
        await (with_token if gives else plain)(scope, receive, send)

    return either


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of a server in a thread, on a port that is free."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(application(), port=8123)
