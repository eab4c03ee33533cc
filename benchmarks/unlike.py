"""Claim: a classifier's scores of images unlike its training images fade, and on those like them they mean what they meant.

    python benchmarks/unlike.py [--seeds 0 1 2 3 4] [--add] [--quick]

The clothing model with its defaults, and the same bundle without fading. Negative log-likelihood and
calibration error on the 214 test images and on a third of them in eleven harder conditions at strengths 3 and 5; the mean score of the best
class for 240 photographs of streets, blood, tiles and people; and how far any probability moves between eight files of one landscape, on
each of which another number is painted.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import DATA, WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_sightline
from numpy.typing import NDArray

from sightline.data.decode import decode
from sightline.evaluation.calibration import calibration_gap
from sightline.evaluation.corruptions import CORRUPTIONS
from sightline.predictions import Decision
from sightline.records import ImageRef
from sightline.runtime import Model
from sightline.tasks import classify

CLOTHING, PHOTOS = DATA / "clothing", [DATA / "photos" / f"Landscape_{place}.jpg" for place in range(1, 9)]
OTHERS = ("camvid/*/images/*", "bccd/JPEGImages/*", "magnetic_tile/test/*/*", "pennfudan/images/*")
OF_EACH, THIRD, STRENGTHS = 60, 3, (3, 5)
FADING, PLAIN = "fading", "without"
QUICK = ["--epochs", "1", "--layers", "upper"]
# What may be lost on images that are like the training images, and the range that the landscape's probabilities may have.
MOST_LOST, MOST_RANGE = 0.01, 0.05

Raw = dict[str, NDArray[Any]]


def joined(batches: list[Raw]) -> Raw:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in ("logits", "similarity")}


def of_files(model: Model, files: list[Path]) -> Raw:
    return joined([model.kept(batch.raw) for batch in model.raw(files)])


def labelled(model: Model, split: str) -> tuple[list[Path], NDArray[np.int64]]:
    files = sorted((CLOTHING / split).glob("*/*.jpg"))
    return files, np.array([model.labels.index(file.parent.name) for file in files])


def harder(model: Model, files: list[Path]) -> Raw:
    """The files in every condition and strength, as the network takes them."""
    rng, found = np.random.default_rng(0), []
    images = [model.prepare(decode(ImageRef(str(file)), min_side=model.prepare.min_side))[0] for file in files]
    for corruption in CORRUPTIONS.values():
        for strength in STRENGTHS:
            worse = [corruption(image, strength, rng) for image in images]
            found += [model.kept(model.infer(np.stack(worse[start : start + 16]))) for start in range(0, len(worse), 16)]
    return joined(found)


def figures(raw: Raw, targets: NDArray[np.int64], decision: Decision) -> tuple[float, float]:
    """Mean negative log-likelihood, and expected calibration error of the best class."""
    scores = classify.probabilities(raw, decision)
    right = (scores.argmax(axis=1) == targets).astype(np.float64)
    return float(-np.log(scores[np.arange(len(targets)), targets]).mean()), calibration_gap(scores.max(axis=1), right)


def measured(bundle: str, quick: bool) -> dict[str, dict[str, float]]:
    """Figures of both sides."""
    model = Model.open(bundle, engine="onnxruntime", precision="fp32")
    test, targets = labelled(model, "test")
    some = slice(None, None, 20 * THIRD if quick else THIRD)
    others = [file for pattern in OTHERS for file in sorted(DATA.glob(pattern))[: 2 if quick else OF_EACH]]
    raw = {
        "test": of_files(model, test),
        "harder": harder(model, test[some]),
        "others": of_files(model, others),
        "photos": of_files(model, PHOTOS),
    }
    conditions = len(CORRUPTIONS) * len(STRENGTHS)
    plain = replace(model.manifest.decision, fades_over=None)
    found = {}
    for side, decision in ((FADING, model.manifest.decision), (PLAIN, plain)):
        test_loss, test_gap = figures(raw["test"], targets, decision)
        harder_loss, harder_gap = figures(raw["harder"], np.tile(targets[some], conditions), decision)
        landscape = classify.probabilities(raw["photos"], decision)
        found[side] = {
            "test_loss": test_loss, "test_gap": test_gap, "harder_loss": harder_loss, "harder_gap": harder_gap,
            "others_score": float(classify.probabilities(raw["others"], decision).max(axis=1).mean()),
            "landscape_range": float(np.ptp(landscape, axis=0).max()), "landscape_classes": len(set(landscape.argmax(axis=1).tolist())),
            "accuracy": float((raw["test"]["logits"].argmax(axis=1) == targets).mean()),
        }  # fmt: skip
    return found


def checks(record: Record) -> list[Check]:
    def both(figure: str) -> tuple[float, float]:
        return record.mean(FADING, figure), record.mean(PLAIN, figure)

    test, plain_test = both("test_loss")
    harder_loss, plain_harder = both("harder_loss")
    gap, plain_gap = both("harder_gap")
    score, plain_score = both("others_score")
    widest = max(record.values(FADING, "landscape_range"))
    return [
        Check("loss on test images", f"at most {MOST_LOST} above {plain_test:.3f}", f"{test:.3f}", test <= plain_test + MOST_LOST),
        Check("loss in harder conditions", f"below {plain_harder:.3f}", f"{harder_loss:.3f}", harder_loss < plain_harder),
        Check("calibration error in harder conditions", f"below {plain_gap:.3f}", f"{gap:.3f}", gap < plain_gap),
        Check("mean score of images of other things", f"below {plain_score:.3f}", f"{score:.3f}", score < plain_score),
        Check("one landscape, eight painted numbers: range", f"at most {MOST_RANGE}", f"{widest:.3f}", widest <= MOST_RANGE),
    ]


def main() -> None:
    args = arguments(__doc__).parse_args()
    need_data()
    claim = "Scores of images unlike the training images fade towards equal shares; those of images like them mean what they meant."
    record, folder = Record("unlike", claim, "860 clothing photographs", {"quick": args.quick}), results_folder(args)
    if args.add:
        record.restore(folder)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in args.seeds:
            words = ["--weights", WEIGHTS, "--seed", str(seed), *(QUICK if args.quick else [])]
            run = run_sightline("train", CLOTHING, *words, "--out", Path(scratch) / str(seed))
            for side, values in measured(run.last["model"], args.quick).items():
                record.add(side, seed, **values)
            record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
