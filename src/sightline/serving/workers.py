"""Several processes that share one port: each has the models open, with its share of the threads and of the places.

The first that is ready has measured which engine is fastest here, so that the others need not. A worker that ends by itself is replaced.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from sightline import console
from sightline.config import ServeConfig
from sightline.errors import ResourceError, SightlineError
from sightline.processor import processors
from sightline.serving.metrics import SHARED

LOOK_SECONDS = 0.2
# One that ends again and again is not started more often than this.
RESTART_SECONDS = 1.0


@dataclass
class _Worker:
    process: Any
    line: Connection
    ready: bool = False


def supervise(config: ServeConfig, paths: Mapping[str, Path], listener: socket.socket, started: Callable[[], None]) -> None:
    """Start the workers and keep them running until this process is told to stop; then let each answer what it has accepted.

    Raises what the first worker that cannot open its models raises.
    """
    threads = max(1, (config.threads or processors()) // config.workers)
    share = replace(config, workers=1, threads=threads, queue=max(1, config.queue // config.workers))
    with tempfile.TemporaryDirectory(prefix="sightline-figures-") as figures:
        os.environ[SHARED] = figures
        try:
            _Supervisor(config.workers, lambda: _start(share, paths, listener), listener).run(started)
        finally:
            del os.environ[SHARED]


def _start(config: ServeConfig, paths: Mapping[str, Path], listener: socket.socket) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(config, dict(paths), listener, theirs), name="sightline worker")
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(config: ServeConfig, paths: dict[str, Path], listener: socket.socket, line: Connection) -> None:
    """What a worker does. It tells over the line that it is ready, or why it cannot be; when the line breaks, its parent is gone."""
    from sightline.serving.run import serve_here

    def started() -> None:
        line.send(None)
        threading.Thread(target=_stop_with, args=(line,), daemon=True).start()

    try:
        serve_here(config, paths, listener, started, worker=True)
    except SightlineError as error:
        line.send(error)


def _stop_with(line: Connection) -> None:
    with suppress(EOFError, OSError):
        line.recv()
    os.kill(os.getpid(), signal.SIGTERM)


class _Supervisor:
    def __init__(self, count: int, start: Callable[[], _Worker], listener: socket.socket) -> None:
        self.count, self.start, self.listener = count, start, listener
        self.workers: list[_Worker] = []
        self.stopping = False

    def run(self, started: Callable[[], None]) -> None:
        earlier = {kind: signal.signal(kind, self._signalled) for kind in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.workers = [self.start()]
            self._until_ready()
            self.workers += [self.start() for _ in range(self.count - 1)]
            self._until_ready()
            if not self.stopping:
                started()
            while not self.stopping:
                self._look()
        finally:
            self._end()
            for kind, handler in earlier.items():
                signal.signal(kind, handler)

    def _signalled(self, number: int, frame: Any) -> None:
        self.stopping = True

    def _until_ready(self) -> None:
        while not self.stopping and not all(worker.ready for worker in self.workers):
            self._look()

    def _look(self) -> None:
        """Hear what workers say, and replace those that have ended."""
        watched = [worker.process.sentinel for worker in self.workers] + [worker.line for worker in self.workers if not worker.ready]
        wait(watched, LOOK_SECONDS)
        for worker in list(self.workers):
            if not worker.ready and worker.line.poll():
                self._hear(worker)
            if not worker.process.is_alive() and not self.stopping:
                self._replace(worker)

    def _hear(self, worker: _Worker) -> None:
        try:
            said = worker.line.recv()
        except EOFError:
            return
        if said is not None:
            raise said
        worker.ready = True

    def _replace(self, worker: _Worker) -> None:
        code = worker.process.exitcode
        if not worker.ready:
            raise ResourceError(f"A worker ended before it was ready (exit code {code}); try fewer --workers.")
        from prometheus_client.multiprocess import mark_process_dead

        console.warn(f"A worker ended (exit code {code}); another is started.")
        mark_process_dead(worker.process.pid)
        time.sleep(RESTART_SECONDS)
        self.workers[self.workers.index(worker)] = self.start()

    def _end(self) -> None:
        self.listener.close()  # it listens for as long as any process has it open
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join()
