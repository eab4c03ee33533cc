"""Claim: scores mean what they say, candidates hold the truth as often as promised, and so do the answers that are given.

    python benchmarks/promises.py [classify] [tag] [--seeds 0] [--add] [--quick]

CIFAR-10 (10,000 training images, all 10,000 test images) and pictures of four of its images each, tagged with what is on them. Both
are trained from MobileNetV2's weights at the pictures' own size; the figures are those of the report, on images that nothing was chosen on.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from image_sets import cifar
from measure import WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_sightline
from tag_mosaics import make_mosaics, unpack_tiles

PER_CLASS, TEST_PER_CLASS = 1000, 1000
# Coverage on 1,000 pictures by a threshold from 450 is off by 1.7 points one time in three, so that chance alone would miss 88 to 92% in a
# quarter of all runs; with these numbers it does in one of twenty.
MOSAICS = {"train": 1500, "validation": 2600, "test": 2400}
# How good the network is does not matter here; the upper layers alone take a quarter of the time.
LAYERS = ["--layers", "upper", "--epochs", "4"]
# The promise of tags is their overlap with the true ones, of which a network that learned for so short a time keeps no 80%.
SETTINGS = {"classify": ["--size", "64", *LAYERS], "tag": ["--task", "tag", "--size", "128", "--promise", "0.6", *LAYERS]}
QUICK = {"per_class": 40, "test_per_class": 20, "mosaics": {"train": 60, "validation": 30, "test": 40}}
MOST_ECE, COVERED = 0.03, (0.88, 0.92)


def data_for(task: str, scratch: Path, quick: bool) -> Path:
    if task == "classify":
        return cifar(*(QUICK["per_class"], QUICK["test_per_class"]) if quick else (PER_CLASS, TEST_PER_CLASS))
    counts: dict[str, int] = QUICK["mosaics"] if quick else MOSAICS
    return make_mosaics(scratch / "mosaics", unpack_tiles(scratch / "tiles", counts), counts, 128)


def measure(task: str, data: Path, out: Path, seed: int) -> dict[str, Any]:
    """Figures of the report's section on confidence."""
    run_sightline("train", data, "--weights", WEIGHTS, "--no-trial", *SETTINGS[task], "--seed", str(seed), "--out", out)
    report = json.loads((out / "report.json").read_text())
    found = report["confidence"]
    low, high = found["answered_interval"]
    return {
        "ece_before": found["ece_before"], "ece": found["ece"], "covered": found["conformal"]["coverage"],
        "candidates": found["conformal"]["mean_size"], "promise": found["promise"], "answered": found["coverage"],
        "right": found["answered_accuracy"], "right_low": low, "right_high": high,
        "called_unfamiliar": found["familiar"]["called_unfamiliar"], "calibration_images": found["n_calibration"],
        "test_images": found["n"],
    }  # fmt: skip


def checks(record: Record) -> list[Check]:
    found = []
    for task in record.sides:
        worst, covered = max(record.values(task, "ece")), record.values(task, "covered")
        made = [run for run in record.runs if run["side"] == task and run["promise"] is not None]
        kept = sum(run["right_high"] >= run["promise"] for run in made)
        found += [
            Check(f"{task}: calibration error", f"at most {MOST_ECE}", f"{worst:.3f}", worst <= MOST_ECE),
            Check(
                f"{task}: candidates hold all true labels",
                f"of {COVERED[0]:.0%} to {COVERED[1]:.0%} of images",
                ", ".join(f"{share:.1%}" for share in covered),
                all(COVERED[0] <= share <= COVERED[1] for share in covered),
            ),
            Check(
                f"{task}: the promise of right answers", "made, and within its interval", f"{kept} of {len(covered)}", kept == len(covered)
            ),
        ]
    return found


def main() -> None:
    parser = arguments(__doc__, [0])
    parser.add_argument("tasks", nargs="*", default=list(SETTINGS), metavar="TASK")
    args = parser.parse_args()
    need_data()
    claim = "Scores mean what they say, candidates hold the truth as often as promised, and so do the answers that are given."
    record, folder = Record("promises", claim, "CIFAR-10 and pictures of four CIFAR-10 images", {"quick": args.quick}), results_folder(args)
    if args.add:
        record.restore(folder)
    with tempfile.TemporaryDirectory() as scratch:
        for task in args.tasks:
            data = data_for(task, Path(scratch), args.quick)
            for seed in args.seeds:
                record.add(task, seed, **measure(task, data, Path(scratch) / f"{task}-{seed}", seed))
                record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
