"""uvicorn's protocol on httptools, watched. httptools limits no size, so the bytes of heads and around bodies are counted."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sightline.serving.protocol import LARGE_HEAD, Watched

# Bytes that may stand around each byte of a body sent in chunks: their lengths, and what may follow those (RFC 9112, 7.1).
AROUND = 8


class WatchedHttptools(Watched, HttpToolsProtocol):
    in_body = False
    # Bytes that may still come before the head is complete, or beyond the body's own.
    _spare = Watched.head_bytes

    def data_received(self, data: bytes) -> None:
        if not self.in_body:
            self.head_begins()
        self._spare -= len(data)
        super().data_received(data)
        if self._spare < 0:
            self.refuse(self.problem if self.in_body else LARGE_HEAD)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._spare = self.head_bytes
        self.head_begins()

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self.head_bytes:
            self.problem = LARGE_HEAD
            # The parser hands on any exception as an error of the request, after which nothing of it is read.
            raise ValueError(LARGE_HEAD.sentence)
        self.head_ends()
        self.in_body = True
        self._spare = self.head_bytes
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._spare += (1 + AROUND) * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_body = False
        self._spare = self.head_bytes
        super().on_message_complete()
