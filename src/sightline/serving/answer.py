"""What a request that is not let through is answered: a status and one sentence as JSON, with the headers that every answer carries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]
"""Names in small letters and values, as ASGI has them."""

# What every answer carries unless its route says otherwise. The page's camera is the one thing of a browser that is asked for.
SECURITY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
]


def secured(headers: Headers) -> Headers:
    """The headers of an answer with those of SECURITY that it lacks, and with none that let another site read it."""
    kept = [(name.lower(), value) for name, value in headers if not name.lower().startswith(b"access-control-")]
    there = {name for name, _ in kept}
    return kept + [(name, value) for name, value in SECURITY if name not in there]


@dataclass(frozen=True)
class Answer:
    """Why a request is not let through: an HTTP status, one sentence, and what else the answer's head says."""

    status: int
    sentence: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        return json.dumps({"error": self.sentence}).encode()

    def head(self, *, close: bool) -> Headers:
        """The headers of the answer; ``close`` says that nothing more is read from the connection."""
        shape: Headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body)).encode())]
        return secured([*shape, *self.headers, *([(b"connection", b"close")] if close else [])])

    def raw(self) -> bytes:
        """The whole answer as it goes over the wire, for connections on which no request was understood; the last on its connection."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}".encode()]
        lines += [name + b": " + value for name, value in self.head(close=True)]
        return b"\r\n".join([*lines, b"", self.body])
