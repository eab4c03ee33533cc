"""Room for so many images under way. What does not fit is declined before it is read, which costs next to nothing."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from sightline.serving.declined import Application, Declined, Receive, Scope, Send

# How many images the rate is taken from, and the bounds of what a client is told to wait, in seconds.
RECENT, LEAST_WAIT, MOST_WAIT = 64, 1, 60
PREDICT = "/v1/predict"
# What of a declined request's body is read all the same, in bytes and seconds: a connection that is closed before its client has sent
# everything is reset, and the client would see that instead of its answer.
MOST_DRAINED, DRAIN_SECONDS = 8_000_000, 10.0
# Answered while stopping too: whoever runs the server asks them.
ALWAYS = ("/healthz", "/readyz", "/metrics")


class Places:
    """Counted on the event loop, so that nothing is locked. ``open`` turns false when the server stops: nobody enters any more."""

    def __init__(
        self, images: int, *, told: Callable[[int], object] = lambda taken: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Room for so many images; ``told`` hears whenever another number of places is taken."""
        self.images = images
        self.taken = 0
        self.open = True
        self._told, self._clock = told, clock
        self._busy, self._changed = 0.0, clock()
        # Of the images answered last, how long anything had been under way when each was: quiet times say nothing of the rate.
        self._finished: deque[float] = deque(maxlen=RECENT)

    def objection(self) -> Declined | None:
        """Why a request cannot enter now; None where it can."""
        if not self.open:
            return Declined(503, "The server is stopping: send the request to another, or again later.", LEAST_WAIT, close=True)
        return self.lack(1)

    def lack(self, images: int) -> Declined | None:
        """Why there is no room for so many more; None where there is."""
        if self.taken + images <= self.images:
            return None
        return Declined(503, f"The server is busy with {self.taken} images: send the request again later.", self._wait())

    def enter(self) -> Stay:
        """A place for the first image of a request. Raises Declined."""
        if objection := self.objection():
            raise objection
        stay = Stay(self)
        stay.grow(1)
        return stay

    def take(self, images: int) -> None:
        self._busy, self._changed = self._busy_until_now(), self._clock()
        self.taken += images
        self._told(self.taken)

    def give_back(self, images: int, answered: bool) -> None:
        """Places of images; from those that were answered the rate is known."""
        self.take(-images)
        if answered:
            self._finished.extend([self._busy] * images)

    def _busy_until_now(self) -> float:
        """Seconds in which anything was under way."""
        return self._busy + (self._clock() - self._changed if self.taken else 0.0)

    def _wait(self) -> int:
        """Seconds until what is under way now will be done, at the rate of late."""
        if len(self._finished) < 2:
            return LEAST_WAIT
        seconds_each = (self._busy_until_now() - self._finished[0]) / len(self._finished)
        return max(LEAST_WAIT, min(MOST_WAIT, math.ceil(self.taken * seconds_each)))


class Stay:
    """The places of one request, given back at the end of a ``with``."""

    def __init__(self, places: Places) -> None:
        self.images = 0
        self._places = places

    def grow(self, images: int) -> None:
        """Further images of a request that was let in. Raises Declined where there is no room for them."""
        if lack := self._places.lack(images):
            raise lack
        self.images += images
        self._places.take(images)

    def __enter__(self) -> Stay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._places.give_back(self.images, answered=kind is None)


def at_the_door(application: Application, places: Places) -> Application:
    """The application, with requests that have no chance declined before it hears of them."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in ALWAYS:
            heavy = scope["path"] == PREDICT and scope["method"] == "POST"
            objection = places.objection() if heavy or not places.open else None
            if objection is not None:
                await _drain(receive)
                return await objection.sent(send)
        return await application(scope, receive, send)

    return answer


async def _drain(receive: Receive) -> None:
    """Read a body and forget it, as far as that is not too much."""
    came, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while more and came <= MOST_DRAINED:
                message = await receive()
                came, more = came + len(message.get("body", b"")), bool(message.get("more_body", False))
