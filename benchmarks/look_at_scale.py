"""Claim: looking once takes memory that does not grow with the images, and time that grows as they do; a second start takes seconds.

    python benchmarks/look_at_scale.py [--sizes 10000 100000 1000000] [--place /tmp] [--add] [--quick]

Small JPEG files are rendered in folders of 1,000, below ten classes. For each number of them, a process of its own reads the folder
and looks once, and another does it again, when the store is there. What is counted: the peak memory of that process; of it and its
pool together, shared pages once; the seconds from the start of the process to the store; and those of a process that only starts.
A million files take 4 GB of disk and their store 8, all of which is removed in the end; before, a store asks for 10 GB to be free.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from measure import Check, Record, arguments, finish, peak_bytes, results_folder, run_child
from PIL import Image

from sightline.processor import processors

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (2_000, 5_000, 10_000)
SIDE, LOOKED_AT, FILES_IN_A_FOLDER, CLASSES = 64, 48, 1000, 10
# Pictures of which the files are made; each file has bytes of its own in its comment and a part of the picture of its own.
PATTERNS = 64
FLAT_BYTES, LINEAR, SECONDS_AGAIN = 300e6, 1.3, 10.0
FIRST, AGAIN, BARE = "first look", "second look", "a start"


@lru_cache(1)
def patterns() -> list[Image.Image]:
    """Pictures of four times the side, smooth and with grain, of which no two parts are alike."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(PATTERNS):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).resize((4 * SIDE, 4 * SIDE), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 9, (4 * SIDE, 4 * SIDE, 3))
        found.append(Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)))
    return found


def render(root: Path, folder: int) -> None:
    """One folder of files, in the class that it falls to."""
    rng, pictures = np.random.default_rng([1, folder]), patterns()
    place = root / f"class-{folder % CLASSES}" / f"{folder // CLASSES:03d}"
    place.mkdir(parents=True)
    for number in range(FILES_IN_A_FOLDER):
        left, top = rng.integers(0, 3 * SIDE, 2).tolist()
        part = pictures[int(rng.integers(PATTERNS))].crop((left, top, left + SIDE, top + SIDE))
        sink = io.BytesIO()
        part.save(sink, "JPEG", quality=85, comment=f"{folder}/{number}".encode())
        (place / f"{number:04d}.jpg").write_bytes(sink.getvalue())


def render_all(root: Path, have: int, want: int) -> None:
    folders = range(have // FILES_IN_A_FOLDER, want // FILES_IN_A_FOLDER)
    with ProcessPoolExecutor(processors()) as pool:
        list(pool.map(render, itertools.repeat(root, len(folders)), folders))


def look(root: str) -> None:
    """In a process of its own, so that its peak memory is its own."""
    from sightline.data.decode import Limits
    from sightline.data.readers import read_dataset
    from sightline.data.store import look_once

    parts, began = {}, time.perf_counter()
    dataset, _ = read_dataset(Path(root))
    parts["reading"] = time.perf_counter() - began
    store = look_once(dataset, LOOKED_AT, limits=Limits(), workers=processors(), limit_bytes=1e12)
    parts["looking"] = time.perf_counter() - began - parts["reading"]
    assert store.facts.readable.all()
    assert store[len(store) - 1].shape == (LOOKED_AT, LOOKED_AT, 3)
    print(json.dumps({"n": len(store), "peak": peak_bytes(), **{name: round(seconds, 3) for name, seconds in parts.items()}}))


def measured(record: Record, root: Path, n: int, scratch: Path) -> None:
    words, cache = [sys.executable, os.path.abspath(__file__), "--look", str(root)], {"SIGHTLINE_CACHE": str(scratch / "cache")}
    for side in (FIRST, AGAIN):
        child = run_child(words, memory=True, **cache)
        assert child.last["n"] == n
        record.add(
            f"{side} at {n:,}", 0, seconds=round(child.seconds, 3), main_gb=child.last["peak"] / 1e9,
            all_gb=(child.peak_memory or 0) / 1e9, reading=child.last["reading"], looking=child.last["looking"], images=n,
        )  # fmt: skip
    shutil.rmtree(scratch / "cache")


def checks(record: Record) -> list[Check]:
    sizes = sorted({int(run["images"]) for run in record.runs if "images" in run})
    found = []
    for side in (FIRST, AGAIN):
        peaks = [max(record.values(f"{side} at {n:,}", "main_gb")) for n in sizes]
        grown = max(peaks) - min(peaks)
        said = f"{grown * 1e3:.0f} MB, from {min(peaks) * 1e3:.0f} to {max(peaks) * 1e3:.0f}"
        found.append(Check(f"{side}: memory from {sizes[0]:,} to {sizes[-1]:,}", "flat within 300 MB", said, grown * 1e9 <= FLAT_BYTES))
    start = record.median(BARE, "seconds")
    each = {n: (record.median(f"{FIRST} at {n:,}", "seconds") - start) / n for n in sizes}
    for n in sizes[1:]:
        ratio = each[n] / each[sizes[0]]
        found.append(Check(f"time of an image at {n:,} to {sizes[0]:,}", f"at most {LINEAR:g}", f"{ratio:.2f}", ratio <= LINEAR))
    again = record.median(f"{AGAIN} at {sizes[-1]:,}", "seconds")
    found.append(Check(f"second look at {sizes[-1]:,}", f"under {SECONDS_AGAIN:g} s", f"{again:.2f} s", again < SECONDS_AGAIN))
    return found


def main() -> None:
    if sys.argv[1:2] == ["--look"]:
        return look(sys.argv[2])
    parser = arguments(__doc__, [0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of files, in thousands that are whole")
    parser.add_argument("--place", default=tempfile.gettempdir(), help="where the files and their store go for a while")
    args = parser.parse_args()
    sizes = sorted(QUICK_SIZES if args.quick else args.sizes)
    claim = "Looking once takes memory that does not grow with the images, and time that grows as they do; a second start takes seconds."
    settings = {"side": SIDE, "looked_at": LOOKED_AT, "sizes": sizes}
    record = Record("look_at_scale", claim, f"up to {sizes[-1]:,} JPEG files of {SIDE} pixels", settings)
    folder = results_folder(args)
    if args.add:
        record.restore(folder)
    with tempfile.TemporaryDirectory(dir=args.place, prefix="look-at-scale-") as scratch:
        root, have = Path(scratch) / "data", 0
        nothing = Path(scratch) / "few"
        render(nothing, 0)
        bare = run_child([sys.executable, os.path.abspath(__file__), "--look", str(nothing)], SIGHTLINE_CACHE=str(Path(scratch) / "cache"))
        record.add(BARE, 0, seconds=round(bare.seconds - bare.last["looking"], 3))
        for n in sizes:
            began = time.perf_counter()
            render_all(root, have, n)
            print(f"{n - have:,} files rendered in {time.perf_counter() - began:.0f} s", flush=True)
            have = n
            measured(record, root, n, Path(scratch))
            record.write(folder, checks(record))
    finish(checks(record))
    return None


if __name__ == "__main__":
    main()
