"""Training on harder images: the last stage of ``--robust``, from the network as it would have been without it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.config import AugmentConfig, TrainSettings
from sightline.data.prepare import Prepare
from sightline.errors import ModelFileError, UsageError
from sightline.evaluation.corruptions import CORRUPTIONS
from sightline.model.backbone import BackboneSpec
from sightline.model.choose import Choice
from sightline.model.heads import classify
from sightline.report.training import training_blocks
from sightline.tasks import load_task
from sightline.tasks.blocks import Table
from sightline.training import augment, checkpoint, hardening, ways
from sightline.training.augment import HARDEST, harden
from sightline.training.batches import TrainBatches, harder_batches, plain_batches
from sightline.training.budget import NO_BUDGET, Budget
from sightline.training.logs import NoLog
from sightline.training.plan import make_plan
from sightline.training.session import Part, Session
from sightline.training.ways import train_network
from tiny import shapes_store, tiny_network

pytestmark = pytest.mark.usefixtures("one_thread", "saves_however_slow_the_disk")
CPU = torch.device("cpu")
TRAIN, VAL = Part(*shapes_store(12)), Part(*shapes_store(6, seed=1))
OFF = AugmentConfig(crop_scale=1.0, rotate=15.0, flip=False, colour=0.0)


def session_of(folder: Path, *, pretrained: bool = False, seed: int = 0, **settings) -> Session:
    chosen = TrainSettings.of(**{"batch_size": 12, "precision": "fp32", "epochs": 3, "robust": True, "trial": False, **settings})
    network = tiny_network(seed=seed)
    torch.manual_seed(3)
    plan = replace(make_plan(chosen.training, 36, pretrained=pretrained, augment=chosen.augment), flip=True)
    choice = Choice(BackboneSpec("test_resnet", 32), None, network.prepare, ())
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    return Session(network, load_task("classify"), classify, TRAIN, VAL, (18, 9), 3, choice, plan, chosen, CPU, folder, NoLog(), 0.0)


def trained(folder: Path, budget: Budget = NO_BUDGET, *, resume: bool = False, **settings):
    return train_network(session_of(folder, seed=1 if resume else 0, **settings), budget, resume=resume)


def same(ours, theirs) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def recorded(monkeypatch):
    """What images are put through, as (name, strength)."""
    seen: list[tuple[str, int]] = []

    def recording(corruption):
        def change(image, strength, rng):
            seen.append((corruption.name, strength))
            return corruption(image, strength, rng)

        return change

    monkeypatch.setattr(augment, "CORRUPTIONS", {name: recording(corruption) for name, corruption in CORRUPTIONS.items()})
    return seen


def test_images_get_every_condition_in_the_milder_strengths(recorded):
    image = np.full((24, 24, 3), 120, np.uint8)
    for seed in range(400):
        harden(np.random.default_rng(seed), image, turn=True)
    assert {name for name, _ in recorded} == set(CORRUPTIONS)
    assert {strength for _, strength in recorded} == set(range(1, HARDEST + 1))


def test_images_that_may_not_be_turned_are_not(recorded):
    for seed in range(200):
        harden(np.random.default_rng(seed), np.full((24, 24, 3), 120, np.uint8), turn=False)
    assert {name for name, _ in recorded} == set(CORRUPTIONS) - {"rotation"}


def views_of(robust: bool, epoch: int = 1, start: int = 0) -> list[torch.Tensor]:
    store, targets = shapes_store(20)
    batches = TrainBatches(store, targets, Prepare(32), replace(OFF, robust=robust), 12, 0, CPU, classes=3)
    return [images for images, _ in batches.epoch(epoch, start)]


def test_half_of_the_images_are_made_harder_and_the_others_are_what_they_were():
    plain, robust = torch.cat(views_of(False)), torch.cat(views_of(True))
    changed = (plain != robust).flatten(1).any(dim=1).float().mean()
    assert 0.3 < changed < 0.7


def test_an_epoch_of_harder_images_is_the_same_again_and_from_its_middle_and_another_is_not():
    whole = views_of(True)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole, views_of(True), strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole[2:], views_of(True, start=2), strict=True))
    assert not torch.equal(whole[0], views_of(True, epoch=2)[0])


def test_validation_images_are_all_made_harder_and_always_in_the_same_way():
    store, _ = shapes_store(10)
    plain = np.concatenate(list(plain_batches(store, Prepare(32), 7)))
    harder = np.concatenate(list(harder_batches(store, Prepare(32), 7, 0, turn=True)))
    assert harder.shape == plain.shape
    assert (plain != harder).reshape(len(plain), -1).any(axis=1).mean() > 0.9
    np.testing.assert_array_equal(harder, np.concatenate(list(harder_batches(store, Prepare(32), 4, 0, turn=True))))
    assert (harder != np.concatenate(list(harder_batches(store, Prepare(32), 7, 1, turn=True)))).any()


@pytest.fixture(scope="module", params=[False, True], ids=["from scratch", "pretrained"])
def both(request, tmp_path_factory):
    """A training with harder images and one without, of the same settings, and the folder of that one."""
    torch.set_num_threads(1)
    # In so few epochs from scratch a network hardly learns anything, so that only the last epoch can be counted on.
    settings = {"pretrained": True, "layers": "all", "epochs": 4} if request.param else {"keep": "last"}
    plain, robust = (tmp_path_factory.mktemp(name) for name in ("plain", "robust"))
    return settings, trained(plain, robust=False, **settings), trained(robust, **settings), plain


def test_the_network_before_is_the_one_without_harder_images(both):
    _, plain, robust, _ = both
    assert plain.before is None
    assert robust.before is not None
    assert same(robust.before, plain.network.state_dict())
    assert not same(robust.before, robust.network.state_dict())


def test_the_stage_is_told_with_what_it_brought(both):
    _, plain, robust, _ = both
    told = robust.stages[-1]
    assert robust.stages[:-1] == () or len(robust.stages) == len(plain.stages) + 1
    assert (told["layers"], told["epochs"]) == ("harder", 2)
    assert robust.rows[-1]["stage"] == "harder"
    assert told["sentence"] in robust.notes
    assert told["sentence"].startswith("Learning from harder images brought loss from ")
    epochs = [row["epoch"] for row in robust.rows]
    assert epochs == list(range(len(plain.rows) + 2))
    assert {row["stage"] for row in robust.rows[len(plain.rows) :]} == {"harder"}
    assert robust.best_epoch > plain.rows[-1]["epoch"]


def test_the_report_names_the_stage(both):
    _, _, robust, _ = both
    numbers = {"training": {"epochs": robust.rows, "best_epoch": robust.best_epoch, "stopped": robust.stopped, "plan": [],
                            "stages": list(robust.stages), "seconds": {}, "learning_curve": None},
               "network": {"backbone": "x", "parameters": 1, "size": 32, "weights": "random", "weights_licence": None,
                           "reasons": []}}  # fmt: skip
    tables = {block.title: block for block in training_blocks(numbers) if isinstance(block, Table)}
    assert tables["What each stage brought"].rows[-1][0] == "all layers, from harder images"
    assert tables["Every epoch"].rows[-1][1] == "all, harder images"


def stopped(monkeypatch, saves: int, folder: Path, **settings) -> bool:
    """A run that is taken up again, and stopped when so many more checkpoints were written; False when it came to its end before."""
    real, count = checkpoint.save, iter(range(1, 1000))

    def saving(*arguments):
        real(*arguments)
        if next(count) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save", saving)
        try:
            trained(folder, resume=True, **settings)
        except KeyboardInterrupt:
            return True
    return False


def test_a_run_stopped_after_any_checkpoint_ends_with_the_same_weights(both, tmp_path, monkeypatch):
    """From the end of what comes before the stage on; stops before that are tested where they happen."""
    settings, _, expected, before = both
    saves, folder = 1, tmp_path / "1"
    while stopped(monkeypatch, saves, shutil.copytree(before, folder), **settings):
        resumed = trained(folder, resume=True, **settings)
        assert same(resumed.network.state_dict(), expected.network.state_dict()), saves
        assert same(resumed.before, expected.before)
        assert resumed.best_epoch == expected.best_epoch
        assert [row["val_loss"] for row in resumed.rows] == [row["val_loss"] for row in expected.rows]
        assert resumed.stopped == expected.stopped
        saves += 1
        folder = tmp_path / str(saves)
    assert saves == 5  # the stage's start, and a checkpoint before its two epochs and after each


def test_a_run_stopped_at_every_checkpoint_ends_with_the_same_weights(both, tmp_path, monkeypatch):
    settings, _, expected, before = both
    folder, stops = shutil.copytree(before, tmp_path / "stopped"), 0
    while stopped(monkeypatch, 2 if stops == 0 else 1, folder, **settings):
        stops += 1
    assert stops == 3
    assert same(trained(folder, resume=True, **settings).network.state_dict(), expected.network.state_dict())


def test_a_stage_that_brings_nothing_leaves_the_network_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(hardening, "RATE_SHARE", 500.0)  # steps so large that the network is spoilt
    plain = trained(tmp_path / "plain", robust=False)
    robust = trained(tmp_path / "robust")
    assert same(robust.network.state_dict(), plain.network.state_dict())
    assert robust.before is None
    assert robust.best_epoch == plain.best_epoch
    assert "brought nothing on validation, so the network stays as it was" in robust.stages[-1]["sentence"]


def test_a_start_that_is_lost_is_named(tmp_path):
    trained(tmp_path)
    (tmp_path / "checkpoint" / hardening.STARTED).unlink()
    with pytest.raises(ModelFileError, match=hardening.STARTED):
        trained(tmp_path, resume=True)


def test_a_budget_keeps_some_of_its_time_for_the_stage(tmp_path, monkeypatch):
    now, real = [1000.0], classify.Objective.step

    def step(objective, network, images, targets):
        now[0] += 1.0
        return real(objective, network, images, targets)

    for module in (ways, hardening):
        monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(module, "trial_seconds", lambda budget, trial: 0.0)
    monkeypatch.setattr(classify.Objective, "step", step)
    monkeypatch.setattr(ways, "step_seconds", lambda *arguments: 1.0)
    monkeypatch.setattr(ways, "_forward_seconds", lambda session: 0.0)
    monkeypatch.setattr(ways, "shipping_seconds", lambda session, forward: 10.0)
    found = trained(tmp_path, Budget(63, started=1000.0), epochs=50, patience=1000, start_size=32)
    harder = [row for row in found.rows if row["stage"] == "harder"]
    # Of 63 s the first 44.1 less 13 for shipping suffice for 10 epochs of three steps; then 20 s are left, for 6 more.
    assert found.rows[-len(harder) - 1]["epoch"] == 10
    assert len(harder) == 6
    assert now[0] == 1048


def test_no_time_left_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(ways, "_epoch_seconds", lambda session, plan, precision, forward: lambda side: 1e6)
    found = trained(tmp_path, Budget(100.0, started=ways.time.monotonic()))
    assert found.before is None
    assert "There was no time to learn from harder images." in found.notes


@pytest.mark.parametrize("layers", ["head", "upper"])
def test_layers_that_may_not_learn_are_a_contradiction(layers):
    settings = TrainSettings.of(robust=True, layers=layers)
    with pytest.raises(UsageError, match=f"--robust.*--layers {layers}"):
        make_plan(settings.training, 40, pretrained=True, augment=settings.augment)


def test_the_plan_says_that_images_will_be_made_harder():
    settings = TrainSettings.of(robust=True)
    reasons = make_plan(settings.training, 40, pretrained=True, augment=settings.augment).reasons
    assert any("half are made harder" in reason for reason in reasons)
