"""Claim: every network we name learns: trained from scratch on 200 CIFAR-10 images, it knows at least 95% of those same images.

    python benchmarks/memorise.py [NETWORK...] [--seeds 0] [--add] [--quick]

One command each, without augmentation, with images of one size and with the last epoch kept, as nothing is to be generalised here.
Measures accuracy on the 200 training images by ``sightline evaluate``, and the seconds from process start to report.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import DATA, Check, Record, arguments, finish, need_data, results_folder, run_sightline

# Images of each class: to learn, and for the splits a data set has to have.
COUNTS = {"train": 20, "val": 5, "test": 5}
PLAIN = ["--weights", "none", "--keep", "last", "--crop-scale", "1", "--rotate", "0", "--no-flip", "--colour", "0",
         "--label-smoothing", "0", "--dropout", "0", "--no-trial"]  # fmt: skip
NETWORKS = {
    "alexnet": "--backbone alexnet --size 96 --start-size 96 --epochs 60",
    "vgg11": "--backbone torchvision/vgg11 --size 32 --start-size 32 --epochs 38",
    "resnet18": "--backbone resnet18 --start-size 32 --epochs 30",
    "googlenet": "--backbone googlenet --start-size 32 --epochs 80",
    "inception_v3": "--backbone inception_v3 --size 96 --start-size 96 --epochs 40",
}
QUICK = ["--epochs", "1", "--size", "32"]
LEAST = 0.95


def make_data(folder: Path) -> Path:
    """train/, val/ and test/ with class folders of the first tiles."""
    subprocess.run([sys.executable, str(DATA / "unpack.py"), str(folder / "tiles"), "--per-class", str(sum(COUNTS.values()))], check=True)
    start = 0
    for split, count in COUNTS.items():
        for label in sorted((folder / "tiles" / "train").iterdir()):
            (folder / "set" / split / label.name).mkdir(parents=True)
            for tile in sorted(label.iterdir())[start : start + count]:
                shutil.copy(tile, folder / "set" / split / label.name)
        start += count
    return folder / "set"


def checks(record: Record) -> list[Check]:
    reached = {network: record.mean(network, "accuracy") for network in record.sides}
    return [
        Check(f"{network}: accuracy on what it learned", f"at least {LEAST}", f"{value:.3f}", value >= LEAST)
        for network, value in reached.items()
    ]


def main() -> None:
    parser = arguments(__doc__, [0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    args = parser.parse_args()
    need_data()
    claim = "Every network we name learns: from scratch, it knows at least 95% of 200 CIFAR-10 images."
    record, folder = Record("memorise", claim, "200 images", {"images": 200}), results_folder(args)
    if args.add:
        record.restore(folder)
    with tempfile.TemporaryDirectory() as scratch:
        data = make_data(Path(scratch))
        for seed in args.seeds:
            for network in ["resnet18"] if args.quick else args.networks:
                out, words = (
                    Path(scratch) / f"{network}-{seed}",
                    ["--backbone", "resnet18", *QUICK] if args.quick else NETWORKS[network].split(),
                )
                run = run_sightline("train", data, "--out", out, "--seed", str(seed), *words, *PLAIN)
                found = run_sightline("evaluate", run.last["model"], data, "--split", "train").last
                record.add(network, seed, accuracy=found["metrics"]["accuracy"], seconds=round(run.seconds, 1))
                record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
