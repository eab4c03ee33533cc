"""Reports that cards are made from, made up, and what a reader sees of a card."""

from __future__ import annotations

import copy
import html
import re
from typing import Any

from markdown_it import MarkdownIt

import example_report
from sightline.report.markdown import split_front

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def rendered(text: str) -> str:
    """As a reader sees it, without the front matter."""
    return MARKDOWN.render(split_front(text)[1])


def words(page: str) -> str:
    """What is left to read of HTML."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def headings(page: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r"<h[1-6]>(.*?)</h[1-6]>", page)]


def classified(labels: tuple[str, ...] = ("cat", "dog"), recalls: tuple[float, ...] = (0.9, 0.7), n: int = 60) -> dict[str, Any]:
    """A report on a classifier, without a trial."""
    report = copy.deepcopy(example_report.tiny().report)
    report["title"], report["verdict"] = "Pets", {"sentence": "It is right for 80.0% of 120 test images.", "level": "good"}
    counts = dict.fromkeys(labels, n)
    report["data"] |= {"labels": list(labels), "n": 2 * n * len(labels)}
    report["data"]["splits"] = {name: {"n": n * len(labels), "classes": counts} for name in ("train", "validation", "test")}
    report["test"] = {
        "n": n * len(labels),
        "metrics": {"accuracy": 0.8, "precision": 0.81, "recall": 0.8, "f1": 0.8, "ece": 0.05},
        "intervals": {"accuracy": [0.72, 0.86]},
        "classes": [
            {
                "label": label,
                "n": n,
                "precision": 0.8,
                "recall": recall,
                "f1": 0.8,
                "recall_interval": [recall - 0.1, min(1, recall + 0.05)],
            }
            for label, recall in zip(labels, recalls, strict=True)
        ],
    }
    return report


def tagged() -> dict[str, Any]:
    report = classified(("fog", "rain"))
    report["task"] = "tag"
    shared = {"share": 0.2, "given": 20, "f1": 0.7, "threshold": 0.4}
    report["test"] = {
        "n": 100,
        "metrics": {
            "map": 0.61,
            "precision": 0.6,
            "recall": 0.5,
            "f1": 0.55,
            "f1_micro": 0.6,
            "subset_accuracy": 0.5,
            "hamming_loss": 0.1,
            "ece": 0.02,
        },
        "intervals": {"map": [0.5, 0.7]},
        "labels": [
            {**shared, "label": "fog", "n": 25, "ap": 0.61, "chance": 0.25, "precision": 0.6, "recall": 0.5, "ap_interval": [0.5, 0.7]},
            {**shared, "label": "rain", "n": 0, "ap": None, "chance": None, "precision": None, "recall": None, "ap_interval": None},
        ],
    }
    report["data"]["splits"]["test"]["classes"] = {"fog": 25}
    return report


def group(name: str, right: float, n: int = 60) -> dict[str, Any]:
    return {"group": name, "n": n, "right": right, "interval": [right - 0.1, right + 0.05], "recall": right, "recall_interval": [0.6, 0.8],
            "calibration": None}  # fmt: skip


def trial() -> dict[str, Any]:
    """What the parts of the trial put into a report."""
    gap = {"low": "phone", "high": "scanner", "difference": 0.2, "interval": [0.05, 0.35], "p": 0.004, "corrected": 0.01, "real": True}
    return {
        "groups": {
            "n": 120, "smallest": 20, "right": 0.8, "comparisons": 3, "worst_group_recall": 0.7, "largest_gap": 0.2,
            "left_out": [{"attribute": "year", "reason": "All images have the same value."}],
            "attributes": [
                {"attribute": "camera", "n": 120, "not_given": 0, "too_small": [{"group": "film", "n": 3}], "more_too_small": 2, "gap": gap,
                 "groups": [group("phone", 0.7), group("scanner", 0.9)], "recall_gap": None},
            ],
            "pairs": {"looked_at": 0, "not_looked_at": 0, "found": []},
            "slices": [
                {"of": "camera", "group": "phone", "n": 60, "right": 0.7, "corrected": 0.01, "real": True},
                {"of": "answer", "group": "dog", "answered": True, "n": 60, "right": 0.75, "corrected": 0.3, "real": False},
                {"of": "answer", "group": "fox", "answered": True, "n": 40, "right": 0.6, "corrected": 0.02, "real": True},
            ],
        },
        "robustness": {
            "n": 100, "of": 120, "measure": "right", "robust_accuracy": 0.61, "robust_interval": [0.55, 0.66],
            "sentence": "Weakest in fog.", "clean": {"right": 0.8, "interval": [0.7, 0.87]},
            "conditions": [
                {"name": "noise", "right": 0.79, "loss": 0.01, "clear": False},
                {"name": "fog", "right": 0.3, "loss": 0.5, "clear": True},
            ],
            "weakest": [{"name": "fog", "strength": 3, "right": 0.25, "clean": 0.8, "loss": 0.55, "interval": [-0.6, -0.5]}],
        },
        "confidence": {
            "n": 120, "n_calibration": 80, "own_images": True, "temperature": 1.3, "ece_before": 0.09, "ece": 0.02, "promise": 0.99,
            "answer_from": 0.83, "coverage": 0.93, "n_answered": 111, "answered_accuracy": 0.985, "answered_interval": [0.95, 0.995],
            "conformal": {"level": 0.9, "coverage": 0.91, "interval": [0.85, 0.95], "mean_size": 1.2},
            "familiar": {"reason": "No embeddings of training images were kept to compare with."},
        },
        "baselines": {
            "n": 120, "of": 120, "beaten": False, "sentence": "The network does not clearly beat an RBF machine.",
            "reasons": ["One was left out."],
            "methods": [
                {"name": "rbf", "right": 0.78, "interval": [0.7, 0.85], "behind": {"difference": 0.02, "interval": [-0.05, 0.09]}},
                {"name": "network", "right": 0.8, "interval": [0.72, 0.86]},
            ],
        },
        "explanations": {"method": "CAM", "trusted": False, "sentence": "Do not rely on this model's heat maps."},
        "energy": {"joules": 7200.0, "processor_seconds": 185.0, "source": "counters of the processor (RAPL)"},
    }  # fmt: skip


def scene(task: str, metrics: dict[str, float], classes: list[dict[str, Any]]) -> dict[str, Any]:
    report = classified()
    report["task"] = task
    report["test"] = {"n": 40, "metrics": metrics, "intervals": {next(iter(metrics)): [0.4, 0.6]}, "classes": classes}
    return report


def detected() -> dict[str, Any]:
    metrics = {"map": 0.5, "map50": 0.8, "precision": 0.7, "recall": 0.9, "ece": 0.03, "count_error": 1.25}
    known = {"ap50": 0.8, "ap50_interval": [0.7, 0.9], "ap": 0.5, "precision": 0.7, "recall": 0.9}
    unknown = dict.fromkeys(known) | {"ap50_interval": [None, None]}
    weak = {**known, "ap50": 0.6}
    return scene(
        "detect", metrics, [{"label": "cat", "n": 90, **known}, {"label": "dog", "n": 30, **weak}, {"label": "eel", "n": 0, **unknown}]
    )


def segmented() -> dict[str, Any]:
    known = {"iou": 0.8, "iou_interval": [0.7, 0.9], "dice": 0.9, "recall": 0.85, "boundary_f1": 0.4, "share": 0.9}
    unknown = dict.fromkeys(known, None)
    metrics = {"miou": 0.8, "dice": 0.9, "accuracy": 0.95, "boundary_f1": 0.4, "ece": 0.01}
    return scene("segment", metrics, [{"label": "sky", "n": 40, **known}, {"label": "sea", "n": 3, **unknown}])
