"""What the benchmarks share: a timed child process, facts about the machine, and one layout for what was measured.

A benchmark runs both sides in turn, once a seed, and writes what each run gave. Medians, ratios and the verdicts on what was asked
are made from these runs, so that seeds measured another day, on this or another machine, can be added (``--add``).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from sightline.processor import processor_features, processor_name, processors

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("SIGHTLINE_DATA", HERE.parents[1] / "shared" / "data"))
WEIGHTS = DATA / "weights" / "mobilenetv2_100_same_imagenet.safetensors"
PEERS = Path(os.environ.get("SIGHTLINE_PEERS", HERE.parent / ".venv-peers"))
# Made from the data once and kept between benchmarks; never committed.
MADE = HERE.parent / "build" / "benchmarks"
RESULTS = HERE / "results"
SEEDS = (0, 1, 2, 3, 4)
OUR_LIBRARIES = ("torch", "timm", "onnxruntime", "openvino", "pillow", "numpy")
PEER_LIBRARIES = (
    "torch", "torchvision", "timm", "fastai", "transformers", "ultralytics", "segmentation_models_pytorch", "pycocotools", "pillow"
)  # fmt: skip
# A look costs a few milliseconds of every process, so it is only taken where memory is what is asked.
MEMORY_SAMPLE_SECONDS = 0.5
# What may differ between the machines of one result, each of which measured both sides; the rest is the same in all.
OF_A_MACHINE = ("processor", "features", "memory_gb")
# A child that is stuck must not hold up a night of benchmarks; none of them runs for as long as this.
LONGEST_SECONDS = 2 * 3600


@dataclass(frozen=True)
class Child:
    """A finished child process.

    seconds      wall time from its start to its end
    answers      every JSON object that it printed on a line of its own, with the seconds from its start
    peak_memory  bytes at the worst moment, of it and its children, shared pages counted once; None if not asked for or not told
    """

    seconds: float
    answers: tuple[tuple[float, dict[str, Any]], ...]
    peak_memory: int | None

    @property
    def last(self) -> dict[str, Any]:
        return self.answers[-1][1]


def run_child(words: Sequence[str | Path], *, memory: bool = False, accepted: Sequence[int] = (0,), **environment: str) -> Child:
    """Run a command to its end; SystemExit with the end of what it said when its exit code is none of those, or it says nothing in JSON."""
    text = [str(word) for word in words]
    start = time.perf_counter()
    with subprocess.Popen(text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said: list[str] = []
        reader = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
        peak = _PeakMemory(process.pid)
        ender = threading.Timer(LONGEST_SECONDS, process.kill)
        for helper in (reader, ender, *([peak] if memory else [])):
            helper.start()
        lines = [(time.perf_counter() - start, line) for line in process.stdout]
        process.wait()
        seconds = time.perf_counter() - start
        ender.cancel()
        peak.finished.set()
        reader.join()
    answers = tuple((at, json.loads(line)) for at, line in lines if line.startswith("{"))
    if process.returncode not in accepted or not answers:
        what = f"ended with exit code {process.returncode}" if process.returncode else "printed no JSON"
        sys.exit(f"{' '.join(text)}\n{what}:\n{''.join([*(line for _, line in lines), *said][-30:])}")
    return Child(seconds, answers, peak.bytes)


def run_sightline(*words: str | Path, memory: bool = False, accepted: Sequence[int] = (0,), **environment: str) -> Child:
    return run_child([sys.executable, "-m", "sightline.cli", *words, "--json"], memory=memory, accepted=accepted, **environment)


def run_peer(script: str, *words: str | Path, memory: bool = False) -> Child:
    """A script of ``benchmarks/peers`` in the peers' own environment, with no hub to ask and no settings left in the user's home."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        sys.exit(f"There is no environment of the peers at {PEERS}: run `make bench-peers`, or set SIGHTLINE_PEERS.")
    offline = {"HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(MADE), "TRANSFORMERS_VERBOSITY": "error"}
    return run_child([python, HERE / "peers" / script, *words], memory=memory, **offline)


class _PeakMemory(threading.Thread):
    """Looks every half second at the memory of a process and of all below it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.bytes: int | None = None
        self.finished = threading.Event()

    def run(self) -> None:
        while not self.finished.is_set():
            if now := sum(proportional_bytes(pid) for pid in tree(self.pid)):
                self.bytes = max(self.bytes or 0, now)
            self.finished.wait(MEMORY_SAMPLE_SECONDS)


def tree(pid: int) -> list[int]:
    """A process and all below it; empty where the system has no /proc or the process has ended."""
    try:
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(below for child in children for below in tree(child))]


def proportional_bytes(pid: int) -> int:
    """A process's share of memory: a page that n processes use counts an nth for each. 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def peak_bytes() -> int:
    """The most memory that this process ever had; what is mapped of files counts as far as it was touched."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def spread(values: Iterable[float]) -> dict[str, float | int]:
    """Median, mean, standard deviation (of a sample; 0 for a single value), least, most and n."""
    found = list(values)
    deviation = statistics.stdev(found) if len(found) > 1 else 0.0
    figures = {"median": statistics.median(found), "mean": statistics.fmean(found), "deviation": deviation}
    return {name: round(value, 6) for name, value in figures.items()} | {"least": min(found), "most": max(found), "n": len(found)}


def machine() -> dict[str, Any]:
    """The processor, what it can do, and the versions of both sides' libraries."""
    peers = PEERS / "bin" / "python"
    return {
        "processor": processor_name(), "features": processor_features(), "processors": processors(), "memory_gb": _memory_gb(),
        "system": platform.system(), "python": platform.python_version(), "sightline": metadata.version("sightline"),
        "libraries": versions(sys.executable, OUR_LIBRARIES), "peers": versions(peers, PEER_LIBRARIES) if peers.exists() else {},
    }  # fmt: skip


def _memory_gb() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


def versions(python: str | Path, names: Sequence[str]) -> dict[str, str]:
    """The versions of those of these packages that an interpreter has."""
    code = (
        "import json, sys; from importlib import metadata\n"
        "found = {d.metadata['Name'].lower(): d.version for d in reversed(list(metadata.distributions()))}\n"
        "print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))"
    )
    return dict(json.loads(subprocess.run([str(python), "-c", code, *names], check=True, capture_output=True, text=True).stdout))


@dataclass(frozen=True)
class Check:
    """One thing that was asked, what was measured, and whether it holds."""

    what: str
    asked: str
    measured: str
    holds: bool


@dataclass
class Record:
    """What a benchmark measured: one entry a run with its ``side``, its ``seed``, its ``machine`` and its figures.

    settings  what the runs have in common, such as the sizes of the data; runs under other settings are never added to them
    machine   this one, and the versions of both sides
    machines  all that measured, in the order in which the runs name them
    """

    name: str
    claim: str
    n: str
    settings: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=machine)
    runs: list[dict[str, Any]] = field(default_factory=list)
    machines: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.machines = [self.machine]

    def add(self, side: str, seed: int, **figures: Any) -> None:
        """Keep a run, say it, and forget an earlier one of the same side and seed."""
        self.runs = [run for run in self.runs if (run["side"], run["seed"]) != (side, seed)]
        self.runs.append({"side": side, "seed": seed, "machine": self.machines.index(self.machine), **figures})
        said = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items())
        print(f"{side}, seed {seed}: {said}", flush=True)

    @property
    def sides(self) -> list[str]:
        return list(dict.fromkeys(run["side"] for run in self.runs))

    def values(self, side: str, figure: str, machine: int | None = None) -> list[float]:
        """A figure of all runs of a side, or of those on one machine."""
        runs = [run for run in self.runs if run["side"] == side and machine in (None, run["machine"])]
        return [run[figure] for run in runs if run.get(figure) is not None]

    def median(self, side: str, figure: str) -> float:
        return float(statistics.median(self.values(side, figure)))

    def mean(self, side: str, figure: str) -> float:
        return float(statistics.fmean(self.values(side, figure)))

    def ratio(self, figure: str, side: str, other: str, worst: Callable[[Iterable[float]], float] = min) -> float:
        """The ratio of the medians of two sides on one machine; where several measured, the worst of theirs, of which the least is one."""
        pairs = [[self.values(each, figure, place) for each in (side, other)] for place in range(len(self.machines))]
        return worst(statistics.median(ours) / statistics.median(others) for ours, others in pairs if ours and others)

    def restore(self, folder: Path) -> None:
        """Take the runs that are there already; SystemExit when they were made under other settings, with other versions or by another
        number of processors."""
        path = folder / f"{self.name}.json"
        if not path.exists():
            return
        earlier = json.loads(path.read_text())
        common = {name: value for name, value in self.machine.items() if name not in OF_A_MACHINE}
        now = json.loads(json.dumps({"settings": self.settings, **common}))
        then = {"settings": earlier["settings"], **earlier["machines"][0]}
        if differing := [name for name, value in now.items() if then.get(name) != value]:
            sys.exit(f"--add: the runs in {path} differ in {' and '.join(differing)}; measure all seeds again, without --add.")
        self.runs, self.machines = earlier["runs"], earlier["machines"]
        if self.machine not in self.machines:
            self.machines.append(self.machine)

    def write(self, folder: Path, checks: Sequence[Check]) -> None:
        """``NAME.json`` with the runs, each side's figures and the checks."""
        folder.mkdir(parents=True, exist_ok=True)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        content = {
            "name": self.name, "claim": self.claim, "date": today, "n": self.n, "settings": self.settings, "machines": self.machines,
            "checks": [asdict(check) for check in checks], "sides": {side: self._figures(side) for side in self.sides}, "runs": self.runs,
        }  # fmt: skip
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _figures(self, side: str) -> dict[str, Any]:
        numbers = dict.fromkeys(
            name for run in self.runs if run["side"] == side for name, value in run.items()
            if name not in ("seed", "machine") and isinstance(value, int | float) and not isinstance(value, bool)
        )  # fmt: skip
        return {name: spread(self.values(side, name)) for name in numbers}


def finish(checks: Sequence[Check]) -> None:
    """Say what was asked and whether it holds; exit code 1 when something does not."""
    for check in checks:
        print(f"{'holds   ' if check.holds else 'MISSED  '} {check.what}: asked {check.asked}, measured {check.measured}")
    sys.exit(0 if all(check.holds for check in checks) else 1)


def arguments(description: str | None, seeds: Sequence[int] = SEEDS) -> argparse.ArgumentParser:
    """The flags that all benchmarks have."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds), help="one run of every side for each")
    parser.add_argument("--add", action="store_true", help="keep the runs of other seeds that are in the results already")
    parser.add_argument("--quick", action="store_true", help="tiny and meaningless: does the script work? Writes to results/quick/")
    return parser


def results_folder(args: argparse.Namespace) -> Path:
    """Where results go; those of a quick run are kept apart, and out of the docs."""
    return RESULTS / "quick" if args.quick else RESULTS


def need_data() -> None:
    if not DATA.is_dir():
        sys.exit(f"The data is not at {DATA}; set SIGHTLINE_DATA.")
