"""Claim: from 5,000 CIFAR-10 images and nothing else, ten minutes of this processor teach more than timm's recipe and fastai do.

    python benchmarks/cifar_ten_minutes.py [--seconds 600] [--sizes 32 64] [--seeds 0 1 2 3 4] [--add] [--quick]

For each seed in turn: Sightline with a budget, which counts from process start to the finished report with its 10,000 test images,
and draws its validation images from the 5,000; timm's recipe for ResNet-18 and fastai with its ResNet-18, whose time ends when their
model is saved, before they look at the test images, and who train on all 5,000. What each of these reaches at the better of the sizes is
what is compared: the first seed has both sizes, and Ultralytics' smallest classifier besides, all others the size that was better.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import image_sets
from measure import Check, Record, arguments, finish, need_data, results_folder, run_peer, run_sightline

OURS = "Sightline"
PEERS = {"timm ResNet-18": "timm_from_scratch.py", "fastai XResNet-18": "fastai_from_scratch.py"}
ULTRALYTICS = "Ultralytics YOLO26n-cls, 32 px"
QUICK_SECONDS, QUICK_TIMING = 60, 2.0


def at(peer: str, size: int) -> str:
    return f"{peer}, {size} px"


def measure_peer(record: Record, side: str, script: str, seed: int, *words: str | Path) -> None:
    child = run_peer(script, *words, "--seed", str(seed))
    seconds = next(moment for moment, answer in child.answers if answer.get("event") == "trained")
    epochs = {"epochs": child.last["epochs"]} if "epochs" in child.last else {}
    record.add(side, seed, seconds=round(seconds, 2), accuracy=child.last["accuracy"], **epochs)


def measure_seed(record: Record, data: Path, seed: int, seconds: int, sizes: list[int], quick: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        child = run_sightline(
            "train", data, "--weights", "none", "--budget", f"{seconds}s", "--seed", str(seed),
            "--out", Path(scratch) / "run", SIGHTLINE_CACHE=str(Path(scratch) / "cache"),
        )  # fmt: skip
        record.add(OURS, seed, seconds=round(child.seconds, 2), accuracy=child.last["test"]["metrics"]["accuracy"])
        first = ULTRALYTICS not in record.sides
        for peer, script in PEERS.items():
            for size in sizes if first else [better(record, peer, sizes)]:
                words = ["--seconds", str(seconds), "--size", str(size), "--out", Path(scratch) / "peer"]
                measure_peer(record, at(peer, size), script, seed, data, *words, *(["--timing", str(QUICK_TIMING)] if quick else []))
        if first:
            measure_peer(record, ULTRALYTICS, "ultralytics_from_scratch.py", seed, data, "--seconds", str(seconds))


def better(record: Record, peer: str, sizes: list[int]) -> int:
    """The size at which the peer came to more accuracy."""
    return max(sizes, key=lambda size: record.mean(at(peer, size), "accuracy"))


def checks(record: Record, seconds: int, sizes: list[int]) -> list[Check]:
    longest = max(record.values(OURS, "seconds"))
    found = [Check("Sightline: longest run, to bundle and report", f"at most {seconds} s", f"{longest:.0f} s", longest <= seconds)]
    reached = record.mean(OURS, "accuracy")
    for peer in PEERS:
        best = record.mean(at(peer, better(record, peer, sizes)), "accuracy")
        found.append(
            Check(f"mean test accuracy beside {peer} at its better size", f"above {best:.3f}", f"{reached:.3f}", reached > best)
        )  # fmt: skip
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for each side and seed")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64], help="of timm's and fastai's inputs, in pixels")
    args = parser.parse_args()
    need_data()
    per_class, test_per_class = (20, 10) if args.quick else (500, 1000)
    seconds = QUICK_SECONDS if args.quick else args.seconds
    data = image_sets.cifar(per_class, test_per_class)
    claim = f"CIFAR-10 from scratch in {seconds / 60:g} minutes: more test accuracy than timm's recipe for ResNet-18 and than fastai."
    settings = {"per_class": per_class, "test_per_class": test_per_class, "seconds": seconds, "sizes": args.sizes}
    record = Record("cifar_ten_minutes", claim, f"{10 * per_class:,} training and {10 * test_per_class:,} test images", settings)
    folder = results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        measure_seed(record, data, seed, seconds, args.sizes, args.quick)
        record.write(folder, checks(record, seconds, args.sizes))
    finish(checks(record, seconds, args.sizes))


if __name__ == "__main__":
    main()
