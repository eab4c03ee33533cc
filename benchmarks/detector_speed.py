"""Claim: at 640 px a bundle finds boxes at least as fast as the ONNX export of torchvision's FCOS on the same engine, and at least as well.

    python benchmarks/detector_speed.py [--minutes 30] [--model MODEL.sight --peer FCOS.onnx] [--seeds 0] [--add] [--quick]

Both learn blood cells from the same MobileNetV2 weights in so many minutes, on pictures of 640 x 480; or they are given. Then each takes
the test images one by one, decoded already, and gives boxes after non-maximum suppression: in ONNX Runtime with as many threads as
there are processors, the sides in turns, one pass over the images each. mAP is of what those engines find, by pycocotools.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import found_boxes
import image_sets
import numpy as np
import onnxruntime
from measure import WEIGHTS, Check, Record, arguments, finish, need_data, results_folder, run_peer, run_sightline
from peers import coco_judge
from PIL import Image

from sightline.processor import processors
from sightline.runtime import Model

OURS, FCOS = "Sightline's bundle", "torchvision FCOS, ONNX export"
# The longer side; FCOS is told the shorter of these pictures of 640 x 480.
LONGER, SHORTER = 640, 480
# Flags of ours beside data, weights, size and budget. None are needed.
FLAGS: list[str] = []
QUICK_FLAGS, QUICK_BUDGET = ["--no-trial"], 90
QUICK_PEER_SECONDS, QUICK_TIMING = 5.0, 0.5
PASSES, QUICK_PASSES = 7, 2

Find = Callable[[np.ndarray], object]


def trained(data: Path, seed: int, minutes: float, quick: bool, out: Path) -> tuple[Path, Path]:
    """A bundle and FCOS as ONNX, both made for pictures of 640 x 480."""
    seconds, budget, flags = (QUICK_PEER_SECONDS, QUICK_BUDGET, QUICK_FLAGS) if quick else (60 * minutes, int(60 * minutes), FLAGS)
    run_peer(
        "torchvision_fcos.py", image_sets.as_coco(data), "--seed", str(seed), "--weights", WEIGHTS, "--seconds", str(seconds),
        "--size", str(SHORTER), "--out", out / "fcos.json", "--onnx", out / "fcos.onnx",
        *(["--timing", str(QUICK_TIMING)] if quick else []),
    )  # fmt: skip
    child = run_sightline(
        "train", data, "--task", "detect", "--weights", WEIGHTS, "--size", str(LONGER), "--budget", f"{budget}s", "--seed", str(seed),
        "--out", out / "run", *flags, SIGHTLINE_CACHE=str(out / "cache"),
    )  # fmt: skip
    return Path(child.last["model"]), out / "fcos.onnx"


def session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def finder(fcos: onnxruntime.InferenceSession) -> Callable[[np.ndarray], list[np.ndarray]]:
    """From an (h, w, 3) uint8 picture to boxes, scores and labels."""
    return lambda picture: fcos.run(None, {"image": np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / 255})


def images_per_second(finders: dict[str, Find], pictures: list[np.ndarray], passes: int) -> dict[str, float]:
    """One over the median time of an image, of each side; one pass goes before, unmeasured."""
    seconds: dict[str, list[float]] = {side: [] for side in finders}
    for done in range(1 + passes):
        for side, find in finders.items():
            for picture in pictures:
                started = time.perf_counter()
                find(picture)
                if done:
                    seconds[side].append(time.perf_counter() - started)
    return {side: 1 / median(values) for side, values in seconds.items()}


def measure_seed(record: Record, seed: int, truth: found_boxes.Truth, bundle: Path, file: Path, passes: int) -> None:
    model, fcos = Model.open(bundle, engine="onnxruntime"), session(file)
    if max(model.prepare.shape) != LONGER:
        sys.exit(f"{bundle}: takes images of {model.prepare.shape[1]} x {model.prepare.shape[0]}; train it with --size {LONGER}.")
    pictures = [np.array(Image.open(scene.path).convert("RGB")) for scene in truth.scenes]
    numbers, theirs, find = sorted(truth.names), [], finder(fcos)
    for scene, picture in zip(truth.scenes, pictures, strict=True):
        boxes, scores, labels = (values.tolist() for values in find(picture))
        theirs += coco_judge.results(scene.number, boxes, scores, [numbers[label] for label in labels])
    speeds = images_per_second({OURS: model.predict, FCOS: find}, pictures, passes)
    for side, found in ((OURS, found_boxes.of_bundle(model, truth)), (FCOS, theirs)):
        record.add(side, seed, images_per_second=round(speeds[side], 3), **truth.precision(found))


def checks(record: Record) -> list[Check]:
    ratio, ours, theirs = record.ratio("images_per_second", OURS, FCOS), record.mean(OURS, "map"), record.mean(FCOS, "map")
    return [
        Check("images a second at 640 px, ratio of medians", "at least 1", f"{ratio:.2f}", ratio >= 1),
        Check("mean test mAP of those networks", f"at least FCOS's {theirs:.3f}", f"{ours:.3f}", ours >= theirs),
    ]


def main() -> None:
    parser = arguments(__doc__, [0])
    parser.add_argument("--minutes", type=float, default=30, help="in which each side is trained")
    parser.add_argument("--model", type=Path, help="a bundle trained on the blood cells with --size 640, instead of training one")
    parser.add_argument("--peer", type=Path, help="what peers/torchvision_fcos.py wrote with --size 480 --onnx, instead of training it")
    args = parser.parse_args()
    if (args.model is None) != (args.peer is None):
        parser.error("give both --model and --peer, or neither")
    need_data()
    data = image_sets.objects("bccd", 4 if args.quick else None)
    truth = found_boxes.Truth.of(image_sets.as_coco(data))
    claim = "Boxes at 640 px in ONNX Runtime: a bundle is at least as fast as the ONNX export of torchvision's FCOS, and at least as good."
    passes = QUICK_PASSES if args.quick else PASSES
    settings = {"minutes": args.minutes, "passes": passes, "threads": processors()}
    record, folder = Record("detector_speed", claim, f"{len(truth.scenes)} test images of 640 x 480", settings), results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            made = (args.model, args.peer) if args.model else trained(data, seed, args.minutes, args.quick, Path(scratch))
            measure_seed(record, seed, truth, *made, passes)
        record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
