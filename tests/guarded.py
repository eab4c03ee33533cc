"""A request put to the guard, without a server: what came back, and what the application behind it saw."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

from hypothesis import HealthCheck, settings

from sightline.serving.guard import Limits, guarded

TOKEN = "a-token-of-some-length"
CONFIG = SimpleNamespace(host="127.0.0.1", port=8000, token=None, allow_host=None, max_upload=1000, max_files=3, timeout=5.0)
OPEN = replace(Limits.of(CONFIG), linger=0.0)
LOCKED = replace(OPEN, token=TOKEN)
HOST = ("host", "127.0.0.1:8000")
FORM = ("content-type", "multipart/form-data; boundary=line")

# Other work on the machine makes everything slow at times.
PATIENT = settings(suppress_health_check=[HealthCheck.too_slow])


@dataclass
class Reply:
    """What came back, and what the application behind the guard saw."""

    messages: list = field(default_factory=list)
    seen: list = field(default_factory=list)
    read: bytes = b""
    receives: int = 0

    @property
    def status(self):
        return self.messages[0]["status"]

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self):
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def error(self):
        return json.loads(self.body)["error"]


def ask(method="GET", path="/v1/models", headers=(HOST,), *, chunks=(b"",), limits=OPEN, answer=(), **scope):
    """One request through the guard to an application that reads all of it and answers 'done', with ``answer`` for headers."""
    reply = Reply()
    waiting = list(chunks)

    async def application(scope, receive, send):
        reply.seen.append(scope)
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client has gone")
            reply.read += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": list(answer)})
        await send({"type": "http.response.body", "body": b"done"})

    async def receive():
        reply.receives += 1
        if not waiting:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting) or chunks[-1:] == (None,)}

    async def send(message):
        reply.messages.append(message)

    waiting = [chunk for chunk in waiting if chunk is not None]
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    whole = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode("utf-8", "surrogatepass"), "query_string": b"",
        "scheme": "http", "server": ("127.0.0.1", 8000), "headers": pairs, **scope,
    }  # fmt: skip
    asyncio.run(guarded(application, limits)(whole, receive, send))
    reply.scope = whole
    return reply


def post(*headers, chunks=(b"",), **more):
    length = () if any(name == "transfer-encoding" for name, _ in headers) else (("content-length", str(sum(map(len, chunks)))),)
    return ask("POST", "/v1/predict", (HOST, *length, *headers), chunks=chunks, **more)
