"""Made-up but realistic reports, with their blocks and pictures, for tests of whatever draws or checks one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sightline.report.pictures import thumbnail
from sightline.tasks.blocks import Bar, Bars, Block, Curves, Gallery, Matrix, Picture, Table, Text, Tile, Tiles

CLOTHING = {"dress": 15, "hat": 12, "longsleeve": 25, "outwear": 25, "pants": 25, "shirt": 25,
            "shoes": 25, "shorts": 25, "skirt": 12, "t-shirt": 25}  # fmt: skip
# (truth, predicted, how often): 31 errors of 214.
MISTAKES = [("shirt", "longsleeve", 5), ("longsleeve", "shirt", 3), ("longsleeve", "outwear", 3), ("outwear", "longsleeve", 4),
            ("t-shirt", "longsleeve", 2), ("t-shirt", "shirt", 2), ("shirt", "t-shirt", 2), ("dress", "skirt", 2), ("skirt", "dress", 2),
            ("shorts", "skirt", 1), ("shorts", "pants", 1), ("pants", "shorts", 1), ("dress", "t-shirt", 1), ("hat", "shoes", 1),
            ("outwear", "shirt", 1)]  # fmt: skip


class Example(NamedTuple):
    """What ``report.html.render`` takes, in its order."""

    report: dict[str, Any]
    blocks: list[Block]
    pictures: dict[str, bytes]


def clothing() -> Example:
    """Ten kinds of clothing, 214 test images, 86% right, with everything a data set can have wrong."""
    counts = _counts(CLOTHING, MISTAKES)
    errors = [(truth, predicted, index) for truth, predicted, n in MISTAKES for index in range(n)]
    pictures = {_path(truth, predicted, index): _picture(number) for number, (truth, predicted, index) in enumerate(errors)}
    report = _report(list(CLOTHING), counts, train={name: 280 if name == "t-shirt" else 200 for name in CLOTHING})
    report["title"] = "Clothing: ten kinds, from photographs at home"
    report["verdict"] = {
        "sentence": "Right on 86 of 100 new images, give or take 5; shirts are its weak spot, and it knows when it is unsure.",
        "level": "good",
    }
    report["data"] |= {
        "refused": [
            {"path": "train/hat/IMG_0042.jpg", "reason": "the file is cut off after 12,288 bytes"},
            {"path": "train/pants/notes.jpg", "reason": "this is a PDF, not an image"},
            {"path": "test/shoes/empty.png", "reason": "the file is empty"},
        ],
        "notes": [
            {"path": "train/dress/7f1c.jpg", "note": "turned upright as its EXIF orientation says"},
            {"path": "train/skirt/2210.png", "note": "transparent parts were laid on white"},
        ],
        "leaks": [
            {"a": "train/shoes/1a2b.jpg", "a_split": "train", "b": "test/shoes/9c8d.jpg", "b_split": "test", "kind": "exact"},
            {"a": "train/hat/77aa.jpg", "a_split": "train", "b": "validation/hat/77ab.jpg", "b_split": "validation", "kind": "near"},
        ],
        "copies": 14,
        "conflicts": [{"a": "train/shirt/51.jpg", "a_label": "shirt", "b": "train/longsleeve/88.jpg", "b_label": "longsleeve"}],
        "straddling": [{"group": "photographer 7", "splits": ["train", "validation"]}],
    }
    report["audit"] = {
        "findings": [
            {
                "kind": "suspect-labels",
                "level": "warning",
                "title": "Labels that may be wrong",
                "sentence": "2 images look less like their label than like another.",
                "advice": "Look at them in this order and stop where most are right.",
                "figures": {},
                "items": [
                    {
                        "images": ["train/skirt/2210.png"],
                        "detail": "labelled skirt (0.4%), looks like dress (97.1%)",
                        "suggestion": "relabel",
                        "label": "dress",
                    },
                    {
                        "images": ["test/hat/91.jpg"],
                        "detail": "labelled hat (1.9%), looks like shoes (55.0%)",
                        "suggestion": "drop",
                        "label": "",
                    },
                ],
            },
        ],
        "decisions": {
            "before": 0.808,
            "after": 0.827,
            "difference": 0.019,
            "interval": [-0.005, 0.044],
            "n": 214,
            "dropped": 3,
            "relabelled": 5,
        },
        "left_out": "Foreign images were not looked for, to keep the budget.",
    }
    return Example(report, _blocks(list(CLOTHING), counts, errors), pictures)


def tiny() -> Example:
    """Two classes, few images, nothing wrong with the data, one epoch."""
    labels = ["cracked", "whole"]
    counts = np.array([[6, 1], [0, 7]])
    report = _report(labels, counts, train={"cracked": 20, "whole": 20}, n_epochs=1)
    report["title"] = "Tiles"
    report["verdict"] = {"sentence": "Fourteen test images are too few to say how good it is.", "level": "poor"}
    report["network"] |= {"weights": "nothing: every weight was drawn at random", "weights_licence": None}
    report["export"]["images_per_second"] = None
    blocks = [
        Tiles("On the test set", [Tile("Accuracy", "92.9%", "68.5% to 98.7%")]),
        Matrix("What was taken for what", labels, counts.tolist()),
    ]
    return Example(report, blocks, {})


def many_classes(n: int = 60) -> Example:
    """More classes than a matrix can show."""
    labels = [f"species {index:02d}" for index in range(n)]
    counts = np.diag(np.full(n, 10))
    rng = np.random.default_rng(0)
    for truth, predicted in rng.integers(0, n, (150, 2)):
        if truth != predicted and counts[truth, truth] > 2:
            counts[truth, truth] -= 1
            counts[truth, predicted] += 1
    report = _report(labels, counts, train=dict.fromkeys(labels, 40), n_epochs=30)
    report["title"] = f"{n} species of beetle"
    report["verdict"] = {"sentence": "Right three times out of four; ten species need more photographs.", "level": "fair"}
    return Example(report, _blocks(labels, counts, []), {})


def hostile() -> Example:
    """The clothing report with names that attack the page, its layout and its direction of writing."""
    report, _, _ = clothing()
    labels = ["<script>alert(1)</script>", "a" * 300, "فستان أحمر طويل", "上着と長い名前", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }}"]
    counts = np.diag(np.full(len(labels), 8)) + np.eye(len(labels), k=1, dtype=int)
    worst = "deep/" * 30 + "photo\u202egpj.exe\udcff\x00.jpg"
    report["data"] |= {
        "labels": labels,
        "splits": {"test": {"n": int(counts.sum()), "classes": dict(zip(labels, counts.sum(1).tolist(), strict=True))}},
        "refused": [{"path": worst, "reason": "</td><script src=//evil.example></script>"}],
        "conflicts": [{"a": worst, "a_label": labels[0], "b": "b & c.jpg", "b_label": labels[2]}],
    }
    report["title"] = "</title><script>alert(3)</script>"
    errors = [(labels[index], labels[index + 1], 0) for index in range(len(labels) - 1)]
    return Example(report, _blocks(labels, counts, errors), {_path(*errors[0]): b"<svg onload=alert(4)>"})


def _report(labels: list[str], counts: np.ndarray, train: Mapping[str, int], n_epochs: int = 12) -> dict[str, Any]:
    test = dict(zip(labels, counts.sum(1).tolist(), strict=True))
    splits = {"train": dict(train), "validation": dict.fromkeys(labels, 15), "test": test}
    n, right = int(counts.sum()), int(counts.trace())
    return {
        "format": 1,
        "title": "",
        "created": "2026-03-04T14:05:09+00:00",
        "sightline": "0.1.0",
        "task": "classify",
        "verdict": {"sentence": "", "level": "fair"},
        "data": {
            "root": "photos",
            "n": sum(sum(split.values()) for split in splits.values()),
            "labels": labels,
            "splits": {name: {"n": sum(classes.values()), "classes": classes} for name, classes in splits.items()},
            "split_origin": "The data came split into folders; nothing was moved.",
            "refused": [],
            "notes": [],
            "leaks": [],
            "copies": 0,
            "conflicts": [],
            "straddling": [],
        },
        "audit": {"findings": [], "decisions": None, "left_out": ""},
        "network": {
            "backbone": "resnet18",
            "weights": "resnet18.a1_in1k, trained on ImageNet",
            "weights_licence": "Apache-2.0",
            "parameters": 11_181_642,
            "size": 224,
            "reasons": ["The largest network that fits 30 minutes on two processor cores."],
        },
        "training": _training(n_epochs),
        "test": {"n": n, "metrics": {"accuracy": right / n}, "intervals": {"accuracy": list(_wilson(right, n))}},
        "export": {
            "max_difference": 2.4e-6,
            "tolerance": 1e-3,
            "graph_bytes": 44_760_512,
            "parameters": 11_181_642,
            "images_per_second": 61.4,
            "engine": "ONNX Runtime on the processor",
        },
        "environment": {
            "python": "3.11.9",
            "platform": "Linux-6.1-x86_64",
            "processor": "2 cores, avx512_bf16",
            "seed": 7,
            "versions": {"torch": "2.6.0", "timm": "1.0.15", "onnxruntime": "1.20.1", "numpy": "2.2.1"},
        },
        "settings": {
            "data": {"val_fraction": 0.15, "near_copies": True, "workers": None},
            "training": {"epochs": n_epochs, "optimizer": "adamw", "weight_decay": 0.05},
        },
    }


def _training(n_epochs: int) -> dict[str, Any]:
    best = max(1, n_epochs - 3)
    epochs = [
        {
            "epoch": epoch,
            "stage": "head" if epoch <= 3 else "all",
            "lr": 0.003 * 0.5 * (1 + math.cos(math.pi * epoch / (n_epochs + 1))),
            "train_loss": 0.62 + 1.5 * math.exp(-epoch / 2.6),
            "val_loss": 0.78 + 1.1 * math.exp(-epoch / 2.2) + 0.012 * max(0, epoch - best) + 0.015 * (epoch % 2),
            "val_accuracy": 0.87 - 0.55 * math.exp(-epoch / 2.1) - 0.004 * (epoch % 3),
            "seconds": 21.3 + epoch % 4,
        }
        for epoch in range(1, n_epochs + 1)
    ]
    return {
        "plan": [
            "The head learns alone for 3 epochs, so that its first steps do not spoil the pretrained layers.",
            "Then all layers learn, the backbone ten times more slowly than the head.",
            "Images are cropped, turned by up to 15 degrees and mirrored at random.",
        ],
        "epochs": epochs,
        "best_epoch": best,
        "stopped": "Training ended after its last epoch.",
        "stages": [
            {
                "layers": "upper",
                "epochs": 12,
                "views": 7,
                "share": 0.75,
                "before": {"loss": 0.61, "accuracy": 0.8},
                "after": {"loss": 0.48, "accuracy": 0.86},
                "expected_seconds": 31.0,
                "seconds": 34.2,
                "sentence": "It helped.",
            },
        ],
        "learning_curve": {"measure": "accuracy", "points": [[125, 0.71], [250, 0.77], [500, 0.8]], "sentence": "More images would help."},
        "seconds": {"look once": 14.2, "audit and split": 3.1, "train": sum(epoch["seconds"] for epoch in epochs), "evaluate": 9.8},
    }


def _blocks(labels: Sequence[str], counts: np.ndarray, errors: Sequence[tuple[str, str, int]]) -> list[Block]:
    n, right = int(counts.sum()), int(counts.trace())
    low, high = _wilson(right, n)
    recalls = [(label, int(counts[row, row]), int(counts[row].sum())) for row, label in enumerate(labels)]
    bars = [Bar(label, hit / total, *_wilson(hit, total), f"{hit} of {total}") for label, hit, total in recalls]
    reliable = [(0.35, 0.31), (0.5, 0.52), (0.65, 0.6), (0.8, 0.79), (0.95, 0.93)]
    tiles = [
        Tile("Accuracy", f"{right / n:.1%}", f"{low:.1%} to {high:.1%}"),
        Tile("Mean F1", "85.7%", "every class counts the same"),
        Tile("Calibration error", "2.9%", "after temperature 1.31"),
        Tile("Without a network", "41.1%", "colour and texture alone"),
    ]
    return [
        Tiles("On the test set", tiles, "The range is a 95% interval: where another test set of this size would most likely land."),
        Text("What this means", ["It is right where the garment fills the picture, and mostly wrong between long sleeves and shirts."]),
        Bars(
            "Found, class by class", sorted(bars, key=lambda bar: bar.value), "Of each class's test images, the share that was recognised."
        ),
        Matrix("What was taken for what", labels, counts.tolist()),
        Curves(
            "Does its certainty mean something?",
            "stated certainty",
            "share right",
            {"model": reliable, "ideal": [(0.35, 0.35), (0.95, 0.95)]},
        ),
        Table(
            "If it may abstain",
            ("Certainty at least", "Answers", "Right among them"),
            [("0%", "100%", "85.5%"), ("60%", "81%", "93.1%"), ("90%", "52%", "98.2%")],
            "Images below the line are handed to a person.",
        ),
        Gallery(
            f"All {len(errors)} mistakes",
            [
                Picture(_path(*error), f"{error[0]} taken for {error[1]}", f"{0.97 - 0.018 * rank:.0%} certain")
                for rank, error in enumerate(errors)
            ],
            "The most certain first: wrong labels tend to be among them.",
        ),
    ]


def _counts(sizes: Mapping[str, int], mistakes: Sequence[tuple[str, str, int]]) -> np.ndarray:
    labels = list(sizes)
    counts = np.diag(list(sizes.values()))
    for truth, predicted, n in mistakes:
        row, column = labels.index(truth), labels.index(predicted)
        counts[row, row] -= n
        counts[row, column] += n
    return counts


def _path(truth: str, predicted: str, index: int) -> str:
    return f"test/{truth}/{predicted}-{index}.jpg"


def _picture(number: int) -> bytes:
    """A small smooth pattern, another for each number."""
    y, x = np.mgrid[0:48, 0:36] / 48
    channels = [np.sin(number + channel + 4 * x) * np.cos(number * channel + 3 * y) for channel in range(3)]
    return thumbnail(((np.stack(channels, axis=-1) + 1) * 127).astype(np.uint8), side=32)


def _wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson interval of a share."""
    middle = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return middle - half, middle + half
