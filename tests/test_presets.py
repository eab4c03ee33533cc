"""The preset speed fills in what was not given, says so, and is refused where it makes no sense."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import sightline
from sightline.bundle import Bundle
from sightline.config import AugmentConfig, TrainConfig, TrainSettings
from sightline.data.readers import read_dataset
from sightline.errors import UsageError
from sightline.model.network import torch_infer
from sightline.model.rebuild import network_of
from sightline.runtime import Model
from sightline.training import presets
from sightline.training.optimizer import schedule
from sightline.training.plan import check_scenes, make_plan
from sightline.training.presets import FILLED, LEAST_IMAGES, MOST_BATCH, network_for, settled, training_for, with_preset

pytestmark = pytest.mark.usefixtures("one_thread")


class Labelled:
    """What the preset looks at of a data set."""

    def __init__(self, *labels: str, n: int = LEAST_IMAGES, task: str = "classify") -> None:
        self.labels, self.n, self.task, self.splits = labels, n, task, None

    def __len__(self) -> int:
        return self.n


def settings_of(**given) -> TrainSettings:
    return with_preset(TrainSettings.of(**given), given)


def test_without_a_preset_nothing_changes(capsys):
    assert settings_of(epochs=3) == TrainSettings.of(epochs=3)
    assert settings_of(preset="default") == TrainSettings.of(preset="default")
    assert not capsys.readouterr().err


def test_what_was_not_given_is_filled_in_and_said_in_a_sentence(capsys):
    chosen = settings_of(preset="speed", lr=0.5, rotate=15.0, alternate=False)
    said = capsys.readouterr().err
    for name in ("optimizer", "backbone", "label_smoothing", "keep", "shift"):
        stage = next(stage for stage in chosen.to_json().values() if name in stage)
        assert stage[name] == FILLED[name]
        assert f"--{name.replace('_', '-')} {FILLED[name]}" in said
    assert (chosen.training.lr, chosen.augment.rotate, chosen.augment.alternate) == (0.5, 15.0, False)
    assert "--rotate" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("weights", ["hub", "auto", "some.safetensors"])
def test_pretrained_weights_are_refused(weights):
    with pytest.raises(UsageError, match=f"--preset speed: .*--weights {weights}"):
        settings_of(preset="speed", weights=weights)
    assert settings_of(preset="speed", weights="none").network.weights == "none"


def network_settings(*labels: str, median: tuple[int, int] = (32, 32), **given):
    chosen = settings_of(preset="speed", **given)
    return network_for(chosen, Labelled(*labels), median, chosen.network)


@pytest.mark.parametrize(
    ("labels", "given", "views"),
    [
        (("cat", "dog"), {}, "mirror"),
        (("left", "right"), {}, "one"),
        (("left", "right"), {"flip": True}, "mirror"),
        (("cat", "dog"), {"flip": False}, "one"),
        (("cat", "dog"), {"views": "shifts"}, "shifts"),
    ],
)
def test_a_mirror_image_only_counts_where_it_shows_the_same(labels, given, views):
    assert network_settings(*labels, **given).views == views


def test_large_images_and_things_on_images_are_refused():
    with pytest.raises(UsageError, match="--preset speed: is made for images of up to 96 px, and these have 200 px"):
        network_settings("a", "b", median=(300, 200))
    assert network_settings("a", "b", median=(300, 200), size=64).size == 64
    chosen = settings_of(preset="speed")
    with pytest.raises(UsageError, match="--preset speed: learns what whole images show"):
        check_scenes(chosen.training, chosen.augment, "boxes")


@pytest.fixture
def no_weights_here(monkeypatch):
    monkeypatch.setattr("sightline.model.choose.hub_weights", lambda name, *, download: None)


def chosen_for(**given) -> TrainSettings:
    return settled(settings_of(**given), Labelled("cat", "dog"), (40, 32))


@pytest.mark.usefixtures("no_weights_here")
def test_many_small_images_from_scratch_are_learned_with_speed_which_is_said(capsys):
    chosen = chosen_for(epochs=3, seed=4)
    assert chosen == settings_of(preset="speed", epochs=3, seed=4)
    said = capsys.readouterr().err.splitlines()[0]
    assert said.startswith(f"{LEAST_IMAGES:,} images of 32 px, learned from random weights: --preset speed suits them and sets --backbone ")
    assert said.endswith("--preset default leaves these as they are.")


@pytest.mark.usefixtures("no_weights_here")
@pytest.mark.parametrize(
    ("dataset", "median", "given"),
    [
        (Labelled("a", "b", n=LEAST_IMAGES - 1), (32, 32), {}),
        (Labelled("a", "b", task="tag"), (32, 32), {}),
        (Labelled("a", "b"), (100, 65), {}),
        (Labelled("a", "b"), (32, 32), {"size": 96}),
        (Labelled("a", "b"), (32, 32), {"robust": True}),
        (Labelled("a", "b"), (32, 32), {"backbone": "resnet18"}),
        (Labelled("a", "b"), (32, 32), {"optimizer": "adamw"}),
        (Labelled("a", "b"), (32, 32), {"weights": "hub"}),
        (Labelled("a", "b"), (32, 32), {"preset": "default"}),
        (Labelled("a", "b", n=10 * LEAST_IMAGES), (32, 32), {"limit": LEAST_IMAGES - 1}),
        (Labelled("a", "b", n=10 * LEAST_IMAGES), (32, 32), {"where": "width >= 32"}),
    ],
)
def test_other_images_and_other_settings_are_learned_as_usual(dataset, median, given, capsys):
    before = settings_of(**given)
    assert settled(before, dataset, median) == before
    assert before.training.optimizer == "adamw"
    assert not capsys.readouterr().err


def test_pretrained_weights_on_this_machine_are_not_left_aside(monkeypatch):
    monkeypatch.setattr(presets, "is_from_scratch", lambda network: False)
    assert chosen_for() == TrainSettings.of()


@pytest.mark.usefixtures("no_weights_here")
def test_of_what_came_split_the_training_images_count(shapes):
    dataset = read_dataset(shapes)[0]
    rows = np.arange(len(dataset)) % 2
    halved = dataset.replace(splits=np.array(["train", "test"])[rows])
    for limit, preset in ((len(dataset) // 2, "speed"), (len(dataset) // 2 + 1, "auto")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(presets, "LEAST_IMAGES", limit)
            assert settled(TrainSettings(), halved, (32, 32)).training.preset == preset


@pytest.mark.usefixtures("no_weights_here")
def test_of_the_images_that_a_limit_leaves_those_of_training_count(shapes, monkeypatch, capsys):
    dataset = read_dataset(shapes)[0]
    n = len(dataset) // 2
    halved = dataset.replace(splits=np.array(["train", "test"])[np.arange(len(dataset)) % 2])
    monkeypatch.setattr(presets, "LEAST_IMAGES", n // 2)
    for limit, preset in ((n, "speed"), (n - 2, "auto"), (10**9, "speed")):
        assert settled(TrainSettings.of(limit=limit), halved, (32, 32)).training.preset == preset
    said = capsys.readouterr().err
    assert f"{n // 2} images of 32 px" in said
    assert f"{n} images of 32 px" in said


def test_batches_and_epochs_follow_the_number_of_images():
    speed = TrainConfig(preset="speed")
    few, some, many = (training_for(speed, n) for n in (100, 4250, 10**6))
    assert few.batch_size < some.batch_size < many.batch_size == MOST_BATCH
    assert few.epochs > some.epochs * 0.99 > many.epochs
    assert training_for(TrainConfig(preset="speed", budget="10m"), 4250).epochs is None  # the budget says when to stop
    asked = TrainConfig(preset="speed", batch_size=7, epochs=3)
    assert training_for(asked, 4250) == asked
    muon = TrainConfig(preset="speed", optimizer="muon", epochs=3)
    rates = [training_for(replace(muon, batch_size=batch), 4250).lr for batch in (128, 512)]
    assert rates[1] == 2 * rates[0]  # as the square root of the batch
    assert training_for(replace(muon, lr=0.5), 4250).lr == 0.5
    assert training_for(TrainConfig(), 4250) == TrainConfig()


def test_the_rate_may_fall_along_a_line():
    shares = [schedule(step, 10, 0.2, "linear") for step in range(10)]
    assert shares[:2] == [0.5, 1.0]
    np.testing.assert_allclose(np.diff(shares[2:]), -1 / 8)
    assert shares[2] == 1
    assert schedule(6, 10, 0.2) == pytest.approx(0.5)
    assert make_plan(TrainConfig(fall="linear"), 100, pretrained=False).fall == "linear"


def test_images_are_not_moved_by_more_than_they_are_wide_nor_where_boxes_lie_on_them():
    with pytest.raises(UsageError, match="--shift 32: images of 32 px"):
        make_plan(TrainConfig(), 100, pretrained=False, augment=AugmentConfig(shift=32), size=32)
    with pytest.raises(UsageError, match="--alternate and --shift: for images of which the whole"):
        check_scenes(TrainConfig(), AugmentConfig(shift=1, alternate=True), "boxes")


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("speed") / "run"
    return sightline.train(
        shapes, preset="speed", backbone="sightline/patchnet_small", epochs=4, batch_size=16, trial=False, precision="fp32", device="cpu",
        out=str(out),
    )  # fmt: skip


def test_it_is_a_training_like_any_other(trained):
    record = json.loads((trained.folder / "config.json").read_text())
    assert record["settings"]["training"]["preset"] == "speed"
    assert record["plan"]["optimizer"] == "muon"
    assert record["choice"]["spec"]["views"] == "mirror"
    losses = [row["train_loss"] for row in trained.numbers["training"]["epochs"] if row["train_loss"] is not None]
    assert losses[-1] < 0.8 * losses[0]
    assert sightline.verify(trained.model)["max_difference"] == 0


@pytest.mark.usefixtures("no_weights_here")
def test_what_is_chosen_is_recorded(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "LEAST_IMAGES", 10)
    monkeypatch.setattr(presets, "FILLED", {**FILLED, "backbone": "sightline/patchnet_small"})
    run = sightline.train(shapes, epochs=1, trial=False, device="cpu", out=str(tmp_path / "run"))
    record = json.loads((run.folder / "config.json").read_text())
    assert record["settings"]["training"]["preset"] == "speed"
    assert record["settings"]["network"]["weights"] == "none"
    assert record["plan"]["optimizer"] == "muon"


def test_the_bundle_answers_the_same_for_an_image_and_its_mirror_image(trained, shapes):
    model = Model.open(trained.model, engine="onnxruntime")
    batch = np.stack([np.asarray(Image.open(shapes / kind / "001.png")) for kind in ("cross", "disc", "square")])
    ours = model.infer(batch)["logits"]
    np.testing.assert_allclose(ours, model.infer(np.ascontiguousarray(batch[:, :, ::-1]))["logits"], atol=1e-4)
    with Bundle.open(trained.model) as bundle:
        again = torch_infer(network_of(bundle), torch.device("cpu"), ("logits",))(batch)
    np.testing.assert_allclose(ours, again["logits"], atol=1e-4)


def test_a_stopped_run_goes_on_bit_for_bit(shapes, tmp_path, trained, monkeypatch):
    settings = {"preset": "speed", "backbone": "sightline/patchnet_small", "epochs": 4, "batch_size": 16, "trial": False,
                "precision": "fp32", "device": "cpu", "out": str(tmp_path / "stopped")}  # fmt: skip
    from sightline.training import course

    finish = course.Course.finish_epoch

    def stops(self, row, *, last=False):
        finish(self, row, last=True)
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(course.Course, "finish_epoch", stops)
    with pytest.raises(sightline.SightlineError, match="--resume"):
        sightline.train(shapes, **settings)
    monkeypatch.undo()
    resumed = sightline.train(resume=tmp_path / "stopped")
    with Bundle.open(trained.model) as straight, Bundle.open(resumed.model) as theirs:
        assert straight.read("weights") == theirs.read("weights")
