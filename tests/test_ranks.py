"""Several processes that train together do what one does: the same losses, whoever goes on; and they leave one run and one sentence."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import side_by_side
from side_by_side import STOP, Stopped, train
from sightline import console, exits
from sightline.bundle import Bundle
from sightline.cli import _exit_code
from sightline.errors import DeviceError, UsageError
from sightline.training import course, ranks
from sightline.training.ranks import ALONE, Ranks

pytestmark = pytest.mark.usefixtures("one_thread")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sightline"]
MEETING = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "OMP_NUM_THREADS": "1"}
SETTINGS = ["--no-trial", "--backbone", "test_resnet", "--weights", "none", "--device", "cpu", "--precision", "fp32"]


def in_two_processes(folder: Path, part: str) -> list[subprocess.CompletedProcess[str]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    command = [sys.executable, side_by_side.__file__, str(folder), part]
    meeting = {**MEETING, "MASTER_PORT": port}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen(command, env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **pipes) for rank in range(2)
    ]
    ended = [process.communicate() for process in processes]
    return [subprocess.CompletedProcess(command, each.returncode, *said) for each, said in zip(processes, ended, strict=True)]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> dict:
    """What two processes found, and what one did: straight on, and after two were killed, and two after one was."""
    folder, saved = tmp_path_factory.mktemp("ranks"), (course.SAVE_SECONDS, course.SAVE_SHARE)
    torch.set_num_threads(1)
    course.SAVE_SECONDS, course.SAVE_SHARE = 0.0, float("inf")
    try:
        first = in_two_processes(folder, "first")
        assert [each.returncode for each in first] == [-signal.SIGKILL] * 2, first[0].stderr
        with pytest.raises(Stopped):
            train(folder / "killed-on-one", ALONE, stop=STOP)
        second = in_two_processes(folder, "second")
        assert [each.returncode for each in second] == [0, 0], second[0].stderr
        found = json.loads((folder / "first.json").read_text())
        return {
            **found,
            "one": train(folder / "one", ALONE)[0].losses,
            "one-mixed": train(folder / "one-mixed", ALONE, epochs=2, mixed=True)[0].losses,
            "two-after-one": json.loads((folder / "second.json").read_text()),
            "one-after-two": train(folder / "killed-on-two", ALONE, resume=True)[0].losses,
            "told": sorted(each.stdout.strip() for each in second),
        }
    finally:
        course.SAVE_SECONDS, course.SAVE_SHARE = saved


def test_two_processes_have_the_losses_of_one(done):
    """Over 52 steps, with batch normalisation, class weights and label smoothing, and every fourth batch too small for both."""
    assert len(done["one"]) == 52
    assert done["one"][-1] < 0.7 * done["one"][0]
    np.testing.assert_allclose(done["losses"], done["one"], rtol=1e-5)


def test_mixed_images_have_the_same_partners_and_frozen_layers_stay_so(done):
    assert len(done["one-mixed"]) == 8
    np.testing.assert_allclose(done["mixed"], done["one-mixed"], rtol=1e-5)


@pytest.mark.parametrize("task", ["tag", "segment", "detect"])
def test_the_gradients_of_every_task_are_the_whole_batchs(done, task):
    loss, gradient = done[task]
    assert loss < 1e-6  # the losses of scenes are computed in single precision
    assert gradient < 1e-10


def test_what_was_killed_on_two_ends_on_one_as_if_it_had_not_been(done):
    # Saved after every step: the one in which it was killed is done again.
    np.testing.assert_allclose(done["one-after-two"], done["one"][STOP:], rtol=1e-5)


def test_what_was_stopped_on_one_ends_on_two_as_if_it_had_not_been(done):
    np.testing.assert_allclose(done["two-after-one"], done["one"][STOP:], rtol=1e-5)


def test_resumed_by_as_many_it_ends_with_the_same_weights_bit_for_bit(done):
    assert done["bitwise"] == [True, True]
    assert done["alike"][0] == done["alike"][1]


def test_fine_tuning_has_its_short_stages_in_the_first_and_all_layers_in_both(done):
    (layers, first), (same_layers, second) = done["fine"]
    assert layers == same_layers == ["upper", "all"]
    assert first == second


def test_an_error_of_all_is_told_by_one(done):
    assert done["told"] == ["elsewhere", "here"]


@given(st.integers(1, 70), st.integers(1, 9))
def test_shares_are_all_of_a_batch_each_with_its_partners(n, size):
    shares = [Ranks(rank, size).share(n) for rank in range(size)]
    counted = [places[:count] for places, count in shares]
    assert sorted(np.concatenate(counted).tolist()) == list(range(n))
    assert all(np.array_equal(n - 1 - places, places[::-1]) for places in counted)
    assert max(map(len, counted)) - min(map(len, counted)) <= 2
    assert all(len(places) for places, _ in shares)


def test_alone_nothing_is_asked_of_others():
    assert ALONE.of_first(lambda: 3) == 3
    assert (ALONE.agree(0.5), ALONE.gather("a")) == (0.5, ["a"])
    ALONE.wait()
    with ALONE.watched(), pytest.raises(RuntimeError, match="gloo"):
        raise RuntimeError("gloo is a word like any other here")


def test_a_device_that_cannot_be_shared_is_refused(monkeypatch):
    for name, value in {**MEETING, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError, match="--device mps"):
        Ranks.join(torch.device("mps"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match="--nproc-per-node 2"):
        Ranks.join(torch.device("cuda"))


def test_processes_that_do_not_meet_are_told_of(monkeypatch):
    for name, value in {**MEETING, "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "MEETING", timedelta(seconds=1))
    with pytest.raises(UsageError, match=r"2 processes of this training did not meet at 127\.0\.0\.1:1;"):
        Ranks.join(torch.device("cpu"))


def test_other_processes_are_silent(monkeypatch, capfd):
    monkeypatch.setattr(exits, "GRACE_SECONDS", 0.0)
    handler = signal.getsignal(signal.SIGTERM)
    for name, value in {**MEETING, "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert _exit_code(["train", "nowhere", "--epochs", "several"]) == 2
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    assert _exit_code(["train", "nowhere", "--epochs", "several"]) == 2
    assert "--epochs" in capfd.readouterr().err
    signal.signal(signal.SIGTERM, handler)


def test_a_hushed_process_says_nothing(monkeypatch, capfd):
    monkeypatch.setattr(console, "_VOICE", console._Voice())
    console.say("heard")
    console.hush()
    console.say("unheard")
    console.print_json({"unheard": 1})
    said = capfd.readouterr()
    assert (said.err, said.out) == ("heard\n", "")


def test_the_command_under_torchrun_leaves_one_run(shapes, tmp_path):
    run = tmp_path / "runs" / "run"
    command = [*TORCHRUN, "train", shapes, "--out", run, "--epochs", "2", "--json", *SETTINGS]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]
    assert json.loads(ended.stdout)["run"] == str(run)  # once
    assert ended.stderr.count("Epoch  2 of 2") == 1
    assert {"model.sight", "report.html", "results.csv", "audit.json"} <= {path.name for path in run.iterdir()}
    with Bundle.open(run / "model.sight") as bundle:
        assert bundle.manifest.task == "classify"


def test_once_others_are_gone_what_is_told_of_it_is_not_cut_short(monkeypatch):
    """The launcher, too, sees that one is gone, and sends SIGTERM to the rest."""
    for name, value in {**MEETING, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Ranks(0, 2).watched():
            raise RuntimeError("[gloo] Connection closed by peer")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # where a handler would raise
    finally:
        signal.signal(signal.SIGTERM, earlier)


def test_a_process_that_is_killed_ends_the_others_in_one_sentence_and_one_goes_on(shapes, tmp_path):
    run = tmp_path / "run"
    command = [*TORCHRUN, "train", shapes, "--out", run, "--epochs", "12", *SETTINGS]
    launcher = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    while not (run / "checkpoint" / "last.pt").exists() and launcher.poll() is None:
        time.sleep(0.05)
    children = [int(pid) for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()]
    second = next(pid for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(second, signal.SIGKILL)
    said = launcher.communicate()[1]
    assert launcher.returncode != 0
    assert said.count(f"sightline train --resume {run} goes on.") == 1, said
    assert "fault of Sightline" not in said
    assert _exit_code(["train", "--resume", str(run)]) == 0
    assert (run / "report.html").exists()
