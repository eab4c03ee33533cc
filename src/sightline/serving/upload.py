"""How much of a request's body is taken, and for how long: judged from its headers before it is read, and again while it comes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sightline.serving.answer import Answer
from sightline.serving.hosts import READING
from sightline.serving.parts import Parts, boundary_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

# Bodies under way in a process may come to so many times the largest that one request may have.
LARGEST_AT_ONCE = 16
DIGITS = re.compile("[0-9]{1,18}")


@dataclass(frozen=True)
class Declared:
    """What the headers say of a body: how many bytes, None where only its end will tell, and the boundary of its parts if it has any."""

    length: int | None
    boundary: bytes | None

    @property
    def has_body(self) -> bool:
        return self.length != 0


def declared(method: str, headers: Mapping[str, Sequence[str]], most: int) -> Declared | Answer:
    """What a request's headers say of its body, or why it is refused before one byte of it is read."""
    lengths, codings = headers.get("content-length", ()), headers.get("transfer-encoding", ())
    if len(lengths) + len(codings) > 1:
        return Answer(400, "The request says in more than one way how long it is.")
    if codings and codings[0].lower() != "chunked":
        return Answer(400, "The only Transfer-Encoding that is understood is 'chunked'.")
    if lengths and not DIGITS.fullmatch(lengths[0]):
        return Answer(400, "The Content-Length is not a number.")
    length = None if codings else int(lengths[0]) if lengths else 0
    if length is not None and length > most:
        return too_large(most)
    if method in READING and length != 0:
        return Answer(400, f"A {method} request has no body.")
    if [coding for coding in headers.get("content-encoding", ()) if coding.lower() != "identity"]:
        return Answer(415, "Bodies that are compressed are not taken.")
    kinds = headers.get("content-type", ())
    if len(kinds) > 1:
        return Answer(400, "The request has more than one Content-Type.")
    boundary = boundary_of(kinds[0]) if kinds else None
    return boundary if isinstance(boundary, Answer) else Declared(length, boundary)


def too_large(most: int) -> Answer:
    return Answer(413, f"The request is larger than {most} bytes, which --max-upload allows.")


@dataclass
class Room:
    """Bytes of the bodies under way in this process, of which there are never more than ``most``. Those that have come count, not those
    that were announced: else a few connections that send nothing could keep everyone out.
    """

    most: int
    held: int = 0

    def take(self, count: int) -> bool:
        """Make room for so many bytes; False where there is none."""
        if self.held + count > self.most:
            return False
        self.held += count
        return True

    def give_back(self, count: int) -> None:
        self.held -= count


@dataclass
class Upload:
    """``receive`` of one request: the same messages, until something is wrong with what comes.

    Then ``refuse`` is called with the refusal, and whoever reads is told that the client has gone.

    due     the loop's time by which the whole body must have come
    held    the bytes that this request has of the room, which whoever made this gives back
    """

    receive: Receive
    refuse: Callable[[Answer], Awaitable[None]]
    parts: Parts | None
    room: Room
    most: int
    due: float
    complete: bool
    held: int = field(default=0, init=False)
    refused: bool = field(default=False, init=False)

    async def __call__(self) -> Message:
        if self.refused:
            return {"type": "http.disconnect"}
        if self.complete:
            return await self.receive()
        try:
            async with asyncio.timeout_at(self.due):
                message = await self.receive()
        except TimeoutError:
            return await self._stop(Answer(408, "The request took too long to arrive."))
        if message["type"] == "http.request":
            if refusal := self._problem(message.get("body", b"")):
                return await self._stop(refusal)
            self.complete = not message.get("more_body", False)
        return message

    def _problem(self, chunk: bytes) -> Answer | None:
        if self.held + len(chunk) > self.most:
            return too_large(self.most)
        if not self.room.take(len(chunk)):
            return Answer(503, "The server is busy with other uploads; try again.", ((b"retry-after", b"1"),))
        self.held += len(chunk)
        return self.parts.problem(chunk) if self.parts else None

    async def _stop(self, refusal: Answer) -> Message:
        self.refused = True
        await self.refuse(refusal)
        return {"type": "http.disconnect"}
