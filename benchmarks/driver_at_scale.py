"""Claim: the process that shares images out lists ten million in memory that does not grow, and keeps a thousand workers busy.

    python benchmarks/driver_at_scale.py [--parts list orders] [--seeds 0] [--add] [--quick]

``list``: names without files are written down as ``predict --engine ray`` does before anything else, and once more as a restart does, which
passes over the nine tenths that are done; each in a process of its own, whose peak memory is its own. ``orders``: two Ray workers that do
nothing are given chunks of 1024 images, as a list of a hundred million has, while so many others are awaited as a cluster of that size has
at work; this needs Ray.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import Check, Record, arguments, finish, machine, peak_bytes, results_folder, run_child, versions

from sightline.bulk.orders import Orders
from sightline.bulk.plan import CHUNK, PART, Chunk, begin, chunk_of, missing
from sightline.bulk.work import Job
from sightline.data.decode import Limits
from sightline.records import ImageRef

PARTS = ("list", "orders")
SIZES, QUICK_SIZES = (100_000, 1_000_000, 10_000_000), (5_000, 10_000)
OTHERS, QUICK_OTHERS = (0, 100, 1000), (0, 10)
ORDERS, QUICK_ORDERS = 3000, 100
IN_A_FOLDER, DONE, OF_MANY = 1000, 10, chunk_of(10**8)
FLAT_BYTES = 100e6
# What a worker of four threads answers in a second, by what was measured here for MobileNetV2 and photographs.
BUSY_IMAGES_PER_SECOND = 200
LIST, AGAIN = "listing", "listing again"


def named(n: int) -> Iterator[ImageRef]:
    return (ImageRef(f"/data/photographs/{number // IN_A_FOLDER:05d}/{number % IN_A_FOLDER:04d}.jpg") for number in range(n))


def list_them(folder: Path, n: int, again: bool) -> None:
    """In a process of its own: the plan of n images; ``again``, when all chunks but every tenth are done."""
    if again:
        for number in range(-(-n // CHUNK)):
            if number % DONE:
                (folder / PART.format(number)).touch()
    began = time.perf_counter()
    plan = begin(folder, "predict", "model", {}, named(n), CHUNK)
    left = sum(chunk.size for chunk in missing(folder, plan))
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "left": left, "peak": peak_bytes(), "list_bytes": (folder / "_images.jsonl").stat().st_size}))


def measure_lists(record: Record, quick: bool, seed: int) -> None:
    for n in QUICK_SIZES if quick else SIZES:
        with tempfile.TemporaryDirectory() as scratch:
            for side in (LIST, AGAIN):
                words = [sys.executable, os.path.abspath(__file__), "--list", scratch, str(n), str(int(side == AGAIN))]
                told = run_child(words).last
                assert side == AGAIN or told["left"] == n
                record.add(
                    f"{side}, {n:,}", seed, seconds=round(told["seconds"], 3), megabytes=round(told["peak"] / 1e6, 1),
                    microseconds_each=round(told["seconds"] / n * 1e6, 2), list_bytes_each=round(told["list_bytes"] / n, 1),
                )  # fmt: skip


class Idle:
    """A worker that has done everything as soon as it is asked."""

    def open(self, job: Job, bundle: bytes) -> str:
        return "nothing"

    def write(self, chunk: Chunk) -> int:
        return chunk.size


class Asleep:
    """Stands for workers that are at work."""

    async def wait(self) -> None:
        await asyncio.Event().wait()


def measure_orders(record: Record, quick: bool, seed: int) -> None:
    from sightline.bulk import ray_engine
    from sightline.bulk.ray_start import connected

    ray_engine.Hand = Idle  # type: ignore[assignment, misc]
    count = QUICK_ORDERS if quick else ORDERS
    job = Job("predict", Path(), Path.cwd(), {"threads": 1}, Limits())
    lines = Chunk.of(0, named(OF_MANY)).lines
    with connected(None, 0) as ray:
        for others in QUICK_OTHERS if quick else OTHERS:
            foreman = ray_engine._Foreman(ray, job, ray.put(b""), Orders(Chunk(number, lines) for number in range(count)),
                                          ray_engine.Crew(2, 1))  # fmt: skip
            sleeper = ray.remote(num_cpus=0, max_concurrency=max(1, others))(Asleep).remote()
            foreman.opening.update({sleeper.wait.remote(): sleeper for _ in range(others)})
            times = [time.perf_counter() for _ in foreman.run()]
            foreman.dismiss()
            rate = (len(times) - 1) / (times[-1] - times[0])
            record.add(f"{others:,} others at work", seed, chunks_per_second=round(rate, 1), images_per_second=round(rate * OF_MANY))


def checks(record: Record) -> list[Check]:
    found = []
    for side in (LIST, AGAIN):
        peaks = [max(record.values(name, "megabytes")) for name in record.sides if name.startswith(f"{side}, ")]
        if peaks:
            said = f"{max(peaks) - min(peaks):.0f} MB, from {min(peaks):.0f} to {max(peaks):.0f}"
            found.append(Check(f"{side}: memory grows by", "at most 100 MB", said, (max(peaks) - min(peaks)) * 1e6 <= FLAT_BYTES))
    for others in OTHERS[1:]:
        side = f"{others:,} others at work"
        if side in record.sides:
            rate, wanted = record.median(side, "images_per_second"), others * BUSY_IMAGES_PER_SECOND
            found.append(Check(f"{side}: images handed out in a second", f"at least {wanted:,}", f"{rate:,.0f}", rate >= wanted))
    return found


def main() -> None:
    if sys.argv[1:2] == ["--list"]:
        return list_them(Path(sys.argv[2]), int(sys.argv[3]), bool(int(sys.argv[4])))
    parser = arguments(__doc__, [0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    claim = "The process that shares images out lists ten million in memory that does not grow, and keeps a thousand workers busy."
    facts: dict[str, Any] = {**machine(), "libraries": versions(sys.executable, ("ray", "pyarrow", "numpy"))}
    sizes = QUICK_SIZES if args.quick else SIZES
    settings = {"chunk": CHUNK, "chunk_handed_out": OF_MANY, "sizes": list(sizes)}
    record = Record("driver_at_scale", claim, f"up to {sizes[-1]:,} names, in chunks of {CHUNK}; orders of {OF_MANY}", settings, facts)
    if args.add:
        record.restore(results_folder(args))
    measure = {"list": measure_lists, "orders": measure_orders}
    for seed in args.seeds:
        for part in args.parts:
            measure[part](record, args.quick, seed)
            record.write(results_folder(args), checks(record))
    finish(checks(record))
    return None


if __name__ == "__main__":
    main()
