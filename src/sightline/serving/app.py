"""The server's routes, as a FastAPI application; ``behind_the_guard`` is what listens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sightline import console
from sightline.config import ServeConfig
from sightline.errors import SightlineError
from sightline.serving import pages
from sightline.serving.answers import Wanted, answered, in_time
from sightline.serving.body import images_of
from sightline.serving.contract import ERRORS, MODELS, PREDICT_BODY, PREDICTED, said
from sightline.serving.declined import GONE, Application, Declined, encoded
from sightline.serving.guard import guarded
from sightline.serving.models import Models
from sightline.serving.places import PREDICT, Places, at_the_door
from sightline.serving.recording import NOTED, AccessLog, recorded

TITLE = "Sightline"
# Newer versions of FastAPI report to collectors that the environment names; nothing of this server is reported to anyone.
SILENT: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
# More classes than any model has.
MOST_CLASSES = 1_000_000


def create_app(models: Models, config: ServeConfig) -> FastAPI:
    """The routes over opened models. ``app.state`` has ``models``, ``config`` and ``places``, the room for images under way."""
    app = FastAPI(title=TITLE, telemetry=SILENT, docs_url=None, redoc_url=None, openapi_url="/openapi.json", redirect_slashes=False)
    app.state.models, app.state.config = models, config
    app.state.places = Places(config.queue, told=models.metrics.queue.set)
    app.add_exception_handler(Declined, _declined)
    app.add_exception_handler(SightlineError, _not_now)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _no_route)
    _add_predict(app)
    _add_models(app)
    _add_states(app)
    app.router.routes.extend(pages.routes(lambda name, role: _member(models, name, role)))
    return app


def behind_the_guard(app: FastAPI, log: AccessLog) -> Application:
    """All that a request goes through: counted and logged, judged by the guard, declined where there is no room, answered."""
    state = app.state
    return recorded(guarded(at_the_door(app, state.places), state.config), state.models.metrics, log)


def _add_predict(app: FastAPI) -> None:
    models, config, places = app.state.models, app.state.config, app.state.places

    @app.post(PREDICT, openapi_extra=PREDICT_BODY, responses=PREDICTED | ERRORS, response_class=Response)
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="A name that /v1/models lists; the default when not given.")] = None,
        top: Annotated[int, Query(ge=1, le=MOST_CLASSES, description="How many classes to list for an image.")] = 5,
        explain: Annotated[bool, Query(description="Of the first image, also why: heat map, its test, nearest training images.")] = False,
        mask: Annotated[bool, Query(description="Of label maps, also the classes as a picture.")] = False,
    ) -> Response:
        """What is on images: for each exactly what `sightline predict --json` prints."""
        served = models.named(model)
        with places.enter() as stay:
            kind = request.headers.get("content-type", "")
            given = await images_of(_chunks(request), kind, config, stay, models.parsing)
            if NOTED in request.scope:
                request.scope[NOTED].images = len(given)
            results = await in_time(answered(models, served, given, Wanted(top, explain, mask)), request.receive, config.timeout)
        return _json({"model": served.name, "sha256": served.sha256, "results": results})


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise Declined(GONE, "The client has gone.") from error


def _add_models(app: FastAPI) -> None:
    models, config = app.state.models, app.state.config

    @app.get("/v1/models", responses=MODELS | ERRORS, response_class=Response)
    async def listed() -> Response:
        """The models that are served, and whether requests need a token."""
        found = [served.about(default=not place) for place, served in enumerate(models)]
        return _json({"models": found, "token": config.token is not None})


def _add_states(app: FastAPI) -> None:
    models, places = app.state.models, app.state.places

    @app.get("/healthz", responses=said("Alive."), response_class=Response)
    async def healthz() -> Response:
        """Whether the server is alive."""
        return _json({"status": "alive"})

    @app.get("/readyz", responses=said("Ready for requests.") | ERRORS, response_class=Response)
    async def readyz() -> Response:
        """Whether requests are taken: not while models are opened, and not while the server stops."""
        if not places.open or not models.ready:
            raise Declined(503, f"The server is {'opening its models' if places.open else 'stopping'}.", 1)
        return _json({"status": "ready"})

    @app.get("/metrics", responses={200: {"description": "Figures in Prometheus' format.", "content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """The server's figures."""
        text, kind = models.metrics.text()
        return Response(text, headers={"content-type": kind})


def _member(models: Models, name: str, role: str) -> bytes | None:
    served = next((served for served in models if served.name == name), None)
    return served.bundle.read(role) if served and served.bundle.has(role) else None


def _json(content: Any, status: int = 200) -> Response:
    return Response(encoded(content), status, media_type="application/json")


async def _declined(request: Request, error: Any) -> Response:
    return Response(error.body, error.status, error.headers, "application/json")


async def _not_now(request: Request, error: Any) -> Response:
    """What a bundle that is being replaced gives, or a machine that is full."""
    console.warn(str(error))
    return await _declined(request, Declined(503, "The server could not do this now: send the request again later.", 1))


async def _not_valid(request: Request, error: Any) -> Response:
    """What is wrong with the parameters, all of it in one sentence."""
    faults = [f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors()]
    return _json({"error": f"The request's parameters are not valid ({'; '.join(faults)})."}, 400)


async def _no_route(request: Request, error: Any) -> Response:
    sentences = {404: "There is nothing at this path: see /docs.", 405: f"{request.method} is not what this path takes: see /docs."}
    response = _json({"error": sentences.get(error.status_code, f"{error.detail}.")}, error.status_code)
    response.headers.update(error.headers or {})
    return response
