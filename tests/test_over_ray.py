"""A training by Ray's workers is that of one process; it outlives workers, and its errors are the sentences they always are."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import side_by_side
from sightline import folds
from sightline.bulk import ray_start
from sightline.bundle import Bundle
from sightline.cli import _exit_code
from sightline.config import ShareConfig
from sightline.errors import ConfigError, DataError, DeviceError, Interrupted, ResourceError, UsageError
from sightline.training import over_ray
from sightline.training.over_ray import Job, shared_out, told
from sightline.training.ranks import ALONE, Ranks
from sightline.training.ray_crew import Crew, crew_of

SETTINGS = {"trial": False, "backbone": "test_resnet", "weights": "none", "device": "cpu", "precision": "fp32"}
FLAGS = ["--no-trial", "--backbone", "test_resnet", "--weights", "none", "--device", "cpu", "--precision", "fp32"]
EPOCHS = 3


@pytest.fixture(scope="module")
def machines():
    """Two machines of a processor each, simulated on this one."""
    os.environ.update(ray_start.QUIET)
    ray = pytest.importorskip("ray", reason="Ray is not installed: sightline[scale]")
    from ray.cluster_utils import Cluster

    with ray_start.keeping_to_itself(), pytest.MonkeyPatch.context() as patch:
        # Workers import what they are given from here.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])))
        found = Cluster()
        for _ in range(2):  # the first is the head
            ray_start.started(lambda: found.add_node(num_cpus=1, include_dashboard=False))
        ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
    yield found
    ray.shutdown()
    found.shutdown()


def steps(data, resume, settings, started, begun):
    """The losses of a short training with batch normalisation, class weights and unequal shares."""
    torch.set_num_threads(1)
    with Ranks.join(torch.device("cpu")) as ranks:
        assert ranks.size == 2
        return side_by_side.train(Path(data) / "two", ranks, epochs=EPOCHS)[0].losses


def mortal(data, resume, settings, started, begun):
    """A whole training, whose second process is killed once there is a checkpoint; not when it is taken up again."""

    def die():
        while not (Path(settings["out"]) / "checkpoint" / "last.pt").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    if resume is None and os.environ["RANK"] == "1":
        threading.Thread(target=die, daemon=True).start()
    return folds.train(data, resume, settings, started, begun)


def doomed(data, resume, settings, started, begun):
    time.sleep(3)  # Ray Train gives nothing back of a worker that dies while it is told what to do (decision 036)
    os.kill(os.getpid(), signal.SIGKILL)


def test_two_workers_have_the_losses_of_one_process(machines, tmp_path, one_thread):
    found = shared_out(steps, tmp_path, None, {"engine": "ray", "workers": 2, "device": "cpu"}, time.monotonic())
    expected = side_by_side.train(tmp_path / "one", ALONE, epochs=EPOCHS)[0].losses
    assert len(expected) == 12
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_killed_worker_is_taken_up_and_it_ends_with_a_bundle(machines, shapes, tmp_path, capsys):
    run = tmp_path / "run"
    asked = {**SETTINGS, "engine": "ray", "workers": 2, "epochs": 40, "patience": 40, "out": str(run)}
    trained = shared_out(mortal, shapes, None, asked, time.monotonic())
    said = capsys.readouterr().err
    assert said.count("A worker died") == 1
    assert f"the training goes on with what is in {run}" in said
    assert said.count("Trained by 2 Ray workers of 1 thread each.") == 2
    assert said.count("Epoch 40 of 40") == 1
    assert trained.folder == run
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with Bundle.open(trained.model) as bundle:
        assert bundle.manifest.task == "classify"
    # What it was trained by is not part of what was trained.
    assert not {"engine", "address"} & {name for stage in trained.numbers["settings"].values() for name in stage}


def test_workers_that_die_again_and_again_end_it_in_a_sentence(machines, shapes, monkeypatch):
    monkeypatch.setattr(over_ray, "MOST_DEATHS", 1)
    with pytest.raises(ResourceError, match=r"--engine ray: workers died 2 times \(.+\)\.$"):
        shared_out(doomed, shapes, None, {"engine": "ray", "workers": 1, "device": "cpu"}, time.monotonic())


def test_what_a_worker_does_not_see_is_named(machines, tmp_path):
    missing = tmp_path / "missing"
    job = Job(steps, missing, None, {}, tmp_path, (missing,), time.time())
    with pytest.raises(DataError, match=f"{missing}: the Ray worker on .+ does not see it") as error:
        over_ray._carried_out(job, ShareConfig(engine="ray"), 2, "cpu")
    assert error.value.told_elsewhere is False
    assert "In the Ray worker on" in error.value.__notes__[0]  # for --debug


def test_stopped_where_ray_was_started_for_it_it_goes_on_by_another_number(machines, shapes, tmp_path):
    run, processors = tmp_path / "run", min(2, os.cpu_count() or 1)
    words = [sys.executable, "-m", "sightline", "train", shapes, "--out", run, "--epochs", "40", "--patience", "40", *FLAGS]
    words += ["--engine", "ray", "--workers", processors]
    started = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (run / "checkpoint" / "last.pt").exists() and started.poll() is None:
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    out, said = started.communicate()
    assert started.returncode == 130, said
    assert said.splitlines()[-1] == f"sightline: Stopped. What was trained is kept: sightline train --resume {run} goes on."
    assert (out, said.count("Traceback")) == ("", 0)
    assert _exit_code(["train", "--resume", str(run), "--engine", "ray", "--workers", "1"]) == 0
    assert (run / "report.html").exists()


def test_a_cluster_that_does_not_answer_is_named(shapes):
    pytest.importorskip("ray", reason="Ray is not installed: sightline[scale]")
    words = [sys.executable, "-m", "sightline", "train", str(shapes), "--engine", "ray", "--address", "127.0.0.1:1"]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sightline: --address 127.0.0.1:1: no Ray cluster answers there (")
    assert ended.stderr.count("\n") == 1


def test_without_ray_the_extra_is_named(shapes, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert _exit_code(["train", str(shapes), "--engine", "ray"]) == 2
    assert capsys.readouterr().err == "sightline: --engine ray: Ray is not installed; pip install 'sightline[scale]'.\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--address", "auto"], "--address auto: is for --engine ray."),
        (["--engine", "ray", "--epochs", "0"], "epochs must be at least 1, not 0."),
    ],
)
def test_mistakes_are_told_before_ray_is_asked_for(shapes, monkeypatch, capsys, flags, said):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert _exit_code(["train", str(shapes), *flags]) == 2
    assert capsys.readouterr().err == f"sightline: {said}\n"


def test_torchrun_and_ray_are_one_too_many(shapes, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="leave torchrun out"):
        shared_out(folds.train, shapes, None, {"engine": "ray"}, time.monotonic())


def node(cpu, gpu=0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": float(cpu), **({"GPU": float(gpu)} if gpu else {})}}


@pytest.mark.parametrize(
    ("nodes", "workers", "device", "expected"),
    [
        ([node(8), node(4)], None, "auto", Crew(2, 4, False)),
        ([node(8), node(4)], 3, "auto", Crew(3, 4, False)),
        ([node(3), node(1)], 2, "cpu", Crew(2, 1, False)),
        ([node(8), node(4), node(64, alive=False)], 12, "cpu", Crew(12, 1, False)),
        ([node(16, 4), node(16, 2)], None, "auto", Crew(6, 4, True)),
        ([node(16, 4), node(16)], 2, "cuda", Crew(2, 8, True)),
        ([node(16, 4)], None, "cpu", Crew(1, 16, False)),
    ],
)
def test_machines_share_out_gpus_and_processors(nodes, workers, device, expected):
    assert crew_of(nodes, workers, device) == expected


def test_what_there_is_no_room_for_is_refused_and_what_is_gone_is_done_without():
    with pytest.raises(UsageError, match="--workers 3: each takes a processor, and the machines of Ray have 2 to lend"):
        crew_of([node(2)], 3, "auto")
    with pytest.raises(UsageError, match="--workers 2: each takes a GPU, and the machines of Ray have 1 to lend"):
        crew_of([node(8, 1)], 2, "auto")
    with pytest.raises(DeviceError, match="--device cuda: no machine"):
        crew_of([node(2)], None, "cuda")
    with pytest.raises(DeviceError, match="--device mps"):
        crew_of([node(2)], None, "mps")
    assert crew_of([node(2)], 3, "auto", at_most=True) == Crew(2, 1, False)


class Failed(Exception):
    """As Ray Train tells of workers that failed."""

    def __init__(self, worker_failures):
        self.worker_failures = worker_failures


Failed.__module__ = "ray.train.v2.api.exceptions"


def test_the_error_that_a_worker_met_is_told_rather_than_what_followed_from_it():
    wrong = DataError("wrong")
    wrong.told_elsewhere = True
    assert told(Failed({0: Interrupted("stopped"), 2: wrong, 1: Failed({})})) is wrong
    assert wrong.told_elsewhere is False
    assert isinstance(told(Failed({0: Interrupted("stopped")})), over_ray._Died)
    assert told(wrong) is wrong


def test_errors_come_from_a_worker_as_they_were_raised():
    error = pickle.loads(pickle.dumps(ConfigError(["First.", "Second."])))
    assert (str(error), error.problems) == ("First. Second.", ("First.", "Second."))
