"""Requests for a server, from a process of its own: raw HTTP/1.1 over connections that are kept, prepared ahead, so that it costs little.

    python benchmarks/load.py HOST:PORT FOLDER --clients 64 --seconds 10 [--core 1] [--rate 1000] [--path /v1/predict] [--field files]

With ``--rate`` requests are sent at so many a second, answered or not; otherwise each client sends its next when it has its answer.
It prints one JSON object: ``seconds``, ``statuses`` (count of each), ``failed`` (connections that broke before an answer), ``refused``
(connections that were not taken), ``sent``, and of answers with 200 ``p50_ms``, ``p99_ms``, ``per_second`` and ``labels``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LINE = "a-line-between-parts"
# More connections than this would only measure this process.
MOST_CONNECTIONS = 900


@dataclass
class Told:
    """What came of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    sent: int = 0
    failed: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Prepared:
    """A request as it goes over the wire."""

    name: str
    data: bytes


def requests_of(folder: Path, host: str, path: str, name: str) -> list[Prepared]:
    """A request for each image, as a form with one file."""
    found = []
    for file in sorted(folder.iterdir()):
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{file.name}"'
        body = b"".join([
            f"--{LINE}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n".encode(), file.read_bytes(), f"\r\n--{LINE}--\r\n".encode(),
        ])  # fmt: skip
        kind = f"multipart/form-data; boundary={LINE}"
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        found.append(Prepared(file.name, head.encode() + body))
    return found


class Line:
    """A connection that is opened when it is needed."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: Prepared, told: Told) -> int | None:
        """The status of the answer; None where there was none, which is counted."""
        if self.reader is not None and self.reader.at_eof():
            self.hang_up()  # idle for so long that the server hung up, which is its right
        try:
            if self.writer is None:
                self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
        except OSError:
            told.refused += 1
            return None
        assert self.reader is not None
        start = time.perf_counter()
        told.sent += 1
        try:
            self.writer.write(request.data)
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, length, close = _head(head)
            body = await self.reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            told.failed += 1
            self.hang_up()
            return None
        told.statuses[status] += 1
        if status == 200:
            told.seconds.append(time.perf_counter() - start)
            told.began.append(start)
            told.bodies[request.name] = body
            told.models.add(json.loads(body).get("sha256", ""))
        if close:
            self.hang_up()
        return status

    def hang_up(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


def _head(head: bytes) -> tuple[int, int, bool]:
    """Status, length of the body, and whether the connection ends."""
    first, *lines = head.lower().split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines if b": " in line)
    return int(first.split()[1]), int(headers.get(b"content-length", b"0")), headers.get(b"connection") == b"close"


async def steady(line: Line, requests: Iterator[Prepared], told: Told, over: asyncio.Event, most: int | None) -> None:
    """A client that sends its next request when it has its answer. Where the server takes no connection any more, it ends."""
    while not over.is_set() and (most is None or told.sent < most):
        if await line.ask(next(requests), told) is None and told.refused:
            return
    line.hang_up()


async def at_rate(address: tuple[str, int], requests: Iterator[Prepared], told: Told, rate: float, seconds: float) -> None:
    """Requests at a rate, each over a connection that is free, or a new one while there are not too many."""
    free: list[Line] = []
    open_lines, under_way = 0, set()
    start = time.perf_counter()

    async def one(line: Line) -> None:
        await line.ask(next(requests), told)
        free.append(line)

    for number in itertools.count():
        due = start + number / rate
        if due - start > seconds:
            break
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        elif number % 16 == 0:
            await asyncio.sleep(0)  # behind: answers must be read all the same
        if free:
            line = free.pop()
        elif open_lines < MOST_CONNECTIONS:
            open_lines += 1
            line = Line(*address)
        else:
            await asyncio.sleep(0.001)
            continue
        task = asyncio.ensure_future(one(line))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way, timeout=60)
    for line in free:
        line.hang_up()


async def run(args: argparse.Namespace) -> dict[str, Any]:
    host, port = args.address.rsplit(":", 1)
    requests = itertools.cycle(requests_of(args.folder, args.address, args.path, args.field))
    told, over = Told(), asyncio.Event()
    start = time.perf_counter()
    if args.rate:
        await at_rate((host, int(port)), requests, told, args.rate, args.seconds)
    else:
        if not args.requests:
            asyncio.get_running_loop().call_later(args.seconds, over.set)
        lines = [Line(host, int(port)) for _ in range(args.clients)]
        await asyncio.gather(*(steady(line, requests, told, over, args.requests or None) for line in lines))
    return _figures(told, time.perf_counter() - start, start + args.skip)


def _figures(told: Told, seconds: float, counts_from: float) -> dict[str, Any]:
    taken = [1000 * each for each, began in zip(told.seconds, told.began, strict=True) if began >= counts_from]
    cuts = statistics.quantiles(taken, n=100, method="inclusive") if len(taken) > 1 else taken * 99
    return {
        "seconds": round(seconds, 3), "statuses": {str(status): count for status, count in told.statuses.items()},
        "failed": told.failed, "refused": told.refused, "sent": told.sent, "per_second": round(told.statuses[200] / seconds, 2),
        "p50_ms": round(cuts[49], 2) if cuts else None, "p99_ms": round(cuts[98], 2) if cuts else None,
        "models": sorted(told.models), "labels": {name: _label(json.loads(body)) for name, body in sorted(told.bodies.items())},
    }  # fmt: skip


def _label(answer: dict[str, Any]) -> str | None:
    """The first label, of Sightline's answers and of the peers'."""
    if "results" in answer:
        return next((entry["label"] for entry in answer["results"][0].get("predictions", [])), None)
    return answer.get("label")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--requests", type=int, default=0, help="end after so many instead")
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--skip", type=float, default=0.0, help="seconds at the beginning whose answers are not timed")
    parser.add_argument("--core", type=int)
    parser.add_argument("--path", default="/v1/predict")
    parser.add_argument("--field", default="files")
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    print(json.dumps(asyncio.run(run(args))), flush=True)


if __name__ == "__main__":
    main()
