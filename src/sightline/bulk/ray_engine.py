"""Bulk work by Ray actors, on this machine or a cluster. Ray is imported here and in ``looking.py`` only.

An actor holds an opened model and gets an order at a time; who dies is replaced, and only actors that have opened the model are given
anything, so that one for which there is no room (its machine is gone) holds nothing up. The driver holds names, never answers.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sightline import console
from sightline.bulk.orders import Order, Orders
from sightline.bulk.parts import Row, write_part
from sightline.bulk.plan import Chunk
from sightline.bulk.work import Job, Work
from sightline.errors import DeviceError, ResourceError, SightlineError, UsageError
from sightline.processor import processors

# Set before Ray is imported: nothing is sent anywhere, and no accelerator is hidden from anybody.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# With this at 0 Ray speaks over the loopback interface only. Its name is of other systems, where that is the default.
CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
THREADS = 4
# Bytes of Ray's store of objects, which holds the bundle and little else, beside the bundle; the least that Ray takes is 75 MB.
STORE_BYTES = 100_000_000
# So many workers that die before they have opened the model, without one that does, and it will not work.
MOST_FALSE_STARTS = 5
STARTS = 3
KNOCK_SECONDS = 10.0
PATIENCE_SECONDS = 30.0


class Hand:
    """An actor: a model that is open, in a process of its own."""

    def open(self, job: Job, bundle: bytes) -> str:
        """Open the model; what computes, in words."""
        with TemporaryDirectory() as folder:
            path = Path(folder, "model.sight")
            path.write_bytes(bundle)
            self.work = Work.open(job, path)
        return self.work.model.engine

    def write(self, chunk: Chunk) -> int:
        return self.work.write(chunk)

    def rows(self, chunk: Chunk) -> list[Row]:
        return self.work.rows(chunk.refs)


@dataclass(frozen=True)
class Crew:
    """How many workers there are to be, and the threads of each."""

    workers: int
    threads: int


@contextmanager
def connected(address: str | None, bundle_bytes: int) -> Iterator[Any]:
    """Ray, started here and ended afterwards, or connected to a cluster; one that the caller has started already is used as it is.

    Raises UsageError where Ray is not installed or the cluster does not answer.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield ray
        return
    ended_by = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            with keeping_to_itself():
                started(lambda: ray.init(address="local", num_cpus=processors(), include_dashboard=False, log_to_driver=False,
                                         logging_level="ERROR", object_store_memory=STORE_BYTES + 2 * bundle_bytes))  # fmt: skip
        else:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises Exception itself where it cannot start
        if address is None:
            raise ResourceError(f"--engine ray: Ray could not be started here ({_first_line(error)}).") from error
        raise UsageError(f"--address {address}: no Ray cluster answers there ({_first_line(error)}).") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ended_by)  # Ray puts its own there, which would hide that we were interrupted
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT; Ray would wait for many minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def load_ray() -> Any:
    """The library, told to report nothing; UsageError where it is not installed."""
    os.environ.update(QUIET)
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray: Ray is not installed; pip install 'sightline[scale]'.") from error
    return ray


@contextmanager
def keeping_to_itself() -> Iterator[None]:
    """While Ray starts here: it asks for no way to the internet, and starts no process whose only task is to report on its use.

    That one would ask the cloud's metadata service where it is even when reports are switched off.
    """
    from ray._private import node, ray_constants

    wanted, report = ray_constants.ENABLE_RAY_CLUSTER, node.Node.start_api_server
    os.environ[CLUSTER] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    node.Node.start_api_server = lambda *_, **__: None
    try:
        yield
    finally:
        del os.environ[CLUSTER]
        ray_constants.ENABLE_RAY_CLUSTER, node.Node.start_api_server = wanted, report


def started(start: Callable[[], Any]) -> Any:
    """What ``start`` gives; tried again where Ray gives up on itself, as it does after 30 seconds on a machine that is busy."""
    for _ in range(STARTS - 1):
        try:
            return start()
        except Exception as error:  # Ray raises Exception itself
            console.say(f"Ray could not be started ({_first_line(error)}); once more.")
    return start()


def crew_of(ray: Any, workers: int | None, threads: int | None) -> Crew:
    """As many workers as asked for, or as the machines have room for; together they have no more threads than processors."""
    sizes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    sizes = [size for size in sizes if size]
    if not sizes:
        raise DeviceError("--engine ray: no machine of the cluster has a processor to lend.")
    if threads is None:
        threads = min(THREADS, min(sizes)) if workers is None else min(max(1, sum(sizes) // workers), max(sizes))
    if threads > max(sizes):
        raise UsageError(f"--threads {threads}: no machine has so many processors; the largest has {max(sizes)}.")
    room = sum(size // threads for size in sizes)
    if workers is not None and workers > room:
        console.warn(f"There is room for {room} workers of {threads} threads, so {workers} take turns; --threads 1 makes more room.")
    return Crew(workers or room, threads)


def carry_out(ray: Any, job: Job, bundle: bytes, orders: Orders, crew: Crew) -> Iterator[int]:
    """Have all orders done; after each chunk, how many images it had.

    Raises what a worker raised, ResourceError where none can start.
    """
    job = replace(job, opening={**job.opening, "threads": crew.threads})
    foreman = _Foreman(ray, job, ray.put(bundle), orders, crew)
    try:
        yield from foreman.run()
    finally:
        foreman.dismiss()


class _Foreman:
    """Who is there, what each is at, and what comes next."""

    def __init__(self, ray: Any, job: Job, bundle: Any, orders: Orders, crew: Crew) -> None:
        self.ray, self.job, self.bundle, self.orders, self.crew = ray, job, bundle, orders, crew
        self.actor = ray.remote(num_cpus=crew.threads, max_restarts=0, max_task_retries=0)(Hand)
        self.opening: dict[Any, Any] = {}  # what is awaited -> the actor
        self.at_work: dict[Any, tuple[Any, Order]] = {}
        self.idle: list[Any] = []
        self.false_starts = 0

    def run(self) -> Iterator[int]:
        for _ in range(self.crew.workers):
            self._hire()
        while self._give() or self.at_work:
            ready, _ = self.ray.wait([*self.opening, *self.at_work], num_returns=1, timeout=PATIENCE_SECONDS)
            for awaited in ready:
                yield from self._opened(awaited) if awaited in self.opening else self._came_back(awaited)
            if not ready and not self.at_work:
                console.warn("No worker has started yet; Ray waits for processors that are free.")

    def dismiss(self) -> None:
        for actor in [*self.opening.values(), *self.idle, *(actor for actor, _ in self.at_work.values())]:
            self.ray.kill(actor)

    def _hire(self) -> None:
        actor = self.actor.remote()
        self.opening[actor.open.remote(self.job, self.bundle)] = actor

    def _give(self) -> bool:
        """Give orders to who is idle; whether any is left to be given to who opens the model still."""
        while self.idle:
            order = self.orders.next()
            if order is None:
                return False
            actor = self.idle.pop()
            method = actor.write if order.whole else actor.rows
            self.at_work[method.remote(order.wanted)] = actor, order
        return self.orders.waiting

    def _opened(self, awaited: Any) -> Iterator[int]:
        actor = self.opening.pop(awaited)
        try:
            self._result(awaited)
        except _Died as death:
            self.false_starts += 1
            if self.false_starts >= MOST_FALSE_STARTS:
                raise ResourceError(f"--engine ray: workers die before they have opened the model ({death}).") from death
            self._hire()
        else:
            self.false_starts = 0
            self.idle.append(actor)
        return iter(())

    def _came_back(self, awaited: Any) -> Iterator[int]:
        actor, order = self.at_work.pop(awaited)
        try:
            found = self._result(awaited)
        except _Died as death:
            console.warn(f"A worker died ({death}); what it was at is done again.")
            self.ray.kill(actor)  # it may only have been out of reach
            rows = self.orders.failed(order)
            self._hire()
        else:
            self.idle.append(actor)
            if order.whole:
                yield len(order.chunk.refs)
                return
            rows = self.orders.done(order, found)
        if rows is not None:
            write_part(self.job.place, order.chunk.number, self.job.verb, rows)
            yield len(rows)

    def _result(self, awaited: Any) -> Any:
        """What a worker gave; raises what it raised, or _Died."""
        from ray.exceptions import RayError, RayTaskError

        try:
            return self.ray.get(awaited)
        except RayTaskError as error:
            if isinstance(error.cause, SightlineError | OSError | MemoryError):
                raise error.cause from error
            raise
        except RayError as error:
            raise _Died(_first_line(error)) from error


class _Died(Exception):
    """A worker is gone."""


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200].rstrip(".:") if str(error).strip() else type(error).__name__
