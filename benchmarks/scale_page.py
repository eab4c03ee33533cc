"""docs/scale.md: what a million, a hundred million and a thousand million images cost, from what was measured once for each image.

Its text is scale_page.md beside this; every figure in it is computed here from benchmarks/results/, so that none outlives its
measurement. ``write_docs.py`` writes the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from typing import Any

from simulate_cluster import HOUR, Cluster

from sightline.bulk.plan import CHUNK, LARGEST_CHUNK, PARTS

HERE = Path(__file__).resolve().parent
TEXT, PAGE = HERE / "scale_page.md", HERE.parent / "docs" / "scale.md"
MILLION, MANY, MOST = SIZES = (10**6, 10**8, 10**9)
LITTLE = 10**4
NEEDED = ("files_to_labels", "look_once", "look_at_scale", "near_million", "driver_at_scale", "simulate_cluster")
Results = Mapping[str, Mapping[str, Any]]
# Of the store: three bytes a pixel, at the default side, of photographs of 3 to 2; and what a table of facts holds of an image.
STORE_BYTES, FACT_BYTES = 256 * 384 * 3, 500
EMBEDDING_BYTES = 4 * 1280
# What look_once.py trains on: two epochs of 500 clothing images.
TRAINED_ON = 2 * 500
NETWORK_BYTES, MEMORY_GB = 1.25e9, 16


def page(results: Results) -> str:
    """The page in Markdown, of the results by name; KeyError without one of those in NEEDED."""
    files, near, driver, look = (results[name] for name in ("files_to_labels", "near_million", "driver_at_scale", "look_at_scale"))
    each = processor_seconds(files, results["look_once"])
    predicting = each["predict, MobileNetV2"]
    near_seconds, near_gb = median(near, "1,000,000", "seconds"), median(near, "1,000,000", "gigabytes")
    look_gb = {n: median(look, f"first look at {n:,}", "main_gb") for n in (LITTLE, MILLION)}
    look_bytes = (look_gb[MILLION] - look_gb[LITTLE]) * 1e9 / (MILLION - LITTLE)
    rate = median(driver, "1,000 others at work", "chunks_per_second")
    names = "listing, 10,000,000"
    on_disk = {
        "the photographs": (Cluster.image_bytes, "storage that all machines see"),
        "the store of decoded pictures, side 256": (STORE_BYTES, "disk of the machine that trains; `--store-limit`"),
        "the facts beside them": (FACT_BYTES, "a mapped file there"),
        "embeddings of MobileNetV2, as `embed` writes them": (EMBEDDING_BYTES, "`--out`, not compressed"),
        "the list of names of `predict --engine ray`": (median(driver, names, "list_bytes_each"), "`--out`"),
        "memory of the search for near copies": (near_gb * 1e9 / MILLION, "one process"),
        "memory of looking once": (look_bytes, "one process"),
    }
    figures = {
        "machine": _machines(files["machines"], results["look_once"]["machines"]), "photo": _amount(Cluster.image_bytes),
        "simulated_rows": _simulated_rows(results["simulate_cluster"]),
        "processor_rows": _processor_rows(each), "byte_rows": _byte_rows(on_disk),
        "near_seconds": near_seconds, "near_many": _hours(near_seconds / HOUR * MANY * log(MANY) / (MILLION * log(MILLION))),
        "near_gb": near_gb, "near_most": MEMORY_GB / near_gb,
        "look_memory": look_gb[MILLION] * 1e3, "look_most": MEMORY_GB * 1e9 / look_bytes / 1e6,
        "again_memory": median(look, "second look at 1,000,000", "main_gb") * 1e3,
        "again_seconds": median(look, "second look at 1,000,000", "seconds"),
        "predicting": predicting * 1e3, "reading": Cluster.image_bytes / predicting / 1e6,
        "network": NETWORK_BYTES * predicting / Cluster.image_bytes, "heavier": each["predict, ResNet-50"] / predicting,
        "store_tb": STORE_BYTES * MANY / 1e12, "table_gb": FACT_BYTES * MANY / 1e9,
        "epoch_hours": each["an epoch of ResNet-18 at 224 px"] * MANY / HOUR,
        "chunk": CHUNK, "largest_chunk": LARGEST_CHUNK, "larger": LARGEST_CHUNK / CHUNK, "many": CHUNK * PARTS / 1e6,
        "parts": MOST / CHUNK / 1e6, "fewer_parts": MOST / LARGEST_CHUNK / 1e3,
        "listing": median(driver, names, "microseconds_each"),
        "rate": rate, "handed_out": driver["settings"]["chunk_handed_out"],
        "driver_processors": rate * CHUNK * predicting, "driver_most": rate * LARGEST_CHUNK * predicting,
    }  # fmt: skip
    return TEXT.read_text(encoding="utf-8").format(**figures)


def processor_seconds(files: Mapping[str, Any], looking: Mapping[str, Any]) -> dict[str, float]:
    """What an image takes of processors, in seconds, by what is done."""
    processors = files["machines"][0]["processors"]
    return {
        "look once": processors * median(looking, "Sightline's first look", "seconds") / looking["settings"]["images"],
        "predict, MobileNetV2": processors / median(files, "Sightline, mobilenetv2_100", "images_per_second"),
        "predict, ResNet-50": processors / median(files, "Sightline, resnet50", "images_per_second"),
        "an epoch of ResNet-18 at 224 px": processors * median(looking, "ResNet-18's epochs", "seconds") / TRAINED_ON,
    }


def median(result: Mapping[str, Any], side: str, figure: str) -> float:
    return float(result["sides"][side][figure]["median"])


def _machines(of_files: Sequence[Mapping[str, Any]], of_looking: Sequence[Mapping[str, Any]]) -> str:
    described, looking = (" and ".join(_machine(machine) for machine in machines) for machines in (of_files, of_looking))
    return described if looking == described else f"{described}, and, of looking once and of epochs, {looking}"


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine['processors']} processors of an {machine['processor']} ({', '.join(machine['features'])})"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _processor_rows(each: Mapping[str, float]) -> str:
    lines = []
    for what, seconds in each.items():
        hours = [seconds * n / HOUR for n in SIZES]
        lines.append(f"| {what} | {seconds * 1e3:.1f} | {' | '.join(map(_hours, hours))} | {hours[-1] / 24:,.0f} |")
    return "\n".join(lines)


def _byte_rows(kept: Mapping[str, tuple[float, str]]) -> str:
    return "\n".join(
        f"| {what} | {_amount(each)} | {' | '.join(_amount(each * n) for n in SIZES)} | {where} |" for what, (each, where) in kept.items()
    )


def _amount(count: float) -> str:
    """Bytes with three digits at most, in the unit that fits."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = next(power for power in range(len(units)) if count < 999.5 * 1000**power or power == len(units) - 1)
    short = count / 1000**power
    return f"{short:.0f} {units[power]}" if short >= 10 else f"{short:.1f} {units[power]}"


def _simulated_rows(result: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {side} | {median(result, side, 'hours'):.2g} | {median(result, side, 'counts'):.1%} | {median(result, side, 'driver'):.0%} | "
        f"{median(result, side, 'storage'):.0%} | {median(result, side, 'again'):,.0f} |"
        for side in result["sides"]
    )
