"""Classification's head: its layer, its fit on embeddings against scikit-learn's own, its loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch.nn import functional as F

from sightline.evaluation.metrics import softmax
from sightline.model.heads.classify import PROBE_STRENGTHS, Objective, fit_probe, make_head
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")


def clusters(classes: int, n: int, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around one centre a class, and their targets."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1, (classes, 6))
    targets = np.arange(n) % classes
    return (centres[targets] + rng.normal(0, spread, (n, 6))).astype(np.float32), targets


def head_logits(probe, embeddings: np.ndarray, classes: int) -> np.ndarray:
    head = make_head(embeddings.shape[1], classes, 0.5).eval()
    head.set_linear(probe.weight, probe.bias)
    with torch.inference_mode():
        return head(torch.from_numpy(embeddings))["logits"].numpy()


def both_signs(rows: np.ndarray) -> np.ndarray:
    """scikit-learn's one row for two classes as our two; more than two as they are."""
    rows = np.atleast_2d(rows)
    return np.concatenate([-rows, rows]) / 2 if len(rows) == 1 else rows


def penalised(weight: np.ndarray, logits: np.ndarray, probe, targets: np.ndarray) -> float:
    """What logistic regression minimises; two rows of opposite sign weigh half of what one does that is their difference."""
    share = 2.0 if len(weight) == 2 else 1.0
    losses = F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(targets), reduction="sum")
    return probe.strength * float(losses) + share * float((weight**2).sum()) / 2


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_fitted_head_is_scikit_learns_classifier(classes):
    train, train_targets = clusters(classes, 40 * classes)
    val, val_targets = clusters(classes, 20 * classes, seed=1)
    probe = fit_probe(train, train_targets, val, val_targets, classes)
    theirs = LogisticRegression(C=probe.strength, max_iter=2000).fit(train, train_targets)
    logits = head_logits(probe, val, classes)
    assert logits.shape == (len(val), classes)
    decision = theirs.decision_function(val)
    expected = np.stack([-decision, decision], axis=1) / 2 if classes == 2 else decision
    # A strength begins where the one before ended, so it stops elsewhere within the solver's tolerance, at as low a minimum.
    np.testing.assert_allclose(logits - logits[:, :1], expected - expected[:, :1], rtol=0.02, atol=0.1)
    np.testing.assert_allclose(softmax(logits), theirs.predict_proba(val), atol=0.01)
    assert penalised(probe.weight, head_logits(probe, train, classes), probe, train_targets) <= 1.0001 * penalised(
        both_signs(theirs.coef_), both_signs(theirs.decision_function(train).T).T, probe, train_targets
    )
    assert probe.reached == pytest.approx((logits.argmax(axis=1) == val_targets).mean())


def test_the_strength_is_the_best_on_validation_and_the_weakest_of_equals():
    train, train_targets = clusters(3, 60, spread=2.0)
    val, val_targets = clusters(3, 90, seed=1, spread=2.0)
    accuracies = [
        LogisticRegression(C=strength, max_iter=2000).fit(train, train_targets).score(val, val_targets) for strength in PROBE_STRENGTHS
    ]
    probe = fit_probe(train, train_targets, val, val_targets, 3)
    assert probe.strength == PROBE_STRENGTHS[int(np.argmax(accuracies))]
    assert probe.reached == max(accuracies)


def test_validation_may_lack_a_class():
    train, train_targets = clusters(3, 60)
    val, val_targets = clusters(3, 30, seed=1)
    kept = val_targets != 1
    probe = fit_probe(train, train_targets, val[kept], val_targets[kept], 3)
    assert probe.weight.shape == (3, 6)
    assert probe.reached > 0.5


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_class_without_training_images_cannot_be_fitted(absent):
    train, targets = clusters(3, 60)
    kept = targets != absent
    with pytest.raises(ValueError, match=f"no training image has the class {absent}"):
        fit_probe(train[kept], targets[kept], train, targets, 3)


def test_dropout_is_the_heads_and_only_in_training():
    torch.manual_seed(0)
    head, embedding = make_head(50, 4, 0.5), torch.rand(2, 50)
    assert not torch.equal(head(embedding)["logits"], head(embedding)["logits"])
    head.eval()
    assert torch.equal(head(embedding)["logits"], head(embedding)["logits"])


def test_the_objective_is_smoothed_cross_entropy_with_a_gradient_everywhere():
    network = tiny_network(dropout=0.0).eval()
    images, targets = torch.rand(6, 32, 32, 3) * 255, torch.tensor([0, 1, 2, 0, 1, 2])
    loss, logs = Objective(0.3).step(network, images, targets)
    logits = network(images)["logits"].detach()
    log_probabilities = F.log_softmax(logits, dim=1)
    expected = -(0.7 * log_probabilities[range(6), targets] + 0.3 * log_probabilities.mean(dim=1)).mean()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert float(logs["accuracy"]) == pytest.approx(float((logits.argmax(1) == targets).float().mean()))
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_validation_figures_are_plain_numbers_without_smoothing():
    logits = np.random.default_rng(0).normal(0, 2, (20, 3)).astype(np.float32)
    targets = np.arange(20) % 3
    figures = Objective(0.3).validate({"logits": logits}, targets)
    assert figures["loss"] == pytest.approx(log_loss(targets, softmax(logits)), rel=1e-5)
    assert figures["accuracy"] == pytest.approx((logits.argmax(axis=1) == targets).mean())
    assert {type(value) for value in figures.values()} == {float}
