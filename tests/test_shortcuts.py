"""shortcuts: an alarm where facts about the files tell the label, and none where only what the images show tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_digits

from conftest import DATA, SHAPES, needs_data, render_shape
from sightline.auditing.fact_columns import fact_groups
from sightline.auditing.finding import NOTE, PROBLEM, WARNING
from sightline.auditing.shortcuts import FEWEST, Shortcuts, find_shortcuts
from sightline.auditing.telling import folds_of
from sightline.data.decode import Limits
from sightline.data.look import Look, look_at
from sightline.data.store import LOOKED_FACTS, Facts
from sightline.records import ImageRef

pytestmark = pytest.mark.usefixtures("all_trees")
Seen = tuple[Look, int]
PER_CLASS = 20


def facts_of(seen: Sequence[Seen]) -> Facts:
    looked = {name: np.array([getattr(look, name) for look, _ in seen]) for name in LOOKED_FACTS}
    sizes = np.array([size for _, size in seen], np.int64)
    return Facts(path=np.arange(len(seen)).astype(str), bytes=sizes, mtime_ns=np.zeros(len(seen), np.int64), **looked)


@pytest.fixture(scope="module")
def see(tmp_path_factory) -> Callable[..., Seen]:
    """What looking at a picture tells once it is saved: as JPEG of this quality, else as PNG."""
    folder = tmp_path_factory.mktemp("shortcuts")

    def see(image: Image.Image, quality: int | None = None, side: int = 64) -> Seen:
        path = folder / ("x.jpg" if quality else "x.png")
        image.save(path, **({"quality": quality} if quality else {}))
        return look_at(ImageRef(str(path)), side, Limits()), path.stat().st_size

    return see


def picture(seed: int, side: int = 48) -> Image.Image:
    """Soft patches without meaning, of all shades but the brightest."""
    patches = np.random.default_rng(seed).integers(10, 200, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC)


def answers(targets: np.ndarray, labels: int, seed: int = 0) -> np.ndarray:
    """(n, k) probabilities that are right in about four of five cases."""
    logits = np.random.default_rng(seed).normal(0, 1, (len(targets), labels))
    logits[np.arange(len(targets)), targets] += 2 + 0.3 * np.sqrt(labels)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def judged(seen: Sequence[Seen], targets: np.ndarray, labels: Sequence[str], images: np.ndarray | None, **options) -> Shortcuts | None:
    n = len(seen)
    mixed = np.random.default_rng(0).permutation(n)
    options = {"names": [f"{number}.jpg" for number in mixed], "units": np.arange(n), "seed": 0} | options
    return find_shortcuts(facts_of(seen), options["names"], targets, labels, images, options["units"], options["seed"])


CHANGES = {
    "compression": (lambda image: image, 40),
    "brightness": (lambda image: ImageEnhance.Brightness(image).enhance(1.4), 90),
    "border": (lambda image: ImageOps.expand(image.crop((4, 4, 44, 44)), 4, "white"), 90),
    "size": (lambda image: image.resize((60, 48)), 90),
}


def altered(see: Callable[..., Seen], change: str, classes: int) -> tuple[list[Seen], np.ndarray]:
    """Pictures without meaning in so many classes, of which class 1 was changed."""
    alter, quality = CHANGES[change]
    targets = np.repeat(np.arange(classes), PER_CLASS)
    seen = [see(alter(picture(seed)), quality) if label == 1 else see(picture(seed), 90) for seed, label in enumerate(targets)]
    return seen, targets


@pytest.mark.parametrize(("classes", "with_images"), [(2, True), (3, True), (3, False), (10, True)])
@pytest.mark.parametrize("change", CHANGES)
def test_a_class_that_was_saved_otherwise_raises_the_alarm(see, change, classes, with_images):
    seen, targets = altered(see, change, classes)
    labels = [f"class {number}" for number in range(classes)]
    found = judged(seen, targets, labels, answers(targets, classes) if with_images else None)
    finding = found.finding()
    assert found.causes[0] == change
    assert found.told == ("class 1",) if classes > 2 else set(found.told) == set(labels)
    assert finding.level == PROBLEM
    assert "'class 1'" in finding.sentence
    assert ("certainty" in finding.sentence) is not with_images
    assert finding.figures["alarm"]
    assert all("class" in item.detail for item in finding.items)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_classes_that_were_saved_alike_raise_none(see, classes):
    targets = np.repeat(np.arange(classes), PER_CLASS)
    seen = [see(picture(seed), 90) for seed in range(len(targets))]
    found = judged(seen, targets, [f"class {number}" for number in range(classes)], answers(targets, classes))
    assert (found.alarm, found.causes, found.items, found.finding().level) == (False, (), (), NOTE)
    assert "by chance" in found.finding().sentence


def test_the_detail_says_what_tells_the_class(see):
    seen, targets = altered(see, "compression", 3)
    finding = judged(seen, targets, ["a", "b", "c"], answers(targets, 3)).finding()
    assert finding.items[0].detail == "b: saved at JPEG quality 40 (the other labels' images: saved at JPEG quality 90)"
    assert "how the images were saved" in finding.sentence
    assert "same format" in finding.advice


def test_what_simple_pictures_show_is_no_fact_about_them(see):
    shapes = [see(render_shape(kind, number), side=32) for kind in SHAPES for number in range(50)]
    targets = np.repeat(np.arange(3), 50)
    assert not judged(shapes, targets, SHAPES, answers(targets, 3)).alarm
    digits = load_digits()
    seen = [see(Image.fromarray((scan * 15.9).astype(np.uint8)).resize((32, 32)), side=32) for scan in digits.images[:600]]
    targets = digits.target[:600].astype(np.int64)
    assert not judged(seen, targets, [str(digit) for digit in range(10)], answers(targets, 10)).alarm


def test_random_labels_raise_no_alarm_whatever_the_images_give(see):
    rng = np.random.default_rng(1000)
    pictures = [see(picture(seed), int(rng.integers(40, 95))) for seed in range(120)]
    for seed in range(3):
        targets = np.random.default_rng(seed).integers(0, 4, 120)
        guesses = np.random.default_rng(seed + 100).dirichlet(np.ones(4), 120)
        for images in (answers(targets, 4), guesses, None):
            assert not judged(pictures, targets, list("abcd"), images, seed=seed).alarm


def test_of_tags_the_one_that_was_saved_otherwise_is_named(see):
    truth = np.random.default_rng(0).random((90, 3)) < 0.3
    rest = np.random.default_rng(1)
    images = np.clip(np.where(truth, 0.7, 0.3) + rest.normal(0, 0.2, truth.shape), 0, 1)
    even = [see(picture(seed), 90) for seed in range(90)]
    uneven = [see(picture(seed), 50 if has else 90) for seed, has in enumerate(truth[:, 2])]
    assert not judged(even, truth, ["cat", "dog", "sofa"], images).alarm
    found = judged(uneven, truth, ["cat", "dog", "sofa"], images)
    assert (found.told, found.causes) == (("sofa",), ("compression",))
    assert "mean average precision" in found.finding().sentence


def test_a_label_that_the_images_tell_nothing_of_does_not_stop_the_others_from_being_judged(see):
    truth = np.random.default_rng(0).random((90, 3)) < 0.3
    images = np.where(truth, 0.7, 0.3)
    images[:, 1] = np.nan
    uneven = [see(picture(seed), 50 if has else 90) for seed, has in enumerate(truth[:, 2])]
    found = judged(uneven, truth, ["cat", "dog", "sofa"], images)
    assert (found.labels, found.told, found.n) == (("cat", "sofa"), ("sofa",), 90)


@pytest.mark.parametrize("tags", [True, False])
def test_where_the_images_tell_nothing_of_any_label_certainty_is_taken_for_it(see, tags):
    seen, targets = altered(see, "compression", 2)
    given = targets[:, None] == np.arange(2) if tags else targets
    found = judged(seen, given, ["a", "b"], np.full((len(seen), 2), np.nan))
    assert found.told
    assert "certainty was taken for it" in found.finding().sentence


@pytest.mark.parametrize("hidden", ["file name", "capture time"])
def test_what_no_network_sees_is_a_warning_only(see, hidden):
    targets = np.repeat([0, 1], 30)
    looks = [see(picture(seed), 90) for seed in range(60)]
    options = {}
    if hidden == "file name":
        options["names"] = [f"{'IMG' if label else 'scan'}_{np.random.default_rng(row).integers(1000, 9999)}.jpg"
                            for row, label in enumerate(targets)]  # fmt: skip
    else:
        looks = [(replace(look, taken=f"2024-0{3 + 4 * label}-11T1{row % 10}:00:00"), size)
                 for row, ((look, size), label) in enumerate(zip(looks, targets, strict=True))]  # fmt: skip
    found = judged(looks, targets, ["ill", "well"], answers(targets, 2), **options)
    assert (found.alarm, found.apart) == (False, (hidden,))
    assert found.finding().level == WARNING
    assert "collected apart" in found.finding().sentence


def test_cameras_are_named(see):
    targets = np.repeat([0, 1], 20)
    looks = [(replace(look, camera=("Nikon {x}", "Canon")[label]), size)
             for (look, size), label in zip([see(picture(seed), 90) for seed in range(40)], targets, strict=True)]  # fmt: skip
    found = judged(looks, targets, ["ill", "well"], answers(targets, 2))
    assert found.causes == ("camera",)
    assert any(item.detail.startswith("well: taken with 'Canon'") for item in found.items)


def test_too_few_images_are_not_judged(see):
    seen = [see(picture(seed), 40 if seed < FEWEST else 90) for seed in range(2 * FEWEST)]
    targets = np.repeat([0, 1], FEWEST)
    assert judged(seen, targets, ["a", "b"], None).told
    assert judged(seen[1:], targets[1:], ["a", "b"], None) is None
    # Images that are not readable, not labelled or not judged by their content do not count.
    unlabelled, unknown = targets.copy(), answers(targets, 2)
    unlabelled[0], unknown[0] = -1, np.nan
    broken = [(Look.refused("damaged"), 0), *seen[1:]]
    assert judged(seen, unlabelled, ["a", "b"], None) is None
    assert judged(seen, targets, ["a", "b"], unknown) is None
    assert judged(broken, targets, ["a", "b"], None) is None


def test_facts_that_belong_to_a_patient_do_not_tell_the_label(see):
    """Ten images each of eight patients, each with a camera quality of their own: known patients could be told, new ones cannot."""
    patients = np.repeat(np.arange(8), 10)
    seen = [see(picture(seed), 40 + 6 * int(patient)) for seed, patient in enumerate(patients)]
    targets = np.array([0, 1, 1, 0, 1, 0, 0, 1])[patients]
    assert judged(seen, targets, ["ill", "well"], None).alarm
    assert not judged(seen, targets, ["ill", "well"], None, units=patients).alarm


def test_images_that_are_all_alike_are_said_to_be(see):
    one = see(picture(0), 90)
    targets = np.repeat([0, 1], 15)
    found = judged([one] * 30, targets, ["a", "b"], None, names=["x.jpg"] * 30)
    assert not found.alarm
    assert "alike" in found.finding().sentence


def test_the_same_seed_gives_the_same_figures(see):
    seen, targets = altered(see, "brightness", 3)
    one, other = (judged(seen, targets, list("abc"), answers(targets, 3)).finding().to_json() for _ in range(2))
    assert one == other


# ---- columns and folds -----------------------------------------------------------------------------------------------


def names_group(see: Callable[..., Seen], names: Sequence[str], labels: Sequence[str]) -> dict[str, np.ndarray]:
    group = fact_groups(facts_of([see(picture(0))] * len(names)), names, labels).get("file name")
    return dict(zip(group.phrases, group.values.T, strict=True)) if group else {}


def test_the_label_in_a_file_name_is_no_fact(see):
    assert names_group(see, ["x/cat_7.png", "y/t_shirt-7.png", "y/T-Shirt7.png"], ["cat", "t-shirt"]) == {}
    # A label within another word is not the label.
    columns = names_group(see, ["catalogue1.png"] * 3 + ["dog1.png"] * 3, ["cat", "dog"])
    assert columns["{:.0f} characters in the file's name"].tolist() == [10, 10, 10, 1, 1, 1]
    assert columns["a file name that begins with 'catalogue'"].tolist() == [1, 1, 1, 0, 0, 0]


def test_numbers_in_file_names_may_be_missing_or_endless(see):
    values = names_group(see, ["a.png", f"a{'9' * 400}.png", "a12.png"], [])["number {:.0f} in the file's name"]
    assert np.isnan(values[0])
    assert values[1:].tolist() == [999_999_999_999_999, 12]


def test_columns_that_are_the_same_for_all_are_left_out(see):
    assert fact_groups(facts_of([see(picture(0))] * 4), ["1.png"] * 4, []) == {}


def test_folds_keep_units_together_and_labels_in_all_of_them():
    rng = np.random.default_rng(0)
    units = rng.permutation(np.repeat(np.arange(60), 3))
    labels = rng.integers(0, 3, 60)[units]
    folds = folds_of(labels[:, None] == np.arange(3), units, 0)
    assert all(len(np.unique(folds[units == unit])) == 1 for unit in range(60))
    assert all(len(np.unique(folds[labels == label])) == 5 for label in range(3))


# ---- photographs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clothing(see) -> tuple[list[Path], list[Seen], np.ndarray, list[str]]:
    paths = sorted((DATA / "clothing").glob("*/*/*.jpg"))
    labels = sorted({path.parent.name for path in paths})
    seen = [(look_at(ImageRef(str(path)), 64, Limits()), path.stat().st_size) for path in paths]
    return paths, seen, np.array([labels.index(path.parent.name) for path in paths]), labels


@needs_data
def test_on_clothing_there_is_no_shortcut(clothing):
    paths, seen, targets, labels = clothing
    found = judged(seen, targets, labels, answers(targets, 10), names=[path.name for path in paths])
    print(found.finding().sentence)
    assert found.finding().level == NOTE


@needs_data
@pytest.mark.parametrize("change", ["compression", "brightness", "border"])
def test_a_class_of_clothing_that_was_saved_otherwise_is_named(clothing, see, change):
    paths, seen, targets, labels = clothing
    shirt = labels.index("shirt")
    alter = {
        "compression": lambda image: image,
        "brightness": ImageEnhance.Brightness,
        "border": lambda image: ImageOps.expand(ImageOps.crop(image, 6), 6, "white"),
    }[change]

    def again(path: Path) -> Seen:
        image = alter(Image.open(path).convert("RGB"))
        return see(image.enhance(1.35) if change == "brightness" else image, 40 if change == "compression" else 75)

    mixed = [again(path) if target == shirt else one for path, one, target in zip(paths, seen, targets, strict=True)]
    found = judged(mixed, targets, labels, answers(targets, 10), names=[path.name for path in paths])
    print(found.finding().sentence)
    assert (found.told, found.causes) == (("shirt",), (change,))
