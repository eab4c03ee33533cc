"""Claim: a folder of photographs is labelled several times faster than by timm, eager torch and a DataLoader, in little memory.

    python benchmarks/files_to_labels.py [--images 2000] [--seeds 0 1 2 3 4] [--add] [--quick]

Makes JPEG files of 1800 x 1200, trains MobileNetV2 and ResNet-50 on a few of them for a moment, so that they have something to say,
gives timm and transformers the same weights and the same preprocessing, and then, once a seed and in turn, labels the folder by
``sightline predict MODEL FOLDER --json`` and by each of the others, as child processes, from process start to end. Peak memory is that
of the process and its children, shared pages counted once. The engine alone, fed from memory, is what files to labels could reach.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import image_sets
import numpy as np
from measure import WEIGHTS, Check, Child, Record, arguments, finish, need_data, results_folder, run_peer, run_sightline

OURS, TIMM, TRANSFORMERS, ENGINE = "Sightline", "timm, eager torch", "transformers pipeline", "Sightline's engine alone"
TRAINED_ON = 160
BRIEF = {
    "mobilenetv2_100": ["--weights", str(WEIGHTS), "--epochs", "1"],
    "resnet50": ["--backbone", "resnet50", "--weights", "none", "--size", "224", "--epochs", "3"],
}
# How many times faster than timm: where the processor multiplies bf16 in tiles, and elsewhere.
ASKED_WITH_AMX = {"mobilenetv2_100": 5.0, "resnet50": 5.0}
ASKED = {"mobilenetv2_100": 2.5, "resnet50": 1.2}
MEMORY, AGREEMENT = 1e9, 0.995
ENGINE_SECONDS, ENGINE_BATCH = 10.0, 16


def train_briefly(network: str, images: int, out: Path) -> Path:
    """A bundle that tells the photographs' corners apart."""
    data = image_sets.photographs_by_corner(images)
    return Path(run_sightline("train", data, "--no-near-copies", *BRIEF[network], "--out", out).last["model"])


def write_for_peers(bundle_path: Path, folder: Path) -> Path:
    """The bundle's network in timm's own layout, which transformers reads too: weights under timm's names, labels, preprocessing."""
    import timm
    from safetensors.torch import load, save_file

    from sightline.bundle import Bundle

    with Bundle.open(bundle_path) as bundle:
        manifest, ours = bundle.manifest, load(bundle.read("weights"))
    spec, prepare = manifest.backbone, manifest.prepare
    model = timm.create_model(spec["name"], num_classes=len(manifest.labels), **spec["arguments"])
    theirs = {name.removeprefix("backbone.inner."): tensor for name, tensor in ours.items() if name.startswith("backbone.inner.")}
    classifier = model.default_cfg["classifier"]
    theirs |= {f"{classifier}.{kind}": ours[f"head.linear.{kind}"] for kind in ("weight", "bias")}
    model.load_state_dict(theirs)
    side = prepare["size"]
    contract = {
        "input_size": [3, side, side], "mean": prepare["mean"], "std": prepare["std"], "interpolation": prepare["interpolation"],
        "crop_pct": prepare["crop_fraction"], "crop_mode": "center", "classifier": classifier, "num_classes": len(manifest.labels),
    }  # fmt: skip
    config = {"architecture": spec["name"], "num_classes": len(manifest.labels), "label_names": list(manifest.labels),
              "model_args": spec["arguments"], "pretrained_cfg": contract}  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def our_labels(child: Child) -> dict[str, str]:
    return {Path(answer["path"]).name: answer["predictions"][0]["label"] for _, answer in child.answers}


def agreement(labels: dict[str, str], others: dict[str, str]) -> float:
    return float(np.mean([labels[name] == others[name] for name in others]))


def figures(child: Child, n: int, **more: Any) -> dict[str, Any]:
    memory = {} if child.peak_memory is None else {"peak_megabytes": round(child.peak_memory / 1e6)}
    return {"seconds": round(child.seconds, 2), "images_per_second": round(n / child.seconds, 2), **memory, **more}


def engine_alone(bundle: Path) -> float:
    """Images a second that the engine computes from memory."""
    from sightline import Model

    model = Model.open(bundle, batch_size=ENGINE_BATCH)
    shape = (ENGINE_BATCH, model.prepare.size, model.prepare.size, model.prepare.channels)
    batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    model.infer(batch)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < ENGINE_SECONDS:
        model.infer(batch)
        count += ENGINE_BATCH
    return count / (time.perf_counter() - start)


def measure_seed(record: Record, network: str, bundle: Path, folder: Path, images: Path, seed: int, scratch: Path) -> None:
    """Each side once; the first seed's run of ours also measures which engine is fastest here, and keeps that for the others."""
    n, out = sum(1 for _ in images.iterdir()), scratch / "labels.json"
    child = run_peer("timm_predict.py", images, "--model", folder, "--out", out, memory=True)
    theirs = json.loads(out.read_text())
    record.add(f"{TIMM}, {network}", seed, **figures(child, n))
    child = run_sightline("predict", bundle, images, memory=True)
    labels = our_labels(child)
    same = agreement(labels, theirs)
    # How many labels were given: to agree on a single one would prove nothing.
    record.add(f"{OURS}, {network}", seed, **figures(child, n, same_top1=same, labels_given=len(set(labels.values()))))
    record.add(f"{ENGINE}, {network}", seed, images_per_second=round(engine_alone(bundle), 2))
    child = run_peer("transformers_predict.py", images, "--model", folder, "--out", out, memory=True)
    record.add(f"{TRANSFORMERS}, {network}", seed, **figures(child, n, same_top1=agreement(json.loads(out.read_text()), theirs)))


def checks(record: Record) -> list[Check]:
    asked = ASKED_WITH_AMX if any("amx_bf16" in machine["features"] for machine in record.machines) else ASKED
    found = []
    for network, times in asked.items():
        side = f"{OURS}, {network}"
        if side not in record.sides:
            continue
        ratio, same = record.ratio("seconds", f"{TIMM}, {network}", side), min(record.values(side, "same_top1"))
        found.append(Check(f"{network}: times as fast as timm, ratio of medians", f"at least {times:g}", f"{ratio:.2f}", ratio >= times))
        found.append(Check(f"{network}: the same top-1 as timm", f"at least {AGREEMENT:.1%}", f"{same:.2%}", same >= AGREEMENT))
        if memory := record.values(side, "peak_megabytes"):
            found.append(Check(f"{network}: peak memory", "at most 1000 MB", f"{max(memory):.0f} MB", max(memory) * 1e6 <= MEMORY))
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=2000)
    args = parser.parse_args()
    need_data()
    count, trained_on = (48, 96) if args.quick else (args.images, TRAINED_ON)
    images, folder = image_sets.photographs(count), results_folder(args)
    claim = (
        "A folder of JPEG photographs of 1800 x 1200, files to labels: faster than timm with eager torch and a DataLoader, in at most 1 GB."
    )
    record = Record("files_to_labels", claim, f"{count:,} photographs", {"images": count, "trained_on": trained_on})
    if args.add:
        record.restore(folder)
    with tempfile.TemporaryDirectory() as scratch:
        for network in BRIEF:
            bundle = train_briefly(network, trained_on, Path(scratch) / network)
            theirs = write_for_peers(bundle, Path(scratch) / f"{network}-timm")
            for seed in args.seeds:
                measure_seed(record, network, bundle, theirs, images, seed, Path(scratch))
                record.write(folder, checks(record))
    finish(checks(record))


if __name__ == "__main__":
    main()
