"""Tables written for tests, what is read of them in short, and the sentence with which one is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sightline.data.table import read_table
from sightline.errors import DataError


def writer_of_tables(folder: Path):
    """Writes a table beside a.png, b.png and images/c.png (empty: the reader opens none) and returns its path."""
    (folder / "data" / "images").mkdir(parents=True)
    for name in ("a.png", "b.png", "images/c.png"):
        (folder / "data" / name).touch()

    def write(content: str | bytes, name: str = "t.csv") -> Path:
        path = folder / "data" / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows(dataset) -> list[tuple[str, str]]:
    """(path below the root, label) of each sample of a data set to classify."""
    return [(Path(s.ref.path).relative_to(dataset.root).as_posix(), dataset.labels[s.target]) for s in dataset]


def tags(dataset) -> list[tuple[str, set[str]]]:
    """(path below the root, labels) of each sample of a data set to tag."""
    return [(Path(s.ref.path).relative_to(dataset.root).as_posix(), {dataset.labels[i] for i in np.flatnonzero(s.target)}) for s in dataset]


def refusal(path: Path, **settings) -> str:
    """The one sentence with which a table is refused, without the table's path at its start."""
    with pytest.raises(DataError) as caught:
        read_table(path, **settings)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.endswith(".")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ").removesuffix(".")
