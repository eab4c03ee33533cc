"""Claim: boxes of blood cells and pedestrians are found better than by torchvision's FCOS in the same time, and as well in half of it.

    python benchmarks/boxes.py [--minutes 30] [--sets bccd pennfudan] [--seeds 0 1 2 3 4] [--add] [--quick]

For each seed and data set in turn: torchvision's FCOS in so many minutes, Sightline with a budget of as many, and with half of what FCOS
took just before, all from the same MobileNetV2 weights; on the blood cells Ultralytics' nano from no weights as well, for information.
Sightline's time is that of the whole process, data never seen before, up to bundle and report; the peers' ends when their model is saved.
FCOS is also tested after each epoch, beside the clock, so that the results show when it was how good. One judge for all: pycocotools,
on what the bundle and the peers find on the test images.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import found_boxes
import image_sets
from measure import WEIGHTS, Check, Child, Record, arguments, finish, need_data, results_folder, run_peer, run_sightline
from peers.coco_judge import Result

from sightline.runtime import Model

FCOS, NANO = "torchvision FCOS", "Ultralytics YOLO26n from no weights"
OURS, HALF = "Sightline", "Sightline in half of FCOS's time"
# What is asked of the test images; the data sets with a third side.
ASKED = {"bccd": {"map": 0.60, "map50": 0.89}, "pennfudan": {"map50": 0.80}}
WITH_NANO = ("bccd",)
# Of the two data sets together, in mAP.
POINTS = 0.03
# Flags of ours beside data, weights and budget: those that a user is told to give for boxes. None are needed.
FLAGS: list[str] = []
QUICK_FLAGS, QUICK_BUDGET = ["--size", "96", "--no-trial"], 60
QUICK_PEER = ["--seconds", "5", "--timing", "0.5", "--size", "64"]
QUICK_NANO = ["--seconds", "5", "--size", "64"]


def at(side: str, name: str) -> str:
    return f"{side}, {name}"


def moment(child: Child) -> float:
    """The seconds it took until the model was saved, by the peer's own clock, which stands still while it is tested."""
    return float(next(answer["seconds"] for _, answer in child.answers if answer.get("event") == "trained"))


def curve(child: Child) -> list[dict[str, float]]:
    """Seconds and test mAP after each epoch."""
    return [{"seconds": said["seconds"], "map": round(said["map"], 4)} for _, said in child.answers if said.get("event") == "epoch"]


def measure_fcos(record: Record, name: str, coco: Path, seed: int, words: list[str], out: Path) -> tuple[float, list[Result]]:
    """Its seconds, and what it found."""
    truth = found_boxes.Truth.of(coco)
    child = run_peer("torchvision_fcos.py", coco, "--seed", str(seed), "--weights", WEIGHTS, "--out", out / "fcos.json", *words)
    found, epochs = found_boxes.of_file(out / "fcos.json"), curve(child)
    record.add(at(FCOS, name), seed, seconds=moment(child), **truth.precision(found), epochs=len(epochs), curve=epochs)
    return moment(child), found


def measure_nano(record: Record, name: str, data: Path, coco: Path, seed: int, words: list[str], out: Path) -> None:
    truth, file = found_boxes.Truth.of(coco), out / "yolo.json"
    child = run_peer(
        "ultralytics_detect.py", image_sets.as_yolo(data), "--truth", truth.file, "--seed", str(seed), "--out", file, *words
    )  # fmt: skip
    record.add(at(NANO, name), seed, seconds=moment(child), **truth.precision(found_boxes.of_file(file)))


def measure_ours(
    record: Record, side: str, name: str, data: Path, coco: Path, seed: int, budget: int, theirs: list[Result], flags: list[str]
) -> None:  # fmt: skip
    truth = found_boxes.Truth.of(coco)
    with tempfile.TemporaryDirectory() as scratch:
        child = run_sightline(
            "train", data, "--task", "detect", "--weights", WEIGHTS, "--budget", f"{budget}s", "--seed", str(seed),
            "--out", Path(scratch) / "run", *flags, SIGHTLINE_CACHE=f"{scratch}/cache",
        )  # fmt: skip
        for made in ("model", "report"):
            if not Path(child.last[made]).exists():
                sys.exit(f"{at(side, name)}: the run left no {made}.")
        ours = found_boxes.of_bundle(Model.open(child.last["model"], many=True), truth)
    figures = truth.precision(ours) | found_boxes.difference(truth, theirs, ours)
    record.add(at(side, name), seed, seconds=round(child.seconds, 2), budget=budget, **figures)


def measure_seed(record: Record, name: str, data: Path, seed: int, minutes: float, quick: bool) -> None:
    coco, seconds = image_sets.as_coco(data), str(60 * minutes)
    with tempfile.TemporaryDirectory() as scratch:
        took, theirs = measure_fcos(record, name, coco, seed, QUICK_PEER if quick else ["--seconds", seconds], Path(scratch))
        if name in WITH_NANO:
            measure_nano(record, name, data, coco, seed, QUICK_NANO if quick else ["--seconds", seconds], Path(scratch))
    for side, budget in ((OURS, 60 * minutes), (HALF, took / 2)):
        budget, flags = (QUICK_BUDGET, QUICK_FLAGS) if quick else (int(budget), FLAGS)
        measure_ours(record, side, name, data, coco, seed, budget, theirs, flags)


def checks(record: Record, minutes: float) -> list[Check]:
    """On the data sets that were measured, today or earlier."""
    names = [name for name in ASKED if at(HALF, name) in record.sides]
    found, gained, lows = [], [], []
    for name in names:
        ours, half, fcos = (at(side, name) for side in (OURS, HALF, FCOS))
        longest = max(record.values(ours, "seconds"))
        found.append(Check(f"{ours}: longest run", f"at most {60 * minutes:g} s", f"{longest:.0f} s", longest <= 60 * minutes))
        for figure, least in ASKED[name].items():
            reached = record.mean(ours, figure)
            found.append(Check(f"{ours}: mean test {figure}", f"at least {least}", f"{reached:.3f}", reached >= least))
        theirs, reached, early = (record.mean(side, "map") for side in (fcos, ours, half))
        found.append(Check(f"{ours}: mean test map beside {FCOS}", f"above {theirs:.3f}", f"{reached:.3f}", reached > theirs))
        ratio = record.ratio("seconds", half, fcos, worst=max)
        found.append(Check(f"{half}: time, ratio of medians", "at most 0.5", f"{ratio:.3f}", ratio <= 0.5))
        found.append(Check(f"{half}: mean test map", f"at least {theirs:.3f}", f"{early:.3f}", early >= theirs))
        gained.append(reached - theirs)
        lows.append(record.mean(ours, "difference_low"))
    total = sum(gained)
    found.append(Check(f"mAP beyond {FCOS}, sum over {' and '.join(names)}", f"at least {POINTS}", f"{total:.3f}", total >= POINTS))
    what = "lower end of the difference's interval, mean over seeds, on the better of them"
    found.append(Check(what, "above 0", f"{max(lows):.3f}", max(lows) > 0))
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="for each side, data set and seed")
    parser.add_argument(
        "--sets", nargs="+", choices=list(ASKED), default=list(ASKED), help="the data sets; another can be added with --add"
    )
    args = parser.parse_args()
    need_data()
    folders = {name: image_sets.objects(name, 4 if args.quick else None) for name in ASKED}
    counts = {name: len(found_boxes.Truth.of(image_sets.as_coco(data)).scenes) for name, data in folders.items()}
    claim = f"Boxes, the same MobileNetV2 weights, {args.minutes:g} minutes: better than torchvision's FCOS, and as good in half its time."
    n = ", ".join(f"{count} test images of {name}" for name, count in counts.items())
    record, folder = Record("boxes", claim, n, {"minutes": args.minutes, "counts": counts}), results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        for name in args.sets:
            measure_seed(record, name, folders[name], seed, args.minutes, args.quick)
        record.write(folder, checks(record, args.minutes))
    finish(checks(record, args.minutes))


if __name__ == "__main__":
    main()
