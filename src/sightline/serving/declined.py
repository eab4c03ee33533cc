"""A request that the application does not serve, as a status and one sentence; what the guard before it refuses is in ``refusal``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

# What ASGI calls an application, and what it hands to one.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# What nginx logs for a client that has gone before its answer; nobody receives it.
GONE = 499


class Declined(Exception):
    """Answered as ``{"error": sentence}``; ``retry_after`` are seconds, and ``close`` ends the connection."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None, *, close: bool = False) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence
        retry = {} if retry_after is None else {"retry-after": str(retry_after)}
        self.headers = retry | ({"connection": "close"} if close else {})

    @property
    def body(self) -> bytes:
        return encoded({"error": self.sentence})

    async def sent(self, send: Send) -> None:
        """Answer with it, without an application between."""
        body = self.body
        headers = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})


def encoded(content: Any) -> bytes:
    """JSON as it goes out; half of a surrogate pair, which a client's JSON may hold, goes back as it came."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
