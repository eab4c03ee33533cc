"""What several tests need: rendered data sets, a trained bundle, and the real data where it is at hand."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image, ImageDraw

DATA = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[2] / "shared" / "data"))
WEIGHTS = DATA / "weights" / "mobilenetv2_100_same_imagenet.safetensors"

# No test is timed: examples take long where other programs want the processors.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data is not at {DATA}; set SIGHTLINE_DATA")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Stores of decoded images go to a temporary folder, for commands run as child processes too."""
    os.environ["SIGHTLINE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def few_trees() -> Iterator[int]:
    """The audit in each training grows few trees: a thousand take as long as all else in a tiny run. Gives how many there are in each
    forest otherwise, which tests of what the trees tell ask for by ``all_trees``."""
    from sightline.auditing import telling

    with pytest.MonkeyPatch.context() as patch:
        each = telling.TREES
        patch.setattr(telling, "TREES", 4)
        yield each


@pytest.fixture(scope="module")
def all_trees(few_trees: int) -> Iterator[None]:
    """Audits in this file grow as many trees as they do in use."""
    from sightline.auditing import telling

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telling, "TREES", few_trees)
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for one test, which is not there yet."""
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def kept_choices(empty_cache: Path) -> Path:
    """Where engines that were chosen are kept, in a cache folder for one test."""
    return empty_cache / "engines"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Images are looked at in this process, and the names of those that had to be decoded are collected here."""
    from built_stores import counted_decoding

    return counted_decoding(monkeypatch)


@pytest.fixture(scope="session")
def one_thread() -> None:
    """torch on one thread: for tiny networks it is as fast, and much faster where other programs want the processors too."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def saves_however_slow_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint that is due is written: after one that took over a second, as on a busy disk, the next ones would wait."""
    from sightline.training import course

    monkeypatch.setattr(course, "SAVE_SHARE", math.inf)


@pytest.fixture
def no_open_file_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: a file that this process has open cannot be replaced by another."""
    held = Path("/proc/self/fd")
    if not held.is_dir():
        pytest.skip("the system does not tell which files are open")
    replace = os.replace

    def refusing(source: Path, target: Path) -> None:
        if os.path.realpath(target) in map(os.path.realpath, held.iterdir()):
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)


def render_shape(kind: str, seed: int, side: int = 32) -> Image.Image:
    """A disc, square or cross of random place, size and colours: three classes that a small network learns in seconds."""
    rng = np.random.default_rng([seed, sum(map(ord, kind))])
    back, front = (tuple(rng.integers(low, high, 3).tolist()) for low, high in ((0, 110), (150, 256)))
    image = Image.new("RGB", (side, side), back)
    draw = ImageDraw.Draw(image)
    radius = rng.uniform(0.2, 0.3) * side
    x, y = rng.uniform(0.35, 0.65, 2) * side
    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == "disc":
        draw.ellipse(box, fill=front)
    elif kind == "square":
        draw.rectangle(box, fill=front)
    else:
        draw.line((x - radius, y, x + radius, y), fill=front, width=side // 8)
        draw.line((x, y - radius, x, y + radius), fill=front, width=side // 8)
    noise = rng.normal(0, 6, (side, side, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


SHAPES = ("cross", "disc", "square")


def write_shapes(folder: Path, *, per_class: int = 20, kinds: tuple[str, ...] = SHAPES, seed: int = 0, side: int = 32) -> Path:
    """Class folders of rendered shapes as PNG files."""
    for kind in kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            render_shape(kind, seed * 10_000 + number, side).save(folder / kind / f"{number:03d}.png")
    return folder


def write_tagged_shapes(folder: Path, *, n: int = 60, seed: int = 0, side: int = 32) -> Path:
    """A table ``labels.csv`` and its images: PNG files of one or two different shapes side by side, or, every tenth, of none."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = ["path,label"]
    for number in range(n):
        shown = sorted(rng.choice(SHAPES, rng.integers(1, 3), replace=False).tolist()) if number % 10 else []
        picture = Image.new("RGB", (side * max(1, len(shown)), side), tuple(rng.integers(0, 110, 3).tolist()))
        for place, kind in enumerate(shown):
            picture.paste(render_shape(kind, seed * 10_000 + number, side), (place * side, 0))
        picture.resize((side, side), Image.Resampling.BILINEAR).save(folder / "images" / f"{number:03d}.png")
        rows.append(f"images/{number:03d}.png,{'|'.join(shown)}")
    table = folder / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def render_scene(number: int, seed: int = 0, side: int = 64) -> tuple[Image.Image, list[tuple[int, tuple[int, int, int, int]]]]:
    """Red and blue rectangles (classes 0 and 1) on a dark ground, up to three that do not touch, on every eighth picture none; with the
    class and the box (left, top, right, bottom) of each."""
    rng = np.random.default_rng([seed, number])
    pixels = rng.integers(20, 60, (side, side, 3)).astype(np.uint8)
    found: list[tuple[int, tuple[int, int, int, int]]] = []
    for place in rng.permutation(4)[: rng.integers(1, 4) if number % 8 else 0].tolist():
        width, height = rng.integers(side // 4, side // 2 - 4, 2).tolist()
        left, top = (place % 2) * side // 2 + 2, (place // 2) * side // 2 + 2
        label = int(rng.integers(2))
        pixels[top : top + height, left : left + width] = ((220, 40, 40), (40, 60, 230))[label]
        found.append((label, (left, top, left + width, top + height)))
    return Image.fromarray(pixels), found


SCENE_LABELS = ("red", "blue")


def write_boxes(folder: Path, *, n: int = 40, seed: int = 0, side: int = 64, labels: tuple[str, ...] = SCENE_LABELS) -> Path:
    """Rectangles of two colours in PNG files, with their boxes in a COCO JSON; only those of the labels that are named."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(n):
        picture, objects = render_scene(number, seed, side)
        picture.save(folder / "images" / f"{number:03d}.png")
        images.append({"id": number, "file_name": f"images/{number:03d}.png", "width": side, "height": side})
        for label, (left, top, right, bottom) in objects:
            if label < len(labels):
                box = [left, top, right - left, bottom - top]
                annotations.append({"id": len(annotations), "image_id": number, "category_id": label, "bbox": box,
                                    "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    categories = [{"id": label, "name": name} for label, name in enumerate(labels)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "annotations.json").write_text(text)
    return folder


def write_maps(folder: Path, *, n: int = 40, seed: int = 0, side: int = 64) -> Path:
    """The same rectangles with a mask of each picture: 0 the ground, 1 red, 2 blue."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(n):
        picture, objects = render_scene(number, seed, side)
        mask = np.zeros((side, side), np.uint8)
        for label, (left, top, right, bottom) in objects:
            mask[top:bottom, left:right] = label + 1
        picture.save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:03d}.png")
    (folder / "classes.json").write_text(json.dumps({"0": "ground", **{str(place + 1): name for place, name in enumerate(SCENE_LABELS)}}))
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rendered shapes in three class folders. Tests must not write there."""
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture
def own_shapes(tmp_path: Path) -> Path:
    """Twelve rendered shapes in three class folders, for one test to change."""
    return write_shapes(tmp_path / "data", per_class=4)


QUICK = {"epochs": 2, "backbone": "test_resnet", "weights": "none", "device": "cpu", "precision": "fp32", "trial": False}
"""Settings with which training takes a few seconds."""


@pytest.fixture(scope="session")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory):
    """A finished run on the shapes. Tests must not write there."""
    import sightline

    return sightline.train(shapes, out=str(tmp_path_factory.mktemp("runs") / "shapes"), **{**QUICK, "trial": True})


# How to render a small data set for each task.
RENDER = {"classify": write_shapes, "tag": write_tagged_shapes, "detect": write_boxes, "segment": write_maps}


@pytest.fixture(scope="session")
def trained_on(shapes: Path, run, tmp_path_factory: pytest.TempPathFactory):
    """By a task's name: rendered data, and a finished run on them, trained when it is first asked for. Tests must not write there."""
    import sightline

    @cache
    def trained(task: str):
        if task == "classify":
            return shapes, run
        folder = tmp_path_factory.mktemp(task)
        data = RENDER[task](folder / "data")
        return data, sightline.train(data, out=str(folder / "run"), **QUICK)

    return trained


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory):
    """Shapes that came split, and a run that tells them apart. Tests must not write there."""
    import sightline

    folder = tmp_path_factory.mktemp("learnt")
    for split, count, seed in (("train", 25, 1), ("val", 12, 2), ("test", 12, 3)):
        write_shapes(folder / "data" / split, per_class=count, seed=seed)
    return folder / "data", sightline.train(folder / "data", out=str(folder / "run"), **{**QUICK, "epochs": 6})


@pytest.fixture(scope="session")
def untested(tmp_path_factory: pytest.TempPathFactory):
    """Shapes that came as train and val alone, and a run that drew its test images from train. Tests must not write there."""
    import sightline

    folder = tmp_path_factory.mktemp("untested")
    for split, count, seed in (("train", 20, 1), ("val", 8, 2)):
        write_shapes(folder / "data" / split, per_class=count, seed=seed)
    return folder / "data", sightline.train(folder / "data", out=str(folder / "run"), **QUICK)


@pytest.fixture(scope="session")
def objects():
    """24 images of which it is known what matters: images, kinds, and where the object of each is. Tests must not change them."""
    from planted_objects import render_objects

    return render_objects(24, 9_999)


@pytest.fixture(scope="session")
def weight(one_thread: None):
    """That of the last layer of the network that has learned from them, (2, channels)."""
    from planted_objects import trained

    return trained().head.linear.weight.detach().numpy()
