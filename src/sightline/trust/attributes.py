"""What is known of images beside their labels, in groups a person understands: columns of the data set, and facts about the files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.store import Facts
from sightline.records import Dataset

# A column of more different numbers is cut into bands with a quarter of the images each.
MOST_NUMBERS = 8
# First hours of the parts of a day.
DAY = {"night (22 to 5 o'clock)": 22, "morning (5 to 11 o'clock)": 5, "day (11 to 17 o'clock)": 11, "evening (17 to 22 o'clock)": 17}
GROUP = "group"
BRIGHTNESS, SIZE, CAMERA, HOUR = "brightness", "image size", "camera", "hour of capture"
OBJECTS, OBJECT_SIZE = "number of objects", "object size (share of the side)"


def attributes_of(dataset: Dataset, facts: Facts, rows: NDArray[np.int64]) -> dict[str, list[str]]:
    """Name -> (n,) texts for n rows of a data set and its facts, "" where nothing is known.

    They are the data set's own columns and its groups, then brightness, image size, camera and hour of capture from the facts, and of
    images with boxes the number of objects and their usual size. Numbers of which there are many become bands. Where the data set has a
    column of the same name, the fact is called ``(measured)``.
    """
    columns = {name: as_texts(np.asarray(column)[rows]) for name, column in dataset.attributes.items()}
    if dataset.groups is not None:
        columns.setdefault(GROUP, as_texts(dataset.groups[rows]))
    taken = {name.strip().lower() for name in columns}
    for name, column in {**fact_columns(facts.select(rows)), **object_columns(dataset, facts, rows)}.items():
        columns[f"{name} (measured)" if name in taken else name] = column
    return columns


def fact_columns(facts: Facts) -> dict[str, list[str]]:
    """Name -> (n,) texts of what the files themselves tell; n may be 0."""
    return {
        BRIGHTNESS: _thirds(facts.brightness),
        SIZE: _halves(facts.width * facts.height),
        CAMERA: [str(camera) for camera in facts.camera],
        HOUR: [_part_of_day(str(moment)) for moment in facts.taken],
    }


def object_columns(dataset: Dataset, facts: Facts, rows: NDArray[np.int64]) -> dict[str, list[str]]:
    """How many objects images have, and how large the middle one is, as a share of the image's side; nothing where there are no boxes."""
    if dataset.task != "detect" or dataset.targets is None:
        return {}
    counts, sizes = np.zeros(len(rows)), np.full(len(rows), np.nan)
    for place, row in enumerate(rows.tolist()):
        areas = dataset.targets[row].areas[~dataset.targets[row].crowd]
        counts[place] = len(areas)
        if len(areas):
            sizes[place] = round(float(np.sqrt(np.median(areas) / max(1, facts.width[row] * facts.height[row]))), 3)
    return {OBJECTS: as_texts(counts), OBJECT_SIZE: as_texts(sizes)}


def as_texts(column: NDArray[Any]) -> list[str]:
    """(n,) values of any kind as texts; nothing, None and NaN are "". Many different numbers are named by their bands."""
    if column.dtype.kind == "b":
        return ["yes" if value else "no" for value in column]
    if column.dtype.kind not in "iuf":
        return ["" if value is None or value != value else str(value) for value in column.tolist()]
    numbers = column.astype(np.float64)
    values = np.unique(numbers[np.isfinite(numbers)])
    # Whole numbers, another for every image: they count or name the images.
    names_images = len(values) == len(numbers) and bool((values == np.rint(values)).all())
    if len(values) <= MOST_NUMBERS or names_images:
        return [f"{value:.15g}" if math.isfinite(value) else "" for value in numbers.tolist()]
    return _quarters(numbers)


def _quarters(numbers: NDArray[np.float64]) -> list[str]:
    """Each number's band, named by the smallest and the largest number in it; "" for what is no number."""
    known = np.isfinite(numbers)
    cuts = np.quantile(numbers[known], (0.25, 0.5, 0.75))
    places, bands = np.unique(np.searchsorted(cuts, numbers[known], side="left"), return_inverse=True)
    ends = [(numbers[known][bands == band].min(), numbers[known][bands == band].max()) for band in range(len(places))]
    names = _spans(ends)
    column = np.full(len(numbers), "", object)
    column[known] = [names[band] for band in bands.tolist()]
    return column.tolist()


def _spans(ends: Sequence[tuple[float, float]]) -> list[str]:
    """``17 to 34`` for each pair, with as few digits as keep them apart, but at least four."""
    for digits in range(4, 17):
        texts = [(f"{low:.{digits}g}", f"{high:.{digits}g}") for low, high in ends]
        if len(set(texts)) == len(texts) and all(before[1] != after[0] for before, after in pairwise(texts)):
            break
    return [low if low == high else f"{low} to {high}" for low, high in texts]


def _thirds(brightness: NDArray[np.float64]) -> list[str]:
    """Dark, middle and bright, a third of the images each, with the shade at which they part."""
    if not len(brightness) or brightness.min() == brightness.max():
        return [f"{value:.0%} of white" for value in brightness]
    low, high = np.quantile(brightness, (1 / 3, 2 / 3))
    parts = [f"dark (up to {low:.0%} of white)", f"middle (up to {high:.0%} of white)", f"bright (over {high:.0%} of white)"]
    return [parts[place] for place in np.searchsorted([low, high], brightness, side="left")]


def _halves(pixels: NDArray[np.int64]) -> list[str]:
    """Small and large, cut where the halves are most alike in number."""
    sizes, counts = np.unique(pixels, return_counts=True)
    if len(sizes) < 2:
        return [f"{count:,} pixels" for count in pixels.tolist()]
    below = np.cumsum(counts)[:-1]
    largest_small = sizes[:-1][np.abs(below - len(pixels) / 2).argmin()]
    words = f"{largest_small:,} pixels"
    return [f"small (up to {words})" if count <= largest_small else f"large (over {words})" for count in pixels.tolist()]


def _part_of_day(moment: str) -> str:
    if not moment:
        return ""
    hour = datetime.fromisoformat(moment).hour
    latest = [name for name, start in DAY.items() if start <= hour]
    return max(latest, key=DAY.__getitem__) if latest else next(iter(DAY))
