"""How long and how large the head of a request may be, how much may stand around a body, and how many connections there are.

An ASGI application first hears of a request when its head is complete; who sends a byte a minute ("slow loris") never gets that far,
and is dealt with here, on top of uvicorn's protocols. Answers that nobody takes are given up as well.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any, ClassVar

from sightline.serving.answer import Answer

BAD = Answer(400, "This is not a request that HTTP allows.")
LARGE_HEAD = Answer(431, "The head of the request is too large.")
LATE = Answer(408, "The head of the request took too long to arrive.")
FULL = Answer(503, "The server has as many connections as it takes; try again.", ((b"retry-after", b"1"),))

# Bytes read from a connection before the others have their turn: hundreds that send at once would else have megabytes each lie here.
READ_BYTES = 64 * 1024
# Bytes that may stand around each byte of a body sent in chunks: their lengths, and what may follow those (RFC 9112, 7.1).
AROUND = 8


def protocol_class() -> type[asyncio.Protocol]:
    """What to give to uvicorn as ``http``: on httptools where it is installed, else on h11, which needs no compiler and is slower."""
    if find_spec("httptools"):
        from sightline.serving.httptools_protocol import WatchedHttptools

        return WatchedHttptools
    from sightline.serving.h11_protocol import WatchedH11

    return WatchedH11


class Watched(asyncio.Protocol):
    """What the protocols on httptools and on h11 share: put before uvicorn's class, it needs to be told when a head begins and ends,
    and when a body ends, and ``in_body`` to say whether one is coming.

    head_seconds        for a whole head, from its first byte (the first on a connection: from the connection on)
    head_bytes          of a head that is not complete (one that came at once is the guard's to judge), and of what stands around a body
                        and behind it, beyond AROUND for each byte of its own
    answer_seconds      in which a client must take some of what is waiting for it
    most_connections    in this process
    """

    head_seconds: ClassVar[float] = 10.0
    head_bytes: ClassVar[int] = 32 * 1024
    answer_seconds: ClassVar[float] = 30.0
    most_connections: ClassVar[int] = 1000

    _head_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None
    _waiting = 0
    _spoken = False
    # Bytes that may still come before a head is complete, or around a body.
    spare = head_bytes

    def connection_made(self: Any, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # of asyncio's own transports, a quarter of a megabyte by default
        if len(self.connections) > self.most_connections:
            self.refuse(FULL)
        else:
            self.head_begins()

    def data_received(self: Any, data: bytes) -> None:
        self._spoken = True
        super().data_received(data)

    def connection_lost(self: Any, exc: Exception | None) -> None:
        self.head_ends()
        self._stop_watching_answer()
        super().connection_lost(exc)

    def head_begins(self: Any) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def head_ends(self: Any) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self: Any) -> None:
        self._head_timer = None
        if not self._spoken:
            # Browsers connect ahead; an answer to nothing would be taken for one to what they ask next.
            self.transport.close()
        elif self.answering:
            # The next request's head waits behind this one; it is given its time once more.
            self.head_begins()
        else:
            self.refuse(LATE)

    @property
    def answering(self: Any) -> bool:
        """Whether a request is with the application."""
        return self.cycle is not None and not self.cycle.response_complete

    def refuse(self: Any, answer: Answer) -> None:
        """Answer what cannot be read any further, and close. An answer that has begun is left as it is."""
        self.head_ends()
        if self.transport.is_closing():
            return
        if not (self.answering and self.cycle.response_started):
            self.transport.write(answer.raw())
        self.transport.close()
        self.watch_answer()

    def send_400_response(self: Any, msg: str) -> None:
        """Takes the place of uvicorn's, which is in words of its own and without the headers that every answer carries."""
        self.refuse(BAD)

    def on_response_complete(self: Any) -> None:
        super().on_response_complete()  # type: ignore[misc]  # of uvicorn's classes
        if self.cycle.response_complete:
            self.cycle.body = bytearray()  # uvicorn would keep what nobody read of it for as long as the connection is idle
        if self.transport.is_closing():
            self.watch_answer()
        elif self.in_body:
            # What is left of the body is thrown away; that and the next head have the time of a head.
            self.head_begins()

    def body_ends(self: Any) -> None:
        """A body has come whole. Where its answer came before, the connection is idle from now on, as after any other answer."""
        if self.cycle is not None and self.cycle.response_complete and not self.transport.is_closing():
            self.head_ends()
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self: Any) -> None:
        super().timeout_keep_alive_handler()  # type: ignore[misc]
        self.watch_answer()

    def pause_writing(self: Any) -> None:
        super().pause_writing()
        self.watch_answer()

    def resume_writing(self: Any) -> None:
        super().resume_writing()
        self._stop_watching_answer()

    def watch_answer(self: Any) -> None:
        if self._answer_timer is None:
            self._waiting = self.transport.get_write_buffer_size()
            self._answer_timer = self.loop.call_later(self.answer_seconds, self._answer_is_late)

    def _answer_is_late(self: Any) -> None:
        self._answer_timer = None
        if self.transport.get_write_buffer_size() >= self._waiting:
            self.transport.abort()
        else:
            self.watch_answer()

    def _stop_watching_answer(self: Any) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
