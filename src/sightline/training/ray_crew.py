"""How many of Ray's workers train, and what each has of the machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.errors import DeviceError, UsageError


@dataclass(frozen=True)
class Crew:
    """How many workers there are, and what each has to itself."""

    workers: int
    threads: int
    gpu: bool

    def __str__(self) -> str:
        one, threads = self.workers == 1, f"{self.threads} thread{'s'[: self.threads != 1]}"
        return f"{self.workers} Ray worker{'s'[: not one]} of {threads}{' and a GPU' * self.gpu}{'' if one else ' each'}"


def crew_of(nodes: Sequence[Mapping[str, Any]], workers: int | None, device: str, *, at_most: bool = False) -> Crew:
    """The workers and what the machines have for each: a GPU, unless ``device`` or want of them forbids it, and its share of threads.

    nodes    as ``ray.nodes()`` has them
    workers  how many are wanted; with ``at_most``, of which as many are taken as there is room for

    Raises UsageError where there is no room for so many, DeviceError for a device that is not there or cannot be shared.
    """
    if device == "mps":
        raise DeviceError("--device mps: several processes cannot train on it together; give --device cpu, or leave --engine ray out.")
    machines = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if device == "cuda" and not gpus:
        raise DeviceError("--device cuda: no machine of the Ray cluster has a GPU; give --device cpu.")
    gpu = device != "cpu" and gpus > 0

    def room(threads: int) -> int:
        lent = ((int(machine["CPU"]) // threads, int(machine.get("GPU", 0))) for machine in machines)
        return sum(min(each) if gpu else each[0] for each in lent)

    wanted = workers or (gpus if gpu else len(machines))
    wanted = min(wanted, max(1, room(1))) if at_most else wanted
    if not 0 < wanted <= room(1):
        kind = "GPU" if gpu else "processor"
        raise UsageError(f"--workers {wanted}: each takes a {kind}, and the machines of Ray have {room(1)} to lend; give fewer.")
    return Crew(wanted, max(t for t in range(1, int(max(m["CPU"] for m in machines)) + 1) if room(t) >= wanted), gpu)
