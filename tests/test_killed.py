"""What ends a run from outside (kill -9 at any moment, a full disk) loses nothing but the last minutes."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sightline.bundle import Bundle

EPOCHS, KILLS = 60, 10
# Each run is a process of its own, forked from one that has imported what training does: importing it takes longer than the run.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["timm", "torchvision", "sightline.package", "sightline.training.session", "sightline.cli"])
SETTINGS = ["--no-trial", "--backbone", "test_resnet", "--weights", "none", "--device", "cpu", "--precision", "fp32",
            "--epochs", str(EPOCHS), "--patience", str(EPOCHS)]  # fmt: skip
# The last epoch is kept, so that the stage is; of the epochs that it adds there are enough to be killed in.
HARDER = [*SETTINGS[:-4], "--robust", "--epochs", "30", "--keep", "last"]


def run_cli(arguments: tuple[str, ...], words: str) -> None:
    """The command line, what it says on stderr in a file, with a checkpoint after every step: most moments are moments of writing."""
    with open(words, "w", encoding="utf-8") as file, open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(file.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
    import torch

    from sightline.cli import _exit_code
    from sightline.training import course

    torch.set_num_threads(1)
    course.SAVE_SECONDS = 0.0
    raise SystemExit(_exit_code(list(arguments)))


class Started:
    """A command that runs in a process of its own."""

    def __init__(self, words: Path, *arguments: object) -> None:
        self.words = words
        self.process = PROCESSES.Process(target=run_cli, args=(tuple(map(str, arguments)), str(words)))
        self.process.start()

    @property
    def runs(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it said, when it is done."""
        self.process.join()
        return self.process.exitcode, self.words.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder, started = tmp_path_factory.mktemp("words"), []

    def begin(*arguments: object) -> Started:
        started.append(Started(folder / str(len(started)), *arguments))
        return started[-1]

    yield begin
    for each in started:
        if each.runs:
            each.kill()


@pytest.fixture(scope="module")
def expected(start, shapes, tmp_path_factory) -> bytes:
    """The weights of a run that nothing happened to."""
    run = tmp_path_factory.mktemp("straight") / "run"
    check_done(start("train", shapes, "--out", run, *SETTINGS))
    return weights(run / "model.sight")


def weights(model: Path) -> bytes:
    with Bundle.open(model) as bundle:
        return bundle.read("weights")


def check_done(process: Started) -> None:
    code, said = process.ended()
    assert code == 0, said


def kill_at(process: Started, run: Path, writing: bool, delay: float) -> bool:
    """Kill -9 while a checkpoint is being written, or some time after training began; False when it ended before."""
    table, started, begun = run / "results.csv", time.time(), 0.0
    while process.runs:
        if not begun and table.exists() and table.stat().st_mtime > started:  # written at the start, whether new or resumed
            begun = time.monotonic()
        late = begun and time.monotonic() - begun > delay
        if late and (not writing or any(run.glob("checkpoint/*.tmp"))):
            process.kill()
            return True
    return False


def test_a_run_killed_ten_times_ends_with_the_weights_of_one_that_was_not(start, shapes, expected, tmp_path):
    run, moments, killed = tmp_path / "killed", random.Random(0), 0
    process = start("train", shapes, "--out", run, *SETTINGS)
    while kill_at(process, run, writing=killed % 2 == 0, delay=moments.uniform(0, 0.8)):
        killed += 1
        process = start("train", "--resume", run)
        if killed == KILLS:
            check_done(process)
            break
    assert killed == KILLS
    assert weights(run / "model.sight") == expected
    assert not [path for path in run.rglob("*") if path.suffix in (".tmp", ".part", ".draft")]


def test_a_run_killed_while_it_learns_from_harder_images_ends_with_the_weights_of_one_that_was_not(start, shapes, tmp_path):
    run, straight = tmp_path / "killed", tmp_path / "straight"
    command = ("train", shapes, *HARDER)
    check_done(start(*command, "--out", straight))
    process = start(*command, "--out", run)
    while not (run / "checkpoint" / "start-harder.pt").exists() and process.runs:
        time.sleep(0.01)
    assert kill_at(process, run, True, delay=0.05)
    check_done(start("train", "--resume", run))
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


def test_a_full_disk_ends_the_run_in_words_and_its_last_checkpoint_is_good(start, shapes, expected, small_disk, tmp_path):
    ballast = small_disk / "ballast"
    run = small_disk / "run"
    process = start("train", shapes, "--out", run, *SETTINGS)
    while not (run / "results.csv").exists() and process.runs:
        time.sleep(0.01)
    usage = shutil.disk_usage(small_disk)
    ballast.write_bytes(bytes(max(0, usage.free - 20_000)))
    code, said = process.ended()
    assert code == 6, said
    assert "could not be written (" in said
    assert "--resume" in said.splitlines()[-1]
    ballast.unlink()
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    check_done(start("train", "--resume", moved))
    assert weights(moved / "model.sight") == expected
