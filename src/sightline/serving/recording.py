"""A line in the access log and a count for every request: time, method, path, status, images, milliseconds; nothing of what was sent."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sightline.serving.declined import GONE, Application, Message, Receive, Scope, Send
from sightline.serving.metrics import Metrics

# Where handlers of a request note what the log says of it.
NOTED = "sightline"
# Lines that may wait for whoever reads the log; beyond, requests go on and lines are dropped.
MOST_LINES = 10_000
# Paths by which requests are counted, so that a stranger cannot fill the memory with names; others have their first part, or "other".
COUNTED = ("/", "/v1/predict", "/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")
FAMILIES = ("/page/", "/card/", "/v1/models/")


@dataclass
class Noted:
    """Of one request."""

    images: int = 0


class AccessLog:
    """Lines to stderr, written by a thread of its own: whoever reads them slowly does not hold up requests."""

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write or _to_stderr
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def add(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, for so long as that is read."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            self._write(line + (f"\n! {dropped} lines of the access log were dropped, as nobody read them." if dropped else ""))


def recorded(application: Application, metrics: Metrics, log: AccessLog) -> Application:
    """The application, with each request counted and logged when its answer is out."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await application(scope, receive, send)
        started, status, noted = time.perf_counter(), GONE, Noted()
        scope[NOTED] = noted

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            return await application(scope, receive, sending)
        finally:
            seconds, path = time.perf_counter() - started, scope["path"]
            family = _family(path)
            metrics.requests.labels(family, str(status)).inc()
            metrics.seconds.labels(family).observe(seconds)
            log.add(f"{_now()} {scope['method']} {_plain(path)} {status} images={noted.images} {1000 * seconds:.1f}ms")

    return answer


def _family(path: str) -> str:
    if path in COUNTED:
        return path
    return next((family for family in FAMILIES if path.startswith(family)), "other")


def _plain(path: str) -> str:
    """A path on one line and of bounded length, whatever a client made of it."""
    return ascii(path[:200])[1:-1]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
