"""fold: every image tested once, whole units, each class shared out evenly; and how tags are split, by one draw and by folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sightline.data.split import fold, split
from sightline.errors import DataError
from sightline.records import SPLITS, Dataset, ImageRef
from test_split import dataset, tied, units_a_class, units_of


def all_folds(data: Dataset, links=(), *, folds: int, validation: float = 0.15, seed: int = 0) -> list[np.ndarray]:
    """The splits column of each fold."""
    given_to = {"folds": folds, "validation": validation, "seed": seed}
    return [fold(data, list(links), number=number, **given_to)[0].splits for number in range(1, folds + 1)]


def tagged(targets, **columns) -> Dataset:
    targets = np.asarray(targets, bool)
    refs = [ImageRef(f"{row}.png") for row in range(len(targets))]
    return Dataset(Path("data"), "tag", tuple("abcdefgh"[: targets.shape[1]]), refs, targets, **columns)


# ---- folds -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(tied(), st.integers(2, 5), st.integers(0, 3), st.floats(0.05, 0.4))
def test_every_image_is_tested_once_and_units_stay_whole(case, folds, seed, validation):
    data, links = case
    unit = units_of(data, links)
    assume(min(units_a_class(data, unit)) >= max(4, folds))
    parts = all_folds(data, links, folds=folds, validation=validation, seed=seed)
    assert (np.sum([part == "test" for part in parts], axis=0) == 1).all()
    for part in parts:
        assert set(part) == set(SPLITS)
        for number in np.unique(unit):
            assert len(set(part[unit == number])) == 1


@settings(max_examples=60)
@given(tied(one_class_a_unit=True), st.integers(2, 5), st.integers(0, 3))
def test_where_a_unit_has_one_class_its_folds_differ_by_its_largest_unit_at_most_and_all_can_learn_it(case, folds, seed):
    data, links = case
    unit = units_of(data, links)
    assume(min(units_a_class(data, unit)) >= max(4, folds))
    parts = all_folds(data, links, folds=folds, seed=seed)
    for label in range(len(data.labels)):
        mine = data.targets == label
        tested = [np.count_nonzero(mine & (part == "test")) for part in parts]
        assert min(tested) >= 1
        assert max(tested) - min(tested) <= np.bincount(unit[mine]).max()
        assert all((mine & (part == "train")).any() for part in parts)


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_without_ties_each_class_is_shared_out_to_one_image(folds):
    data = dataset(np.repeat([0, 1, 2], [21, 48, 307]))
    for part in all_folds(data, folds=folds):
        for label, n in enumerate((21, 48, 307)):
            assert np.count_nonzero((data.targets == label) & (part == "test")) in (n // folds, n // folds + 1)


def test_the_same_seed_gives_the_same_folds_and_another_seed_others():
    data = dataset(np.repeat([0, 1], 20))
    first, again, other = (all_folds(data, folds=4, seed=seed) for seed in (7, 7, 8))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_two_folds_of_small_classes_leave_something_for_validation(seed):
    for part in all_folds(dataset([0] * 4 + [1] * 4), folds=2, seed=seed):
        assert set(part) == set(SPLITS)
    with pytest.raises(DataError, match=r"class 'a' has 3 usable images; 'b' has 3 usable images\. 2 folds need .* 4 different images"):
        all_folds(dataset([0] * 3 + [1] * 3), folds=2, seed=seed)


def test_a_unit_of_half_the_images_leaves_two_folds_that_can_be_trained_on():
    data = dataset([0] * 6 + [1] * 6, groups=["big"] * 3 + [""] * 3 + ["large"] * 3 + [""] * 3)
    for part in all_folds(data, folds=2):
        assert set(part[:6]) == set(part[6:]) == set(SPLITS)


# ---- tags ------------------------------------------------------------------------------------------------------------


@st.composite
def tags(draw):
    """12 to 40 images with any of up to five tags each, every third with none or one of them rare, and some groups."""
    n, k = draw(st.integers(12, 40)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = rng.random((n, k)) < rng.uniform(0.02, 0.9, k)
    targets[:6, 0] = True  # what cannot be learned at all is refused
    groups = draw(st.sampled_from([None, np.where(rng.random(n) < 0.3, rng.integers(0, 4, n).astype(str), "")]))
    return tagged(targets, groups=groups)


@settings(max_examples=60)
@given(tags(), st.integers(3, 5), st.integers(0, 3))
def test_tagged_images_are_tested_once_whatever_tags_are_rare(data, folds, seed):
    unit = units_of(data, [])
    assume(len(np.unique(unit[data.targets[:, 0]])) >= folds)
    parts = all_folds(data, folds=folds, seed=seed)
    assert (np.sum([part == "test" for part in parts], axis=0) == 1).all()
    for part in parts:
        assert set(part) == set(SPLITS)
        for number in np.unique(unit):
            assert len(set(part[unit == number])) == 1


@settings(max_examples=60)
@given(tags(), st.integers(0, 3))
def test_a_tag_of_one_unit_stays_in_training_and_one_of_two_is_not_lost_from_it(data, seed):
    unit = units_of(data, [])
    assume(len(np.unique(unit[data.targets[:, 0]])) >= 3)
    part = split(data, [], validation=0.2, test=0.2, seed=seed)[0].splits
    for label in range(len(data.labels)):
        mine = data.targets[:, label]
        if mine.any():
            assert "train" in part[mine]
        if len(np.unique(unit[mine])) == 1:
            assert set(part[mine]) == {"train"}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_each_common_tag_and_the_images_without_one_are_shared_out(share, seed):
    """What the draw by rare labels first is for: within two images and a tenth, where plain chance would stray by a third."""
    rng = np.random.default_rng(seed)
    targets = rng.random((400, 5)) < (0.05, 0.1, 0.2, 0.4, 0.6)
    targets[::8] = False
    part = split(tagged(targets), [], validation=share, test=share, seed=seed)[0].splits
    for mine in (*targets.T, ~targets.any(axis=1)):
        for name in ("validation", "test"):
            wanted = share * mine.sum()
            assert abs(np.count_nonzero(mine & (part == name)) - wanted) <= 2 + 0.1 * wanted


def test_folds_share_out_tags_and_images_without_one():
    rng = np.random.default_rng(0)
    targets = rng.random((400, 5)) < (0.05, 0.1, 0.2, 0.4, 0.6)
    targets[::8] = False
    for part in all_folds(tagged(targets), folds=5):
        for mine in (*targets.T, ~targets.any(axis=1)):
            assert abs(np.count_nonzero(mine & (part == "test")) - mine.sum() / 5) <= 2 + 0.1 * mine.sum() / 5
