"""What the two fuzzers share: each mutated input is tried in a child process that is watched, and what became of it is counted.

An input is made from its seed and number alone, so that any of them can be made again (``--only NUMBER``). Outcomes that are as they
should be are "accepted" and "refused", by one of our errors. Failures are: any other exception; a crash by a signal; a hang (over 5 s of
processor time, so that other work on the machine does not count, or a minute of silence); memory above the bound; anything printed to
stdout; and anything that is opened for writing, renamed, removed, started or connected to outside the temporary folder, seen by an audit
hook, and by comparing the working folder and the home folder before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import RESULTS, Check, Record, arguments, finish, results_folder

from sightline.errors import SightlineError

# What is tried with an input: its number's random generator is the caller's; returns "accepted", raises what the product raises.
Attempt = Callable[[int, int, Path], None]

HANG_SECONDS, SILENT_SECONDS, START_SECONDS = 5.0, 60.0, 300.0
BATCH = 1000
# Characters, of a sentence with a long path in it.
LONGEST_SENTENCE = 3000
KINDS = ("accepted", "refused")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events that change something, with the places of paths among their arguments; None: whatever their arguments are.
_EVENTS: dict[str, tuple[int, ...] | None] = {
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.symlink": (1,), "os.link": (1,), "os.truncate": (0,),
    "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "subprocess.Popen": None, "os.system": None, "os.exec": None,
    "os.posix_spawn": None, "os.fork": None, "os.forkpty": None, "socket.connect": None, "socket.bind": None, "socket.sendto": None,
}  # fmt: skip


class Watch:
    """Sees what this process changes outside a folder, from when it is made to the end of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = os.path.realpath(folder), []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, int) or not (flags & _WRITING if isinstance(flags, int) else set(mode or "") & set("wax+")):
                return
            paths: Sequence[Any] = (path,)
        elif event in _EVENTS:
            places = _EVENTS[event]
            paths = (event,) if places is None else [arguments[place] for place in places if not isinstance(arguments[place], int)]
        else:
            return
        outside = [os.fsdecode(path) for path in paths if not self._is_inside(path)]
        self.seen += [f"{event} {path}" for path in outside]

    def _is_inside(self, path: Any) -> bool:
        where = os.path.realpath(os.fsdecode(path))
        return where == os.devnull or where.startswith(f"{self.folder}{os.sep}")


def attempt_all(attempt: Attempt, seed: int, numbers: range, folder: Path, bound: int, prepare: Callable[[], object]) -> None:
    """In the child: try inputs in order and print a line for each; ends early, with the number as the last, when memory went too high.

    ``prepare`` imports what is needed before anything is watched: libraries look around when they are imported.
    """
    prepare()
    answers = os.fdopen(os.dup(1), "w")
    printed = os.open(folder / "stdout.txt", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(printed, 1)
    watch = Watch(folder)
    print("ready", file=answers, flush=True)
    for number in numbers:
        started = time.process_time()
        kind, said = outcome(attempt, seed, number, folder)
        seconds, peak = time.process_time() - started, _peak()
        if watch.seen:
            kind, said = "written outside", watch.seen.pop()
            watch.seen.clear()
        elif os.fstat(printed).st_size:
            kind, said = "printed", repr(os.pread(printed, 160, 0))
            os.ftruncate(printed, 0)
        elif seconds > HANG_SECONDS:
            kind, said = "hang", f"{seconds:.1f} s"
        elif peak > bound:
            kind, said = "memory", f"{peak >> 20} MB"
        print(json.dumps([number, kind, said]), file=answers, flush=True)
        if kind == "memory":
            return


def _peak() -> int:
    """Bytes that this process had at its largest. What ``getrusage`` tells begins with the size of whoever started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status does not tell how large the process was")


def outcome(attempt: Attempt, seed: int, number: int, folder: Path) -> tuple[str, str]:
    """The kind of what became of an input, and what was said: of a refusal the error's name, of anything else that was raised all."""
    try:
        attempt(seed, number, folder)
    except SightlineError as error:
        said = str(error)
        if "\n" in said or len(said) > LONGEST_SENTENCE:
            return "exception", f"{type(error).__name__} in more than a sentence: {said[:160]!r} at {_place(error)}"
        return "refused", type(error).__name__
    except BaseException as error:
        return "exception", f"{type(error).__name__}: {' '.join(str(error).split())[:160]} at {_place(error)}"
    return "accepted", ""


def _place(error: BaseException) -> str:
    """The innermost line of ours."""
    places, trace = [], error.__traceback__
    while trace:
        places.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    ours = [f"{Path(file).name}:{line}" for file, line in places if "sightline" in file]
    return ours[-1] if ours else "?"


@dataclass
class Found:
    """How many inputs ended how, by kind; and of failures the number, kind and what was said."""

    kinds: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, number: int, kind: str, said: str) -> None:
        self.kinds[kind] += 1
        if kind == "refused":
            self.refusals[said] += 1
        if kind not in KINDS:
            self.failures.append((number, kind, said))
            print(f"  FAILURE number {number}: {kind}: {said}", flush=True)


def run(script: str, way: str, seed: int, numbers: range, *, batch: int = BATCH) -> Found:
    """Try the inputs of a seed with these numbers in children of ``script``, a batch each."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
        for name in ("home", "work", "temporary"):
            Path(root, name).mkdir()
            Path(root, name, "kept.txt").write_text("kept")
        next_number = numbers.start
        while next_number < numbers.stop:
            last = _batch(script, way, seed, range(next_number, min(next_number + batch, numbers.stop)), Path(root), found)
            next_number = last + 1
            print(f"{way}, seed {seed}: {next_number - numbers.start:,} of {len(numbers):,}: {dict(found.kinds)}", flush=True)
    return found


def _batch(script: str, way: str, seed: int, numbers: range, root: Path, found: Found) -> int:
    """Try a batch in one child; the last number that was tried."""
    before = _listing(root)
    last = numbers.start - 1
    for number, kind, said in _lines(script, way, seed, numbers, root):
        last = number
        found.add(number, kind, said)
    if _listing(root) != before:
        found.add(last, "written outside", f"somewhere in numbers {numbers.start} to {last}, in the home or working folder")
    return last


def _lines(script: str, way: str, seed: int, numbers: range, root: Path) -> Iterator[tuple[int, str, str]]:
    """What a child says of each input, and what is known of the one at which it crashed or fell silent, which is the last."""
    words = [sys.executable, script, "--child", way, str(seed), str(numbers.start), str(numbers.stop), str(root / "temporary")]
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).parent)]))
    environment = {
        **os.environ, "HOME": str(root / "home"), "TMPDIR": str(root / "temporary"), "SIGHTLINE_CACHE": str(root / "temporary" / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths,
    }  # fmt: skip
    errors = root / "temporary" / "stderr.txt"
    with (
        errors.open("wb") as sink,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=sink, cwd=root / "work", env=environment) as process,
        selectors.DefaultSelector() as waiting,
    ):
        assert process.stdout is not None
        waiting.register(process.stdout, selectors.EVENT_READ)
        number, rest, patience = numbers.start, b"", START_SECONDS
        while waiting.select(patience):
            if not (data := os.read(process.stdout.fileno(), 1 << 16)):
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line != b"ready":
                    told = json.loads(line)
                    yield told[0], told[1], told[2]
                    number = told[0] + 1
                patience = SILENT_SECONDS
        else:
            process.kill()
            process.wait()
            yield number, "hang", f"nothing for {patience:.0f} s"
            return
        code = process.wait()
    if code < 0:
        yield number, "crash", f"by signal {-code}"
    elif code:
        sys.exit(f"The child failed at number {number}:\n{errors.read_text(errors='replace')[-3000:]}")


def _listing(root: Path) -> list[tuple[str, int, int]]:
    """All there is in the home folder and the working folder."""
    paths = [path for name in ("home", "work") for path in Path(root, name).rglob("*")]
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths)


def main(
    script: str, description: str, name: str, claim: str, ways: dict[str, tuple[Attempt, int]], bound: int, prepare: Callable[[], object]
) -> None:  # fmt: skip
    """The command line of a fuzzer.

    ways     what is tried, by name, with how many inputs of each there are by default
    bound    bytes of memory above which an input has failed
    prepare  what a child does before it is watched
    """
    if sys.argv[1:2] == ["--child"]:
        way, seed, start, stop, folder = sys.argv[2:]
        return attempt_all(ways[way][0], int(seed), range(int(start), int(stop)), Path(folder), bound, prepare)
    args = _arguments(description).parse_args()
    counts = {way: args.count or (200 if args.quick else count) for way, (_, count) in ways.items() if args.way in (None, way)}
    if args.only is not None:
        prepare()
        for way in counts:
            ways[way][0](args.seeds[0], args.only, Path(tempfile.mkdtemp()))
        return None
    record, folder = Record(name, claim, "one input each", {"memory_bound_mb": bound >> 20}), results_folder(args)
    if args.add and (RESULTS / f"{name}.json").exists():
        record.restore(folder)
    for seed in args.seeds:
        for way, count in counts.items():
            found = run(script, way, seed, range(args.first, args.first + count))
            failures = {"failures": len(found.failures), "failed": [list(failure) for failure in found.failures[:100]]}
            record.add(way, seed, tried=count, **{kind: found.kinds[kind] for kind in KINDS}, **failures, refusals=dict(found.refusals))
            record.write(folder, checks(record))
    return finish(checks(record))


def _arguments(description: str) -> argparse.ArgumentParser:
    parser = arguments(description, (0,))
    parser.add_argument("--count", type=int, help="inputs of each way for each seed")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--way", help="try only this way")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="try one input in this process, with its traceback")
    return parser


def checks(record: Record) -> list[Check]:
    asked = "no crash, no hang over 5 s of processor time, no other exception, nothing written outside"
    found = []
    for way in record.sides:
        tried, failed = (int(sum(record.values(way, figure))) for figure in ("tried", "failures"))
        found.append(Check(f"{way}, {tried:,} tried", asked, f"{failed:,} failures", not failed))
    return found
