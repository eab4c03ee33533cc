"""Claim: where machines are lost all the time, a simulated cluster still spends at least nine tenths of its time on answers that count.

    python benchmarks/simulate_cluster.py [--seeds 0 1 2 3 4] [--quick]

Nothing is computed here but time. What an answer costs is what `files_to_labels.py` measured for MobileNetV2 on photographs of 1800 x 1200,
and what a chunk costs the process that hands it out is what `driver_at_scale.py` measured beside a thousand others; the rest is assumed
and stands in `Cluster`. The rules are those of `bulk/ray_engine.py`: a worker has one chunk and asks for the next when it is done, and a
machine that goes away costs the chunks that it was at, which are given again. Tables of docs/scale.md are made of what is found.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
from bisect import bisect_right
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any

from measure import RESULTS, Check, Record, arguments, finish, results_folder

from sightline.bulk.plan import chunk_of

HOUR, DAY = 3600.0, 86400.0
THREADS = 4  # of a worker, as --engine ray has it by default
LEAST_SHARE = 0.9
QUICK_PART = 100


@dataclass(frozen=True)
class Cluster:
    """Machines and what is assumed of them.

    images         how many there are to be answered
    chunk          images in one
    machines       of 16 processors each
    lost_every     seconds from one loss of a given machine to its next, on average; another takes its place
    storage        bytes that the shared storage gives in a second, to all machines together
    image_bytes    a photograph of 1,800 x 1,200
    answer         processor-seconds for an image, all in all
    handing_out    seconds of the driver for a chunk
    replacing      seconds until a new machine's workers have opened the model
    uneven         standard deviation of the logarithm of a chunk's time
    """

    images: int
    chunk: int
    machines: int
    answer: float
    handing_out: float
    lost_every: float = 7 * DAY
    storage: float = 10e9
    image_bytes: float = 337e3
    processors: int = 16
    replacing: float = 120.0
    uneven: float = 0.2

    @property
    def of_a_machine(self) -> int:
        """Workers of a machine."""
        return self.processors // THREADS

    @property
    def workers(self) -> int:
        return self.machines * self.of_a_machine

    @property
    def chunks(self) -> int:
        return -(-self.images // self.chunk)

    @property
    def computing(self) -> float:
        """Seconds for a chunk where storage gives at once."""
        return self.chunk * self.answer / THREADS

    @property
    def typical(self) -> float:
        """Seconds for a chunk, all workers reading together."""
        return max(self.computing, self.chunk * self.image_bytes * self.workers / self.storage)


@dataclass(frozen=True)
class Found:
    """What a simulated run took.

    seconds   from the first chunk handed out to the last that came back
    counts    share of the workers' time that was spent on computing answers that came back
    driver    share of the time in which the driver was handing out
    storage   share of what the storage can give that was read
    again     chunks that were given again, as a machine went away
    """

    seconds: float
    counts: float
    driver: float
    storage: float
    again: int


class Losses:
    """When a machine goes away, again and again; drawn as far as it is asked for."""

    def __init__(self, every: float, seed: str) -> None:
        self.every, self.rng, self.times = every, random.Random(seed), [0.0]

    def after(self, now: float) -> float:
        if self.every == inf:
            return inf
        while self.times[-1] <= now:
            self.times.append(self.times[-1] + self.rng.expovariate(1 / self.every))
        return self.times[bisect_right(self.times, now)]


def simulate(cluster: Cluster, seed: int) -> Found:
    """Worker by worker, in the order in which they become idle; all that read together share the storage."""
    rng = random.Random(seed)
    losses = [Losses(cluster.lost_every, f"{seed} {machine}") for machine in range(cluster.machines)]
    idle = [(0.0, worker) for worker in range(cluster.workers)]
    again: list[float] = []  # chunks to be given again, by the time from which that is known
    resting: list[int] = []
    to_give, left, given_again, typical = cluster.chunks, cluster.chunks, 0, cluster.typical
    driver_free = ended = worked = 0.0
    while left:
        now, worker = heapq.heappop(idle)
        if again and again[0] <= now:
            heapq.heappop(again)
        elif to_give:
            to_give -= 1
        elif again:
            heapq.heappush(idle, (again[0], worker))
            continue
        else:
            resting.append(worker)
            continue
        driver_free = given = max(now, driver_free) + cluster.handing_out
        seconds = typical * rng.lognormvariate(-(cluster.uneven**2) / 2, cluster.uneven)
        loss = losses[worker // cluster.of_a_machine].after(now)
        if given + seconds > loss:
            given_again += 1
            heapq.heappush(again, loss)
            heapq.heappush(idle, (loss + cluster.replacing, worker))
            if resting:
                heapq.heappush(idle, (loss, resting.pop()))
            continue
        left -= 1
        worked += seconds
        ended = max(ended, given + seconds)
        heapq.heappush(idle, (given + seconds, worker))
    read = cluster.images * cluster.image_bytes / ended / cluster.storage
    counts = worked / (ended * cluster.workers) * cluster.computing / typical
    return Found(ended, counts, cluster.chunks * cluster.handing_out / ended, read, given_again)


def clusters(answer: float, handing_out: float) -> dict[str, Cluster]:
    """By name, what is simulated."""

    def made(images: int, machines: int, gigabytes: int = 10, chunk: int | None = None, **assumed: float) -> tuple[str, Cluster]:
        chunk = chunk or chunk_of(images)
        name = f"{images:,} images on {machines} machine{'s'[: machines != 1]}, chunks of {chunk:,}, storage of {gigabytes} GB/s"
        name += f", each machine lost every {assumed['lost_every'] / HOUR:.0f} h" if assumed else ""
        return name, Cluster(images, chunk, machines, answer, handing_out, storage=gigabytes * 1e9, **assumed)

    million, most = 10**6, 10**9
    return dict([
        made(million, 1), made(million, 16), made(million, 16, lost_every=HOUR),
        made(100 * million, 16), made(100 * million, 16, lost_every=HOUR), made(100 * million, 64), made(100 * million, 64, 100),
        made(100 * million, 256, 100, chunk=256), made(100 * million, 256, 100),
        made(most, 64), made(most, 256, 100), made(most, 256, 100, lost_every=HOUR),
    ])  # fmt: skip


def measured(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        sys.exit(f"{path} is not there: run benchmarks/{name}.py first.")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def costs() -> tuple[float, float]:
    """Processor-seconds for an answer and seconds of the driver for a chunk, as they were measured."""
    files, driver = measured("files_to_labels"), measured("driver_at_scale")
    answer = files["machines"][0]["processors"] / files["sides"]["Sightline, mobilenetv2_100"]["images_per_second"]["median"]
    return answer, 1 / driver["sides"]["1,000 others at work"]["chunks_per_second"]["median"]


def checks(record: Record) -> list[Check]:
    found = []
    for side in record.sides:
        if record.median(side, "storage") < LEAST_SHARE:  # otherwise the storage is what is waited for
            share = min(record.values(side, "counts"))
            found.append(Check(f"{side}: share of time that counts", f"at least {LEAST_SHARE:.0%}", f"{share:.1%}", share >= LEAST_SHARE))
    return found


def main() -> None:
    args = arguments(__doc__).parse_args()
    answer, handing_out = costs()
    claim = "Where machines are lost all the time, a simulated cluster still spends at least nine tenths of its time on answers that count."
    assumed = asdict(Cluster(0, 0, 0, answer, handing_out))
    settings = {name: value for name, value in assumed.items() if name not in ("images", "chunk", "machines", "storage")}
    record = Record("simulate_cluster", claim, "up to 1,000,000,000 images, simulated", settings)
    for name, cluster in clusters(answer, handing_out).items():
        if args.quick:
            cluster = replace(cluster, images=cluster.images // QUICK_PART)
        for seed in args.seeds:
            found = simulate(cluster, seed)
            figures = {"hours": found.seconds / HOUR, **asdict(found)}
            record.add(name, seed, **{figure: round(value, 4) for figure, value in figures.items() if figure != "seconds"})
    record.write(results_folder(args), checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
