"""Claim: from 5,000 CIFAR-10 images and nothing else, the preset speed learns more in ten minutes of this processor than the default one.

    python benchmarks/speed_preset.py [--seconds 600] [--seeds 0 1 2] [--add] [--quick]

For each seed in turn: `train --budget` with either preset, which counts from process start to the finished report with its 10,000 test
images. Both draw their validation images from the 5,000, the same ones by the same seed.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import image_sets
import numpy as np
from measure import Check, Record, arguments, finish, need_data, results_folder, run_sightline

from sightline.evaluation.intervals import wilson_interval
from sightline.evaluation.paired import paired_difference

SPEED, DEFAULT = "preset speed", "preset default"
QUICK_SECONDS = 60


def right_answers(run: Path) -> dict[str, float]:
    """Of each test image whether the bundle was right, by its path."""
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: float(row["right"]) for row in csv.DictReader(file)}


def measure_seed(record: Record, data: Path, seed: int, seconds: int) -> None:
    answers = {}
    with tempfile.TemporaryDirectory() as scratch:
        for side in (SPEED, DEFAULT):
            out = Path(scratch) / side.replace(" ", "-")
            child = run_sightline(
                "train", data, "--weights", "none", "--preset", side.split()[1], "--budget", f"{seconds}s", "--seed", str(seed),
                "--out", out, SIGHTLINE_CACHE=str(out.with_name(f"{out.name}-cache")),
            )  # fmt: skip
            answers[side] = right_answers(out)
            right = list(answers[side].values())
            low, high = wilson_interval(sum(right), len(right))
            record.add(side, seed, seconds=round(child.seconds, 2), accuracy=child.last["test"]["metrics"]["accuracy"], low=low, high=high)
    paths = sorted(answers[SPEED].keys() & answers[DEFAULT].keys())
    theirs, ours = (np.array([answers[side][path] for path in paths]) for side in (DEFAULT, SPEED))
    found = paired_difference(theirs, ours)
    low, high = found.interval
    record.add("speed less default", seed, difference=found.difference, low=low, high=high)


def checks(record: Record, seconds: int) -> list[Check]:
    longest = max(value for side in (SPEED, DEFAULT) for value in record.values(side, "seconds"))
    ours, theirs = (record.mean(side, "accuracy") for side in (SPEED, DEFAULT))
    least = min(record.values("speed less default", "low"))
    return [
        Check("longest run, to bundle and report", f"at most {seconds} s", f"{longest:.0f} s", longest <= seconds),
        Check("mean test accuracy beside the default preset", f"above {theirs:.3f}", f"{ours:.3f}", ours > theirs),
        Check("lower end of the 95% interval of the difference, of each seed", "above 0", f"{least:.3f}", least > 0),
    ]


def main() -> None:
    parser = arguments(__doc__, (0, 1, 2))
    parser.add_argument("--seconds", type=int, default=600, help="for each side and seed")
    args = parser.parse_args()
    need_data()
    per_class, test_per_class = (50, 50) if args.quick else (500, 1000)
    seconds = QUICK_SECONDS if args.quick else args.seconds
    data = image_sets.cifar(per_class, test_per_class)
    claim = f"CIFAR-10 from scratch in {seconds / 60:g} minutes: --preset speed is more accurate than the default preset."
    settings = {"per_class": per_class, "test_per_class": test_per_class, "seconds": seconds}
    record = Record("speed_preset", claim, f"{10 * per_class:,} training and {10 * test_per_class:,} test images", settings)
    folder = results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        measure_seed(record, data, seed, seconds)
        record.write(folder, checks(record, seconds))
    finish(checks(record, seconds))


if __name__ == "__main__":
    main()
