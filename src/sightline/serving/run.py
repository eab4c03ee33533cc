"""A server from its start to its end: an address, the models, one process or several, and a stop that answers what was accepted."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from sightline import console
from sightline.config import ServeConfig
from sightline.errors import UsageError
from sightline.serving.app import behind_the_guard, create_app
from sightline.serving.metrics import Metrics
from sightline.serving.models import Models
from sightline.serving.places import Places
from sightline.serving.protocol import protocol_class
from sightline.serving.recording import AccessLog
from sightline.serving.token import VARIABLE, page_address, settled_token

# When everything is answered, clients are told for so many seconds that the server has stopped, and then those that are connected already.
FAREWELL_SECONDS, LAST_WORDS_SECONDS = 1.0, 1.0
SETTLING_SECONDS = 0.05
KEEP_ALIVE_SECONDS = 30
# In which a client must have taken its answer once the server stops.
LAST_SECONDS = 10
# Open files to ask for, and what is asked for where a system allows fewer than it says, as macOS does.
MOST_FILES = (65_536, 10_240, 4_096)

Ready = Callable[[Mapping[str, Any]], None]
"""Told once requests are taken: ``{"address", "models", "workers", "pid"}``."""


def serve(config: ServeConfig, paths: Mapping[str, Path], ready: Ready) -> None:
    """Serve bundles by name until SIGTERM or Ctrl-C.

    Raises UsageError for an address that cannot be listened at and a token that is worth nothing, and what ``Model.open`` raises.
    """
    token = settled_token(config.host, config.token, os.environ)
    made_up = token is not None and config.token is None and VARIABLE not in os.environ
    config = replace(config, token=token)
    listener = listening(config.host, config.port)
    port = listener.getsockname()[1]

    def started() -> None:
        if made_up:
            console.say(f"Requests need the token {token}; in a browser, open {page_address(config.host, port, token)}")
        facts = {"address": page_address(config.host, port, None).rstrip("/"), "models": list(paths), "workers": config.workers}
        ready(facts | {"pid": os.getpid()})

    with listener:
        if config.workers > 1:
            from sightline.serving.workers import supervise

            supervise(config, paths, listener, started)
        else:
            serve_here(config, paths, listener, started)


def serve_here(
    config: ServeConfig, paths: Mapping[str, Path], listener: socket.socket, started: Callable[[], None], *, worker: bool = False
) -> None:
    """Serve in this process, with all of the configuration's threads and places.

    worker  Ctrl-C, which reaches all processes of a terminal, is left to the one that started this one
    """
    _allow_connections()
    models = Models(dict(paths), config, Metrics()).open()
    log = AccessLog()
    app = create_app(models, config)
    settings = uvicorn.Config(
        behind_the_guard(app, log), http=protocol_class(), loop="asyncio", lifespan="off", ws="none", log_config=None, log_level="error",
        access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=LAST_SECONDS,
    )  # fmt: skip
    try:
        Server(settings, models, app.state.places, started, worker).run(sockets=[listener])
    finally:
        models.close()
        log.close()


class Server(uvicorn.Server):
    """uvicorn's, which stops in two steps: nothing more is accepted and all that was is answered; then the connections are closed."""

    def __init__(self, settings: uvicorn.Config, models: Models, places: Places, started: Callable[[], None], worker: bool) -> None:
        super().__init__(settings)
        self._ignored = (signal.SIGINT,) if worker else ()
        self._models, self._places, self._tell = models, places, started
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: list[socket.socket] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listeners = sockets or []
        self._loop = asyncio.get_running_loop()
        if self._models.config.watch:
            self._tasks.append(self._loop.create_task(self._models.watch()))
        self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops as soon as all is answered, the second at once."""
        if sig in self._ignored:
            return
        if self._loop is None or not self._places.open:
            self.should_exit = self.force_exit = True
        else:
            self._loop.call_soon_threadsafe(self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        if self._places.open:
            self._places.open = False
            self._tasks.append(asyncio.get_running_loop().create_task(self._stop()))

    async def _stop(self) -> None:
        try:
            while self._places.taken:
                await asyncio.sleep(0.02)
            await self._alone(FAREWELL_SECONDS)
            await self._close_listeners()
            await self._alone(LAST_WORDS_SECONDS)
        finally:
            self.should_exit = True

    async def _close_listeners(self) -> None:
        """Take whoever has connected so far, and nobody after them: who waits in the system's queue when it is closed is hung up on."""
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":  # whose loop has no readers
            for listener in self._listeners:
                loop.remove_reader(listener)
            await asyncio.sleep(SETTLING_SECONDS)  # a connection that asyncio has taken needs its server open until it is made
        waiting = [connection for listener in self._listeners for connection in _waiting(listener)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> Any:
        kind: Any = self.config.http_protocol_class
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _alone(self, seconds: float) -> None:
        """Until nobody is connected any more, or for so long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self.server_state.connections and loop.time() < until:
            await asyncio.sleep(0.02)


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to an address of this machine. Raises UsageError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it has a part that no name has"
        raise UsageError(f"--host {host}: is not an address of this machine ({reason}); leave it out for this machine only.") from error
    found = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have the same port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(2048)
    except OSError as error:
        found.close()
        raise UsageError(_why_not(host, port, error)) from error
    return found


def _waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections in the queue of a listener that does not block."""
    with suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port}: is taken by another program; give another, or 0 for any that is free."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: is not an address of this machine; leave it out for this machine only, or give 0.0.0.0 for all of them."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"--port {port}: may not be used by this user; give one from 1024 on."
    return f"--host {host} --port {port}: cannot be listened at ({error.strerror}); give others."


def _allow_connections() -> None:
    """As many open files as the system lets this user have, of which each connection is one."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in MOST_FILES:
        wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        if soft >= wanted:
            return
        with suppress(ValueError, OSError):  # a server with fewer connections is one all the same
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return
