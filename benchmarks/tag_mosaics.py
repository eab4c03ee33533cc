"""Claim: tagging learns which things are on a picture, and every figure of its report is what scikit-learn says.

    python benchmarks/tag_mosaics.py [--train 1500] [--validation 300] [--test 500] [--side 128] [--make-only DEST]
                                     [--seeds 0] [--add] [--quick]

Makes pictures of four CIFAR-10 images each, two by two, whose labels are the classes on them; trains on them from MobileNetV2's
weights; measures mean average precision beside the labels' share of the pictures, and the largest difference from scikit-learn.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import DATA, WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_sightline
from PIL import Image

# At the pictures' own size a pass takes a third of the time that it takes at the 224 px of the weights.
SIZE, EPOCHS = 128, 6
CLASSES = 10
TILES = 4
# Between the report and scikit-learn, on probabilities from the same bundle.
TOLERANCE = 1e-6
SIDE = "Sightline"


def make_mosaics(folder: Path, tiles: Path, counts: dict[str, int], side: int, seed: int = 0) -> Path:
    """``labels.csv`` with path, label and split, and its pictures; no tile is used twice, and none of a test picture's is in training.

    ``tiles`` holds {train,test}/CLASS/*.png.
    """
    rng = np.random.default_rng(seed)
    rows = [("path", "label", "split")]
    pool = {source: rng.permutation(sorted((tiles / source).glob("*/*.png"))).tolist() for source in ("train", "test")}
    for split, count in counts.items():
        (folder / split).mkdir(parents=True)
        left = pool["test" if split == "test" else "train"]
        if len(left) < TILES * count:
            sys.exit(f"There are only {len(left)} images left for {count} {split} pictures of {TILES}; ask for fewer.")
        for number in range(count):
            chosen, left[:TILES] = left[:TILES], []
            name = f"{split}/{number:04d}.png"
            mosaic(chosen, side).save(folder / name, compress_level=1)
            rows.append((name, "|".join(sorted({tile.parent.name for tile in chosen})), split))
    table = folder / "labels.csv"
    with table.open("w", newline="") as sink:
        csv.writer(sink, lineterminator="\n").writerows(rows)
    return table


def mosaic(tiles: list[Path], side: int) -> Image.Image:
    """Four images, two by two, on a square of ``side`` pixels."""
    half = side // 2
    picture = Image.new("RGB", (2 * half, 2 * half))
    for place, path in enumerate(tiles):
        with Image.open(path) as tile:
            picture.paste(tile.convert("RGB").resize((half, half), Image.Resampling.BICUBIC), (place % 2 * half, place // 2 * half))
    return picture


def unpack_tiles(folder: Path, counts: dict[str, int]) -> Path:
    """As many tiles of each class as the larger of the two sources needs."""
    needed = max(counts["train"] + counts["validation"], counts["test"]) * TILES
    subprocess.run([sys.executable, str(DATA / "unpack.py"), str(folder), "--per-class", str(-(-needed // CLASSES))], check=True)
    return folder


def train(table: Path, out: Path, seed: int) -> dict[str, Any]:
    words = ["--task", "tag", "--weights", WEIGHTS, "--size", str(SIZE), "--epochs", str(EPOCHS), "--seed", str(seed), "--out", out]
    return run_sightline("train", table, *words).last


def by_scikit_learn(table: Path, model: Path) -> tuple[dict[str, float], dict[str, float], float]:
    """The report's metrics and each label's average precision of the test pictures, from the bundle's predictions; the labels' share."""
    from sklearn import metrics
    from sklearn.calibration import calibration_curve

    import sightline

    opened = sightline.Model.open(model)
    with table.open(newline="") as source:
        rows = [row for row in csv.DictReader(source) if row["split"] == "test"]
    answers = opened.predict([table.parent / row["path"] for row in rows])
    truth = np.array([[label in row["label"].split("|") for label in opened.labels] for row in rows])
    scores = np.array([[answer.scores[label] for label in opened.labels] for answer in answers])
    given = np.array([[label in answer.labels for label in opened.labels] for answer in answers])
    macro = metrics.precision_recall_fscore_support(truth, given, average="macro", zero_division=0)
    bins = 15
    share, stated = calibration_curve(truth.ravel(), scores.ravel(), n_bins=bins)
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores.ravel()), minlength=bins)
    precisions = metrics.average_precision_score(truth, scores, average=None)
    figures = {
        "map": precisions.mean(),
        **dict(zip(("precision", "recall", "f1"), macro, strict=False)),
        "f1_micro": metrics.f1_score(truth, given, average="micro"),
        "subset_accuracy": metrics.accuracy_score(truth, given),
        "hamming_loss": metrics.hamming_loss(truth, given),
        "ece": (np.abs(share - stated) * counts[counts > 0]).sum() / counts.sum(),
    }
    plain = {name: float(value) for name, value in figures.items()}
    return plain, dict(zip(opened.labels, precisions.tolist(), strict=True)), float(truth.mean())


def compare(table: Path, run: dict[str, Any]) -> dict[str, Any]:
    """The report's figures, scikit-learn's, and the largest difference."""
    report = json.loads((Path(run["run"]) / "report.json").read_text())
    test = report["test"]
    figures, precisions, share = by_scikit_learn(table, Path(run["model"]))
    ours = test["metrics"] | {f"ap {entry['label']}": entry["ap"] for entry in test["labels"]} | {"prevalence": test["prevalence"]}
    theirs = figures | {f"ap {label}": value for label, value in precisions.items()} | {"prevalence": share}
    if ours.keys() != theirs.keys():
        sys.exit(f"Not every figure was checked: {sorted(ours.keys() ^ theirs.keys())}")
    low, high = test["intervals"]["map"]
    return {
        "map": ours["map"], "interval_low": low, "interval_high": high, "share_of_labels": share, "figures_compared": len(ours),
        "largest_difference": max(abs(ours[name] - theirs[name]) for name in ours),
    }  # fmt: skip


def checks(record: Record) -> list[Check]:
    difference, lows = max(record.values(SIDE, "largest_difference")), record.values(SIDE, "interval_low")
    share = record.mean(SIDE, "share_of_labels")
    return [
        Check("largest difference from scikit-learn", f"at most {TOLERANCE:g}", f"{difference:.1e}", difference <= TOLERANCE),
        Check(
            "mean average precision, lower end of its interval",
            f"above the labels' share, {share:.3f}",
            f"{min(lows):.3f}",
            min(lows) > share,
        ),
    ]


def main() -> None:
    parser = arguments(__doc__, [0])
    parser.add_argument("--train", type=int, default=1500)
    parser.add_argument("--validation", type=int, default=300)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--make-only", type=Path, metavar="DEST", help="write the data set there and stop")
    args = parser.parse_args()
    counts = {"train": args.train, "validation": args.validation, "test": args.test}
    if args.quick:
        counts = {"train": 60, "validation": 30, "test": 40}
    need_data()
    claim = "Tagging learns which things are on a picture, and every figure of its report is what scikit-learn says."
    n = ", ".join(f"{count:,} {split}" for split, count in counts.items()) + " pictures"
    with tempfile.TemporaryDirectory() as scratch:
        table = make_mosaics(args.make_only or Path(scratch) / "mosaics", unpack_tiles(Path(scratch) / "tiles", counts), counts, args.side)
        if args.make_only:
            print(table)
            return
        record, folder = Record("tag_mosaics", claim, n, {"counts": counts, "side": args.side}), results_folder(args)
        if args.add:
            record.restore(folder)
        for seed in args.seeds:
            record.add(SIDE, seed, **compare(table, train(table, Path(scratch) / f"run-{seed}", seed)))
            record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
