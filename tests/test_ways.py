"""A budget holds: fewer epochs are planned for it, fewer still are trained when they take longer, and an epoch is cut short at the end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from sightline.config import TrainSettings
from sightline.model.backbone import BackboneSpec
from sightline.model.choose import Choice
from sightline.model.heads import classify
from sightline.tasks import load_task
from sightline.training import checkpoint, course, loop, ways
from sightline.training.budget import Budget
from sightline.training.logs import NoLog
from sightline.training.plan import make_plan
from sightline.training.session import Part, Session
from sightline.training.ways import train_network
from tiny import shapes_store, tiny_network

pytestmark = pytest.mark.usefixtures("one_thread", "saves_however_slow_the_disk")
CPU = torch.device("cpu")
TRAIN, VAL = Part(*shapes_store(12)), Part(*shapes_store(6, seed=1))


def session_of(folder: Path, **settings) -> Session:
    chosen = TrainSettings.of(**{"trial": False, "batch_size": 12, "precision": "fp32", "patience": 1000, "epochs": 50, **settings})
    network = tiny_network()
    plan = make_plan(chosen.training, 36, pretrained=False, size=32, takes=lambda side: True)
    choice = Choice(BackboneSpec("test_resnet", 32), None, network.prepare, ())
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    return Session(network, load_task("classify"), classify, TRAIN, VAL, (18, 9), 3, choice, plan, chosen, CPU, folder, NoLog(), 0.0)


class Clockwork:
    """Time that only passes in steps of training, so that a test does not depend on the machine's."""

    def __init__(self, monkeypatch, seconds_a_step: float, *, by_pixels: bool = False) -> None:
        self.now, real = 1000.0, classify.Objective.step
        for module in (course, ways):
            monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

        def step(objective, network, images, targets):
            self.now += seconds_a_step * (images.shape[1] ** 2 / 1024 if by_pixels else 1)
            return real(objective, network, images, targets)

        monkeypatch.setattr(classify.Objective, "step", step)
        monkeypatch.setattr(ways, "step_seconds", lambda *args: seconds_a_step)
        monkeypatch.setattr(ways, "_forward_seconds", lambda session: 0.0)
        monkeypatch.setattr(ways, "shipping_seconds", lambda session, forward: 10.0)
        monkeypatch.setattr(ways, "trial_seconds", lambda budget, trial: 0.0)


def test_as_many_epochs_are_trained_as_the_time_allows(tmp_path, monkeypatch):
    clock = Clockwork(monkeypatch, 1.0)  # three steps an epoch
    trained = train_network(session_of(tmp_path, start_size=32), Budget(43, started=clock.now), resume=False)
    assert trained.rows[-1]["epoch"] == 10  # 43 s less the 13 that are kept
    assert clock.now == 1030
    assert trained.stopped == "10 epochs were trained of 50, as many as the budget allowed."
    assert trained.rows[-1]["lr"] < trained.rows[5]["lr"] / 4  # the rate has fallen to the end of these, not of 50


def test_steps_that_are_slower_than_expected_leave_fewer_epochs(tmp_path, monkeypatch):
    clock = Clockwork(monkeypatch, 2.0)
    monkeypatch.setattr(ways, "step_seconds", lambda *args: 1.0)
    trained = train_network(session_of(tmp_path, start_size=32), Budget(43, started=clock.now), resume=False)
    assert trained.rows[-1]["epoch"] == 5
    assert clock.now <= 1030


def test_an_epoch_too_long_for_the_time_is_cut_short(tmp_path, monkeypatch):
    clock = Clockwork(monkeypatch, 20.0)
    trained = train_network(session_of(tmp_path, start_size=32), Budget(43, started=clock.now), resume=False)
    assert trained.rows[-1]["epoch"] == 1
    assert clock.now == 1040  # two steps of three


def test_a_stopped_run_has_only_the_time_that_it_had_left(tmp_path, monkeypatch):
    clock = Clockwork(monkeypatch, 1.0)
    real = loop.train_epoch

    def stopping(course, *args):
        if len(course.rows) == 5:
            raise KeyboardInterrupt
        real(course, *args)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            train_network(session_of(tmp_path, start_size=32), Budget(43, started=clock.now), resume=False)
    spent = checkpoint.spent(tmp_path / "checkpoint")
    assert spent == pytest.approx(12)
    clock.now += 500  # the break does not count
    trained = train_network(session_of(tmp_path, start_size=32), Budget(43, started=clock.now).after(spent), resume=True)
    assert trained.rows[-1]["epoch"] == 10


def test_growing_images_are_counted_with_what_they_cost(tmp_path, monkeypatch):
    clock = Clockwork(monkeypatch, 1.0, by_pixels=True)
    monkeypatch.setattr(ways, "step_seconds", lambda network, objective, batch, precision: batch[0].shape[1] ** 2 / 1024)
    session = session_of(tmp_path)
    assert session.plan.sizes == (20, 32)
    cost = ways._epoch_seconds(session, session.plan, "fp32", 0.0)
    assert cost(32) == pytest.approx(3.0)
    assert cost(20) == pytest.approx(3.0 * 400 / 1024)
    trained = train_network(session, Budget(43, started=clock.now), resume=False)
    assert 12 <= trained.rows[-1]["epoch"] <= 15  # ten, were all of the full size
    assert 1020 < clock.now <= 1030


def test_real_steps_are_timed(tmp_path):
    session = session_of(tmp_path)
    started = time.monotonic()
    cost = ways._epoch_seconds(session, session.plan, "fp32", 0.001)
    assert cost(20) > 0
    assert 0 < cost(32) < 1000
    assert 0 < ways._forward_seconds(session) < time.monotonic() - started
