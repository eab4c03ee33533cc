"""The loop learns, stops, keeps the best, and goes on after a stop as if there had been none, bit for bit."""

from __future__ import annotations

import copy
import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sightline.config import AugmentConfig, TrainConfig
from sightline.errors import ModelFileError, ResourceError, UsageError
from sightline.model.heads.classify import Objective
from sightline.model.network import Network, torch_infer
from sightline.training import checkpoint, course
from sightline.training.batches import TrainBatches, plain_batches
from sightline.training.loop import MAX_SETBACKS, SETBACK_FACTOR, Trained, fit
from sightline.training.optimizer import make_optimizer, schedule, set_learning_rate, update_average
from sightline.training.plan import Plan, make_plan
from tiny import shapes_store, tiny_network

pytestmark = pytest.mark.usefixtures("one_thread", "saves_however_slow_the_disk")
CPU = torch.device("cpu")
TRAIN, VAL = shapes_store(12), shapes_store(6, seed=1)


def plan_of(*, pretrained: bool = False, **settings) -> Plan:
    return make_plan(TrainConfig(**{"epochs": 4, "batch_size": 12, **settings}), 36, pretrained=pretrained)


def validate(network: Network) -> dict[str, float]:
    infer = torch_infer(network, CPU, ("logits",))
    raw = {"logits": np.concatenate([infer(batch)["logits"] for batch in plain_batches(VAL[0], network.prepare, 32)])}
    return Objective.validate(raw, VAL[1])


def train(folder: Path, plan: Plan, *, network: Network | None = None, resume: bool = False, objective=None, batches=TRAIN) -> Trained:
    network = network or tiny_network(seed=1 if resume else 0)  # what a resumed run starts from is overwritten
    torch.manual_seed(5 if resume else 7)
    data = TrainBatches(*batches, network.prepare, AugmentConfig(flip=True), plan.batch_size, 0, CPU, classes=3)
    return fit(network, objective or Objective(0.1), data, validate, plan, folder, resume=resume)


def without_seconds(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def last_state(folder: Path) -> dict:
    return checkpoint.load(folder / "checkpoint", checkpoint.LAST, CPU)


def same_tensors(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def moments(state: dict) -> dict[str, torch.Tensor]:
    return {
        f"{row}.{name}": torch.as_tensor(value) for row, values in state["optimizer"]["state"].items() for name, value in values.items()
    }


class Stopping:
    """An objective that is interrupted before a step, or whose loss becomes something else there."""

    def __init__(self, step: int, loss: float | None = None) -> None:
        self.left, self.loss = step, loss

    def step(self, network, images, targets):
        self.left -= 1
        if self.left < 0 and self.loss is None:
            raise KeyboardInterrupt
        loss, logs = Objective(0.1).step(network, images, targets)
        return (loss * self.loss, logs) if self.left < 0 else (loss, logs)

    validate = staticmethod(Objective.validate)


# Learning


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("learned")
    plan = plan_of(epochs=8, ema=0.8, lr=5e-3)
    store = shapes_store(24)
    torch.set_num_threads(1)
    return train(folder, plan, batches=store), folder


def test_it_learns_to_tell_shapes_apart(learned):
    trained, _ = learned
    assert trained.rows[-1]["train_loss"] < 0.8 * trained.rows[1]["train_loss"]
    assert max(row["val_accuracy"] for row in trained.rows) > 0.55
    assert trained.rows[trained.best_epoch]["val_loss"] < 0.9 * math.log(3)


def test_the_kept_network_is_the_average_of_the_best_epoch(learned):
    trained, _ = learned
    best = min(trained.rows, key=lambda row: row["val_loss"])
    assert trained.best_epoch == best["epoch"]
    assert not trained.network.training
    assert validate(trained.network)["loss"] == best["val_loss"]


def test_the_table_has_a_row_an_epoch(learned):
    trained, folder = learned
    with (folder / "results.csv").open(newline="") as source:
        table = list(csv.DictReader(source))
    assert list(table[0]) == ["epoch", "stage", "lr", "train_loss", "val_loss", "val_accuracy", "seconds"]
    assert [int(row["epoch"]) for row in table] == list(range(9)) == [row["epoch"] for row in trained.rows]
    assert [row["stage"] for row in table] == ["start"] + ["all"] * 8
    assert table[0]["train_loss"] == ""
    assert [float(row["val_loss"]) for row in table] == [row["val_loss"] for row in trained.rows]
    assert trained.stopped == "All 8 epochs were trained."
    assert not list(folder.rglob("*.tmp"))


def test_without_a_better_epoch_it_stops_and_keeps_the_start(tmp_path):
    network = tiny_network()
    before = copy.deepcopy(network.state_dict())
    trained = train(tmp_path, replace(plan_of(epochs=9, patience=2), lr=0.0, freeze_norm=True), network=network)
    assert (trained.best_epoch, len(trained.rows)) == (0, 3)
    assert trained.stopped == "Stopped after epoch 2: no better validation loss since epoch 0."
    assert same_tensors(trained.network.state_dict(), before)


def test_in_frozen_epochs_only_the_head_changes(tmp_path):
    network = tiny_network()
    before = copy.deepcopy(network.state_dict())
    trained = train(tmp_path, plan_of(epochs=2, frozen_epochs=2), network=network)
    assert [row["stage"] for row in trained.rows] == ["start", "head", "head"]
    state = last_state(tmp_path)
    for part in ("network", "average"):
        changed = {name for name, tensor in state[part].items() if not torch.equal(tensor, before[name])}
        assert changed == {"head.linear.weight", "head.linear.bias"}


def test_after_the_frozen_epochs_everything_learns(tmp_path):
    network = tiny_network()
    before = copy.deepcopy(network.state_dict())
    trained = train(tmp_path, plan_of(epochs=2, frozen_epochs=1), network=network)
    assert [row["stage"] for row in trained.rows] == ["start", "head", "all"]
    assert all(not torch.equal(tensor, before[name]) for name, tensor in last_state(tmp_path)["network"].items())


def test_frozen_normalisation_keeps_its_statistics_and_learns_its_weights(tmp_path):
    network = tiny_network()
    before = copy.deepcopy(network.state_dict())
    train(tmp_path, replace(plan_of(epochs=1), freeze_norm=True), network=network)
    after = last_state(tmp_path)["network"]
    statistics = {name for name in before if "running_" in name or "num_batches" in name}
    assert statistics
    assert {name for name in before if torch.equal(after[name], before[name])} == statistics


# The parts of a step


def test_the_learning_rate_rises_and_falls_to_nothing():
    found = [schedule(step, 100, 0.05) for step in range(100)]
    assert found[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert found[5 + 95 // 2] == pytest.approx(0.5, abs=0.01)
    assert found[5:] == sorted(found[5:], reverse=True)
    assert 0 < found[-1] < 1e-3


@given(st.integers(1, 500), st.floats(0, 0.9), st.data())
def test_the_learning_rates_share_is_a_share(steps, warmup, data):
    assert 0 < schedule(data.draw(st.integers(0, steps - 1)), steps, warmup) <= 1


def test_groups_have_their_rate_and_their_decay():
    network, plan = tiny_network(), plan_of(pretrained=True, lr=0.1)
    optimizer = make_optimizer(network, plan)
    names = {parameter: name for name, parameter in network.named_parameters()}
    seen = []
    for group in optimizer.param_groups:
        members = [names[parameter] for parameter in group["params"]]
        seen += members
        (part,) = {name.split(".")[0] for name in members}
        assert group["lr"] == group["peak"] == pytest.approx(0.1 if part == "head" else 0.01)
        flat = {network.get_parameter(name).ndim < 2 for name in members}
        assert flat == {group["weight_decay"] == 0}
        assert group["weight_decay"] in (0, plan.weight_decay)
    assert sorted(seen) == sorted(names.values())
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.005, 0.005, 0.05, 0.05])


def test_the_optimiser_is_the_planned_one():
    network = tiny_network()
    assert isinstance(make_optimizer(network, plan_of()), torch.optim.AdamW)
    for momentum in (0.0, 0.9):
        sgd = make_optimizer(network, plan_of(optimizer="sgd", momentum=momentum))
        assert isinstance(sgd, torch.optim.SGD)
        assert {(group["momentum"], group["nesterov"]) for group in sgd.param_groups} == {(momentum, momentum > 0)}


def test_the_average_follows_its_formula():
    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        average.weight.fill_(1.0)
        network.weight.fill_(3.0)
        network.running_mean.fill_(10.0)
        network.num_batches_tracked.fill_(7)
    update_average(average, network, 0.9, step=10_000)
    torch.testing.assert_close(average.weight, torch.full((2,), 0.9 * 1 + 0.1 * 3))
    torch.testing.assert_close(average.running_mean, torch.full((2,), 1.0))
    assert int(average.num_batches_tracked) == 7
    update_average(average, network, 0.9, step=0)  # (1 + 0) / (10 + 0): a short memory at the start
    torch.testing.assert_close(average.weight, torch.full((2,), 0.1 * 1.2 + 0.9 * 3))


def test_an_average_that_is_turned_off_is_the_network(tmp_path):
    train(tmp_path, plan_of(epochs=1, ema=0.0))
    state = last_state(tmp_path)
    assert same_tensors(state["average"], state["network"])


@pytest.mark.parametrize(("clip", "clipped"), [(0.01, True), (0.0, False)])
def test_the_gradient_is_clipped(tmp_path, clip, clipped):
    network = tiny_network()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    train(
        tmp_path, plan_of(epochs=1, batch_size=36, optimizer="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=clip), network=network
    )
    after = last_state(tmp_path)["network"]
    moved = math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))
    assert (moved == pytest.approx(0.01, rel=0.05)) == clipped
    assert (moved > 0.1) != clipped


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_stays_no_number_goes_back_twice_and_then_ends_the_run_in_words(tmp_path, capsys, loss):
    with pytest.raises(UsageError, match=r"Training diverged in epoch 2: its loss is no finite number\. Start again with a lower --lr\."):
        train(tmp_path, plan_of(), objective=Stopping(4, loss))
    assert [row["epoch"] for row in last_state(tmp_path)["rows"]] == [0, 1]
    said = [line for line in capsys.readouterr().err.splitlines() if "back to the last checkpoint" in line]
    assert len(said) == MAX_SETBACKS == 2
    assert "0.25 of the planned learning rate" in said[0]


class Once(Stopping):
    """No number at a single step, as an overflow would give."""

    def step(self, network, images, targets):
        loss, logs = super().step(network, images, targets)
        if self.left < 0:
            self.left = 10**6
        return loss, logs


def test_after_a_loss_that_is_no_number_training_goes_on_more_slowly(tmp_path):
    plan = plan_of(warmup=0.0)
    trained = train(tmp_path, plan, objective=Once(7, math.nan))  # in the third of four epochs
    assert [row["epoch"] for row in trained.rows] == list(range(5))
    assert all(math.isfinite(row["val_loss"]) for row in trained.rows)
    expected = [schedule(3 * epoch - 1, 12, 0.0) * plan.lr * (SETBACK_FACTOR if epoch > 2 else 1) for epoch in range(1, 5)]
    assert [row["lr"] for row in trained.rows[1:]] == pytest.approx(expected)
    assert last_state(tmp_path)["setbacks"] == 1


def test_the_last_epoch_is_kept_when_asked_for(tmp_path):
    trained = train(tmp_path, replace(plan_of(epochs=3, patience=1, keep="last"), lr=0.0, freeze_norm=True))
    assert (trained.best_epoch, len(trained.rows), trained.stopped) == (3, 4, "All 3 epochs were trained.")


# Going on after a stop


@pytest.fixture(scope="module", params=["adamw", "sgd"])
def straight(request, tmp_path_factory) -> tuple[Plan, Trained, Path]:
    torch.set_num_threads(1)
    plan, folder = plan_of(optimizer=request.param, frozen_epochs=1, ema=0.7), tmp_path_factory.mktemp("straight")
    return plan, train(folder, plan), folder


def check_identical(folder: Path, resumed: Trained, straight: tuple[Plan, Trained, Path]) -> None:
    _, expected, other = straight
    assert without_seconds(resumed.rows) == without_seconds(expected.rows)
    assert (resumed.best_epoch, resumed.stopped) == (expected.best_epoch, expected.stopped)
    assert same_tensors(resumed.network.state_dict(), expected.network.state_dict())
    ours, theirs = last_state(folder), last_state(other)
    assert same_tensors(ours["network"], theirs["network"])
    assert same_tensors(ours["average"], theirs["average"])
    assert same_tensors(moments(ours), moments(theirs))
    assert torch.equal(ours["random"]["cpu"], theirs["random"]["cpu"])
    assert same_tensors(ours["kept"], theirs["kept"])
    assert len((folder / "results.csv").read_text().splitlines()) == len(expected.rows) + 1


@pytest.mark.parametrize("step", [0, 6, 10])
def test_a_run_stopped_at_any_step_ends_as_one_that_was_not(straight, tmp_path, step):
    """Three steps an epoch: before the first, between two epochs, inside the last."""
    plan, _, _ = straight
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plan, objective=Stopping(step))
    check_identical(tmp_path, train(tmp_path, plan, resume=True), straight)


@pytest.mark.parametrize("step", [1, 5, 7])
def test_long_epochs_are_saved_in_between_and_go_on_there(straight, tmp_path, monkeypatch, step):
    plan, _, _ = straight
    monkeypatch.setattr(course, "SAVE_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plan, objective=Stopping(step))
    saved = last_state(tmp_path)
    assert (len(saved["rows"]) - 1, saved["step"]) == divmod(step, 3)
    counting = Stopping(1000)
    check_identical(tmp_path, train(tmp_path, plan, resume=True, objective=counting), straight)
    assert 1000 - counting.left == 12 - step  # nothing is done twice


@pytest.mark.parametrize("which", ["last.pt", "results.csv"])
def test_a_run_stopped_while_it_saves_ends_as_one_that_was_not(straight, tmp_path, monkeypatch, which):
    """Stopped just before one of the files is written at the end of the best epoch; what an earlier epoch wrote stays."""
    plan, expected, _ = straight
    assert expected.best_epoch > 1
    write_whole, written = checkpoint.atomically, []

    def write_unless_stopped(path, write):
        if path.name == which and written.count(which) == expected.best_epoch:
            raise KeyboardInterrupt
        written.append(path.name)
        write_whole(path, write)

    monkeypatch.setattr(checkpoint, "atomically", write_unless_stopped)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plan)
    monkeypatch.undo()
    saved = last_state(tmp_path)["rows"][-1]["epoch"]
    assert saved == expected.best_epoch - (which == "last.pt")
    check_identical(tmp_path, train(tmp_path, plan, resume=True), straight)


def test_resuming_what_was_done_changes_nothing(straight, tmp_path):
    plan, expected, folder = straight
    again = train(folder, plan, resume=True)
    assert again.rows == expected.rows
    assert same_tensors(again.network.state_dict(), expected.network.state_dict())


def test_early_stopping_is_remembered(tmp_path):
    plan = replace(plan_of(epochs=9, patience=2), lr=0.0, freeze_norm=True)
    first = train(tmp_path, plan)
    assert train(tmp_path, plan, resume=True).stopped == first.stopped


def test_a_checkpoint_that_is_broken_foreign_or_gone_is_refused(tmp_path):
    plan = plan_of(epochs=1)
    with pytest.raises(ModelFileError, match=r"last\.pt: there is no checkpoint to go on from"):
        train(tmp_path, plan, resume=True)
    train(tmp_path, plan)
    last = tmp_path / "checkpoint" / checkpoint.LAST
    with pytest.raises(ModelFileError, match=r"last\.pt: this checkpoint does not fit the run it lies in"):
        train(tmp_path, plan, network=tiny_network(classes=5), resume=True)
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match=r"last\.pt: this checkpoint cannot be read"):
        train(tmp_path, plan, resume=True)
    torch.save({"rows": []}, last)
    with pytest.raises(ModelFileError, match="does not fit the run"):
        train(tmp_path, plan, resume=True)


def test_a_full_disk_keeps_the_epochs_before(straight, tmp_path, monkeypatch):
    plan, _, _ = straight
    save = torch.save

    def full_at_epoch_two(state, path):
        if "rows" in state and len(state["rows"]) == 3:
            Path(path).write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598")
        save(state, path)

    monkeypatch.setattr(torch, "save", full_at_epoch_two)
    with pytest.raises(
        ResourceError, match=r"last\.pt: could not be written \(the disk may be full\); make room, then continue with --resume"
    ):
        train(tmp_path, plan)
    monkeypatch.undo()
    assert [row["epoch"] for row in last_state(tmp_path)["rows"]] == [0, 1]
    check_identical(tmp_path, train(tmp_path, plan, resume=True), straight)


def test_what_is_said_of_an_epoch_names_its_figures(capsys, tmp_path):
    train(tmp_path, plan_of(epochs=1))
    line = capsys.readouterr().err.strip()
    assert line.startswith("Epoch  1 of 1: training loss ")
    assert "validation loss " in line
    assert ", accuracy " in line


def test_the_row_of_the_start_is_no_best_one_when_it_is_no_number(tmp_path):
    network = tiny_network()
    with torch.no_grad():
        network.head.linear.bias.fill_(math.nan)
    with pytest.raises(UsageError, match="no finite number before training begins"):
        train(tmp_path, plan_of(), network=network)
