"""Bulk work by Ray actors, on this machine or a cluster.

An actor holds an opened model and gets an order at a time; who dies is replaced, and only actors that have opened the model are given
anything, so that one for which there is no room (its machine is gone) holds nothing up. The driver holds names, never answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sightline import console
from sightline.bulk.orders import Order, Orders
from sightline.bulk.parts import Row, write_part
from sightline.bulk.plan import Chunk
from sightline.bulk.ray_start import first_line
from sightline.bulk.work import Job, Work
from sightline.errors import DeviceError, ResourceError, SightlineError, UsageError

THREADS = 4
# So many workers that die before they have opened the model, without one that does, and it will not work.
MOST_FALSE_STARTS = 5
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
        console.warn(f"There is room for {room} of {workers} workers of {threads} threads; the others start when there is more.")
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
                yield order.chunk.size
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
            raise _Died(first_line(error)) from error


class _Died(Exception):
    """A worker is gone."""
