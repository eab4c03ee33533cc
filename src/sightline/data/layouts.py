"""Recognises how annotations of where things are lie in a place, and reads them: COCO, YOLO, Pascal VOC, or masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.coco import SUFFIX as COCO_SUFFIX
from sightline.data.coco import coco_files, coco_tree, read_coco
from sightline.data.container import is_archive
from sightline.data.decode import Limits
from sightline.data.masks import mask_files, read_masks
from sightline.data.painting import painted_maps
from sightline.data.tree import Tree
from sightline.data.voc import read_voc, voc_files
from sightline.data.yolo import SUFFIXES as YOLO_SUFFIXES
from sightline.data.yolo import read_yolo, yolo_files
from sightline.errors import TaskError
from sightline.records import Dataset

OBJECTS, MAPS = "detect", "segment"


@dataclass(frozen=True)
class Kind:
    """``find`` gives the files of the kind in a place, nothing where there are none; ``read`` makes a data set of them."""

    name: str
    gives: str
    find: Callable[[Tree], Any]
    read: Callable[[Tree, Any, Limits], Dataset]


# The first that is found counts.
COCO = Kind("COCO annotations", OBJECTS, coco_files, read_coco)
YOLO = Kind("YOLO labels", OBJECTS, yolo_files, read_yolo)
KINDS = (
    COCO,
    YOLO,
    Kind("Pascal VOC annotations", OBJECTS, voc_files, read_voc),
    Kind("masks", MAPS, mask_files, read_masks),
)


@dataclass(frozen=True)
class Layout:
    """What was found in a place, and the task that it is read for."""

    tree: Tree
    kind: Kind
    files: Any
    task: str

    def read(self, limits: Limits) -> tuple[Dataset, str]:
        """The data set and what was found, in words."""
        dataset = self.kind.read(self.tree, self.files, limits)
        if self.task != self.kind.gives:
            dataset = painted_maps(dataset, limits)
        return dataset, f"{len(dataset)} images with {self.kind.name}, {_amount(dataset)}"


def _amount(dataset: Dataset) -> str:
    labels = f"{len(dataset.labels)} class{'es' * (len(dataset.labels) != 1)}"
    assert dataset.targets is not None
    if dataset.task == MAPS:
        return labels
    counts = np.array([len(target) for target in dataset.targets])
    empty = int(np.count_nonzero(counts == 0))
    return f"{counts.sum()} objects of {labels}" + (f", {empty} image{'s' * (empty != 1)} with none" if empty else "")


def layout_of(path: Path, task: str | None) -> Layout | None:
    """How annotations lie in a folder or an archive, or what a single file of them is; None where there are none.

    Raises TaskError for a task that they do not give; DataError for a place that cannot be listed.
    """
    if path.is_file() and path.suffix.lower() == COCO_SUFFIX:
        tree, files = coco_tree(path)
        return _for_task(path, tree, COCO, files, task)
    if path.is_file() and path.suffix.lower() in YOLO_SUFFIXES:
        tree = Tree.of(path.parent)
        return _for_task(path, tree, YOLO, yolo_files(tree, path.name), task)
    if not (path.is_dir() or (is_archive(path) and path.exists())):
        return None
    tree = Tree.of(path)
    found = {kind: files for kind in KINDS if (files := kind.find(tree))}
    if not found:
        return None
    # Pascal VOC has masks of some images beside its boxes.
    able = [kind for kind in found if task == MAPS and kind.gives == MAPS and COCO not in found]
    kind = (able or list(found))[0]
    return _for_task(path, tree, kind, found[kind], task)


def _for_task(path: Path, tree: Tree, kind: Kind, files: Any, task: str | None) -> Layout:
    if task is not None and task != kind.gives and (kind.gives, task) != (OBJECTS, MAPS):
        able = OBJECTS + f" (and {MAPS}, where they hold outlines)" if kind.gives == OBJECTS else MAPS
        raise TaskError(task, f"{path} holds {kind.name}, which give {able}.")
    return Layout(tree, kind, files, task or kind.gives)
