"""What the tests of annotated data share: small images in a folder, and what a person is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.readers import read_dataset
from sightline.errors import DataError
from sightline.records import Dataset

SIZE = (40, 30)


def write_images(folder: Path, *names: str, size: tuple[int, int] = SIZE) -> Path:
    """Images of noise, each another, as PNG or whatever the names say."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([number, *map(ord, name)])
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return folder


def by_name(dataset: Dataset) -> dict[str, tuple[str, list[tuple[str, list[float]]]]]:
    """File name -> its split, and label and box of each object."""
    return {
        Path(sample.ref.member or sample.ref.path).name: (
            sample.split or "",
            [(dataset.labels[label], box) for label, box in zip(sample.target.labels, sample.target.boxes.tolist(), strict=True)],
        )
        for sample in dataset
    }


def warning_of(path: Path, capsys: pytest.CaptureFixture[str], **reading: object) -> str:
    """The one warning that reading a place gives, without the place's name."""
    capsys.readouterr()
    read_dataset(path, **reading)
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("! ")]
    root = path if path.is_dir() else path.parent
    assert told.startswith(f"! {root}: ")
    assert told.endswith(".")
    return told.removeprefix(f"! {root}: ")


def refusal_of(path: Path, **reading: object) -> str:
    """The sentence with which a place is refused."""
    with pytest.raises(DataError) as caught:
        read_dataset(path, **reading)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text
