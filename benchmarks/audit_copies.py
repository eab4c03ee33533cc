"""Claim: the audit finds planted copies and wrong labels among 10,000 CIFAR-10 images, and cleaning makes a better model.

    python benchmarks/audit_copies.py [--seeds 0] [--add] [--quick] [--untrained]

A seed plants afresh: 1% exact copies; 1% copies that were resized, recompressed, cropped by 5% or mirrored; half of either across the
split; and 5% wrong labels. CIFAR-10's own copies, which the audit finds before anything is planted, are left out of the count.
Then a network is trained from scratch, for as many epochs each, on the data as they are, on the data with what decisions.csv suggests, and
on the data as a person would decide who looks at every image that the audit lists and knows the right label. All three are measured on the
same 10,000 test images with right labels.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from measure import DATA, Check, Record, arguments, finish, need_data, results_folder, run_sightline
from PIL import Image
from sklearn.metrics import average_precision_score

from sightline import Model
from sightline.evaluation.paired import paired_difference

N, EXACT, NEAR, WRONG = 10_000, 100, 100, 500
CHANGES = ("resized", "recompressed", "cropped", "mirrored")
SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
WEIGHTS = DATA / "weights" / "mobilenetv2_100_same_imagenet.safetensors"
COPIES = ("exact-copies", "near-copies", "copies-across-splits", "copies-with-different-labels")
TRAINING = ["--weights", "none", "--backbone", "resnet18", "--epochs", "8", "--size", "28", "--start-size", "16", "--batch-size", "64",
            "--crop-scale", "0.55", "--rotate", "0", "--colour", "0.15", "--ema", "0.99"]  # fmt: skip


def changed(image: Image.Image, change: str, rng: np.random.Generator) -> tuple[bytes, str]:
    """A near copy as a file's bytes, with its suffix."""
    width, height = image.size
    sink, options = io.BytesIO(), {"format": "PNG"}
    if change == "resized":
        share = rng.uniform(0.6, 1.6)
        image = image.resize((round(width * share), round(height * share)), Image.Resampling.BICUBIC)
    elif change == "recompressed":
        options = {"format": "JPEG", "quality": int(rng.integers(40, 91))}
    elif change == "cropped":
        across, down = round(0.95 * width), round(0.95 * height)
        left, top = rng.integers(0, width - across + 1), rng.integers(0, height - down + 1)
        image = image.crop((left, top, left + across, top + down))
    else:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.save(sink, **options)
    return sink.getvalue(), ".jpg" if options["format"] == "JPEG" else ".png"


def plant(tiles: Path, folder: Path, seed: int, n: int) -> dict[str, Any]:
    """Write the set with and without plants; gives what was planted: pairs of names, and name -> right label of wrong ones."""
    rng = np.random.default_rng([seed, 2026])
    files = [file for label in sorted((tiles / "train").iterdir()) for file in sorted(label.iterdir())]
    exact, near, wrong = EXACT * n // N, NEAR * n // N, WRONG * n // N
    chosen = rng.permutation(len(files))[: n - exact - near]
    labels = sorted({file.parent.name for file in files})
    splits = rng.choice(list(SPLITS), len(chosen), p=list(SPLITS.values()))
    mistaken = set(rng.choice(len(chosen), wrong, replace=False).tolist())
    sources = rng.choice(np.setdiff1d(np.arange(len(chosen)), list(mistaken)), exact + near, replace=False)
    names, right = [], {}
    for place, (row, split) in enumerate(zip(chosen, splits, strict=True)):
        truth = files[row].parent.name
        label = str(rng.choice([other for other in labels if other != truth])) if place in mistaken else truth
        name = f"{split}/{label}/{place:05d}.png"
        names.append(name)
        if place in mistaken:
            right[name] = truth
        for root in ("clean", "planted"):
            target = folder / root / (name if root == "planted" else f"{split}/{truth}/{place:05d}.png")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(files[row], target)
    pairs: dict[str, list[tuple[str, str]]] = {"exact": [], **{change: [] for change in CHANGES}}
    for number, place in enumerate(sources):
        kind = "exact" if number < exact else CHANGES[number % len(CHANGES)]
        split, label, _ = names[place].split("/")
        if number % 2:
            split = str(rng.choice([other for other in SPLITS if other != split]))
        source = folder / "planted" / names[place]
        data, suffix = (source.read_bytes(), ".png") if kind == "exact" else changed(Image.open(source).convert("RGB"), kind, rng)
        name = f"{split}/{label}/x{number:05d}{suffix}"
        (folder / "planted" / split / label).mkdir(parents=True, exist_ok=True)
        (folder / "planted" / name).write_bytes(data)
        pairs[kind].append((names[place], name))
    return {"pairs": pairs, "right": right}


def audited(data: Path, out: Path, seed: int) -> tuple[dict[str, Any], Path, float]:
    run = run_sightline("audit", data, "--weights", WEIGHTS, "--out", out, "--seed", str(seed))
    return run.last, Path(run.last["decisions"]), run.seconds


def pairs_found(report: dict[str, Any]) -> set[frozenset[str]]:
    return {frozenset(item["images"]) for finding in report["findings"] if finding["kind"] in COPIES for item in finding["items"]}


def tied(pairs: Iterable[Iterable[str]]) -> dict[str, str]:
    """name -> the name that stands for all that hang together with it."""
    first: dict[str, str] = {}

    def root(name: str) -> str:
        while first.setdefault(name, name) != name:
            name = first[name]
        return name

    for a, *others in pairs:
        for b in others:
            first[root(b)] = root(a)
    return {name: root(name) for name in first}


def place_of(name: str) -> str:
    """The number of an original, the same whatever label it was given."""
    return name.rsplit("/", 1)[-1]


def judge_copies(own: set[frozenset[str]], found: set[frozenset[str]], planted: dict[str, list[tuple[str, str]]]) -> dict[str, float]:
    """Recall by kind and precision, CIFAR-10's own copies left out."""
    pairs = [(a, b) for kind in planted.values() for a, b in kind]
    same = tied([map(place_of, pair) for pair in own] + [map(place_of, pair) for pair in pairs])
    together = tied(found)
    figures = {}
    for kind, those in planted.items():
        figures[f"recall_{kind}"] = float(np.mean([together.get(a, a) == together.get(b, b) for a, b in those]))
    near = [pair for kind in CHANGES for pair in planted[kind]]
    figures["recall_near"] = float(np.mean([together.get(a, a) == together.get(b, b) for a, b in near]))
    own_places = [set(map(place_of, pair)) for pair in own]
    counted = [pair for pair in found if set(map(place_of, pair)) not in own_places]
    true = [len({same.get(place_of(name), name) for name in pair}) == 1 for pair in counted]
    return {**figures, "pairs_found": len(counted), "precision": float(np.mean(true)) if true else 1.0, "own_copies": len(own)}


def judge_labels(report: dict[str, Any], data: Path, right: dict[str, str]) -> dict[str, float]:
    """Average precision of the list of suspects over all images: those that are not listed come last."""
    suspects = next((finding for finding in report["findings"] if finding["kind"] == "suspect-labels"), {"items": [], "figures": {}})
    listed = [item["images"][0] for item in suspects["items"]]
    names = [str(file.relative_to(data)) for file in sorted(data.glob("*/*/*"))]
    place = {name: len(listed) - number for number, name in enumerate(listed)}
    truth, scores = [name in right for name in names], [place.get(name, 0) for name in names]
    suggested = [item["images"][0] for item in suspects["items"] if item["suggestion"]]
    return {
        "label_average_precision": float(average_precision_score(truth, scores)), "suspects": len(listed),
        "wrong_among_suspects": sum(name in right for name in listed), "suggested": len(suggested),
        "wrong_among_suggested": sum(name in right for name in suggested),
    }  # fmt: skip


def decide(decisions: Path, out: Path, right: dict[str, str] | None) -> None:
    """decisions.csv with what is suggested, or, where the right labels are given, as who knows them decides on labels."""
    with decisions.open(newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    for row in rows:
        if right is None or "Labels" not in row["why"]:
            row["verb"], row["label"] = row["suggestion"] or "keep", row["suggested_label"]
        elif row["path"] in right:
            row["verb"], row["label"] = "relabel", right[row["path"]]
    with out.open("w", newline="", encoding="utf-8") as sink:
        writer = csv.DictWriter(sink, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def trained(data: Path, out: Path, seed: int, *words: str) -> Path:
    return Path(run_sightline("train", data, "--out", out, "--seed", str(seed), *TRAINING, *words).last["model"])


def right_answers(model: Path, tiles: Path) -> np.ndarray:
    """(n,) 1 for each test tile that the model names rightly."""
    files = sorted((tiles / "test").glob("*/*.png"))
    opened = Model.open(model, many=True)
    return np.array([answer.label == file.parent.name for file, answer in zip(files, opened.predict(files), strict=True)], float)


def compare_training(folder: Path, tiles: Path, decisions: Path, right: dict[str, str], seed: int, record: Record) -> None:
    sides = {"as they are": None, "as decided": (folder / "decided.csv", right), "as suggested": (folder / "suggested.csv", None)}
    answers: dict[str, np.ndarray] = {}
    for side, made in sides.items():
        words: tuple[str, ...] = ()
        if made is not None:
            decide(decisions, *made)
            words = ("--decisions", str(made[0]))
        answers[side] = right_answers(trained(folder / "planted", folder / side.replace(" ", "-"), seed, *words), tiles)
        found = paired_difference(answers["as they are"], answers[side])
        record.add(side, seed, accuracy=found.other, difference=found.difference, low=found.interval[0], high=found.interval[1])


def checks(record: Record) -> list[Check]:
    def least(what: str, figure: str, bound: float) -> Check:
        value = min(record.values("audit", figure))
        return Check(f"{what}, lowest of the seeds", f"at least {bound}", f"{value:.3f}", value >= bound)

    found = [
        least("recall of exact copies", "recall_exact", 0.99),
        least("recall of near copies", "recall_near", 0.95),
        least("precision of copies", "precision", 0.98),
        least("average precision of suspect labels", "label_average_precision", 0.6),
    ]
    for side in ("as suggested", "as decided"):
        if side in record.sides:
            gain, low, high = (record.mean(side, figure) for figure in ("difference", "low", "high"))
            said = f"{100 * gain:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
            found.append(Check(f"cleaned {side}: accuracy on 10,000 test images", "higher than uncleaned", said, gain > 0))
    return found


def main() -> None:
    parser = arguments(__doc__, [0])
    parser.add_argument("--untrained", action="store_true", help="only audit, train nothing")
    args = parser.parse_args()
    need_data()
    claim = "The audit finds planted copies and wrong labels among 10,000 CIFAR-10 images."
    n = 1000 if args.quick else N
    record, results = Record("audit_copies", claim, f"{n:,} images", {"images": n}), results_folder(args)
    if args.add:
        record.restore(results)
    with tempfile.TemporaryDirectory() as scratch:
        tiles = Path(scratch) / "tiles"
        subprocess.run([sys.executable, str(DATA / "unpack.py"), str(tiles), "--per-class", "1000"], check=True)
        for seed in args.seeds:
            folder = Path(scratch) / str(seed)
            planted = plant(tiles, folder, seed, n)
            own, _, _ = audited(folder / "clean", folder / "audit-clean", seed)
            report, decisions, seconds = audited(folder / "planted", folder / "audit", seed)
            copies = judge_copies(pairs_found(own), pairs_found(report), planted["pairs"])
            record.add("audit", seed, seconds=seconds, **copies, **judge_labels(report, folder / "planted", planted["right"]))
            record.write(results, checks(record))
            print(json.dumps(copies | judge_labels(report, folder / "planted", planted["right"])), file=sys.stderr)
            if not (args.quick or args.untrained):
                compare_training(folder, tiles, decisions, planted["right"], seed, record)
                record.write(results, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
