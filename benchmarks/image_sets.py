"""The data sets of the benchmarks, made once from the real data into ``build/benchmarks`` and found there from then on."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import DATA, MADE
from PIL import Image, ImageOps

from sightline.data.readers import read_dataset
from sightline.data.writing import write_coco, write_yolo
from sightline.records import Dataset

PHOTOGRAPH = (1800, 1200)
WEB, WEB_QUALITY = (900, 600), 85
# A camera's or a phone's, the spread of its grain in levels, and its JPEG quality.
CAMERA, GRAIN, CAMERA_QUALITY = (4032, 3024), 3.0, 90
QUALITIES = (75, 96)
# Digits are 8 pixels wide; a few times that, so that they can be looked at.
DIGIT_SIDE, DIGIT_LEVELS = 32, 16


def made(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of this name, made under another one, so that it is there whole or not at all."""
    folder = MADE / name
    if not folder.is_dir():
        draft = folder.with_name(f".{name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        print(f"Making {folder}.", file=sys.stderr)
        make(draft)
        draft.rename(folder)
    return folder


def cifar(per_class: int, test_per_class: int) -> Path:
    """CIFAR-10 as ``{train,test}/CLASS/*.png``, the first images of each class."""

    def make(folder: Path) -> None:
        tiles = folder / "tiles"
        subprocess.run([sys.executable, DATA / "unpack.py", tiles, "--per-class", str(max(per_class, test_per_class))], check=True)
        _move_first(tiles, folder, {"train": per_class, "test": test_per_class})
        shutil.rmtree(tiles)

    return made(f"cifar-{per_class}-{test_per_class}", make)


def clothing(per_class: int | None = None) -> Path:
    """The clothing photographs as they are, or the first of each class, for a quick look."""
    source = DATA / "clothing"
    if per_class is None:
        return source

    def make(folder: Path) -> None:
        for split, label in itertools.product(("train", "validation", "test"), sorted(path.name for path in (source / "train").iterdir())):
            (folder / split / label).mkdir(parents=True)
            for file in sorted((source / split / label).iterdir())[:per_class]:
                shutil.copy(file, folder / split / label)

    return made(f"clothing-{per_class}", make)


def camera_photographs(n: int) -> Path:
    """``n`` distinct photographs of 12 megapixels in class folders: those of clothing, blood cells and streets, enlarged, with grain."""
    sources = {"clothing": "clothing/*/*/*.jpg", "cells": "bccd/JPEGImages/*.jpg", "streets": "camvid/*/images/*"}

    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        for label, pattern in sources.items():
            (folder / label).mkdir()
            for number, file in enumerate(sorted(DATA.glob(pattern))[: n // len(sources)]):
                with Image.open(file) as image:
                    large = ImageOps.fit(image.convert("RGB"), CAMERA, Image.Resampling.BICUBIC)
                grain = rng.normal(0, GRAIN, (*CAMERA[::-1], 1)).astype(np.float32)
                noisy = (np.asarray(large, np.float32) + grain).clip(0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(folder / label / f"{number:04}.jpg", quality=CAMERA_QUALITY)

    return made(f"camera-{n}", make)


def objects(name: str, per_split: int | None = None) -> Path:
    """A data set of boxes as it came, or the first images of each split with YOLO labels, for a quick look."""
    source = DATA / name
    if per_split is None:
        return source

    def make(folder: Path) -> None:
        dataset = _objects(source)
        splits = sorted(set(dataset.splits.tolist()))
        write_yolo(dataset.select(np.concatenate([dataset.rows_of(split)[:per_split] for split in splits])), folder)

    return made(f"{name}-{per_split}", make)


def as_coco(data: Path) -> Path:
    """The same boxes as COCO annotations, ``train.json``, ``test.json`` and so on, of the images where they are."""
    return made(f"{data.name}-coco", lambda folder: write_coco(_objects(data), folder))


def as_yolo(data: Path) -> Path:
    """The same boxes as YOLO labels, beside copies of the images; the ``data.yaml``."""
    return made(f"{data.name}-yolo", lambda folder: write_yolo(_objects(data), folder)) / "data.yaml"


def _objects(data: Path) -> Dataset:
    return read_dataset(data, task="detect")[0]


def camvid(per_split: int | None = None) -> Path:
    """The driving scenes as they are, or some of each split, from all of the drive, for a quick look."""
    source = DATA / "camvid"
    if per_split is None:
        return source

    def make(folder: Path) -> None:
        shutil.copy(source / "classes.json", folder)
        for split, kind in itertools.product(("train", "val", "test"), ("images", "masks")):
            (folder / split / kind).mkdir(parents=True)
            files = sorted((source / split / kind).iterdir())
            for place in np.linspace(0, len(files) - 1, per_split).astype(int).tolist():
                shutil.copy(files[place], folder / split / kind)

    return made(f"camvid-{per_split}", make)


def digits(per_class: int | None = None) -> Path:
    """scikit-learn's handwritten digits as ``DIGIT/*.png``: 1,797 of them, unsplit."""

    def make(folder: Path) -> None:
        from sklearn.datasets import load_digits

        found = load_digits()
        counts = dict.fromkeys(range(10), 0)
        for pixels, digit in zip(found.images, found.target.tolist(), strict=True):
            counts[digit] += 1
            if per_class is not None and counts[digit] > per_class:
                continue
            (folder / str(digit)).mkdir(exist_ok=True)
            shades = Image.fromarray((pixels * (255 / DIGIT_LEVELS)).astype(np.uint8))
            shades.resize((DIGIT_SIDE, DIGIT_SIDE)).save(folder / str(digit) / f"{counts[digit]:04d}.png")

    return made(f"digits-{per_class or 'all'}", make)


def photographs(n: int) -> Path:
    """``n`` JPEG files of 1800 x 1200, in a folder: crops of the two photographs, recompressed at several qualities.

    A file's name begins with what it shows: one of the two photographs, and one of its four corners.
    """

    def make(folder: Path) -> None:
        sources = [_upright(DATA / "photos" / name) for name in ("Landscape_1.jpg", "Portrait_1.jpg")]
        for number in range(n):
            rng = np.random.default_rng(number)
            photograph, right, low = number % 2, number // 2 % 2, number // 4 % 2
            crop = _crop(sources[photograph], rng, right=right, low=low)
            crop.save(folder / f"{photograph}{right}{low}-{number:05d}.jpg", quality=int(rng.integers(*QUALITIES)))

    return made(f"photographs-{n}", make)


def web_photographs(n: int) -> Path:
    """The same as a page or an app would send them: of 900 x 600."""

    def make(folder: Path) -> None:
        for file in sorted(photographs(n).iterdir()):
            with Image.open(file) as image:
                image.resize(WEB, Image.Resampling.LANCZOS).save(folder / file.name, quality=WEB_QUALITY)

    return made(f"web-photographs-{n}", make)


def photographs_by_corner(n: int) -> Path:
    """The same in class folders, for training a network that has something to say about them."""

    def make(folder: Path) -> None:
        for file in sorted(photographs(n).iterdir()):
            (folder / file.name[:3]).mkdir(exist_ok=True)
            shutil.copy(file, folder / file.name[:3])

    return made(f"photographs-by-corner-{n}", make)


def _upright(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _crop(image: Image.Image, rng: np.random.Generator, *, right: int, low: int) -> Image.Image:
    """A crop from near a corner, of half to seven tenths of the picture's sides, scaled to the size of all."""
    width, height = (rng.uniform(0.5, 0.7) * side for side in image.size)
    left, top = (rng.uniform(0, 0.1) * side for side in image.size)
    if right:
        left = image.width - width - left
    if low:
        top = image.height - height - top
    return image.resize(PHOTOGRAPH, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))


def _move_first(source: Path, folder: Path, counts: dict[str, int]) -> None:
    for split, count in counts.items():
        for label in sorted((source / split).iterdir()):
            (folder / split / label.name).mkdir(parents=True)
            for file in sorted(label.iterdir())[:count]:
                file.rename(folder / split / label.name / file.name)
