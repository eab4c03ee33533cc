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
# One that ends again and again is not started more often than this; while it cannot begin, after twice as long each time, up to that.
RESTART_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0


@dataclass
class _Worker:
    """``error``, why it could not begin; ``due``, of one that has ended, when another is started, by ``time.monotonic()``."""

    process: Any
    line: Connection
    ready: bool = False
    error: SightlineError | None = None
    due: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it has not said yet that it is ready, or why it cannot be."""
        return not self.ready and self.error is None and self.due is None


def supervise(config: ServeConfig, paths: Mapping[str, Path], listener: socket.socket, started: Callable[[], None]) -> None:
    """Start the workers and keep them running until this process is told to stop; then let each answer what it has accepted.

    Raises what a worker raises that cannot open its models, unless all have been ready and another still serves.
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
        self.signals = 0
        self.serving = False
        self.pause = RESTART_SECONDS

    @property
    def stopping(self) -> bool:
        return self.signals > 0

    def run(self, started: Callable[[], None]) -> None:
        earlier = {kind: signal.signal(kind, self._signalled) for kind in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.workers = [self.start()]
            self._until_ready()
            self.workers += [self.start() for _ in range(self.count - 1)]
            self._until_ready()
            if not self.stopping:
                started()
            self.serving = True
            while not self.stopping:
                self._look()
        finally:
            self._end()
            for kind, handler in earlier.items():
                signal.signal(kind, handler)

    def _signalled(self, number: int, frame: Any) -> None:
        self.signals += 1

    def _until_ready(self) -> None:
        while not self.stopping and not all(worker.ready for worker in self.workers):
            self._look()

    def _look(self) -> None:
        """Hear what workers say, and replace those that have ended."""
        running = [worker for worker in self.workers if worker.due is None]
        wait([worker.process.sentinel for worker in running] + [worker.line for worker in running if worker.is_silent], LOOK_SECONDS)
        for place, worker in enumerate(self.workers):
            if worker.is_silent and worker.line.poll():
                self._hear(worker)
            if worker.due is None and not worker.process.is_alive():
                self._ended(worker)
            if worker.due is not None and time.monotonic() >= worker.due and not self.stopping:
                self.workers[place] = self.start()

    def _hear(self, worker: _Worker) -> None:
        try:
            worker.error = worker.line.recv()
        except EOFError:
            return
        if worker.error is None:
            worker.ready, self.pause = True, RESTART_SECONDS
        elif not self._others_serve():
            raise worker.error

    def _ended(self, worker: _Worker) -> None:
        """Another takes its place in a while; raises where it could not begin and none is left that serves."""
        if self.stopping:
            return
        from prometheus_client.multiprocess import mark_process_dead

        code = worker.process.exitcode
        mark_process_dead(worker.process.pid)
        worker.due = time.monotonic() + (RESTART_SECONDS if worker.ready else self.pause)
        if worker.ready:
            worker.ready = False
            console.warn(f"A worker ended (exit code {code}); another is started.")
            return
        error = worker.error or ResourceError(f"A worker ended before it was ready (exit code {code}); try fewer --workers.")
        if not self._others_serve():
            raise error
        console.warn(f"{error} A worker could not be started; the others serve on, and it is tried again in {self.pause:g} s.")
        self.pause = min(2 * self.pause, LONGEST_PAUSE_SECONDS)

    def _others_serve(self) -> bool:
        """Whether a worker that cannot begin may be tried again: all have been ready once, and one still is."""
        return self.serving and any(worker.ready and worker.process.is_alive() for worker in self.workers)

    def _end(self) -> None:
        """Have every worker answer what it has accepted; on a further signal, end at once."""
        self.listener.close()  # it listens for as long as any process has it open
        told = 0
        while running := [worker.process for worker in self.workers if worker.process.is_alive()]:
            if not told or self.signals > told:
                told = max(1, min(self.signals, told + 1))
                for process in running:
                    process.terminate()
            wait([process.sentinel for process in running], LOOK_SECONDS)
        for worker in self.workers:
            worker.process.join()
