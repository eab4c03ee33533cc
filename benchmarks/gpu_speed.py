"""Claim, where there is an NVIDIA GPU: --preset speed is as good as airbench94 in about its time, and the store keeps ResNet-50 busy.

    SIGHTLINE_AIRBENCH=airbench94.py python benchmarks/gpu_speed.py [--seeds 0 1 ... 9] [--photographs 8192] [--add] [--quick]

CIFAR-10 as our JPEG tiles, all 50,000, ten seeds a side on the same card in the same run. The peer's own script is taken from where the
variable points to; without it that part is left out, and said. Its clock counts its training steps; ours is the sum of the epochs in
results.csv, in each of which the validation images are looked at as well. Then an epoch of ResNet-50 at 224 px from a store of
photographs, beside the same loop on batches that lie on the card already. ``--quick`` takes few images, and ``--device cpu`` shows
anywhere whether the script works.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import image_sets
import numpy as np
from measure import HERE, Check, Record, arguments, finish, need_data, results_folder, run_child, run_sightline

SPEED, AIRBENCH = "--preset speed", "airbench94"
STORED, SYNTHETIC = "ResNet-50 from the store", "ResNet-50 on synthetic batches"
POINTS, TIMES, SHARE = 0.002, 1.5, 0.9
SIDE, STORED_SIDE, BATCH, WARM_STEPS = 224, 256, 256, 4
# Training images kept for validation; the peer keeps none.
VALIDATION = 0.02


def measure_airbench(record: Record, data: Path, script: str, runs: int) -> None:
    child = run_child([sys.executable, HERE / "peers" / "airbench.py", data, "--script", Path(script).resolve(), "--runs", str(runs)])
    for _, answer in child.answers:
        record.add(AIRBENCH, answer["run"], accuracy=answer["accuracy"], seconds=answer["seconds"])


def measure_speed(record: Record, data: Path, seed: int, device: str, *more: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        child = run_sightline(
            "train", data, "--preset", "speed", "--device", device, "--seed", str(seed), "--no-trial", "--val-fraction", str(VALIDATION),
            "--views", "shifts", "--out", out, *more,
        )  # fmt: skip
        with (out / "results.csv").open(newline="") as file:
            seconds = sum(float(row["seconds"]) for row in csv.DictReader(file))
    record.add(SPEED, seed, accuracy=child.last["test"]["metrics"]["accuracy"], seconds=round(seconds, 3), whole=round(child.seconds, 1))


@dataclass(frozen=True)
class Synthetic:
    """Batches that need no making: one, over and over, which lies on the device."""

    batch: tuple
    steps: int

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, start: int = 0, show: object = None) -> Iterator[tuple]:
        return iter([self.batch] * (self.steps - start))


def photographs(n: int):
    """A store in memory of smooth random pictures, as large as look-once keeps photographs for this input."""
    from dataclasses import fields

    from sightline.data.store import Facts, Store

    rng = np.random.default_rng(0)
    facts = Facts(**{entry.name: np.zeros(n, np.int64) for entry in fields(Facts)})
    shape = (STORED_SIDE, round(1.5 * STORED_SIDE), 3)
    pixels = rng.integers(0, 256, n * int(np.prod(shape)), np.uint8)
    return Store(facts, STORED_SIDE, np.arange(n) * int(np.prod(shape)), np.tile(shape[:2], (n, 1)), pixels)


def measure_feeding(record: Record, seed: int, n: int, device_name: str, batch: int) -> None:
    """Seconds of an epoch by the training loop itself, after some steps that are not counted, from the store and from one batch."""
    import torch

    from sightline.config import AugmentConfig, TrainConfig
    from sightline.data.prepare import Prepare
    from sightline.model.backbone import BackboneSpec, build
    from sightline.model.device import torch_device
    from sightline.model.heads.classify import Objective, make_head
    from sightline.model.network import Network
    from sightline.training.batches import TrainBatches
    from sightline.training.course import Course
    from sightline.training.loop import train_epoch
    from sightline.training.plan import make_plan
    from sightline.training.precision import has_bf16
    from sightline.training.terms import Terms

    device = torch_device(device_name)
    backbone = build(BackboneSpec("resnet50", SIDE))
    network = Network(backbone, make_head(backbone.num_features, 1000, 0.0), Prepare(SIDE, crop_fraction=0.875))
    network = network.to(device, memory_format=torch.channels_last)
    plan = make_plan(TrainConfig(epochs=3, batch_size=batch), n, pretrained=False)
    augment = AugmentConfig(flip=True, rotate=15.0)
    batches = TrainBatches(photographs(n), np.arange(n) % 1000, network.prepare, augment, batch, seed, device, classes=1000)
    few = TrainBatches(
        photographs(WARM_STEPS * batch), np.arange(WARM_STEPS * batch) % 1000, network.prepare, augment, batch, seed, device, 1000
    )
    synthetic = Synthetic(next(batches.epoch(1)), len(batches))
    terms = Terms("bf16" if device.type == "cuda" and has_bf16(device) else "fp32")
    for side, feed in (("warming up", few), (STORED, batches), (SYNTHETIC, synthetic)):
        with tempfile.TemporaryDirectory() as folder:
            course = Course.at_the_start(network, plan, device, Path(folder), terms)
            course.rows.append({})  # the start, as of epoch 0
            started = time.perf_counter()
            train_epoch(course, Objective(0.1), feed, plan)
            float(course.loss_sum)  # waits for the card
            seconds = time.perf_counter() - started
        if side != "warming up":
            record.add(side, seed, seconds=round(seconds, 2), images_per_second=round(n / seconds, 1))


def checks(record: Record) -> list[Check]:
    found = []
    if AIRBENCH in record.sides:
        ours, theirs = (record.mean(side, "accuracy") for side in (SPEED, AIRBENCH))
        ratio = record.ratio("seconds", SPEED, AIRBENCH, worst=max)
        found += [
            Check("mean test accuracy beside airbench94", f"at least {theirs - POINTS:.4f}", f"{ours:.4f}", ours >= theirs - POINTS),
            Check("training time beside airbench94's", f"at most {TIMES} times", f"{ratio:.2f} times", ratio <= TIMES),
        ]
    share = record.ratio("images_per_second", STORED, SYNTHETIC)
    return [*found, Check("ResNet-50 from the store beside synthetic batches", f"at least {SHARE:.0%}", f"{share:.0%}", share >= SHARE)]


def main() -> None:
    parser = arguments(__doc__, range(10))
    parser.add_argument("--device", default="cuda", help="cpu, to see whether the script works")
    parser.add_argument("--photographs", type=int, default=8192, help="in the store for ResNet-50")
    args = parser.parse_args()
    need_data()
    per_class, test_per_class = (40, 20) if args.quick else (5000, 1000)
    n, batch = (8, 2) if args.quick else (args.photographs, BATCH)
    claim = "On a GPU: --preset speed beside airbench94 on the same tiles, and ResNet-50 fed from the store."
    settings = {"per_class": per_class, "photographs": n, "batch": batch, "device": args.device}
    record = Record("gpu_speed", claim, f"{10 * per_class:,} training and {10 * test_per_class:,} test images; {n:,} photographs", settings)
    folder, script = results_folder(args), os.environ.get("SIGHTLINE_AIRBENCH")
    if args.add:
        record.restore(folder)
    data = image_sets.cifar(per_class, test_per_class)
    if script and args.device == "cuda":
        measure_airbench(record, data, script, len(args.seeds))
    else:
        print("airbench94 is left out: it needs CUDA, and SIGHTLINE_AIRBENCH has to name its script.", file=sys.stderr)
    for seed in args.seeds:
        measure_speed(record, data, seed, args.device, *(("--epochs", "2") if args.quick else ()))
        measure_feeding(record, seed, n, args.device, batch)
        record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
