"""Claims: in INT8 ResNet-50 is at least 1.3 times as fast as in the fastest float engine, where the processor multiplies int8; and on
CIFAR-10's 10,000 test images ResNet-18 in INT8 is within 0.5 points, with at most 2% of the answers changed.

    python benchmarks/int8.py [--model MODEL --data DATA] [--seeds 0 1 2 3 4] [--add] [--quick]

The speed is of ResNet-50 with random weights on random images of 224 pixels: medians of single images and of batches of 16, every engine
and precision there is here, in turns. The accuracy is of MODEL and DATA, a bundle and what it was trained on; without them a ResNet-18 is
trained on 5,000 images first, within five minutes, one for each seed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import image_sets
import numpy as np
from measure import Check, Record, arguments, finish, need_data, results_folder, run_sightline

from sightline.data.prepare import Prepare
from sightline.engines.adapters import Work, candidates
from sightline.exporting.quantise import quantised
from sightline.processor import int8_features, processors
from sightline.records import Infer

SIZE, BATCHES = 224, (1, 16)
TRAINED, TESTED = 600, 1000  # images of each class, the former with those for validation
MINUTES = 5
TRAINING = ["--backbone", "resnet18", "--weights", "none", "--size", "28", "--batch-size", "64", "--budget", f"{MINUTES}m"]
QUICK_TRAINING = ["--backbone", "resnet18", "--weights", "none", "--epochs", "1"]
RATIO, POINTS, CHANGED = 1.3, 0.5, 0.02
FLOAT, INT8, ANSWERS = "ResNet-50, fastest in float", "ResNet-50, INT8", "ResNet-18 on CIFAR-10, INT8 beside float"


def resnet50() -> bytes:
    import torch

    from sightline.model.backbone import BackboneSpec, build
    from sightline.model.export import export_graph
    from sightline.model.heads.classify import make_head
    from sightline.model.network import Network

    torch.manual_seed(0)
    backbone = build(BackboneSpec("resnet50", SIZE))
    return export_graph(Network(backbone, make_head(backbone.num_features, 10, 0.0), Prepare(SIZE)), SIZE)


def milliseconds(infers: Mapping[str, Infer], batch: int, rounds: int) -> dict[str, float]:
    """Median for a batch; engines take turns, so that a slow moment of the machine meets all."""
    images = np.random.default_rng(0).integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in infers}
    for done in range(1 + rounds):
        for name, infer in infers.items():
            started = time.perf_counter()
            infer(images)
            if done:  # once unmeasured
                seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * median(values) for name, values in seconds.items()}


def measure_speed(record: Record, seed: int, rounds: int) -> None:
    graph = resnet50()
    noise = np.random.default_rng(1).integers(0, 256, (32, SIZE, SIZE, 3), np.uint8)
    infers = {}
    for side, data in ((FLOAT, graph), (INT8, quantised(graph, noise))):
        work = Work(data, ("logits",), "ResNet-50", (SIZE, SIZE, 3), processors(), int8=side == INT8)
        infers |= {f"{side}: {candidate.name}": candidate.load(work) for candidate in candidates()}
    medians = {batch: milliseconds(infers, batch, rounds) for batch in BATCHES}
    for side in (FLOAT, INT8):
        figures = {}
        for batch, found in medians.items():
            engine = min((name for name in found if name.startswith(side)), key=found.__getitem__)
            figures |= {f"ms_batch_{batch}": round(found[engine], 2), f"engine_batch_{batch}": engine.removeprefix(f"{side}: ")}
        record.add(side, seed, **figures)


def measure_answers(record: Record, seed: int, model: Path, data: Path, folder: Path) -> None:
    exported = ["export", model, "--data", data, "--precision", "int8", "--max-loss", str(POINTS), "--out", folder / "int8.sight"]
    in_float, found = run_sightline("evaluate", model, data).last, run_sightline(*exported).last
    figures = {"points_lost": found["loss"], "changed": found["changed"], "images": found["n"]}
    record.add(ANSWERS, seed, accuracy_in_float=in_float["metrics"]["accuracy"], **figures)


def checks(record: Record) -> list[Check]:
    found = []
    for batch in BATCHES:
        ratio = record.ratio(f"ms_batch_{batch}", FLOAT, INT8)
        able = bool(int8_features())
        asked = f"at least {RATIO}" if able else "nothing, as this processor multiplies no int8"
        found.append(
            Check(f"ResNet-50, batch of {batch}: float over INT8, ratio of medians", asked, f"{ratio:.2f}", ratio >= RATIO or not able)
        )
    lost, changed = record.mean(ANSWERS, "points_lost"), record.mean(ANSWERS, "changed")
    found.append(Check("CIFAR-10: points of accuracy lost", f"at most {POINTS}", f"{lost:.2f}", lost <= POINTS))
    found.append(Check("CIFAR-10: labels changed", f"at most {CHANGED:.0%}", f"{changed:.2%}", changed <= CHANGED))
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", type=Path, help="a bundle trained on --data, instead of training one")
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    if (args.model is None) != (args.data is None):
        parser.error("give both --model and --data, or neither")
    if args.model is None:
        need_data()
    claim = "In INT8 ResNet-50 is faster than in any float engine, and ResNet-18 answers CIFAR-10 as before."
    settings = {"rounds": 2 if args.quick else 15, "minutes": MINUTES}
    record = Record("int8", claim, "10,000 test images; speed on random images of 224 px", settings)
    folder = results_folder(args)
    if args.add:
        record.restore(folder)
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            measure_speed(record, seed, record.settings["rounds"])
            data = args.data or image_sets.cifar(*((20, 10) if args.quick else (TRAINED, TESTED)))
            words = QUICK_TRAINING if args.quick else TRAINING
            model = args.model or Path(
                run_sightline("train", data, "--seed", str(seed), "--out", Path(scratch, "run"), *words).last["model"]
            )
            measure_answers(record, seed, model, data, Path(scratch))
        record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
