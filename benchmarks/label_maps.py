"""Claim: driving scenes are segmented at least 5 points of mIoU better than by a Unet with the same encoder in the same time.

    python benchmarks/label_maps.py [--minutes 20] [--seeds 0 1 2 3 4] [--add] [--quick]

For each seed in turn: segmentation-models-pytorch's Unet in so many minutes and Sightline with a budget of as many, both from the same
MobileNetV2 weights. Sightline's time is that of the whole process, data never seen before, up to bundle and report; the Unet's ends when it
is saved. Both are judged on every pixel of the test images that is not void: Sightline's bundle by what it predicts of the files.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import found_maps
import image_sets
import numpy as np
from measure import WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_peer, run_sightline

from sightline.evaluation.segmentation import overlap_differences, overlap_summary
from sightline.runtime import Model

OURS, UNET = "Sightline", "segmentation-models-pytorch Unet"
LEAST, POINTS = 0.50, 0.05
# Flags of ours beside data, weights and budget: those that a user is told to give for label maps. None are needed.
FLAGS: list[str] = []
QUICK_FLAGS, QUICK_BUDGET = ["--size", "96", "--no-trial"], 60
QUICK_PEER = ["--seconds", "5", "--timing", "0.5"]


def measure_seed(record: Record, data: Path, seed: int, minutes: float, quick: bool) -> None:
    budget, flags = (QUICK_BUDGET, QUICK_FLAGS) if quick else (int(60 * minutes), FLAGS)
    with tempfile.TemporaryDirectory() as scratch:
        words = QUICK_PEER if quick else ["--seconds", str(60 * minutes)]
        child = run_peer("smp_unet.py", data, "--seed", str(seed), "--weights", WEIGHTS, "--out", Path(scratch) / "unet.npz", *words)
        theirs = np.load(Path(scratch) / "unet.npz")["confusions"]
        seconds = next(answer["seconds"] for _, answer in child.answers if answer.get("event") == "trained")
        record.add(UNET, seed, seconds=seconds, miou=round(overlap_summary(theirs)[0], 5), epochs=child.last["epochs"])
        child = run_sightline(
            "train", data, "--weights", WEIGHTS, "--budget", f"{budget}s", "--seed", str(seed), "--out", Path(scratch) / "run", *flags,
            SIGHTLINE_CACHE=f"{scratch}/cache",
        )  # fmt: skip
        for made in ("model", "report"):
            if not Path(child.last[made]).exists():
                sys.exit(f"{OURS}: the run left no {made}.")
        ours = found_maps.confusions(Model.open(child.last["model"], many=True), data, found_maps.names_of(data))
    low, high = overlap_differences(theirs, ours)[0].tolist()
    figures = {"miou": round(overlap_summary(ours)[0], 5), "difference_low": round(low, 4), "difference_high": round(high, 4)}
    record.add(OURS, seed, seconds=round(child.seconds, 2), budget=budget, **figures)


def checks(record: Record, minutes: float) -> list[Check]:
    longest = max(record.values(OURS, "seconds"))
    ours, theirs, low = record.mean(OURS, "miou"), record.mean(UNET, "miou"), record.mean(OURS, "difference_low")
    return [
        Check("Sightline: longest run, to bundle and report", f"at most {60 * minutes:g} s", f"{longest:.0f} s", longest <= 60 * minutes),
        Check("Sightline: mean test mIoU", f"at least {LEAST}", f"{ours:.3f}", ours >= LEAST),
        Check(f"mean test mIoU beyond that of {UNET}", f"at least {POINTS}", f"{ours - theirs:.3f}", ours - theirs >= POINTS),
        Check("lower end of the difference's interval, mean over seeds", "above 0", f"{low:.3f}", low > 0),
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="for each side and seed")
    args = parser.parse_args()
    need_data()
    data = image_sets.camvid(8 if args.quick else None)
    counts = {split: sum(1 for _ in (data / split / "images").iterdir()) for split in ("train", "val", "test")}
    claim = f"Driving scenes, the same MobileNetV2 weights, {args.minutes:g} minutes: at least 5 points of mIoU above a Unet."
    n = ", ".join(f"{count} {split}" for split, count in counts.items()) + " images"
    record, folder = Record("label_maps", claim, n, {"minutes": args.minutes, "counts": counts}), results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        measure_seed(record, data, seed, args.minutes, args.quick)
        record.write(folder, checks(record, args.minutes))
    finish(checks(record, args.minutes))


if __name__ == "__main__":
    main()
