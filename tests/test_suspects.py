"""suspects: wrong labels are listed and suggested only where there are too many to be chance; what is far from all is foreign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from sightline.auditing.finding import DROP, NOTE, RELABEL, WARNING
from sightline.auditing.suspects import (
    FEWEST,
    NEIGHBOURS,
    chance_wrong,
    foreign_images,
    judge,
    neighbour_distances,
    reduced,
    suspect_labels,
)
from sightline.records import NO_TARGET, Dataset, ImageRef

LABELS = ("ant", "bee", "cat", "dog")


def dataset(targets: np.ndarray, **columns) -> Dataset:
    task = "tag" if targets.ndim == 2 else "classify"
    return Dataset(Path("data"), task, LABELS, [ImageRef(f"{row}.png") for row in range(len(targets))], targets, **columns)


def names(n: int) -> list[str]:
    return [f"{row}.png" for row in range(n)]


def clusters(n: int, *, apart: float = 1.2, dims: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around a centre for each class, and the classes."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % len(LABELS)
    centres = apart * rng.normal(size=(len(LABELS), dims))
    return (centres[truth] + rng.normal(size=(n, dims))).astype(np.float32), truth


def mislabelled(truth: np.ndarray, share: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(truth), bool)
    wrong[rng.choice(len(truth), round(share * len(truth)), replace=False)] = True
    return np.where(wrong, (truth + rng.integers(1, len(LABELS), len(truth))) % len(LABELS), truth), wrong


def listed(finding, n: int) -> np.ndarray:
    """(n,) how early each image is listed; 0 for those that are not."""
    order = [int(item.images[0].removesuffix(".png")) for item in finding.items]
    scores = np.zeros(n)
    scores[order] = len(order) - np.arange(len(order))
    return scores


def test_wrong_labels_come_first_and_most_suggestions_are_right():
    embeddings, truth = clusters(1200, apart=1.5)
    targets, wrong = mislabelled(truth, 0.05)
    data = dataset(targets)
    finding = suspect_labels(judge(embeddings, data, [], 0), data, names(1200))
    assert finding.level == WARNING
    assert average_precision_score(wrong, listed(finding, 1200)) > 0.9
    suggested = [item for item in finding.items if item.suggestion]
    assert len(suggested) >= 20
    rows = [int(item.images[0].removesuffix(".png")) for item in suggested]
    assert wrong[rows].mean() > 0.9
    assert {item.suggestion for item in suggested} <= {DROP, RELABEL}
    relabelled = [(row, item) for row, item in zip(rows, suggested, strict=True) if item.suggestion == RELABEL]
    assert np.mean([item.label == LABELS[truth[row]] for row, item in relabelled]) > 0.9
    assert all((item.label == "") == (item.suggestion == DROP) for item in suggested)


def test_where_all_labels_are_right_nothing_is_suggested():
    embeddings, truth = clusters(600, apart=0.5)
    data = dataset(truth)
    finding = suspect_labels(judge(embeddings, data, [], 0), data, names(600))
    assert finding is None or (finding.level == NOTE and not any(item.suggestion for item in finding.items))


def test_the_judge_has_not_seen_an_image_or_its_copies():
    embeddings, truth = clusters(200)
    targets = truth.copy()
    targets[0] = targets[1] = (truth[0] + 1) % 4
    embeddings[1] = embeddings[0]
    tied = judge(embeddings, dataset(targets), [(0, 1)], 0).probabilities
    data = dataset(targets, groups=np.array(["twins" if row < 2 else "" for row in range(200)]))
    np.testing.assert_allclose(judge(embeddings, data, [], 0).probabilities[:2], tied[:2])
    assert (tied[:2, truth[0]] > 0.5).all()
    np.testing.assert_allclose(tied.sum(axis=1), 1, rtol=1e-6)


def test_unlabelled_images_and_small_classes_are_not_judged():
    embeddings, truth = clusters(120)
    targets = truth.copy()
    targets[:20] = NO_TARGET
    targets[targets == 3] = 2
    targets[21:24] = 3
    probabilities = judge(embeddings, dataset(targets), [], 0).probabilities
    judged = ~np.isnan(probabilities).any(axis=1)
    assert not judged[:20].any()
    assert not judged[21:24].any()
    assert judged[24:].all()


@pytest.mark.parametrize("count", [1, FEWEST - 1])
def test_a_class_with_few_different_images_says_nothing_about_the_others(count):
    embeddings, truth = clusters(count)
    data = dataset(truth)
    assert np.isnan(judge(embeddings, data, [], 0).probabilities).all()
    assert suspect_labels(judge(embeddings, data, [], 0), data, names(count)) is None


def test_without_labels_there_are_no_suspects():
    data = dataset(np.zeros(10, np.int64)).replace(targets=None)
    judged = judge(clusters(10)[0], data, [], 0)
    assert suspect_labels(judged, data, names(10)) is None
    assert len(judged.vectors) == 10


def test_tags_that_are_missing_or_too_much_are_listed():
    embeddings, truth = clusters(400, apart=1.5)
    targets, rng = np.eye(4, dtype=bool)[truth], np.random.default_rng(3)
    wrong = rng.choice(400, 24, replace=False)
    missing, extra = wrong[:12], wrong[12:]
    targets[missing, truth[missing]] = False
    targets[extra, (truth[extra] + 1) % 4] = True
    data = dataset(targets)
    finding = suspect_labels(judge(embeddings, data, [], 0), data, names(400))
    first = {item.images[0]: item.detail for item in finding.items[:20]}
    assert len(set(first) & {f"{row}.png" for row in wrong}) >= 18
    assert sum(first.get(f"{row}.png", "").startswith(f"has no label {LABELS[truth[row]]}") for row in missing) >= 6
    assert sum(first.get(f"{row}.png", "").startswith(f"has the label {LABELS[(truth[row] + 1) % 4]}") for row in extra) >= 6


@pytest.mark.parametrize("share", [0, 0.03, 0.1])
@pytest.mark.parametrize("sure", [0.5, 1, 2])
def test_chances_add_up_to_the_mistakes_however_sure_the_judge_is(share, sure):
    rng = np.random.default_rng(0)
    logits = 2.5 * rng.normal(size=(4000, 5))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(5, p=row) for row in true])
    wrong = rng.random(4000) < share
    given = np.where(wrong, (truth + rng.integers(1, 5, 4000)) % 5, truth)
    said = true**sure / (true**sure).sum(axis=1, keepdims=True)
    chances = chance_wrong(said, given)
    assert abs(chances.sum() - wrong.sum()) < 0.35 * wrong.sum() + 30
    likely = chances > 0.5
    assert not likely.any() if share == 0 else abs(wrong[likely].mean() - chances[likely].mean()) < 0.1


def test_fewer_directions_keep_the_distances():
    vectors = np.random.default_rng(0).normal(size=(900, 300)).astype(np.float32)
    vectors[:, 200:] = vectors[:, :100]
    kept = reduced(vectors)
    assert kept.shape == (900, 256)
    centred = (vectors - vectors.mean(axis=0)) / vectors.std()
    np.testing.assert_allclose(
        np.linalg.norm(kept[:50] - kept[50:100], axis=1), np.linalg.norm(centred[:50] - centred[50:100], axis=1), rtol=1e-3
    )


def test_distances_are_those_of_the_nearest_others():
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    nearest = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(vectors).kneighbors(vectors)[0][:, 1:]
    np.testing.assert_allclose(neighbour_distances(vectors, [], 0), nearest.mean(axis=1), rtol=1e-3)


def test_a_copy_is_no_neighbour():
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    twice = np.concatenate([vectors, vectors])
    tied = neighbour_distances(twice, [(row, row + 50) for row in range(50)], 0)
    assert (tied > neighbour_distances(twice, [], 0)).all()


def test_an_image_far_from_all_others_is_foreign_and_no_other_is():
    embeddings, truth = clusters(300)
    embeddings[17] += 12
    data = dataset(truth)
    judged = judge(embeddings, data, [], 0)
    finding = foreign_images(judged, names(300), [], 0)
    assert [item.images for item in finding.items] == [("17.png",)]
    embeddings, _ = clusters(300, seed=2)
    assert foreign_images(judge(embeddings, data, [], 0), names(300), [], 0) is None


def test_images_that_are_all_the_same_are_not_foreign():
    data = dataset(np.arange(40) % 4)
    judged = judge(np.ones((40, 16), np.float32), data, [(0, row) for row in range(1, 40)], 0)
    assert foreign_images(judged, names(40), [(0, row) for row in range(1, 40)], 0) is None
