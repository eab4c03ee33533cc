"""What stands before the server's routes: every request is judged by its head and while its body comes, every answer is locked down.

Plain ASGI (version 3), around any ASGI application. In order: Host, path and method, pages of other sites, token, body. The application
sees copies of what was judged, so that nothing which comes later (trailers are put behind the headers) changes it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sightline.serving.answer import Answer, secured
from sightline.serving.hosts import READING, Hosts, cross_site
from sightline.serving.parts import Parts
from sightline.serving.token import cookie, needs_none, same, shows_token, without_token
from sightline.serving.upload import DIGITS, LARGEST_AT_ONCE, Declared, Message, Receive, Room, Upload, declared

if TYPE_CHECKING:
    from sightline.config.serving import ServeConfig

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS = (*READING, "POST")
MOST_PATH, MOST_HEAD = 1024, 32 * 1024
# A body that is left unread is thrown away if it is no longer than this; else the connection is closed, after so many seconds: closing
# while the other side still sends can wipe out the answer before it is seen.
MOST_THROWN_AWAY, LINGER = 1_000_000, 0.5

_logger = logging.getLogger("sightline.serving")
# What no path of this server has, in the bytes as they were sent: escapes of slashes, backslashes and control characters, and these.
_ODD_ESCAPE = re.compile(rb"%(?![0-9a-f]{2})|%(?:2f|5c|[01][0-9a-f]|7f)|[\\\x00-\x20\x7f-\xff]", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """What is let through. ``most_bytes`` of a body, ``seconds`` for the whole of it, ``room`` for the bytes of all bodies under way."""

    hosts: Hosts
    token: str | None
    most_bytes: int
    most_files: int
    seconds: float
    room: int
    linger: float = LINGER

    @classmethod
    def of(cls, config: ServeConfig) -> Limits:
        hosts = Hosts.of(config.host, config.allow_host)
        return cls(hosts, config.token, config.max_upload, config.max_files, config.timeout, LARGEST_AT_ONCE * config.max_upload)


def guarded(app: App, config: ServeConfig | Limits) -> App:
    """The application behind the guard. ``config.token`` is what is asked for, so it is settled before (``token.settled_token``)."""
    limits = config if isinstance(config, Limits) else Limits.of(config)

    room = Room(limits.room)

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _Request(app, limits, room, scope, receive, send).answered()

    return guard


class _Request:
    """One request on its way through the guard."""

    def __init__(self, app: App, limits: Limits, room: Room, scope: Scope, receive: Receive, send: Send) -> None:
        self.app, self.limits, self.room = app, limits, room
        self.scope, self.receive, self.send = scope, receive, send
        self.headers = _by_name(scope["headers"])
        self.upload: Upload | None = None
        self.started = self.refused = self.close = False

    async def answered(self) -> None:
        # First of all, before anything can log the address.
        self.scope["query_string"], shown = without_token(self.scope.get("query_string", b""))
        refusal = self._head_problem(shown)
        body = declared(self.scope["method"], self.headers, self.limits.most_bytes) if refusal is None else refusal
        if isinstance(body, Answer):
            await self._refuse(body)
        else:
            await self._let_through(body)

    def _head_problem(self, shown: Sequence[str]) -> Answer | None:
        scope, limits = self.scope, self.limits
        refusal = limits.hosts.problem(self.headers.get("host", ()), scope.get("server"), scope.get("scheme", "http"))
        for problem in (_size_problem, _path_problem, _method_problem):
            refusal = refusal or problem(scope)
        refusal = refusal or cross_site(scope["method"], self.headers)
        if refusal or limits.token is None:
            return refusal
        port = (scope.get("server") or ("", None))[1]
        reading = scope["method"] in READING
        if shown and reading and scope["path"] == "/":
            if same(shown[-1], limits.token):
                return _entrance(scope, cookie(limits.token, port, scope.get("scheme", "http")))
        elif (reading and needs_none(scope["path"])) or shows_token(self.headers, limits.token, port):
            return None
        sentence = "This server asks for its token: 'Authorization: Bearer TOKEN', or in a browser the address printed when it started."
        return Answer(401, sentence, ((b"www-authenticate", b"Bearer"),))

    async def _let_through(self, body: Declared) -> None:
        limits = self.limits
        due = asyncio.get_running_loop().time() + limits.seconds
        parts = Parts(body.boundary, limits.most_files) if body.boundary else None
        self.upload = Upload(self.receive, self._refuse, parts, self.room, limits.most_bytes, due, complete=not body.has_body)
        # A head is a reading of which the body is left out, on every route.
        method = "GET" if self.scope["method"] == "HEAD" else self.scope["method"]
        inner = {**self.scope, "method": method, "headers": list(self.scope["headers"])}
        try:
            await self.app(inner, self.upload, self._send)
        except Exception:
            # What an application makes of a client that has gone is of no interest once the refusal is out.
            if self.started and not self.refused:
                raise
            if not self.refused:
                _logger.exception("A request failed.")
                await self._refuse(Answer(500, "The server failed at this request; its log says why."))
        finally:
            self.room.give_back(self.upload.held)

    async def _send(self, message: Message) -> None:
        """The application's answer, locked down; nothing of it once a refusal is out."""
        if self.refused:
            return
        if message["type"] == "http.response.start":
            self.started = True
            headers = [(name.lower(), value) for name, value in message.get("headers", [])]
            closed = (b"connection", b"close") in headers
            self.close = self._leaves() > (0 if closed else MOST_THROWN_AWAY)
            close = [(b"connection", b"close")] if self.close and not closed else []
            await self.send({**message, "headers": secured([*headers, *close])})
        elif message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            await self.send(message)

    async def _refuse(self, answer: Answer) -> None:
        """Answer by itself, unless the application has begun to: then the line is cut by leaving that unfinished."""
        self.refused = True
        if self.started:
            return
        self.started = True
        self.close = answer.status == 408 or self._leaves() > MOST_THROWN_AWAY
        await self.send({"type": "http.response.start", "status": answer.status, "headers": answer.head(close=self.close)})
        await self._send_body(answer.body)

    async def _send_body(self, body: bytes, *, more: bool = False) -> None:
        body = b"" if self.scope["method"] == "HEAD" else body
        if self.close and not more:
            await self.send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(self.limits.linger)
            body = b""
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    def _leaves(self) -> float:
        """How many bytes of the body may still be to come; infinitely many where that is not clear."""
        if self.upload and self.upload.complete:
            return 0
        lengths = self.headers.get("content-length", [])
        clear = "transfer-encoding" not in self.headers and len(lengths) < 2 and all(DIGITS.fullmatch(length) for length in lengths)
        return sum(map(int, lengths)) if clear else math.inf


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> Mapping[str, list[str]]:
    """Every value of every header, by its name in small letters."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())
    return found


def _entrance(scope: Scope, line: str) -> Answer:
    """To the page, with the token in a cookie and no longer in the address."""
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    return Answer(303, "The token is in a cookie now.", ((b"location", b"/" + query), (b"set-cookie", line.encode())))


def _size_problem(scope: Scope) -> Answer | None:
    size = len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"])
    return Answer(431, f"The headers and the query have more than {MOST_HEAD} bytes.") if size > MOST_HEAD else None


def _path_problem(scope: Scope) -> Answer | None:
    path = scope["path"]
    sent = scope.get("raw_path") or path.encode("utf-8", "surrogatepass")
    if len(sent) > MOST_PATH or not path.startswith("/"):
        return Answer(400, f"The path must begin with '/' and be at most {MOST_PATH} bytes long.")
    if _ODD_ESCAPE.search(sent) or "\ufffd" in path:
        return Answer(400, "The path has characters that no path of this server has.")
    if {".", "..", ""} & set(path.split("/")[1:-1]) or path.rsplit("/", 1)[1] in (".", ".."):
        return Answer(404, "There is nothing at this path.")
    return None


def _method_problem(scope: Scope) -> Answer | None:
    if scope["method"] in METHODS:
        return None
    return Answer(405, f"Only {', '.join(METHODS)} are understood.", ((b"allow", ", ".join(METHODS).encode()),))
