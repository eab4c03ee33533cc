"""Any data set by its path: class folders, a table, or annotations of where things are; on disk or, but for a table, in an archive."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from sightline.config import ReadConfig
from sightline.data.container import is_archive, tell_odd
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.layouts import layout_of
from sightline.data.table import is_table, read_table
from sightline.data.webdataset import read_webdataset, shards_of
from sightline.errors import TaskError, UsageError
from sightline.records import Dataset, texts_of

FOLDER_TASK = "classify"


def read_dataset(path: Path, config: ReadConfig = ReadConfig(), task: str | None = None, limits: Limits = Limits()) -> tuple[Dataset, str]:
    """The data set, sorted by path, and a sentence on what was found and which task that makes.

    ``limits`` hold for masks, and for images whose size annotations need. Raises DataError for data that cannot be used; TaskError for a
    task they do not give, UsageError for a column they do not have.
    """
    if is_table(path) and not path.is_dir():
        dataset = read_table(
            path, task=task, path_column=config.path_column, label_column=config.label_column,
            split_column=config.split_column, group_column=config.group_column,
        )  # fmt: skip
        found = f"{len(dataset)} images with {len(dataset.labels)} labels"
    else:
        given = [name for name, value in vars(config).items() if value is not None]
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{path}: is no table (.csv, .tsv, .jsonl), so it has no columns to name; leave out {flags}.")
        if shards := shards_of(path):
            dataset, found = read_webdataset(path, shards, task)
            return by_path(dataset), f"{path}: {found}, so the task is {dataset.task}."
        layout = None if task == FOLDER_TASK else layout_of(path, task)
        if layout is not None:
            if layout.tree.packed:
                tell_odd(path)
            dataset, found = layout.read(limits)
        elif task is not None and task != FOLDER_TASK and path.exists() and (path.is_dir() or is_archive(path)):
            raise TaskError(
                task,
                f"{path} is read as class folders, which have one label an image and so give {FOLDER_TASK}; for tag give a table, for "
                "detect annotations (COCO, Pascal VOC or YOLO), and for segment masks or annotations with outlines.",
            )
        else:
            dataset = read_folder(path)
            found = f"{len(dataset)} files in {len(dataset.labels)} class folders"
        found += " of an archive" * is_archive(path)
    return by_path(dataset), f"{path}: {found}, so the task is {dataset.task}."


def by_path(dataset: Dataset) -> Dataset:
    """The data set sorted by path; most folders are listed in that order."""
    if all(one <= other for one, other in pairwise(texts_of(dataset.refs))):
        return dataset
    texts = list(texts_of(dataset.refs))
    return dataset.select(np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64))
