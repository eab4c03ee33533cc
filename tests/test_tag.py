"""Tagging: decoding, thresholds, metrics, the verdict's words, what the report shows, and its head."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, log_loss
from torch.nn import functional as F

from conftest import render_shape
from sightline.config import AugmentConfig, TrainConfig
from sightline.evaluation.multilabel import sigmoid
from sightline.model.heads import classify as classify_head
from sightline.model.heads.linear import PROBE_STRENGTHS
from sightline.model.heads.tag import Objective, fit_probe, make_head
from sightline.model.network import Network, torch_infer
from sightline.predictions import Decision, Tags
from sightline.tasks import TASKS, load_task
from sightline.tasks.blocks import Bars, Gallery, Table, Tiles
from sightline.tasks.tag import FEW_IMAGES, WORST_ERRORS, blocks, decide, decode, difference, evaluate, outcomes, verdict
from sightline.training.batches import TrainBatches, plain_batches
from sightline.training.loop import fit
from sightline.training.plan import make_plan
from tiny import store_of, tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")
WEATHER = ("fog", "rain", "sun")


def raw_of(probabilities) -> dict[str, np.ndarray]:
    """Raw outputs that state these probabilities."""
    stated = np.asarray(probabilities, np.float64)
    return {"logits": np.log(stated / (1 - stated))}


def judged(targets, probabilities, labels=WEATHER, thresholds=None) -> dict:
    targets = np.asarray(targets, bool)
    keys = [f"{place}.png" for place in range(len(targets))]
    return evaluate(raw_of(probabilities), targets, labels, Decision(thresholds=thresholds or {}), keys)


def noisy(n: int, seed: int = 0, noise: float = 0.5, share: float = 0.3, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Targets (n, k), and probabilities that follow them the less the noisier."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n, labels)) < share
    return targets, sigmoid(2.0 * targets - 1 + rng.normal(0, noise, targets.shape))


# Answers


def test_decoding_gives_the_labels_from_their_thresholds_on_and_all_scores():
    decision = Decision(thresholds={"fog": 0.2, "rain": 0.9, "sun": 0.5})
    first, second = decode(raw_of([[0.3, 0.8, 0.6], [0.1, 0.2, 0.3]]), WEATHER, decision)
    assert first.labels == ("sun", "fog")
    assert list(first.scores) == ["rain", "sun", "fog"]
    assert list(first.scores.values()) == pytest.approx([0.8, 0.6, 0.3])
    assert first.to_json() == [{"label": "sun", "score": first.scores["sun"]}, {"label": "fog", "score": first.scores["fog"]}]
    assert first.to_json(top=1) == [{"label": "sun", "score": first.scores["sun"]}]
    assert (second.labels, second.to_json()) == ((), [])


def test_a_score_at_the_threshold_is_enough_and_a_label_without_one_needs_a_half():
    (found,) = decode({"logits": np.array([[0.0, -0.01, 2.0]])}, WEATHER, Decision(thresholds={"sun": float(sigmoid(np.array([2.0]))[0])}))
    assert found.labels == ("sun", "fog")


def test_decoding_no_images_gives_no_predictions():
    assert decode({"logits": np.empty((0, 3), np.float32)}, WEATHER, Decision()) == []


@given(st.integers(1, 15), st.integers(1, 6), st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_a_prediction_holds_every_label_once_and_gives_those_at_their_threshold(n, k, seed, temperature):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (n, k)).astype(np.float32), [str(index) for index in range(k)]
    thresholds = dict(zip(labels, rng.random(k).tolist(), strict=True))
    for prediction in decode({"logits": logits}, labels, Decision(temperature, thresholds)):
        assert sorted(prediction.scores) == sorted(labels)
        assert list(prediction.scores.values()) == sorted(prediction.scores.values(), reverse=True)
        assert set(prediction.labels) == {label for label, score in prediction.scores.items() if score >= thresholds[label]}
        assert [label for label in prediction.scores if label in prediction.labels] == list(prediction.labels)
        assert json.loads(json.dumps(prediction.to_json())) == prediction.to_json()


def test_the_thresholds_are_the_best_on_validation():
    targets, probabilities = noisy(60)
    targets[:, 1] = False
    found = decide(raw_of(probabilities), targets, WEATHER)
    assert found.thresholds["rain"] == 0.5
    scores = sigmoid(raw_of(probabilities)["logits"], found.temperature)
    for column, label in ((0, "fog"), (2, "sun")):
        reached = f1_score(targets[:, column], scores[:, column] >= found.thresholds[label])
        assert reached >= max(f1_score(targets[:, column], scores[:, column] >= other) for other in np.linspace(0, 0.99, 100))


def test_difference_is_the_largest_of_a_probability():
    ours, theirs = raw_of([[0.5, 0.9, 0.1]]), raw_of([[0.5, 0.7, 0.1]])
    assert difference(ours, theirs, Decision()) == pytest.approx(0.2)
    assert difference(ours, ours, Decision(2.0)) == 0
    assert np.isnan(difference(ours, {"logits": np.full((1, 3), np.nan)}, Decision()))


# Figures


def test_evaluation_of_a_hand_worked_case():
    targets = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]
    test = judged(targets, [[0.9, 0.6, 0.1], [0.3, 0.8, 0.2], [0.6, 0.1, 0.7], [0.2, 0.7, 0.3]])
    fog, rain, sun = test["labels"]
    assert (fog["n"], fog["share"], fog["given"], fog["threshold"]) == (2, 0.5, 2, 0.5)
    assert fog["ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert (fog["precision"], fog["recall"], fog["f1"]) == (0.5, 0.5, 0.5)
    assert (rain["ap"], rain["recall"]) == (1, 1)
    assert rain["precision"] == pytest.approx(2 / 3)
    assert [sun[name] for name in ("n", "share", "given", "ap", "chance", "precision", "recall", "f1", "ap_interval")] == [
        0, 0.0, 1, None, None, None, None, None, None,
    ]  # fmt: skip
    metrics = test["metrics"]
    assert metrics["map"] == pytest.approx((5 / 6 + 1) / 2)
    assert metrics["precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (metrics["recall"], metrics["f1"]) == (pytest.approx(0.75), pytest.approx((0.5 + 0.8) / 2))
    assert metrics["f1_micro"] == pytest.approx(2 * 3 / (6 + 4))
    assert (metrics["subset_accuracy"], metrics["hamming_loss"]) == (0.25, pytest.approx(4 / 12))
    assert test["prevalence"] == 0.5
    assert test["given"] == {"n": 6, "right": 3, "true": 4}


def test_the_errors_are_the_surest_of_each_kind():
    test = judged([[1, 0, 0], [1, 1, 0], [0, 0, 0]], [[0.4, 0.6, 0.1], [0.1, 0.8, 0.2], [0.7, 0.1, 0.9]])
    assert [(error["key"], error["kind"], error["label"]) for error in test["errors"]] == [
        ("2.png", "given", "sun"), ("2.png", "given", "fog"), ("0.png", "given", "rain"),
        ("1.png", "missed", "fog"), ("0.png", "missed", "fog"),
    ]  # fmt: skip
    assert [error["score"] for error in test["errors"]] == pytest.approx([0.9, 0.7, 0.6, 0.1, 0.4])
    assert test["errors"][0]["truth"] == []
    assert test["errors"][3]["truth"] == ["fog", "rain"]


def test_the_interval_is_seeded_holds_the_figure_and_narrows_with_more_images():
    few, many = judged(*noisy(60)), judged(*noisy(600))
    for test in (few, many):
        low, high = test["intervals"]["map"]
        assert low < test["metrics"]["map"] < high
    assert judged(*noisy(60)) == few
    width, narrower = (np.ptp(test["intervals"]["map"]) for test in (few, many))
    assert narrower < width / 2


@pytest.mark.parametrize("targets", [[[1, 0, 1], [0, 1, 0], [0, 0, 0]], [[0, 0, 0]], [[1, 1, 1]], [[0, 0, 0], [0, 0, 0]]])
def test_everything_said_is_plain_json_whatever_labels_are_there(targets):
    stated = np.linspace(0.05, 0.95, np.size(targets)).reshape(-1, 3)
    test = judged(targets, stated)
    assert json.loads(json.dumps(test, allow_nan=False)) == test
    assert set(verdict(test)) == {"level", "sentence"}
    assert len(blocks(test)) == 5
    rows = outcomes(raw_of(stated), np.asarray(targets, bool), WEATHER, Decision())
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_outcomes_name_the_labels_and_how_far_they_agree():
    stated = [[0.9, 0.8, 0.1], [0.2, 0.1, 0.3], [0.6, 0.1, 0.1]]
    first, second, third = outcomes(raw_of(stated), np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]], bool), WEATHER, Decision())
    assert (first["truth"], first["predicted"], first["right"]) == ("fog", "fog|rain", 0.5)
    assert first["score"] == pytest.approx(1.7 / 2.1)
    assert (second["truth"], second["predicted"], second["right"]) == ("", "", 1.0)
    assert second["score"] == pytest.approx(0.8 * 0.9 * 0.7)
    assert (third["truth"], third["predicted"], third["right"]) == ("sun", "fog", 0.0)


# Words and pictures


def test_the_verdict_of_a_good_model_says_what_it_gives_and_names_its_weakest_label():
    test = judged(*noisy(400, noise=0.6))
    found = verdict(test)
    assert found["level"] == "good"
    low, high = test["intervals"]["map"]
    weakest, counts = min(test["labels"], key=lambda entry: entry["ap"]), test["given"]
    assert found["sentence"] == (
        f"Of the labels the model gives to 400 test images it never saw {counts['right'] / counts['n']:.0%} are right, and it finds "
        f"{counts['right'] / counts['true']:.0%} of those there. Its mean average precision is {test['metrics']['map']:.1%} (95% interval "
        f"{low:.1%} to {high:.1%}); guessing would reach {test['chance']:.1%}, a perfect model 100%. "
        f"Its weakest label is {weakest['label']!r} ({weakest['ap']:.1%}, by chance {weakest['chance']:.1%})."
    )


def test_the_level_follows_the_way_from_guessing_to_perfect():
    rare, frequent = judged(*noisy(400, noise=0.9, share=0.1)), judged(*noisy(400, noise=4, share=0.75))
    assert rare["metrics"]["map"] < frequent["metrics"]["map"]
    assert (verdict(rare)["level"], verdict(frequent)["level"]) == ("fair", "poor")


def test_a_model_that_gives_no_label_is_said_to():
    targets, probabilities = noisy(60)
    found = verdict(judged(targets, probabilities / 3))
    assert found["sentence"].startswith("The model gives no label to any of 60 test images it never saw. Its mean average precision is 9")


def test_a_model_that_guesses_is_said_to():
    targets, _ = noisy(300)
    found = verdict(judged(targets, np.random.default_rng(5).uniform(0.1, 0.9, targets.shape)))
    assert found["level"] == "poor"
    assert found["sentence"].endswith("That is not clearly better than guessing: do not use it yet.")


def test_rare_labels_that_are_guessed_are_not_called_better_than_guessing():
    """The first image in each label's order is a hit by luck now and then, and resampling repeats it."""
    labels = tuple(map(str, range(40)))
    levels = []
    for seed in range(10):
        targets, _ = noisy(200, seed=seed, share=0.05, labels=40)
        stated = np.random.default_rng(seed + 100).uniform(0.01, 0.2, targets.shape)
        levels.append("not clearly better than guessing" in verdict(judged(targets, stated, labels))["sentence"])
    assert sum(levels) >= 9


def test_few_images_are_said_to_be_few_and_cannot_look_good():
    targets, _ = noisy(20)
    found = verdict(judged(targets, np.where(targets, 0.9, 0.1)))
    assert found["level"] == "fair"
    assert found["sentence"].endswith("With only 20 test images this is a rough figure.")
    assert "weakest" not in found["sentence"]
    targets, _ = noisy(FEW_IMAGES)
    assert verdict(judged(targets, np.where(targets, 0.9, 0.1)))["level"] == "good"


def test_without_a_single_label_nothing_is_said_to_be_known():
    test = judged(np.zeros((4, 3)), np.full((4, 3), 0.2))
    assert set(test["metrics"]) == {"f1_micro", "subset_accuracy", "hamming_loss", "ece"}
    assert (test["intervals"], test["chance"], test["prevalence"]) == ({}, None, None)
    assert verdict(test) == {"level": "poor", "sentence": "None of the 4 test images has a label, so nothing can be said of the model."}


def test_the_report_shows_every_kind_of_block():
    targets, probabilities = noisy(300, noise=1.2)
    targets[:, 2] = False
    test = judged(targets, probabilities, thresholds={"fog": 0.4})
    tiles, bars, table, given_, missed = blocks(test)
    assert isinstance(tiles, Tiles)
    assert (tiles.tiles[0].value, tiles.tiles[1].value) == (f"{test['metrics']['map']:.1%}", f"{test['chance']:.1%}")
    assert isinstance(bars, Bars)
    assert [bar.label for bar in bars.bars] == ["fog", "rain"]
    assert bars.bars[0].note == f"by chance {test['labels'][0]['chance']:.0%}"
    assert bars.bars[0].low < bars.bars[0].value < bars.bars[0].high
    assert isinstance(table, Table)
    assert table.rows[0][:4] == ["fog", str(targets[:, 0].sum()), f"{targets[:, 0].mean():.1%}", "0.400"]
    assert table.rows[2][5:] == ["–", "–", "–", "–"]
    assert isinstance(given_, Gallery)
    assert isinstance(missed, Gallery)
    assert len(given_.pictures) == WORST_ERRORS
    surest = test["errors"][0]
    assert (given_.pictures[0].key, given_.pictures[0].caption) == (surest["key"], f"{surest['label']} given, at {surest['score']:.0%}")


def test_the_table_of_tasks_leads_here():
    assert load_task("tag").OUTPUTS == ("logits",)
    assert TASKS["tag"].head == "sightline.model.heads.tag"
    assert Tags(("a",), {"a": 0.5}) == Tags(("a",), {"a": 0.5})


# The head


def leaning(n: int, seed: int, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, 6) and targets that lean on them."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(0, 1, (n, 6)).astype(np.float32)
    directions = np.random.default_rng(99).normal(0, 1, (6, labels))
    return embeddings, embeddings @ directions + rng.normal(0, 2, (n, labels)) > 0.5


def test_the_fitted_head_is_scikit_learns_regression_of_each_label_at_the_best_strength():
    train, train_targets = leaning(120, 0)
    val, val_targets = leaning(80, 1)
    probe = fit_probe(train, train_targets, val, val_targets, 3)
    reached = {}
    for strength in PROBE_STRENGTHS:
        fitted = [LogisticRegression(C=strength, max_iter=2000).fit(train, column) for column in train_targets.T]
        decisions = np.column_stack([regression.decision_function(val) for regression in fitted])
        reached[strength] = average_precision_score(val_targets, decisions, average="macro")
        if strength == probe.strength:
            head = make_head(6, 3, 0.5).eval()
            head.set_linear(probe.weight, probe.bias)
            np.testing.assert_allclose(
                head(torch.from_numpy(val))["logits"].detach().numpy(), decisions, atol=0.01
            )  # the solver's tolerance
    assert probe.reached == pytest.approx(max(reached.values()), abs=2e-3)
    assert reached[probe.strength] == pytest.approx(max(reached.values()), abs=2e-3)


def test_labels_that_training_cannot_tell_apart_get_their_log_odds():
    train, targets = leaning(50, 0)
    targets[:, 0], targets[:, 1] = False, True
    probe = fit_probe(train, targets, train, targets, 3)
    assert not probe.weight[:2].any()
    assert probe.weight[2].any()
    assert probe.bias[:2].tolist() == pytest.approx([np.log(0.5 / 50.5), np.log(50.5 / 0.5)])


def test_the_objective_is_smoothed_binary_cross_entropy_with_a_gradient_everywhere():
    network = tiny_network(dropout=0.0).eval()
    images = torch.rand(4, 32, 32, 3) * 255
    targets = torch.tensor([[True, False, False], [True, True, False], [False, False, False], [False, True, False]])
    loss, logs = Objective(0.2).step(network, images, targets)
    stated = sigmoid(network(images)["logits"].detach().numpy())
    smoothed = 0.8 * targets.numpy() + 0.2 * np.array([0.5, 0.5, 0.0])
    expected = -(smoothed * np.log(stated) + (1 - smoothed) * np.log(1 - stated)).mean()
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert logs == {}
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_class_weights_make_positives_count_more_and_targets_may_be_shares():
    network = tiny_network(dropout=0.0).eval()
    images, targets = torch.rand(2, 32, 32, 3) * 255, torch.tensor([[1.0, 0.0, 0.25], [0.0, 0.5, 1.0]])
    weights = torch.tensor([3.0, 1.0, 0.5])
    loss, _ = Objective(0.0, weights).step(network, images, targets)
    stated, truth = sigmoid(network(images)["logits"].detach().numpy()), targets.numpy()
    expected = -(weights.numpy() * truth * np.log(stated) + (1 - truth) * np.log(1 - stated)).mean()
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_classification_takes_weights_and_shares_too():
    network = tiny_network(dropout=0.0).eval()
    images, hard, weights = torch.rand(3, 32, 32, 3) * 255, torch.tensor([0, 2, 2]), torch.tensor([2.0, 1.0, 0.5])
    logits = network(images)["logits"].detach()
    weighted, _ = classify_head.Objective(0.0, weights).step(network, images, hard)
    each = F.cross_entropy(logits, hard, reduction="none")
    assert float(weighted.detach()) == pytest.approx(float((each * weights[hard]).sum() / weights[hard].sum()), rel=1e-5)
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5]])
    mixed, logs = classify_head.Objective(0.0).step(network, images, shares)
    assert float(mixed.detach()) == pytest.approx(float(-(shares * F.log_softmax(logits, dim=1)).sum(dim=1).mean()), rel=1e-5)
    assert float(logs["accuracy"]) == pytest.approx(float((logits.argmax(1) == shares.argmax(1)).float().mean()))


def test_validation_figures_are_plain_numbers_without_smoothing():
    targets, probabilities = noisy(40)
    raw = {"logits": raw_of(probabilities)["logits"].astype(np.float32)}
    figures = Objective(0.3).validate(raw, targets)
    assert figures["loss"] == pytest.approx(np.mean([log_loss(targets[:, k], probabilities[:, k]) for k in range(3)]), rel=1e-5)
    assert figures["map"] == pytest.approx(average_precision_score(targets, probabilities, average="macro"))
    assert {type(value) for value in figures.values()} == {float}
    assert set(Objective.validate(raw, np.zeros_like(targets))) == {"loss"}


def test_a_small_network_learns_to_tag_rendered_shapes(tmp_path):
    """Discs and squares, one beside the other: each, both or none on a picture."""

    def pictures(n: int, seed: int):
        targets = np.random.default_rng(seed).random((n, 2)) < 0.5
        halves = {True: lambda kind, number: np.asarray(render_shape(kind, seed * 1000 + number)),
                  False: lambda kind, number: np.random.default_rng([seed, number]).integers(0, 110, (32, 32, 3), np.uint8)}  # fmt: skip
        images = [np.hstack([halves[bool(has)](kind, row) for has, kind in zip(both, ("disc", "square"), strict=True)])[:, ::2]
                  for row, both in enumerate(targets)]  # fmt: skip
        return store_of(images), targets

    (store, targets), (val_store, val_targets) = pictures(60, 1), pictures(40, 2)
    network = tiny_network(classes=2)

    def validate(candidate: Network) -> dict[str, float]:
        infer = torch_infer(candidate, torch.device("cpu"), ("logits",))
        outputs = [infer(batch)["logits"] for batch in plain_batches(val_store, candidate.prepare, 32)]
        return Objective.validate({"logits": np.concatenate(outputs)}, val_targets)

    plan = make_plan(TrainConfig(epochs=6, batch_size=12, ema=0.8, lr=5e-3), 60, pretrained=False)
    augment = AugmentConfig(flip=False, rotate=0, crop_scale=1)
    batches = TrainBatches(store, targets, network.prepare, augment, plan.batch_size, 0, torch.device("cpu"), classes=2)
    trained = fit(network, Objective(0.1), batches, validate, plan, tmp_path, resume=False)
    assert trained.rows[trained.best_epoch]["val_map"] > 0.8
    assert trained.rows[trained.best_epoch]["val_loss"] < trained.rows[0]["val_loss"]
