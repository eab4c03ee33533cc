"""Checkpoints: whole or not there, never a program, and errors in words."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import torch

from sightline.errors import ModelFileError, ResourceError
from sightline.training import checkpoint

CPU = torch.device("cpu")


def test_what_is_saved_is_loaded(tmp_path):
    state = {
        "network": {"w": torch.rand(3, 2), "n": torch.tensor(4)},
        "rows": [{"epoch": 0, "train_loss": None, "lr": 0.1, "stage": "all"}],
    }
    checkpoint.save(tmp_path / "checkpoint", checkpoint.LAST, state)
    found = checkpoint.load(tmp_path / "checkpoint", checkpoint.LAST, CPU)
    assert found["rows"] == state["rows"]
    assert torch.equal(found["network"]["w"], state["network"]["w"])
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["last.pt"]


def test_saving_again_replaces(tmp_path):
    for epoch in (1, 2):
        checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": epoch})
    assert checkpoint.load(tmp_path, checkpoint.LAST, CPU) == {"epoch": 2}


def test_a_missing_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(ModelFileError, match=r"last\.pt: there is no checkpoint to go on from; start the run again without --resume"):
        checkpoint.load(tmp_path, checkpoint.LAST, CPU)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint", b"\x80\x02K\x01."])
def test_a_broken_checkpoint_is_refused(tmp_path, content):
    (tmp_path / checkpoint.LAST).write_bytes(content)
    with pytest.raises(ModelFileError, match=r"last\.pt: this checkpoint cannot be read \(.+\); start the run again"):
        checkpoint.load(tmp_path, checkpoint.LAST, CPU)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_loading_runs_no_code(tmp_path):
    torch.save({"rows": Trap(tmp_path / "sprung")}, tmp_path / checkpoint.LAST)
    with pytest.raises(ModelFileError, match="cannot be read"):
        checkpoint.load(tmp_path, checkpoint.LAST, CPU)
    (tmp_path / checkpoint.LAST).write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))
    with pytest.raises(ModelFileError, match="cannot be read"):
        checkpoint.load(tmp_path, checkpoint.LAST, CPU)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598"), "the disk may be full"),
    ],
)
def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path, monkeypatch, error, reason):
    checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": 1})

    def half(_, path):
        Path(path).write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(ResourceError, match=rf"last\.pt: could not be written \({reason}\); make room, then continue with --resume"):
        checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": 2})
    assert checkpoint.load(tmp_path, checkpoint.LAST, CPU) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_an_interrupted_write_leaves_no_half_file(tmp_path):
    def stopped(temporary):
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint.atomically(tmp_path / "results.csv", stopped)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_error_in_words(tmp_path):
    (tmp_path / "checkpoint").write_text("in the way")
    with pytest.raises(ResourceError, match=r"last\.pt: could not be written"):
        checkpoint.save(tmp_path / "checkpoint", checkpoint.LAST, {})


def test_the_generators_go_on_where_they_were():
    state = checkpoint.random_state(CPU)
    expected = torch.rand(5)
    torch.manual_seed(123)
    checkpoint.restore_random_state(state, CPU)
    assert torch.equal(torch.rand(5), expected)
