"""copies: what was saved again is found, what only looks alike is not, and not everything is compared with everything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont
from sklearn.datasets import load_digits

from conftest import DATA, SHAPES, needs_data, render_shape
from sightline.auditing.copies import NEIGHBOURS, WAYS, CopyPair, find_copies
from sightline.data.decode import Limits
from sightline.data.look import Look, look_at
from sightline.data.store import LOOKED_FACTS, Facts, Store
from sightline.records import ImageRef

SIDE = 224
PHOTOGRAPHS = 100


def store_of(looks: Sequence[Look]) -> Store:
    numbers = np.arange(len(looks))
    looked = {name: np.array([getattr(one, name) for one in looks]) for name in LOOKED_FACTS}
    ends = np.cumsum([one.pixels.size for one in looks])
    pixels = np.concatenate([one.pixels.ravel() for one in looks])
    shapes = np.array([one.pixels.shape[:2] for one in looks])
    return Store(Facts(path=numbers.astype(str), bytes=numbers, mtime_ns=numbers, **looked), SIDE, np.r_[0, ends[:-1]], shapes, pixels)


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Callable[..., Look]:
    """What looking at a picture tells, once it is saved with these options: as JPEG where they name a quality, else as BMP."""
    folder = tmp_path_factory.mktemp("copies")

    def look(image: Image.Image, side: int = SIDE, **options: int) -> Look:
        path = folder / ("x.jpg" if options else "x.bmp")
        image.save(path, **options)
        return look_at(ImageRef(str(path)), side, Limits())

    return look


def picture(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Soft coloured patches: as much structure as a photograph has, and nothing else."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def ends(pairs: Sequence[CopyPair]) -> set[tuple[int, int]]:
    return {(pair.a, pair.b) for pair in pairs}


# ---- exact -----------------------------------------------------------------------------------------------------------


def test_exact_copies_are_paired_with_the_first_of_their_kind(seen):
    a, b, c = (seen(picture(seed)) for seed in range(3))
    assert find_copies(store_of([b, a, b, c, a, b])) == [CopyPair(0, 2, True), CopyPair(1, 4, True), CopyPair(0, 5, True)]


def test_unreadable_images_are_nobodys_copy():
    broken = Look.refused("damaged", "0" * 64)
    assert find_copies(store_of([broken, broken, Look.refused("no such file")])) == []


def test_near_copies_can_be_left_out(seen):
    store = store_of([seen(picture(0)), seen(picture(0), quality=60), seen(picture(0))])
    assert find_copies(store, near=False) == [CopyPair(0, 2, True)]
    assert find_copies(store) == [CopyPair(0, 2, True), CopyPair(0, 1, False)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_few_images_without_a_copy_have_none(seen, count):
    assert find_copies(store_of([seen(picture(seed)) for seed in range(count)])) == []


# ---- saved again -----------------------------------------------------------------------------------------------------


def resized(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)


def brighter(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    """Away from the upper left corner, most of it."""
    return lambda image: image.crop((round(0.8 * share * image.width), round(0.6 * share * image.height),
                                     round((1 - 0.2 * share) * image.width), round((1 - 0.4 * share) * image.height)))  # fmt: skip


def watermarked(image: Image.Image) -> Image.Image:
    marked = image.copy()
    font = ImageFont.load_default(size=image.width // 10)
    ImageDraw.Draw(marked, "RGBA").text((0.1 * image.width, 0.45 * image.height), "(c) sample", (255, 255, 255, 140), font)
    return marked


CHANGES = {
    "quality 40": (lambda image: image, {"quality": 40}),
    "quality 90": (lambda image: image, {"quality": 90}),
    "half the size": (resized(0.5), {}),
    "twice the size": (resized(2), {}),
    "half the size, quality 60": (resized(0.5), {"quality": 60}),
    "a tenth darker": (brighter(0.9), {}),
    "a tenth brighter": (brighter(1.1), {}),
    "a third of the size": (resized(0.33), {}),
    "cropped by 5%": (cropped(0.05), {}),
    "mirrored": (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), {}),
    "turned": (lambda image: image.transpose(Image.Transpose.ROTATE_90), {}),
    "mirrored, cropped, quality 70": (lambda image: cropped(0.05)(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), {"quality": 70}),
    "with a watermark": (watermarked, {}),
}


@pytest.fixture(scope="module")
def photographs(seen) -> tuple[list[Image.Image], list[Look]]:
    paths = sorted((DATA / "clothing").glob("*/*/*.jpg"))
    chosen = [paths[row] for row in np.random.default_rng(0).permutation(len(paths))[:PHOTOGRAPHS]]
    images = [Image.open(path).convert("RGB") for path in chosen]
    return images, [seen(image) for image in images]


@needs_data
@pytest.mark.parametrize("change", CHANGES)
def test_a_photograph_saved_again_is_found_and_no_other_is_taken_for_it(photographs, seen, change):
    images, looks = photographs
    alter, options = CHANGES[change]
    found = ends(find_copies(store_of([*looks, *(seen(alter(image), **options) for image in images)])))
    planted = {(row, row + PHOTOGRAPHS) for row in range(PHOTOGRAPHS)}
    print(f"{change}: {len(found & planted)} of {PHOTOGRAPHS} found, {len(found - planted)} false")
    assert len(found & planted) >= 0.95 * PHOTOGRAPHS
    assert found <= planted


@pytest.mark.parametrize("change", CHANGES)
def test_a_rendered_picture_saved_again_is_found(seen, change):
    alter, options = CHANGES[change]
    looks = [seen(picture(seed)) for seed in range(10)] + [seen(alter(picture(seed)), **options) for seed in range(10)]
    assert ends(find_copies(store_of(looks))) == {(seed, seed + 10) for seed in range(10)}


# ---- only alike ------------------------------------------------------------------------------------------------------


def test_handwritten_digits_are_not_copies_of_each_other(seen):
    digits = load_digits()
    images = [Image.fromarray((scan * 255 / 16).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC) for scan in digits.images]
    pairs = find_copies(store_of([seen(image, 32) for image in images]))
    print(f"{len(pairs)} pairs among {len(images)} digits")
    assert len(pairs) <= 3
    assert all(digits.target[pair.a] == digits.target[pair.b] for pair in pairs)


def test_rendered_shapes_are_not_copies_of_each_other(seen):
    pairs = find_copies(store_of([seen(render_shape(kind, number), 32) for kind in SHAPES for number in range(150)]))
    print(f"{len(pairs)} pairs among {3 * 150} shapes")
    # A disc flipped and cropped is another disc: those of nearly the same colours and size are copies by any account. Without flips and
    # crops it was one pair at most.
    assert len(pairs) <= 40
    assert sum(not pair.how for pair in pairs) <= 1
    assert all(pair.a // 150 == pair.b // 150 for pair in pairs)


@needs_data
def test_different_photographs_are_not_copies(photographs):
    _, looks = photographs
    assert find_copies(store_of(looks)) == []


@needs_data
def test_cifar_images_are_not_copies_of_each_other(tmp_path):
    subprocess.run([sys.executable, DATA / "unpack.py", tmp_path, "--per-class", "60"], check=True)
    looks = [look_at(ImageRef(str(path)), 32, Limits()) for path in sorted(tmp_path.glob("*/*/*.png"))]
    assert len(looks) == 1200
    assert find_copies(store_of(looks)) == []


@pytest.mark.parametrize("slope", [0, 5, 15])
def test_even_surfaces_and_soft_gradients_are_not_copies(seen, slope):
    def surface(seed: int) -> Image.Image:
        rng = np.random.default_rng(seed)
        ramp = rng.integers(40, 200) + np.linspace(-slope, slope, 64)[None, :, None]
        return Image.fromarray((ramp + rng.normal(0, 2, (64, 64, 3))).clip(0, 255).astype(np.uint8))

    assert find_copies(store_of([seen(surface(seed)) for seed in range(60)])) == []


def test_one_outline_in_another_colour_is_another_picture(seen):
    def shirt(colour: tuple[int, int, int]) -> Image.Image:
        image = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(image).polygon([(16 * x, 16 * y) for x, y in ((1, 1), (7, 1), (6, 3), (6, 7), (2, 7), (2, 3))], colour)
        ImageDraw.Draw(image).rectangle((70, 45, 85, 60), "black")  # a pocket
        return image

    red, green = (200, 40, 40), (40, 123, 40)  # of the same grey
    looks = [seen(shirt(red)), seen(shirt(green)), seen(resized(0.7)(shirt(red)))]
    assert np.abs(looks[0].thumb.astype(int) - looks[1].thumb).max() <= 3
    assert ends(find_copies(store_of(looks))) == {(0, 2)}


# ---- many ------------------------------------------------------------------------------------------------------------


def of_thumbs(thumbs: np.ndarray) -> Store:
    """A store of (n, 16, 16) thumbnails that differ in nothing else and are all there is of their pictures."""
    n = len(thumbs)
    even = store_of([Look.refused("")]).facts
    facts = Facts(**{
        **{name: np.repeat(getattr(even, name), n, axis=0) for name in ("path", "bytes", "mtime_ns", *LOOKED_FACTS)},
        "sha256": np.arange(n).astype(str), "thumb": thumbs,
    })  # fmt: skip
    return Store(facts, 16, 3 * 256 * np.arange(n), np.full((n, 2), 16), thumbs[..., None].repeat(3, axis=3).ravel())


def test_of_six_thousand_images_copies_are_found(monkeypatch):
    rng = np.random.default_rng(0)
    thumbs = rng.integers(0, 256, (6000, 8, 8), np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    planted = {(row, row + 3000) for row in range(0, 3000, 100)}
    for a, b in planted:
        thumbs[b] = (thumbs[a].astype(int) + rng.integers(-2, 3, (16, 16))).clip(0, 255)
    assert ends(find_copies(of_thumbs(thumbs))) == planted


@pytest.mark.parametrize("way", range(8))
def test_each_flip_and_turn_is_found_and_named(seen, way):
    image = picture(3)
    other = Image.fromarray(np.ascontiguousarray(flipped_array(np.asarray(image), way)))
    (pair,) = find_copies(store_of([seen(image), seen(other)]))
    assert pair.how == WAYS[way]
    (pair,) = find_copies(store_of([seen(other), seen(image)]))
    assert pair.how == WAYS[way]


def flipped_array(pixels: np.ndarray, way: int) -> np.ndarray:
    pixels = pixels.transpose(1, 0, 2) if way & 4 else pixels
    pixels = pixels[:, ::-1] if way & 1 else pixels
    return pixels[::-1] if way & 2 else pixels


def test_many_pictures_of_one_scene_are_tied_together_with_a_bounded_number_of_pairs():
    rng = np.random.default_rng(0)
    scenes = rng.integers(40, 216, (2, 16, 16))
    n = 600
    thumbs = np.concatenate([scene + rng.integers(-3, 4, (n, 16, 16)) for scene in scenes]).astype(np.uint8)
    pairs = find_copies(of_thumbs(thumbs))
    assert len(pairs) <= NEIGHBOURS * 2 * n
    unit = np.arange(2 * n)
    for _ in range(n):
        before = unit.copy()
        for pair in pairs:
            unit[[pair.a, pair.b]] = unit[[pair.a, pair.b]].min()
        if (before == unit).all():
            break
    assert set(unit[:n]) == {0}
    assert set(unit[n:]) == {n}


def test_identical_pictures_under_other_bytes_are_all_paired():
    thumbs = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 16, 16), np.uint8), 40, axis=0)
    pairs = find_copies(of_thumbs(thumbs))
    assert {row for pair in pairs for row in (pair.a, pair.b)} == set(range(40))
