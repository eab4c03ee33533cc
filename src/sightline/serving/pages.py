"""What a browser gets: the page at ``/``, its scripts and styles, the API in words, and each model's report and card.

All of it comes from this package or from the bundle; nothing is loaded from elsewhere, which each answer's content-security policy
enforces. File names are looked up in a fixed list, so that no request becomes a path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sightline.drawing.colours import FIRST, ROUNDS, colour_of
from sightline.explanation.heat import COLOURS, COOL, HOT, RING

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A report is one file with its own style inside, and no script. It comes with the bundle, so it is shown as a stranger's page:
# it belongs to no origin, sends no form and runs nothing, whatever it holds.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox"
)
SCRIPT, STYLE, PAGE = "text/javascript; charset=utf-8", "text/css; charset=utf-8", "text/html; charset=utf-8"
# The files below page/ that are given out, and as what.
FILES = {
    "page.css": STYLE, "page.js": SCRIPT, "api.js": SCRIPT, "answers.js": SCRIPT, "camera.js": SCRIPT, "card.js": SCRIPT,
    "copying.js": SCRIPT, "docs.js": SCRIPT, "elements.js": SCRIPT, "explanation.js": SCRIPT, "heat.js": SCRIPT, "picture.js": SCRIPT,
    "result.js": SCRIPT, "icon.svg": "image/svg+xml",
}  # fmt: skip
# What a model's bundle may show, by the last part of the address: the member's role, its type and its policy.
MEMBERS = {"report": ("report", PAGE, REPORT_POLICY), "card": ("card", "text/markdown; charset=utf-8", "default-src 'none'; sandbox")}

Member = Callable[[str, str], bytes | None]
"""A model's name and a role of its bundle to that member's bytes; None where there is no such model or it has no such member."""


def routes(member: Member) -> list[BaseRoute]:
    """``/``, ``/page/NAME``, ``/docs``, ``/card/NAME``, ``/v1/models/NAME/report`` and ``/v1/models/NAME/card``."""
    served = {f"/page/{name}": (name, kind) for name, kind in FILES.items()} | {"/": ("index.html", PAGE), "/docs": ("docs.html", PAGE)}
    found: list[BaseRoute] = [Route(path, _file(*what)) for path, what in served.items()]
    found.append(Route("/page/theme.css", _answering(_theme, STYLE)))
    found.append(Route("/page/colours.js", _answering(_colours, SCRIPT)))
    found.append(Route("/card/{name}", _file("card.html", PAGE)))
    return found + [Route(f"/v1/models/{{name}}/{last}", _member(member, last)) for last in MEMBERS]


def _file(name: str, kind: str) -> Callable[[Request], Any]:
    return _answering(lambda: _content(name), kind)


def _answering(content: Callable[[], bytes], kind: str) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        return _answer(request, content(), kind, PAGE_POLICY)

    return answer


def _member(member: Member, last: str) -> Callable[[Request], Any]:
    role, kind, policy = MEMBERS[last]

    # Not async, so that it is run in a thread: a report has megabytes to read and to hash.
    def answer(request: Request) -> Response:
        name = request.path_params["name"]
        data = member(name, role)
        if data is None:
            return JSONResponse({"error": f"There is no {last} of a model {name!r} here: see /v1/models."}, 404)
        return _answer(request, data, kind, policy)

    return answer


def _answer(request: Request, data: bytes, kind: str, policy: str) -> Response:
    """The data, or 304 to a browser that has them already."""
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {
        "Content-Type": kind, "ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    }  # fmt: skip
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers=headers) if tag in known else Response(data, headers=headers)


@cache
def _content(name: str) -> bytes:
    return (resources.files("sightline.serving") / "page" / name).read_bytes()


@cache
def _theme() -> bytes:
    """The colours and letters that the page shares with the report."""
    return (resources.files("sightline.drawing") / "theme.css").read_bytes()


@cache
def _colours() -> bytes:
    """The colours that ``predict --save`` and ``explain`` draw with, as a script module, so that they are the same on the page."""
    classes = [f"#{bytes(colour_of(index)).hex()}" for index in range(len(FIRST) * len(ROUNDS))]
    heat = {"colours": COLOURS, "cool": COOL, "hot": HOT, "ring": RING}
    return f"export const CLASSES = {json.dumps(classes)};\nexport const HEAT = {json.dumps(heat)};\n".encode()
