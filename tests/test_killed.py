"""What ends a run from outside (kill -9 at any moment, a full disk) loses nothing but the last minutes."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sightline.bundle import Bundle

EPOCHS, KILLS = 60, 10
# Saving after every step makes most moments moments of writing.
TRAIN = """
import sys, torch
torch.set_num_threads(1)
from sightline.training import course
course.SAVE_SECONDS = 0.0
from sightline.cli import _exit_code
sys.exit(_exit_code(sys.argv[1:]))
"""
SETTINGS = ["--no-trial", "--backbone", "test_resnet", "--weights", "none", "--device", "cpu", "--precision", "fp32",
            "--epochs", str(EPOCHS), "--patience", str(EPOCHS)]  # fmt: skip
# The last epoch is kept, so that the stage is; of the epochs that it adds there are enough to be killed in.
HARDER = [*SETTINGS[:-4], "--robust", "--epochs", "30", "--keep", "last"]


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", TRAIN, *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def expected(shapes, tmp_path_factory) -> bytes:
    """The weights of a run that nothing happened to."""
    run = tmp_path_factory.mktemp("straight") / "run"
    assert start("train", shapes, "--out", run, *SETTINGS).wait() == 0
    return weights(run / "model.sight")


def weights(model: Path) -> bytes:
    with Bundle.open(model) as bundle:
        return bundle.read("weights")


def kill_at(process: subprocess.Popen[str], run: Path, writing: bool, delay: float) -> bool:
    """Kill -9 while a checkpoint is being written, or some time after training began; False when it ended before."""
    table, started, begun = run / "results.csv", time.time(), 0.0
    while process.poll() is None:
        if not begun and table.exists() and table.stat().st_mtime > started:  # written at the start, whether new or resumed
            begun = time.monotonic()
        late = begun and time.monotonic() - begun > delay
        if late and (not writing or any(run.glob("checkpoint/*.tmp"))):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
    process.communicate()
    return False


def test_a_run_killed_ten_times_ends_with_the_weights_of_one_that_was_not(shapes, expected, tmp_path):
    run, moments, killed = tmp_path / "killed", random.Random(0), 0
    process = start("train", shapes, "--out", run, *SETTINGS)
    while kill_at(process, run, writing=killed % 2 == 0, delay=moments.uniform(0, 0.8)):
        killed += 1
        process = start("train", "--resume", run)
        if killed == KILLS:
            assert process.wait() == 0
            break
    assert killed == KILLS
    assert weights(run / "model.sight") == expected
    assert not [path for path in run.rglob("*") if path.suffix in (".tmp", ".part", ".draft")]


def test_a_run_killed_while_it_learns_from_harder_images_ends_with_the_weights_of_one_that_was_not(shapes, tmp_path):
    run, straight = tmp_path / "killed", tmp_path / "straight"
    command = ("train", shapes, *HARDER)
    assert start(*command, "--out", straight).wait() == 0
    process = start(*command, "--out", run)
    while not (run / "checkpoint" / "start-harder.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    assert kill_at(process, run, True, delay=0.05)
    process = start("train", "--resume", run)
    process.communicate()
    assert process.returncode == 0
    assert weights(run / "model.sight") == weights(straight / "model.sight")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB: room for the run's first checkpoints and not for its bundle."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("a small disk cannot be mounted here (needs Linux and its superuser)")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_ends_the_run_in_words_and_its_last_checkpoint_is_good(shapes, expected, small_disk, tmp_path):
    ballast = small_disk / "ballast"
    run = small_disk / "run"
    process = start("train", shapes, "--out", run, *SETTINGS)
    while not (run / "results.csv").exists() and process.poll() is None:
        time.sleep(0.01)
    usage = shutil.disk_usage(small_disk)
    ballast.write_bytes(bytes(max(0, usage.free - 20_000)))
    _, said = process.communicate()
    assert process.returncode == 6, said
    assert "could not be written (" in said
    assert "--resume" in said.splitlines()[-1]
    ballast.unlink()
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    assert start("train", "--resume", moved).wait() == 0
    assert weights(moved / "model.sight") == expected
