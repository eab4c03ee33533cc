"""Make docs/performance.md from what was measured, benchmarks/results/*.json: a section a claim, with what was asked and what was found.

docs/scale.md, whose figures are made of the same, is written beside it.

python benchmarks/write_docs.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import scale_page

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
# In which order the claims stand, with their titles.
TITLES = {
    "clothing_time": "Accuracy in a fifth of the time",
    "cifar_ten_minutes": "From scratch in ten minutes",
    "speed_preset": "Small images from scratch, sooner",
    "bulk_predict": "Many images, killed and restarted",
    "driver_at_scale": "Ten million names, a thousand workers",
    "simulate_cluster": "A cluster, simulated",
    "gpu_speed": "On a GPU",
    "budgets": "A budget that holds",
    "files_to_labels": "Files to labels",
    "look_once": "Looking once",
    "look_at_scale": "Looking once at a million files",
    "int8": "INT8 that is checked",
    "serving": "A server that holds",
    "parity": "Every form answers alike",
    "standalone": "One ONNX file for any language",
    "startup": "The command line answers at once",
    "scenes_agree": "Boxes and masks without torch",
    "tiles": "Large pictures in tiles",
    "memorise": "Every network learns",
    "tag_mosaics": "Tagging is measured as scikit-learn does",
    "promises": "Scores mean what they say",
    "unlike": "What is unlike fades",
    "boxes": "Boxes, beside torchvision's FCOS",
    "label_maps": "A class for every pixel, beside a Unet",
    "detector_speed": "Boxes at 640 pixels, images a second",
    "audit_copies": "The audit finds what was planted",
    "audit_speed": "The audit takes no longer than twice the decoding",
    "near_million": "Near copies among a million",
    "fuzz_images": "Images without trust",
    "fuzz_bundles": "Bundles without trust",
}
NEEDED = ("claim", "date", "n", "machines", "checks", "sides")
INTRODUCTION = """# What was measured

Each table comes from a script in `benchmarks/` that anyone can run again; [how](benchmarks.md). Both sides were measured in one run on
one machine, in turn, and what is claimed is a ratio of medians or a difference of means, never a figure of one side alone: another
machine gives other seconds. Where some seeds were measured on one machine and some on another, a ratio is the worse of theirs.
This page is written by `benchmarks/write_docs.py` from `benchmarks/results/`, misses included.
"""


def page(results: Iterable[Mapping[str, Any]]) -> str:
    """The page in Markdown, its sections in the order of ``TITLES``."""
    found = {result["name"]: result for result in results}
    parts = [INTRODUCTION, *(section(TITLES[name], found[name]) for name in TITLES if name in found)]
    if not found:
        parts.append("Nothing was measured yet with this version.\n")
    return "\n".join(parts)


def section(title: str, result: Mapping[str, Any]) -> str:
    lines = [f"## {title}", "", result["claim"], "", "| what | asked | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {check['what']} | {check['asked']} | {check['measured']} | {'holds' if check['holds'] else '**missed**'} |"
        for check in result["checks"]
    ]
    lines += ["", "| side | figure | median | mean ± deviation | least to most | runs |", "|---|---|---|---|---|---|"]
    for side, figures in result["sides"].items():
        lines += [row(side, name, figure) for name, figure in figures.items()]
    return "\n".join([*lines, "", measured_on(result), ""])


def row(side: str, name: str, figure: Mapping[str, float]) -> str:
    spread = f"{number(figure['mean'])} ± {number(figure['deviation'])}" if figure["n"] > 1 else number(figure["mean"])
    ends = f"{number(figure['least'])} to {number(figure['most'])}"
    return f"| {side} | {name.replace('_', ' ')} | {number(figure['median'])} | {spread} | {ends} | {figure['n']} |"


def number(value: float) -> str:
    """Shares to three places, large figures whole, others to four digits."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.4g}"


def measured_on(result: Mapping[str, Any]) -> str:
    machines = result["machines"]
    common = machines[0]
    ours = ", ".join(f"{name} {version}" for name, version in common["libraries"].items())
    peers = ", ".join(f"{name} {version}" for name, version in common["peers"].items())
    where = "; ".join(
        described(machine) + (f", seeds {seeds_of(result, place)}" if len(machines) > 1 else "") for place, machine in enumerate(machines)
    )
    return (
        f"n: {result['n']}. Measured {result['date']} on {where}; {common['system']}, Python {common['python']}. "
        f"Sightline {common['sightline']} with {ours}." + (f" Peers: {peers}." if peers else "")
    )


def described(machine: Mapping[str, Any]) -> str:
    features = ", ".join(machine["features"]) or "no features of note"
    return f"{machine['processor']}, {machine['processors']} processors ({features}), {machine['memory_gb']} GB"


def seeds_of(result: Mapping[str, Any], place: int) -> str:
    """Which seeds one of several machines measured."""
    return ", ".join(str(seed) for seed in sorted({run["seed"] for run in result["runs"] if run["machine"] == place}))


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Every result in a folder; SystemExit naming those that are not in the layout of ``measure.Record``."""
    found, problems = [], []
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        lacking = [name for name in NEEDED if name not in result]
        if lacking:
            problems.append(f"{path} lacks {', '.join(lacking)}: write it with measure.Record.")
        elif result.get("name") not in TITLES:
            problems.append(f"{path}: give {result.get('name')!r} a title in write_docs.TITLES.")
        found.append(result)
    if problems:
        sys.exit("\n".join(problems))
    return found


def main() -> None:
    results = read_results(HERE / "results")
    PAGE.write_text(page(results), encoding="utf-8")
    print(f"{PAGE} is up to date.")
    named = {result["name"]: result for result in results}
    if lacking := [name for name in scale_page.NEEDED if name not in named]:
        print(f"{scale_page.PAGE} is left as it is: {', '.join(lacking)} was not measured.")
    else:
        scale_page.PAGE.write_text(scale_page.page(named), encoding="utf-8")
        print(f"{scale_page.PAGE} is up to date.")


if __name__ == "__main__":
    main()
