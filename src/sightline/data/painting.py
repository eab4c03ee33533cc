"""Label maps painted from objects with outlines: what COCO, YOLO and their like give for segmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sightline.data.decode import Limits
from sightline.data.findings import Faults
from sightline.data.masks import read_map
from sightline.data.sizes import in_threads, read_sizes
from sightline.errors import TaskError
from sightline.records import Dataset, column_of
from sightline.scenes import BACKGROUND, IGNORED, LabelMap, Objects, is_background


def painted_maps(dataset: Dataset, limits: Limits = Limits()) -> Dataset:
    """The objects of a data set as the class of each pixel; what no object covers is ``background``, a class of its own.

    A crowd's outline is painted as its class. Objects without an outline leave their box ignored; an outline in other objects is
    needed. Raises TaskError where none has one, and for too many classes.
    """
    assert dataset.targets is not None
    if all(target.outlines is None for target in dataset.targets):
        raise TaskError("segment", f"{dataset.root} has boxes and no outlines, so it gives detect; add outlines or masks for segment.")
    known = next((place for place, label in enumerate(dataset.labels) if is_background(label)), None)
    labels = dataset.labels if known is not None else (BACKGROUND, *dataset.labels)
    if len(labels) > IGNORED:
        raise TaskError("segment", f"{dataset.root} has {len(labels)} classes, of which there may be {IGNORED}.")
    faults = Faults(dataset.root)
    sizes, reasons = read_sizes(dataset.refs, limits)
    for ref, reason in zip(dataset.refs, reasons, strict=True):
        if reason:
            faults.add("images that cannot be read, left out", f"{ref}: {reason}")
    readable = np.array([not reason for reason in reasons], bool)
    for row in np.flatnonzero(readable).tolist():
        if not _fits(dataset.targets[row], sizes[row]):
            readable[row] = False
            faults.add("images of another size than the outlines say, left out", str(dataset.refs[row]))
    if not readable.any():
        faults.refuse("not one image can be used")
    shift = np.arange(len(dataset.labels)) + (known is None)
    kept = dataset.select(readable)
    assert kept.targets is not None
    jobs = [
        LabelMap(objects.relabelled(shift), {0: known or 0}, np.zeros(len(labels), np.int64), (int(width), int(height)))
        for objects, (width, height) in zip(kept.targets, sizes[readable].tolist(), strict=True)
    ]
    maps = list(in_threads(lambda job: _counted(job, len(labels)), jobs, "Painting outlines"))
    if bare := sum(_without_outline(label_map.source) for label_map in maps):
        faults.add("objects without an outline, their boxes ignored", "of all images", bare)
    faults.tell()
    return kept.replace(task="segment", labels=labels, targets=column_of(maps))


def _fits(objects: Objects, size: NDArray[np.float64]) -> bool:
    """Whether run lengths, which hold for one size of the image, add up to it."""
    return all(outline.sum() == size.prod() for outline in objects.outlines or () if isinstance(outline, np.ndarray))


def _counted(label_map: LabelMap, classes: int) -> LabelMap:
    pixels = np.bincount(read_map(label_map).ravel(), minlength=IGNORED + 1)[:classes]
    return replace(label_map, pixels=pixels)


def _without_outline(source: object) -> int:
    assert isinstance(source, Objects)
    return len(source) if source.outlines is None else sum(outline is None for outline in source.outlines)
