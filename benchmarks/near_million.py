"""Claim: near copies among a million images are found without comparing all pairs, in time that grows no faster than n log n.

    python benchmarks/near_million.py [--seeds 0] [--add] [--quick]

The embeddings are simulated: 1,000 kinds of very different frequency, 128 numbers an image. Of 1% of the images there is a near copy, whose
cosine with its original is drawn evenly from 0.9 to 0.995; embeddings of saved-again photographs are nearer. The search is the audit's own.
"""

from __future__ import annotations

import itertools
import math
import os
import resource
import subprocess
import sys
import time

import numpy as np
from measure import Check, Record, arguments, finish, results_folder

SIZES, DIRECTIONS, KINDS, COPIES = (250_000, 500_000, 1_000_000), 128, 1000, 0.01
AT_LEAST, MOST = 0.85, 4
# Timings of this length vary by so much on a machine that does nothing else.
NOISE = 1.15


def simulated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, 128) of length 1, and of the last 1% of them the rows they are copies of."""
    rng, copies = np.random.default_rng([seed, n]), round(COPIES * n)
    shares = rng.pareto(1.5, KINDS) + 0.1
    vectors = rng.normal(size=(KINDS, DIRECTIONS)).astype(np.float32)[rng.choice(KINDS, n, p=shares / shares.sum())]
    vectors += rng.standard_normal((n, DIRECTIONS), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    originals = rng.choice(n - copies, copies, replace=False)
    away = rng.standard_normal((copies, DIRECTIONS), np.float32)
    away -= (away * vectors[originals]).sum(axis=1, keepdims=True) * vectors[originals]
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    cosines = rng.uniform(0.9, 0.995, (copies, 1)).astype(np.float32)
    vectors[n - copies :] = cosines * vectors[originals] + np.sqrt(1 - cosines**2) * away
    return vectors, originals


def search(n: int, seed: int) -> None:
    """In a process of its own, so that its peak memory is its own."""
    from sightline.auditing.neighbours import near_neighbours

    vectors, originals = simulated(n, seed)
    started = time.perf_counter()
    found = near_neighbours(vectors, AT_LEAST, MOST)
    seconds = time.perf_counter() - started
    pairs = set(map(tuple, found.pairs.tolist()))
    first = n - len(originals)
    recall = np.mean([(int(original), first + place) in pairs for place, original in enumerate(originals)])
    planted = {(int(original), first + place) for place, original in enumerate(originals)}
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(seconds, gigabytes, recall, found.trees, len(pairs - planted))


def checks(record: Record) -> list[Check]:
    sizes = sorted(int(side.replace(",", "")) for side in record.sides)
    found = []
    for n in sizes:
        recall, memory = record.mean(f"{n:,}", "recall"), max(record.values(f"{n:,}", "gigabytes"))
        found += [
            Check(f"{n:,}: recall of planted copies", "at least 0.98", f"{recall:.4f}", recall >= 0.98),
            Check(f"{n:,}: peak memory", "under 16 GB", f"{memory:.1f} GB", memory < 16),
        ]
    for fewer, more in itertools.product(sizes[:1], sizes[1:]):
        ratio = record.ratio("seconds", f"{more:,}", f"{fewer:,}", worst=max)
        bound = NOISE * more * math.log(more) / (fewer * math.log(fewer))
        found.append(Check(f"time of {more:,} to {fewer:,}", f"at most {bound:.2f} (n log n, and {NOISE})", f"{ratio:.2f}", ratio <= bound))
    return found


def main() -> None:
    if sys.argv[1:2] == ["--search"]:
        return search(int(sys.argv[2]), int(sys.argv[3]))
    args = arguments(__doc__, [0]).parse_args()
    sizes = (5_000, 10_000, 20_000) if args.quick else SIZES
    claim = "Near copies among a million images are found without comparing all pairs."
    record, folder = (
        Record("near_million", claim, f"up to {sizes[-1]:,} simulated embeddings", {"largest": sizes[-1]}),
        results_folder(args),
    )
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        for n in sizes:
            words = [sys.executable, os.path.abspath(__file__), "--search", str(n), str(seed)]
            said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
            seconds, gigabytes, recall = map(float, said[:3])
            record.add(f"{n:,}", seed, seconds=seconds, gigabytes=gigabytes, recall=recall, trees=int(said[3]), other_pairs=int(said[4]))
            record.write(folder, checks(record))
    finish(checks(record))
    return None


if __name__ == "__main__":
    main()
