"""Fine-tuning goes stage by stage, each from the one before, and on after a stop as if there had been none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sightline.config import TrainSettings
from sightline.errors import ModelFileError
from sightline.model import quick
from sightline.model.backbone import BackboneSpec
from sightline.model.choose import Choice
from sightline.model.heads import classify
from sightline.tasks import load_task
from sightline.training import checkpoint
from sightline.training.budget import Budget
from sightline.training.finetune import Start, fine_tune
from sightline.training.logs import NoLog
from sightline.training.plan import make_plan
from sightline.training.session import Part, Session
from tiny import shapes_store, tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def kept_by_torch():
    """By torch always: a busy machine may find another engine quicker in one run than in the next, and two runs are compared here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(quick, "WORTH_TRYING", math.inf)
        yield


CPU = torch.device("cpu")
TRAIN, VAL = Part(*shapes_store(14)), Part(*shapes_store(6, seed=1))
NO_BUDGET = Budget()


def session_of(folder: Path, *, seed: int = 0, network=None, **settings) -> Session:
    chosen = TrainSettings.of(**{"trial": False, "epochs": 2, "batch_size": 12, "precision": "fp32", **settings})
    network = network or tiny_network(seed=seed)
    torch.manual_seed(3)
    plan = replace(make_plan(chosen.training, 42, pretrained=True), flip=True)
    choice = Choice(BackboneSpec("test_resnet", 32), None, network.prepare, ())
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    return Session(network, load_task("classify"), classify, TRAIN, VAL, (18, 9), 3, choice, plan, chosen, CPU, folder, NoLog(), 0.0)


def weights(network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(ours, theirs) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    torch.set_num_threads(1)
    session = session_of(folder)
    return session, fine_tune(session, NO_BUDGET, resume=False)


def test_the_upper_layers_learn_first_and_then_all(straight):
    session, trained = straight
    assert [told["layers"] for told in trained.stages] == ["upper", "all"]
    assert [row["epoch"] for row in trained.rows] == list(range(len(trained.rows)))
    assert {row["stage"] for row in trained.rows[1:13]} == {"upper"}
    assert {row["stage"] for row in trained.rows[13:]} == {"all"}
    assert (session.folder / "results.csv").read_text().count("\n") == 1 + len(trained.rows)
    assert trained.network is session.network
    assert trained.curve is not None


def test_a_stage_is_told_with_what_it_brought(straight):
    upper = straight[1].stages[0]
    assert upper["sentence"].startswith("The upper layers brought loss from ")
    assert upper["after"]["loss"] < upper["before"]["loss"]
    assert upper["sentence"] in straight[1].notes
    assert straight[1].stages[1]["before"] == upper["after"]
    figures = straight[0].validate(straight[1].network)
    assert figures["loss"] == pytest.approx(straight[1].stages[-1]["after"]["loss"], abs=2e-3)  # activations are kept in half precision


def test_only_the_upper_layers_change_in_their_stage(tmp_path):
    session = session_of(tmp_path, layers="upper")
    before = weights(session.network)
    fine_tune(session, NO_BUDGET, resume=False)
    changed = {name for name, tensor in session.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert "head.linear.weight" in changed
    assert any(name.startswith("backbone.inner.layer4") for name in changed)
    assert not any(name.startswith(("backbone.inner.conv1", "backbone.inner.layer1")) for name in changed)


def test_the_head_alone_is_the_probe(tmp_path):
    session = session_of(tmp_path, layers="head")
    before = weights(session.network)
    trained = fine_tune(session, NO_BUDGET, resume=False)
    changed = {name for name, tensor in session.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}
    assert [row["stage"] for row in trained.rows] == ["probe"]
    assert trained.stages == ()
    assert "The probe is the model: as asked." in trained.notes


class Stopped(Exception):
    pass


def stop_at(monkeypatch, step: int) -> None:
    """The training stops before its so manieth step, counted over all stages."""
    left, real = [step], classify.Objective.step

    def counting(self, network, images, targets):
        if left[0] == 0:
            raise Stopped
        left[0] -= 1
        return real(self, network, images, targets)

    monkeypatch.setattr(classify.Objective, "step", counting)


@pytest.mark.parametrize("step", [0, 5, 30, 47, 48, 50])
def test_after_a_stop_in_any_stage_the_end_is_the_same(straight, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patched:
        stop_at(patched, step)
        with pytest.raises(Stopped):
            fine_tune(session_of(tmp_path), NO_BUDGET, resume=False)
    again = session_of(tmp_path, network=tiny_network(seed=0))  # what the run was started with is built again
    trained = fine_tune(again, NO_BUDGET, resume=True)
    assert same(weights(again.network), weights(straight[0].network))
    assert [told["after"] for told in trained.stages] == [told["after"] for told in straight[1].stages]
    assert trained.best_epoch == straight[1].best_epoch
    assert [row["val_loss"] for row in trained.rows] == [row["val_loss"] for row in straight[1].rows]


def test_a_stage_without_its_start_says_so(tmp_path, straight):
    session = session_of(tmp_path)
    state = checkpoint.load(straight[0].folder / "checkpoint", checkpoint.LAST, CPU)
    checkpoint.save(tmp_path / "checkpoint", checkpoint.LAST, state)
    with pytest.raises(ModelFileError, match=r"start-1\.pt: there is no checkpoint"):
        fine_tune(session, NO_BUDGET, resume=True)


def test_a_start_is_read_as_it_was_written(straight):
    start = Start.load(straight[0].folder, CPU)
    assert start.place.stage == 1
    assert start.place.layers == "all"
    assert len(start.place.rows) == 13
    assert start.curve == straight[1].curve
    assert start.notes == straight[1].notes[: len(start.notes)]


def test_a_network_that_cannot_be_cut_is_fine_tuned_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("sightline.training.halves.cuts", lambda network: [])
    trained = fine_tune(session_of(tmp_path), NO_BUDGET, resume=False)
    assert [told["layers"] for told in trained.stages] == ["all"]


def test_without_time_the_probe_is_what_comes_out(tmp_path):
    trained = fine_tune(session_of(tmp_path), Budget(seconds=0.001), resume=False)
    assert [row["stage"] for row in trained.rows] == ["probe"]
    assert (tmp_path / "checkpoint" / checkpoint.LAST).exists()
