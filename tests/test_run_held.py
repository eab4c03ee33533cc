"""A run's folder belongs to one process; what a killed one leaves half-written is cleared away, and nothing else."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

import sightline
from conftest import QUICK
from sightline.cli import _exit_code
from sightline.errors import Interrupted, UsageError
from sightline.training import loop
from sightline.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")

# Resumes a run, says so when it has come to an epoch, and stays there.
STAY = """
import sys, time
import sightline
from sightline.training import loop

def stay(*_):
    print("training", flush=True)
    time.sleep(600)

loop.train_epoch = stay
sightline.train(resume=sys.argv[1])
"""
HALF_WRITTEN = ("results.csv.77.tmp", ".report.json.77.tmp", ".model.sight.draft", ".0a1b2c.sight.part", "checkpoint/last.pt.77.tmp")
OWN = ("notes.tmp", "tmp", "my.draft", ".mine.part", ".hidden", "checkpoint/mine.tmp")


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("x")


@pytest.fixture(scope="module")
def stopped(shapes, tmp_path_factory) -> Path:
    """A run that was stopped in its second epoch."""
    folder, epochs, once = tmp_path_factory.mktemp("held") / "run", [], loop.train_epoch

    def stop_in_the_second(*arguments):
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        once(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_epoch", stop_in_the_second)
        with pytest.raises(Interrupted):
            sightline.train(shapes, out=str(folder), **QUICK)
    return folder


def test_a_second_process_is_refused_until_the_first_is_killed_and_then_goes_on(stopped, capsys):
    first = subprocess.Popen([sys.executable, "-c", STAY, str(stopped)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert first.stdout.readline() == "training\n"
        assert _exit_code(["train", "--resume", str(stopped)]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"sightline: {stopped}: another process is working in this folder; wait for it, or train into another --out."
        )
    finally:
        first.kill()
        first.wait()
        first.stdout.close()
    write(stopped, *HALF_WRITTEN, *OWN)
    (stopped / "folder.77.tmp").mkdir()
    assert _exit_code(["train", "--resume", str(stopped)]) == 0
    left = {path.relative_to(stopped).as_posix() for path in (*stopped.iterdir(), *(stopped / "checkpoint").iterdir())}
    assert left == {
        *OWN, "folder.77.tmp", "config.json", "audit.json", "results.csv", "predictions.csv", "report.json", "report.html", "model.sight",
        "checkpoint", "checkpoint/last.pt", "checkpoint/.lock",
    }  # fmt: skip


def test_a_refused_process_leaves_the_files_of_the_first_alone(tmp_path):
    with Run(tmp_path).held():
        write(tmp_path, *HALF_WRITTEN)
        with pytest.raises(UsageError, match="another process is working in this folder"), Run(tmp_path).held():
            pytest.fail("it is held twice")
    assert all((tmp_path / name).exists() for name in HALF_WRITTEN)


def test_it_is_let_go_however_the_work_ends(tmp_path):
    with pytest.raises(KeyError), Run(tmp_path).held():
        raise KeyError
    with Run(tmp_path).held():
        assert (tmp_path / "checkpoint" / ".lock").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="fcntl is of Unix")
def test_a_disk_that_knows_no_locks_can_be_worked_on(tmp_path, monkeypatch):
    import fcntl

    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    write(tmp_path, "results.csv.77.tmp")
    with Run(tmp_path).held():
        assert not (tmp_path / "results.csv.77.tmp").exists()
