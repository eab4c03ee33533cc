"""uvicorn's protocol on httptools, watched. httptools limits no size, so the bytes of heads and around bodies are counted."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sightline.serving.protocol import AROUND, BAD, LARGE_HEAD, Watched


class WatchedHttptools(Watched, HttpToolsProtocol):
    in_body = False

    def data_received(self, data: bytes) -> None:
        if not self.in_body:
            self.head_begins()
        self.spare -= len(data)
        super().data_received(data)
        if self.spare < 0:
            self.refuse(BAD if self.in_body else LARGE_HEAD)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.spare = self.head_bytes
        self.head_begins()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Those behind a body would be taken for headers by whoever has not looked at them yet.
        if not self.in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.head_ends()
        self.in_body = True
        self.spare = self.head_bytes
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.spare += (1 + AROUND) * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_body = False
        self.spare = self.head_bytes
        super().on_message_complete()
        self.body_ends()
